// Fills states from the weights of a Hugging Face folder, and writes such a folder from states.
// Which tensors a state is made of is data (its Source), so that no model family has code here.
#pragma once

#include "kernels/signatures/Signature.h"
#include "runtime/plan/Source.h"
#include "runtime/safetensors/Checkpoint.h"
#include "runtime/safetensors/Writer.h"

#include <atomic>
#include <functional>

namespace switchyard {

/// A state, row-major: float32 or bfloat16. It is in host memory, or for export only, is read when
/// it is written.
struct HostState {
  std::string name;
  kernels::DType dtype = kernels::DType::F32;
  std::vector<int64_t> shape;
  Source source;
  std::byte *data = nullptr;
  /// Where it is not empty: the tensors that it is made of, instead of `source`.
  std::vector<SourceSlice> slices = {};
  /// Where `data` is null: gives elements [begin, end).
  std::function<Status(int64_t begin, int64_t end, std::span<std::byte> out)> read = {};
};

/// The safetensors dtype of a state's elements.
TensorDType tensorDType(kernels::DType dtype);

struct LoadOptions {
  /// Converts F32, BF16 and F16 tensors to the state's dtype, rounding to nearest even; else
  /// another dtype is refused.
  bool convert = true;
  /// Where it is not null: increased by the bytes of tensors that were read.
  uint64_t *bytesRead = nullptr;
};

/// Fills `state` with its tensors. Fails with InvalidInput, naming the file, the tensor and the
/// state: a tensor that is missing, of another shape, or of a dtype that is not (or may not be)
/// converted.
Status loadState(const Checkpoint &checkpoint, const HostState &state,
                 const LoadOptions &options = {});

/// The same for elements [begin, end) of the state only, to `destination`: reads just the bytes of
/// these.
Status loadElements(const Checkpoint &checkpoint, const HostState &state, int64_t begin,
                    int64_t end, std::span<std::byte> destination, const LoadOptions &options = {});

/// Fills all of `states`, after checkExtra().
Status loadStates(const Checkpoint &checkpoint, std::span<const HostState> states,
                  const LoadOptions &options = {});

/// Refuses a checkpoint with a tensor that none of `states` is made of: it would be lost.
Status checkExtra(const Checkpoint &checkpoint, std::span<const HostState> states);

/// Copies to `folder`, an AtomicFolder's under construction, what `modelFolder` has beside its
/// weights and config.json: the generation config, chat templates and the tokenizer's files. Where
/// `tokenizerFile`, which may be empty, lies elsewhere, it takes the place of the model's own
/// tokenizer.
Status copyModelFiles(const std::string &modelFolder, const std::string &tokenizerFile,
                      const std::string &folder);

struct ExportOptions {
  /// Where config.json, generation_config.json and the tokenizer's files are copied from.
  std::string modelFolder;
  /// The tokenizer, in place of modelFolder's own if it lies elsewhere; may be empty.
  std::string tokenizerFile;
  /// What is written; by default as the states are, which then are all of one dtype.
  std::optional<kernels::DType> dtype;
  uint64_t maxShardBytes = kDefaultMaxShardBytes;
  /// Where it becomes true the export fails between two tensors; may be null.
  const std::atomic<bool> *stop = nullptr;
};

/// Writes the folder `target`: config.json with its dtype, what else options.modelFolder has for a
/// model, and the weights in the order and with the metadata of the safetensors library. All or
/// nothing: the folder is made beside the target and renamed at the end. Fails with InvalidInput if
/// the target exists and is not empty or modelFolder has no config.json.
Status exportFolder(const std::string &target, std::span<const HostState> states,
                    const ExportOptions &options);

} // namespace switchyard

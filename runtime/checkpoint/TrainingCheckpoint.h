// A training checkpoint: everything a run needs to go on or to be exported, in one folder that is
// there whole or not at all.
//
//   checkpoint-N/states-R-of-N.safetensors   what rank R wrote of parameters, masters and moments,
//                                            by their names in the plan
//                step.plan                   the plan that trained it
//                model/                      config.json and the tokenizer's files of the model
//                checkpoint.json             Manifest.h; all is found by it
//
// Elements are those of unpadded logical tensors: nothing depends on the mesh but who wrote what.
#pragma once

#include "runtime/checkpoint/Manifest.h"
#include "runtime/core/File.h"
#include "runtime/core/Json.h"

#include <atomic>
#include <string>

namespace switchyard {

/// A checkpoint to be read. Safe to use from several threads at once.
class TrainingCheckpoint {
public:
  /// Reads checkpoint.json and checks the sizes and checksums of all files, but of the states'
  /// files their headers only. InvalidInput, naming the file: something is missing, damaged, or
  /// does not fit to the rest.
  static Result<TrainingCheckpoint> open(const std::string &folder);

  const std::string &folder() const { return folder_; }
  const Manifest &manifest() const { return manifest_; }
  /// The index in manifest().states of the state called `name`, or -1.
  int64_t findState(std::string_view name) const;

  /// Elements [begin, end) of a state, in its own dtype, to `out`. Reads the blocks that these are
  /// in and no others, and checks each; `bytesRead` (may be null) grows by what these have.
  /// InvalidInput, naming the file and the state: a block that is not what was written.
  Status read(size_t state, int64_t begin, int64_t end, std::span<std::byte> out,
              uint64_t *bytesRead = nullptr) const;
  /// The same check without a result.
  Status check(size_t state, int64_t begin, int64_t end) const;

private:
  /// A piece of a state, and where it is.
  struct Part {
    const SavedPiece *piece = nullptr;
    size_t rank = 0;
    uint64_t at = 0; // in the file's bytes
  };

  TrainingCheckpoint() = default;
  Status checkFiles() const;
  Status openRankFile(size_t rank);
  Status readBlocks(const Part &part, int64_t firstBlock, const FileReader &reader,
                    std::span<std::byte> out) const;
  Status readPart(const Part &part, ElementRange elements, std::span<std::byte> out,
                  uint64_t *bytesRead) const;

  std::string folder_;
  Manifest manifest_;
  std::vector<std::vector<Part>> parts_; // by state, in the order of their elements
};

/// Whether `checkpoint` is of the model that `plan` is for, whose config.json is `config`.
/// InvalidInput: says what differs.
Status checkSameModel(const TrainingCheckpoint &checkpoint, const Plan &plan, const Json &config,
                      const std::string &configPath);

/// The newest of OUT's folders checkpoint-N, for which `folder` is OUT. InvalidInput: there is
/// none.
Result<std::string> latestCheckpoint(const std::string &folder);
/// The steps N of those, ascending. Each is whole: that is how it came by its name.
std::vector<int64_t> checkpointSteps(const std::string &folder);
std::string checkpointFolder(const std::string &folder, int64_t step);

/// The Hugging Face folder `target` from the checkpoint folder `checkpoint`. Holds no more than a
/// buffer of it in memory. Fails as TrainingCheckpoint does, and as exportFolder (Weights.h), which
/// also looks at `stop` (may be null).
Status exportTrainingCheckpoint(const std::string &checkpoint, const std::string &target,
                                const std::atomic<bool> *stop = nullptr);

} // namespace switchyard

#include "runtime/checkpoint/Weights.h"

#include "runtime/core/Floats.h"
#include "runtime/core/Json.h"
#include "runtime/data/Tokenizer.h"
#include "runtime/plan/Layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <unordered_set>

namespace switchyard {

using kernels::DType;

namespace {

std::optional<FloatFormat> formatOf(TensorDType dtype) {
  switch (dtype) {
  case TensorDType::F32:
    return FloatFormat::F32;
  case TensorDType::BF16:
    return FloatFormat::BF16;
  case TensorDType::F16:
    return FloatFormat::F16;
  default:
    return std::nullopt;
  }
}

TensorDType tensorDType(FloatFormat format) {
  return format == FloatFormat::F32    ? TensorDType::F32
         : format == FloatFormat::BF16 ? TensorDType::BF16
                                       : TensorDType::F16;
}

Result<FloatFormat> stateFormat(const HostState &state) {
  if (std::optional<FloatFormat> format = floatFormat(state.dtype))
    return *format;
  return Status::invalidInput(fmt::format("state {}: is {}, expected f32 or bf16 for weights",
                                          state.name, kernels::name(state.dtype)));
}

/// The tensors of `state`; a checkpoint helps where the source does not say all sizes.
Result<std::vector<SourceSlice>> slicesOf(const HostState &state, const Checkpoint *checkpoint) {
  if (!state.slices.empty())
    return state.slices;
  LeafRows rows;
  if (checkpoint)
    rows = [checkpoint](const std::string &name) -> std::optional<int64_t> {
      const TensorEntry *entry = checkpoint->find(name);
      return entry && !entry->shape.empty() ? std::optional(entry->shape[0]) : std::nullopt;
    };
  Result<std::vector<SourceSlice>> slices = resolve(state.source, state.shape, rows);
  return slices.ok() ? std::move(slices) : slices.status().within("state " + state.name);
}

/// The tensor of `slice`, after a check that it is what the state is made of.
Result<const TensorEntry *> checkedEntry(const Checkpoint &checkpoint, const HostState &state,
                                         const SourceSlice &slice, FloatFormat to,
                                         const LoadOptions &options) {
  const TensorEntry *entry = checkpoint.find(slice.name);
  if (!entry)
    return Status::invalidInput(
        fmt::format("{}: lacks the tensor {} of state {}; does the folder hold the model that the "
                    "plan was compiled for?",
                    checkpoint.folder(), quoteJson(slice.name), state.name));
  std::string where =
      fmt::format("{}: tensor {}", checkpoint.pathOf(*entry), quoteJson(slice.name));
  if (entry->shape != slice.shape)
    return Status::invalidInput(
        fmt::format("{}: its shape is {}, expected {} for state {}; does the folder hold the "
                    "model that the plan was compiled for?",
                    where, shapeText(entry->shape), shapeText(slice.shape), state.name));
  std::optional<FloatFormat> from = formatOf(entry->dtype);
  if (!from)
    return Status::invalidInput(
        fmt::format("{}: its dtype is {}, expected F32, BF16 or F16 for state {}; quantized "
                    "weights can't be trained",
                    where, name(entry->dtype), state.name));
  if (*from != to && !options.convert)
    return Status::invalidInput(
        fmt::format("{}: its dtype is {}, expected {} for state {}, without conversion", where,
                    name(entry->dtype), name(tensorDType(to)), state.name));
  return entry;
}

} // namespace

TensorDType tensorDType(DType dtype) {
  return dtype == DType::BF16  ? TensorDType::BF16
         : dtype == DType::I32 ? TensorDType::I32
                               : TensorDType::F32;
}

Status loadElements(const Checkpoint &checkpoint, const HostState &state, int64_t begin,
                    int64_t end, std::span<std::byte> destination, const LoadOptions &options) {
  SY_ASSIGN_OR_RETURN(FloatFormat to, stateFormat(state));
  SY_ASSIGN_OR_RETURN(std::vector<SourceSlice> slices, slicesOf(state, &checkpoint));
  if (begin < 0 || end < begin || end > slices.back().end ||
      destination.size() != static_cast<uint64_t>(end - begin) * byteSize(to))
    return Status::failed(fmt::format(
        "state {}: elements [{}, {}) do not fit into {} bytes or the state's {} elements",
        state.name, begin, end, destination.size(), slices.back().end));
  std::vector<std::byte> stored; // what is to be converted
  for (const SourceSlice &slice : slices) {
    SY_ASSIGN_OR_RETURN(const TensorEntry *entry,
                        checkedEntry(checkpoint, state, slice, to, options));
    int64_t first = std::max(begin, slice.begin);
    int64_t last = std::min(end, slice.end);
    if (first >= last)
      continue;
    auto part = destination.subspan(static_cast<uint64_t>(first - begin) * byteSize(to),
                                    static_cast<uint64_t>(last - first) * byteSize(to));
    const FloatFormat from = *formatOf(entry->dtype);
    std::span<std::byte> bytes = part;
    if (from != to) {
      stored.resize(static_cast<uint64_t>(last - first) * byteSize(from));
      bytes = stored;
    }
    SY_RETURN_IF_ERROR(checkpoint.read(*entry, first - slice.begin, last - slice.begin, bytes));
    if (from != to)
      convertFloats(from, bytes, to, part);
    if (options.bytesRead)
      *options.bytesRead += bytes.size();
  }
  return {};
}

Status loadState(const Checkpoint &checkpoint, const HostState &state, const LoadOptions &options) {
  SY_ASSIGN_OR_RETURN(std::vector<SourceSlice> slices, slicesOf(state, &checkpoint));
  int64_t count = slices.back().end;
  std::span<std::byte> all(state.data,
                           static_cast<uint64_t>(count * kernels::byteSize(state.dtype)));
  return loadElements(checkpoint, state, 0, count, all, options);
}

Status loadStates(const Checkpoint &checkpoint, std::span<const HostState> states,
                  const LoadOptions &options) {
  SY_RETURN_IF_ERROR(checkExtra(checkpoint, states));
  for (const HostState &state : states)
    SY_RETURN_IF_ERROR(loadState(checkpoint, state, options));
  return {};
}

Status checkExtra(const Checkpoint &checkpoint, std::span<const HostState> states) {
  std::unordered_set<std::string> known;
  for (const HostState &state : states) {
    SY_ASSIGN_OR_RETURN(std::vector<SourceSlice> slices, slicesOf(state, &checkpoint));
    for (SourceSlice &slice : slices)
      known.insert(std::move(slice.name));
  }
  for (const TensorEntry &entry : checkpoint.tensors())
    if (!known.contains(entry.name))
      return Status::invalidInput(
          fmt::format("{}: tensor {} belongs to no state of the plan; does the folder hold the "
                      "model that the plan was compiled for?",
                      checkpoint.pathOf(entry), quoteJson(entry.name)));
  return {};
}

namespace {

// What a Hugging Face folder has beside its weights and config.json.
constexpr const char *kModelFiles[] = {"generation_config.json", "chat_template.json",
                                       "chat_template.jinja"};
constexpr const char *kTokenizerFiles[] = {"tokenizer.model", "tokenizer.json", "vocab.json",
                                           "merges.txt", "added_tokens.json"};
constexpr const char *kTokenizerSettings[] = {"tokenizer_config.json", "special_tokens_map.json"};

/// Copies those of the files `names` that `from` has.
Status copyFiles(std::span<const char *const> names, const std::string &from,
                 const std::string &to) {
  for (const char *name : names)
    if (std::string file = joinPath(from, name); fileExists(file))
      SY_RETURN_IF_ERROR(copyFile(file, joinPath(to, name), FilePlace::InAtomicFolder));
  return {};
}

/// A tensor to be written: elements [begin, end) of a state.
struct Piece {
  const HostState *state = nullptr;
  SourceSlice slice;
};

Result<FloatFormat> exportFormat(std::span<const HostState> states, const ExportOptions &options) {
  for (const HostState &state : states) {
    SY_RETURN_IF_ERROR(stateFormat(state).status());
    if (!options.dtype && state.dtype != states[0].dtype)
      return Status::invalidInput(
          fmt::format("state {} is {} but state {} is {}; say which dtype to write", states[0].name,
                      kernels::name(states[0].dtype), state.name, kernels::name(state.dtype)));
  }
  std::optional<FloatFormat> format =
      floatFormat(options.dtype.value_or(states.empty() ? DType::F32 : states[0].dtype));
  if (!format)
    return Status::invalidInput("weights are written as f32 or bf16 only");
  return *format;
}

/// The tensors of all states, by name: the order of the safetensors library where all have one
/// dtype.
Result<std::vector<Piece>> piecesOf(std::span<const HostState> states) {
  std::vector<Piece> pieces;
  for (const HostState &state : states) {
    SY_ASSIGN_OR_RETURN(std::vector<SourceSlice> slices, slicesOf(state, nullptr));
    for (SourceSlice &slice : slices)
      pieces.push_back({&state, std::move(slice)});
  }
  std::ranges::sort(pieces, {},
                    [](const Piece &piece) -> const std::string & { return piece.slice.name; });
  return pieces;
}

/// Writes the elements of `piece` as `to`, a buffer at a time where they are converted or read.
Status writePiece(CheckpointWriter &writer, const Piece &piece, FloatFormat to,
                  std::vector<std::byte> &buffer, std::vector<std::byte> &readBuffer) {
  constexpr int64_t kChunk = int64_t{1} << 22; // elements
  FloatFormat from = *floatFormat(piece.state->dtype);
  for (int64_t at = piece.slice.begin; at < piece.slice.end; at += kChunk) {
    const int64_t end = std::min(at + kChunk, piece.slice.end);
    auto count = static_cast<uint64_t>(end - at);
    std::span<const std::byte> bytes;
    if (piece.state->data) {
      bytes = {piece.state->data + static_cast<uint64_t>(at) * byteSize(from),
               count * byteSize(from)};
    } else {
      readBuffer.resize(count * byteSize(from));
      SY_RETURN_IF_ERROR(piece.state->read(at, end, readBuffer));
      bytes = readBuffer;
    }
    if (from != to) {
      buffer.resize(count * byteSize(to));
      convertFloats(from, bytes, to, buffer);
      bytes = buffer;
    }
    SY_RETURN_IF_ERROR(writer.append(bytes));
  }
  return {};
}

Status writeWeights(const std::string &folder, std::span<const HostState> states,
                    FloatFormat format, const ExportOptions &options) {
  SY_ASSIGN_OR_RETURN(std::vector<Piece> pieces, piecesOf(states));
  std::vector<TensorSpec> specs;
  for (const Piece &piece : pieces)
    specs.push_back({piece.slice.name, tensorDType(format), piece.slice.shape});
  SY_ASSIGN_OR_RETURN(CheckpointWriter writer,
                      CheckpointWriter::create(folder, std::move(specs), options.maxShardBytes));
  std::vector<std::byte> buffer, readBuffer;
  for (const Piece &piece : pieces) {
    if (options.stop && *options.stop)
      return Status::failed("stopped by a signal; nothing was written");
    SY_RETURN_IF_ERROR(writePiece(writer, piece, format, buffer, readBuffer));
  }
  return writer.finish();
}

/// config.json with its dtype: under `dtype` (transformers 5), `torch_dtype` (before), or both, as
/// it was.
Status writeConfig(const std::string &folder, const std::string &modelFolder, FloatFormat format) {
  std::string path = joinPath(modelFolder, "config.json");
  SY_ASSIGN_OR_RETURN(Json config, readJson(path));
  if (!config.isObject())
    return Status::invalidInput(
        fmt::format("{}: is {}, expected an object", path, config.describe()));
  const char *dtype = format == FloatFormat::F32 ? "float32" : "bfloat16";
  bool older = config.find("torch_dtype") != nullptr;
  if (older)
    config.set("torch_dtype", dtype);
  if (!older || config.find("dtype"))
    config.set("dtype", dtype);
  return writeFileAtomically(joinPath(folder, "config.json"), config.dump(2) + "\n",
                             FilePlace::InAtomicFolder);
}

} // namespace

Status copyModelFiles(const std::string &modelFolder, const std::string &tokenizerFile,
                      const std::string &folder) {
  SY_RETURN_IF_ERROR(copyFiles(kModelFiles, modelFolder, folder));
  std::error_code error;
  const std::string place = std::filesystem::absolute(tokenizerFile, error).parent_path().string();
  if (tokenizerFile.empty() || std::filesystem::equivalent(modelFolder, place, error)) {
    SY_RETURN_IF_ERROR(copyFiles(kTokenizerFiles, modelFolder, folder));
    return copyFiles(kTokenizerSettings, modelFolder, folder);
  }
  SY_ASSIGN_OR_RETURN(std::string name, tokenizerName(tokenizerFile));
  // What a tokenizer.json needs lies beside it; a SentencePiece model is whole.
  SY_RETURN_IF_ERROR(
      copyFiles(kTokenizerSettings, name == kTokenizerJson ? place : modelFolder, folder));
  return copyFile(tokenizerFile, joinPath(folder, name), FilePlace::InAtomicFolder);
}

Status exportFolder(const std::string &target, std::span<const HostState> states,
                    const ExportOptions &options) {
  SY_ASSIGN_OR_RETURN(FloatFormat format, exportFormat(states, options));
  SY_ASSIGN_OR_RETURN(AtomicFolder folder, AtomicFolder::create(target));
  SY_RETURN_IF_ERROR(writeConfig(folder.path(), options.modelFolder, format));
  SY_RETURN_IF_ERROR(copyModelFiles(options.modelFolder, options.tokenizerFile, folder.path()));
  Status status = writeWeights(folder.path(), states, format, options);
  return status.ok() ? folder.commit() : status.within(target);
}

} // namespace switchyard

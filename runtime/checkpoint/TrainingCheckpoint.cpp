#include "runtime/checkpoint/TrainingCheckpoint.h"

#include "runtime/checkpoint/Weights.h"
#include "runtime/core/Checksum.h"
#include "runtime/core/File.h"
#include "runtime/plan/ModelFingerprint.h"
#include "runtime/safetensors/SafetensorsFile.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <set>

namespace switchyard {

namespace {

constexpr uint64_t kMaxManifestBytes = uint64_t{100} << 20;
constexpr uint64_t kMaxModelFileBytes = uint64_t{1} << 30;
constexpr char kPrefix[] = "checkpoint-";
constexpr size_t kNamedDifferences = 4;
constexpr int64_t kBlocksAtOnce = 16;

Status damaged(const std::string &path, const std::string &what) {
  return Status::invalidInput(path + ": " + what +
                              "; the file is damaged, take another checkpoint");
}

Status checkSize(const std::string &path, uint64_t found, uint64_t expected) {
  return found == expected
             ? Status()
             : damaged(path, fmt::format("has {} bytes, expected {}", found, expected));
}

Status checkWhole(const std::string &path, const SavedFile &file) {
  SY_ASSIGN_OR_RETURN(FileReader reader, FileReader::open(path));
  SY_RETURN_IF_ERROR(checkSize(path, reader.size(), file.bytes));
  SY_ASSIGN_OR_RETURN(std::string text, readFile(path, kMaxModelFileBytes));
  return checksum(text) == file.checksum ? Status()
                                         : damaged(path, "does not have the checksum that " +
                                                             std::string(kManifestFile) + " says");
}

bool holds(const TensorEntry &entry, const SavedState &state, const SavedPiece &piece) {
  return entry.dtype == tensorDType(state.dtype) &&
         entry.shape == std::vector<int64_t>{piece.elements.count()};
}

} // namespace

Result<TrainingCheckpoint> TrainingCheckpoint::open(const std::string &folder) {
  TrainingCheckpoint checkpoint;
  checkpoint.folder_ = folder;
  const std::string path = joinPath(folder, kManifestFile);
  if (!fileExists(path))
    return Status::invalidInput(folder + ": holds no " + kManifestFile +
                                "; expected a folder checkpoint-N that moe-run train wrote");
  SY_ASSIGN_OR_RETURN(std::string text, readFile(path, kMaxManifestBytes));
  Result<Manifest> manifest = parseManifest(text);
  if (!manifest.ok())
    return manifest.status().within(path);
  checkpoint.manifest_ = std::move(*manifest);
  SY_RETURN_IF_ERROR(checkpoint.checkFiles());
  checkpoint.parts_.resize(checkpoint.manifest_.states.size());
  for (size_t rank = 0; rank < checkpoint.manifest_.rankFiles.size(); ++rank)
    SY_RETURN_IF_ERROR(checkpoint.openRankFile(rank));
  for (std::vector<Part> &parts : checkpoint.parts_)
    std::ranges::sort(parts, {}, [](const Part &part) { return part.piece->elements.begin; });
  return checkpoint;
}

Status TrainingCheckpoint::checkFiles() const {
  for (const SavedFile &file : manifest_.files)
    SY_RETURN_IF_ERROR(checkWhole(joinPath(folder_, file.name), file));
  return {};
}

/// Checks a rank's header and notes where the pieces are.
Status TrainingCheckpoint::openRankFile(size_t rank) {
  const SavedRankFile &saved = manifest_.rankFiles[rank];
  const std::string path =
      joinPath(folder_, rankFileName(static_cast<int64_t>(rank),
                                     static_cast<int64_t>(manifest_.rankFiles.size())));
  SY_ASSIGN_OR_RETURN(FileReader reader, FileReader::open(path));
  SY_RETURN_IF_ERROR(checkSize(path, reader.size(), saved.bytes));
  SY_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::open(path));
  const uint64_t dataBytes = file.tensors().empty() ? 0 : file.tensors().back().end;
  const uint64_t headerBytes = reader.size() - dataBytes;
  SY_ASSIGN_OR_RETURN(std::string header, reader.read(0, headerBytes));
  if (checksum(header) != saved.headerChecksum)
    return damaged(path, "its header does not have the checksum that " +
                             std::string(kManifestFile) + " says");
  for (const SavedPiece &piece : saved.pieces) {
    const SavedState &state = manifest_.states[piece.state];
    const TensorEntry *entry = file.find(state.name);
    if (!entry || !holds(*entry, state, piece))
      return Status::invalidInput(
          fmt::format("{}: has no tensor {} of {} elements, which {} says it has", path,
                      quoteJson(state.name), piece.elements.count(), kManifestFile));
    parts_[piece.state].push_back({&piece, rank, headerBytes + entry->begin});
  }
  return {};
}

int64_t TrainingCheckpoint::findState(std::string_view name) const {
  auto found = std::ranges::find(manifest_.states, name, &SavedState::name);
  return found == manifest_.states.end() ? -1 : found - manifest_.states.begin();
}

/// Blocks of a piece's bytes, each checked, into `out`.
Status TrainingCheckpoint::readBlocks(const Part &part, int64_t firstBlock,
                                      const FileReader &reader, std::span<std::byte> out) const {
  const uint64_t at = part.at + static_cast<uint64_t>(firstBlock * kChecksumBytes);
  SY_RETURN_IF_ERROR(reader.read(at, out));
  for (size_t begin = 0; begin < out.size(); begin += kChecksumBytes, ++firstBlock) {
    const auto block = out.subspan(begin, std::min<size_t>(kChecksumBytes, out.size() - begin));
    if (checksum(block) != part.piece->checksums[firstBlock])
      return damaged(reader.path(),
                     fmt::format("state {}: the bytes from {} to {} do not have the checksum that "
                                 "{} says",
                                 manifest_.states[part.piece->state].name, at + begin,
                                 at + begin + block.size(), kManifestFile));
  }
  return {};
}

/// Elements of the part: those blocks that they fill straight into `out`, the others beside it.
Status TrainingCheckpoint::readPart(const Part &part, ElementRange elements,
                                    std::span<std::byte> out, uint64_t *bytesRead) const {
  const int64_t width = kernels::byteSize(manifest_.states[part.piece->state].dtype);
  const int64_t begin = (elements.begin - part.piece->elements.begin) * width;
  const int64_t end = (elements.end - part.piece->elements.begin) * width;
  const int64_t pieceBytes = part.piece->elements.count() * width;
  SY_ASSIGN_OR_RETURN(
      FileReader reader,
      FileReader::open(joinPath(folder_, rankFileName(static_cast<int64_t>(part.rank),
                                                      std::ssize(manifest_.rankFiles)))));
  std::vector<std::byte> buffer;
  for (int64_t block = begin / kChecksumBytes; block * kChecksumBytes < end;) {
    const int64_t first = block * kChecksumBytes;
    // As many whole blocks as `out` takes at once; else one.
    int64_t last = std::min(end == pieceBytes ? end : end / kChecksumBytes * kChecksumBytes,
                            first + kBlocksAtOnce * kChecksumBytes);
    const bool isInside = !out.empty() && first >= begin && last > first;
    if (!isInside)
      last = std::min(first + kChecksumBytes, pieceBytes);
    const auto size = static_cast<size_t>(last - first);
    if (!isInside)
      buffer.resize(size);
    const std::span<std::byte> to =
        isInside ? out.subspan(static_cast<size_t>(first - begin), size) : std::span(buffer);
    SY_RETURN_IF_ERROR(readBlocks(part, block, reader, to));
    if (bytesRead)
      *bytesRead += size;
    if (const int64_t from = std::max(first, begin); !isInside && !out.empty())
      std::memcpy(out.data() + (from - begin), buffer.data() + (from - first),
                  static_cast<size_t>(std::min(last, end) - from));
    block += (last - first + kChecksumBytes - 1) / kChecksumBytes;
  }
  return {};
}

Status TrainingCheckpoint::read(size_t state, int64_t begin, int64_t end, std::span<std::byte> out,
                                uint64_t *bytesRead) const {
  const SavedState &saved = manifest_.states[state];
  const int64_t width = kernels::byteSize(saved.dtype);
  if (begin < 0 || begin > end || end > saved.count() ||
      (!out.empty() && static_cast<int64_t>(out.size()) != (end - begin) * width))
    return Status::failed(fmt::format("state {}: elements [{}, {}) of {} do not fit into {} bytes",
                                      saved.name, begin, end, saved.count(), out.size()));
  for (const Part &part : parts_[state]) {
    const int64_t first = std::max(begin, part.piece->elements.begin);
    const int64_t last = std::min(end, part.piece->elements.end);
    if (first >= last)
      continue;
    auto to = out.empty() ? out : out.subspan((first - begin) * width, (last - first) * width);
    SY_RETURN_IF_ERROR(readPart(part, {first, last}, to, bytesRead));
  }
  return {};
}

Status TrainingCheckpoint::check(size_t state, int64_t begin, int64_t end) const {
  return read(state, begin, end, {});
}

namespace {

/// "hidden_size is 64, but 32 in the checkpoint; ...", of keys that make a difference.
std::string differences(const Json &ours, const Json &theirs) {
  std::set<std::string> keys;
  for (const Json *config : {&ours, &theirs})
    for (const Json::Member &member : config->members())
      if (!std::ranges::binary_search(configKeysWithoutEffect(), std::string_view(member.key)) &&
          member.key != "dtype" && member.key != "torch_dtype")
        keys.insert(member.key);
  const auto textOf = [](const Json &config, const std::string &key) {
    const Json *value = config.find(key);
    return value ? value->dump() : std::string("null");
  };
  std::string text;
  size_t found = 0;
  for (const std::string &key : keys) {
    const std::string our = textOf(ours, key), their = textOf(theirs, key);
    if (our == their || ++found > kNamedDifferences)
      continue;
    text += fmt::format("{}\"{}\" is {}, but {} in the checkpoint", text.empty() ? "" : ", ", key,
                        our, their);
  }
  if (found > kNamedDifferences)
    text += fmt::format(" and {} more", found - kNamedDifferences);
  return text;
}

Status checkState(const TrainingCheckpoint &checkpoint, const State &state) {
  const int64_t index = checkpoint.findState(state.name);
  if (index < 0)
    return Status::invalidInput(
        fmt::format("{}: has no state {}, which the plan has", checkpoint.folder(), state.name));
  const SavedState &saved = checkpoint.manifest().states[index];
  return saved.shape == state.shape
             ? Status()
             : Status::invalidInput(fmt::format("{}: state {} has the shape {}, but {} in the plan",
                                                checkpoint.folder(), state.name,
                                                shapeText(saved.shape), shapeText(state.shape)));
}

} // namespace

Status checkSameModel(const TrainingCheckpoint &checkpoint, const Plan &plan, const Json &config,
                      const std::string &configPath) {
  const Manifest &manifest = checkpoint.manifest();
  if (manifest.modelFingerprint != plan.modelFingerprint) {
    SY_ASSIGN_OR_RETURN(Json theirs, readJson(joinPath(checkpoint.folder(), "model/config.json")));
    return Status::invalidInput(fmt::format(
        "{}: is a checkpoint of another model: in {} {}; give --model that model's folder, or "
        "another checkpoint",
        checkpoint.folder(), configPath, differences(config, theirs)));
  }
  size_t parameters = 0;
  for (const State &state : plan.states) {
    if (state.kind == StateKind::Parameter || state.kind == StateKind::Moment)
      SY_RETURN_IF_ERROR(checkState(checkpoint, state));
    parameters += state.kind == StateKind::Parameter;
  }
  const size_t saved = std::ranges::count(manifest.states, StateKind::Parameter, &SavedState::kind);
  return parameters == saved
             ? Status()
             : Status::invalidInput(fmt::format("{}: has {} parameters, but the plan {}",
                                                checkpoint.folder(), saved, parameters));
}

std::vector<int64_t> checkpointSteps(const std::string &folder) {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const auto &entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename();
    int64_t step = 0;
    if (!name.starts_with(kPrefix))
      continue;
    const char *begin = name.data() + std::strlen(kPrefix), *end = name.data() + name.size();
    auto [stop, failure] = std::from_chars(begin, end, step);
    if (failure == std::errc() && stop == end && checkpointFolder("", step) == name &&
        fileExists(joinPath(joinPath(folder, name), kManifestFile)))
      steps.push_back(step);
  }
  std::ranges::sort(steps);
  return steps;
}

std::string checkpointFolder(const std::string &folder, int64_t step) {
  return joinPath(folder, kPrefix + std::to_string(step));
}

Result<std::string> latestCheckpoint(const std::string &folder) {
  std::vector<int64_t> steps = checkpointSteps(folder);
  if (steps.empty())
    return Status::invalidInput(folder + ": holds no checkpoint-N to resume from; leave "
                                         "--resume-from-checkpoint out, or name a checkpoint's "
                                         "folder");
  return checkpointFolder(folder, steps.back());
}

Status exportTrainingCheckpoint(const std::string &checkpoint, const std::string &target,
                                const std::atomic<bool> *stop) {
  SY_ASSIGN_OR_RETURN(TrainingCheckpoint saved, TrainingCheckpoint::open(checkpoint));
  std::vector<HostState> states;
  for (size_t i = 0; i < saved.manifest().states.size(); ++i) {
    const SavedState &state = saved.manifest().states[i];
    if (state.kind != StateKind::Parameter)
      continue;
    HostState host{state.name, state.dtype, state.shape, {}, nullptr};
    host.slices = state.tensors;
    host.read = [&saved, i](int64_t begin, int64_t end, std::span<std::byte> out) {
      return saved.read(i, begin, end, out);
    };
    states.push_back(std::move(host));
  }
  ExportOptions options;
  options.modelFolder = joinPath(checkpoint, "model");
  options.stop = stop;
  return exportFolder(target, states, options);
}

} // namespace switchyard

#include "runtime/checkpoint/Manifest.h"

#include "runtime/core/Checksum.h"
#include "runtime/core/Fingerprint.h"
#include "runtime/core/Json.h"
#include "runtime/plan/Layout.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/plan/SavedStates.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <unordered_map>

namespace switchyard {

namespace {

constexpr int64_t kFormatVersion = 2;
constexpr int64_t kMaxInteger = std::numeric_limits<int64_t>::max();
constexpr int64_t kMaxRanks = 1024;
constexpr StateKind kKinds[] = {StateKind::Parameter, StateKind::Master, StateKind::Moment};
constexpr DType kDTypes[] = {DType::F32, DType::BF16};

Json integers(std::span<const int64_t> values) {
  Json array = Json::array();
  for (int64_t value : values)
    array.append(value);
  return array;
}

Json jsonOf(const SavedState &state) {
  Json json = Json::object();
  json.set("name", state.name);
  json.set("kind", std::string(name(state.kind)));
  json.set("dtype", std::string(kernels::name(state.dtype)));
  json.set("shape", integers(state.shape));
  Json tensors = Json::array();
  for (const SourceSlice &slice : state.tensors) {
    Json tensor = Json::object();
    tensor.set("name", slice.name);
    tensor.set("shape", integers(slice.shape));
    const int64_t range[] = {slice.begin, slice.end};
    tensor.set("elements", integers(range));
    tensors.append(std::move(tensor));
  }
  json.set("tensors", std::move(tensors));
  return json;
}

Json jsonOf(const SavedRankFile &file, const std::vector<SavedState> &states) {
  Json json = Json::object();
  json.set("bytes", static_cast<int64_t>(file.bytes));
  json.set("header_checksum", checksumText(file.headerChecksum));
  Json pieces = Json::array();
  for (const SavedPiece &piece : file.pieces) {
    Json item = Json::object();
    item.set("state", states[piece.state].name);
    const int64_t range[] = {piece.elements.begin, piece.elements.end};
    item.set("elements", integers(range));
    std::string checksums;
    for (uint64_t value : piece.checksums)
      checksums += checksumText(value);
    item.set("checksums", checksums);
    pieces.append(std::move(item));
  }
  json.set("pieces", std::move(pieces));
  return json;
}

Json jsonOf(const CheckpointInfo &info) {
  Json json = Json::object();
  json.set("position", info.position);
  json.set("epoch", info.epoch);
  json.set("seed", info.seed);
  json.set("train_sampling_strategy", info.samplingStrategy);
  json.set("records", info.records);
  json.set("tokens", info.tokens);
  json.set("global_batch", info.globalBatch);
  json.set("packing", info.packing);
  json.set("max_seq_length", info.maxSeqLength);
  return json;
}

Result<std::vector<int64_t>> readIntegers(const Json &object, const char *key) {
  SY_ASSIGN_OR_RETURN(const Json *array, getArray(object, key));
  std::vector<int64_t> values;
  for (const Json &item : array->items()) {
    if (!item.isInteger() || item.integer() < 0)
      return Status::invalidInput(
          fmt::format("\"{}\" has {}, expected integers from 0 on", key, item.describe()));
    values.push_back(item.integer());
  }
  return values;
}

Result<ElementRange> readElements(const Json &object, int64_t count) {
  SY_ASSIGN_OR_RETURN(std::vector<int64_t> range, readIntegers(object, "elements"));
  if (range.size() != 2 || range[0] > range[1] || range[1] > count)
    return Status::invalidInput(fmt::format("\"elements\" is {}, expected [begin, end] within {}",
                                            shapeText(range), count));
  return ElementRange{range[0], range[1]};
}

Result<uint64_t> readChecksum(const Json &object, const char *key) {
  SY_ASSIGN_OR_RETURN(std::string text, getString(object, key));
  std::optional<uint64_t> value = checksumFromText(text);
  if (!value)
    return Status::invalidInput(
        fmt::format("\"{}\" is {}, expected 16 hexadecimal digits", key, quoteJson(text)));
  return *value;
}

/// The one of `values` whose name the member `key` is.
template <typename T, size_t n>
Result<T> readNamed(const Json &object, const char *key, const T (&values)[n],
                    std::string_view (*nameOf)(T)) {
  SY_ASSIGN_OR_RETURN(std::string text, getString(object, key));
  for (T value : values)
    if (nameOf(value) == text)
      return value;
  return Status::invalidInput(
      fmt::format("\"{}\" is {}, which is not known", key, quoteJson(text)));
}

Status readTensors(const Json &json, SavedState &state) {
  SY_ASSIGN_OR_RETURN(const Json *tensors, getArray(json, "tensors"));
  int64_t place = 0;
  for (const Json &item : tensors->items()) {
    SourceSlice slice;
    SY_ASSIGN_OR_RETURN(slice.name, getString(item, "name"));
    SY_ASSIGN_OR_RETURN(slice.shape, readIntegers(item, "shape"));
    SY_ASSIGN_OR_RETURN(ElementRange range, readElements(item, state.count()));
    std::optional<uint64_t> bytes = checkedBytes(state.dtype, slice.shape);
    if (range.begin != place || !bytes ||
        *bytes != static_cast<uint64_t>(range.count() * kernels::byteSize(state.dtype)))
      return Status::invalidInput(fmt::format(
          "tensor {} of shape {} does not fit to elements [{}, {}), expected from {} on",
          quoteJson(slice.name), shapeText(slice.shape), range.begin, range.end, place));
    slice.begin = range.begin;
    slice.end = place = range.end;
    state.tensors.push_back(std::move(slice));
  }
  if (state.kind == StateKind::Parameter && place != state.count())
    return Status::invalidInput(
        fmt::format("\"tensors\" end at {}, expected {}", place, state.count()));
  return {};
}

Result<SavedState> readState(const Json &json) {
  SavedState state;
  SY_ASSIGN_OR_RETURN(state.name, getString(json, "name"));
  auto read = [&]() -> Status {
    SY_ASSIGN_OR_RETURN(state.kind, readNamed(json, "kind", kKinds, &name));
    SY_ASSIGN_OR_RETURN(state.dtype, readNamed(json, "dtype", kDTypes, &kernels::name));
    SY_ASSIGN_OR_RETURN(state.shape, readIntegers(json, "shape"));
    if (!checkedBytes(state.dtype, state.shape))
      return Status::invalidInput("the shape " + shapeText(state.shape) + " is empty or too large");
    return readTensors(json, state);
  };
  SY_RETURN_IF_ERROR(read().within("state " + state.name));
  return state;
}

/// Where the state of a name is.
using StateIndex = std::unordered_map<std::string, size_t>;

Result<SavedPiece> readPiece(const Json &json, const std::vector<SavedState> &states,
                             const StateIndex &index) {
  SavedPiece piece;
  SY_ASSIGN_OR_RETURN(std::string stateName, getString(json, "state"));
  auto found = index.find(stateName);
  if (found == index.end())
    return Status::invalidInput("\"state\" is " + quoteJson(stateName) + ", which is none of them");
  piece.state = found->second;
  const SavedState &state = states[piece.state];
  SY_ASSIGN_OR_RETURN(piece.elements, readElements(json, state.count()));
  SY_ASSIGN_OR_RETURN(std::string text, getString(json, "checksums"));
  const int64_t blocks = checksumBlocks(piece.elements.count(), state.dtype);
  for (size_t at = 0; at < text.size(); at += 16)
    if (std::optional<uint64_t> value = checksumFromText(std::string_view(text).substr(at, 16)))
      piece.checksums.push_back(*value);
  if (static_cast<int64_t>(piece.checksums.size()) != blocks ||
      text.size() != piece.checksums.size() * 16)
    return Status::invalidInput(fmt::format(
        "state {}: \"checksums\" has {} characters, expected {} of 16 hexadecimal digits",
        stateName, text.size(), blocks));
  return piece;
}

Result<SavedRankFile> readRankFile(const Json &json, const std::vector<SavedState> &states,
                                   const StateIndex &index) {
  SavedRankFile file;
  SY_ASSIGN_OR_RETURN(int64_t bytes, getInteger(json, "bytes", 0, kMaxInteger));
  file.bytes = static_cast<uint64_t>(bytes);
  SY_ASSIGN_OR_RETURN(file.headerChecksum, readChecksum(json, "header_checksum"));
  SY_ASSIGN_OR_RETURN(const Json *pieces, getArray(json, "pieces"));
  for (const Json &item : pieces->items()) {
    SY_ASSIGN_OR_RETURN(SavedPiece piece, readPiece(item, states, index));
    file.pieces.push_back(std::move(piece));
  }
  return file;
}

/// A name that stays within the folder.
bool isInside(const std::string &name) {
  return !name.empty() && name.front() != '/' && name.find("..") == std::string::npos &&
         name.find('\0') == std::string::npos;
}

Result<SavedFile> readSavedFile(const Json &json) {
  SavedFile file;
  SY_ASSIGN_OR_RETURN(file.name, getString(json, "name"));
  if (!isInside(file.name))
    return Status::invalidInput("\"name\" is " + quoteJson(file.name) +
                                ", expected one within the checkpoint's folder");
  SY_ASSIGN_OR_RETURN(int64_t bytes, getInteger(json, "bytes", 0, kMaxInteger));
  file.bytes = static_cast<uint64_t>(bytes);
  SY_ASSIGN_OR_RETURN(file.checksum, readChecksum(json, "checksum"));
  return file;
}

Status readInfo(const Json &json, CheckpointInfo &info) {
  SY_ASSIGN_OR_RETURN(info.step, getInteger(json, "step", 0, kMaxInteger));
  SY_ASSIGN_OR_RETURN(const Json *data, getObject(json, "data"));
  SY_ASSIGN_OR_RETURN(info.position, getInteger(*data, "position", 0, kMaxInteger));
  SY_ASSIGN_OR_RETURN(info.epoch, getInteger(*data, "epoch", 0, kMaxInteger));
  SY_ASSIGN_OR_RETURN(info.seed, getInteger(*data, "seed", 0, kMaxInteger));
  SY_ASSIGN_OR_RETURN(info.samplingStrategy, getString(*data, "train_sampling_strategy"));
  SY_ASSIGN_OR_RETURN(info.records, getInteger(*data, "records", 0, kMaxInteger));
  SY_ASSIGN_OR_RETURN(info.tokens, getInteger(*data, "tokens", 0, kMaxInteger));
  SY_ASSIGN_OR_RETURN(info.globalBatch, getInteger(*data, "global_batch", 1, kMaxInteger));
  SY_ASSIGN_OR_RETURN(info.packing, getBool(*data, "packing"));
  SY_ASSIGN_OR_RETURN(info.maxSeqLength, getInteger(*data, "max_seq_length", 0, kMaxInteger));
  return {};
}

/// Every element of every state is in exactly one piece.
Status checkCover(const Manifest &manifest) {
  std::vector<std::vector<ElementRange>> ranges(manifest.states.size());
  for (const SavedRankFile &file : manifest.rankFiles)
    for (const SavedPiece &piece : file.pieces)
      ranges[piece.state].push_back(piece.elements);
  for (size_t i = 0; i < ranges.size(); ++i) {
    std::ranges::sort(ranges[i], {},
                      [](const ElementRange &range) { return std::pair(range.begin, range.end); });
    int64_t place = 0;
    bool isWhole = true;
    for (const ElementRange &range : ranges[i])
      if ((isWhole = isWhole && range.begin == place))
        place = range.end;
    if (!isWhole || place != manifest.states[i].count())
      return Status::invalidInput(
          fmt::format("state {}: its pieces do not follow each other from element {} on",
                      manifest.states[i].name, place));
  }
  return {};
}

Status readLists(const Json &json, Manifest &manifest) {
  SY_ASSIGN_OR_RETURN(const Json *states, getArray(json, "states"));
  StateIndex index;
  for (const Json &item : states->items()) {
    SY_ASSIGN_OR_RETURN(SavedState state, readState(item));
    if (!index.emplace(state.name, manifest.states.size()).second)
      return Status::invalidInput("state " + state.name + " is there twice");
    manifest.states.push_back(std::move(state));
  }
  SY_ASSIGN_OR_RETURN(const Json *ranks, getArray(json, "ranks"));
  if (ranks->items().empty() || ranks->items().size() > kMaxRanks)
    return Status::invalidInput(
        fmt::format("\"ranks\" is {}, expected 1 to {}", ranks->describe(), kMaxRanks));
  for (const Json &item : ranks->items()) {
    Result<SavedRankFile> file = readRankFile(item, manifest.states, index);
    if (!file.ok())
      return file.status().within(fmt::format("rank {}", manifest.rankFiles.size()));
    manifest.rankFiles.push_back(std::move(*file));
  }
  SY_ASSIGN_OR_RETURN(const Json *files, getArray(json, "files"));
  for (const Json &item : files->items()) {
    SY_ASSIGN_OR_RETURN(SavedFile file, readSavedFile(item));
    manifest.files.push_back(std::move(file));
  }
  return checkCover(manifest);
}

constexpr std::string_view kChecksumLine = "{\n  \"checksum\": \"";
constexpr std::string_view kChecksumEnd = "\",\n";
constexpr size_t kHeadBytes = kChecksumLine.size() + 16 + kChecksumEnd.size();

} // namespace

int64_t SavedState::count() const {
  int64_t count = 1;
  for (int64_t extent : shape)
    count *= extent;
  return count;
}

int64_t checksumBlocks(int64_t elements, DType dtype) {
  return (elements * kernels::byteSize(dtype) + kChecksumBytes - 1) / kChecksumBytes;
}

std::string rankFileName(int64_t rank, int64_t ranks) {
  return fmt::format("states-{:05}-of-{:05}.safetensors", rank, ranks);
}

Result<Manifest> manifestOf(const Plan &plan) {
  Manifest manifest;
  manifest.compilerVersion = plan.compilerVersion;
  manifest.modelFingerprint = plan.modelFingerprint;
  std::vector<uint8_t> bytes = serialize(plan);
  manifest.planFingerprint =
      fingerprintText(fingerprint({reinterpret_cast<const char *>(bytes.data()), bytes.size()}));
  manifest.precision = plan.training.precision;
  manifest.mesh = plan.mesh;
  std::vector<const State *> kept;
  for (const State &state : plan.states)
    if (isSaved(state))
      kept.push_back(&state);
  // So that all tensors of a file stay aligned.
  std::ranges::stable_sort(kept, std::ranges::greater(),
                           [](const State *state) { return kernels::byteSize(state->dtype); });
  for (const State *state : kept) {
    SavedState saved{state->name, state->kind, state->dtype, state->shape, {}};
    if (state->source.kind != Source::Kind::Leaf || !state->source.name.empty()) {
      Result<std::vector<SourceSlice>> slices = resolve(state->source, state->shape);
      if (!slices.ok())
        return slices.status().within("state " + state->name);
      saved.tensors = std::move(*slices);
    }
    manifest.states.push_back(std::move(saved));
  }
  manifest.rankFiles.resize(plan.mesh.numRanks());
  for (int64_t rank = 0; rank < plan.mesh.numRanks(); ++rank)
    for (size_t i = 0; i < kept.size(); ++i)
      if (ElementRange part = savedPart(*kept[i], plan.mesh, rank); part.count() > 0)
        manifest.rankFiles[rank].pieces.push_back({i, part, {}});
  return manifest;
}

std::string formatManifest(const Manifest &manifest) {
  Json json = Json::object();
  json.set("format_version", kFormatVersion);
  json.set("step", manifest.info.step);
  json.set("data", jsonOf(manifest.info));
  json.set("model_fingerprint", manifest.modelFingerprint);
  json.set("plan_fingerprint", manifest.planFingerprint);
  json.set("compiler_version", manifest.compilerVersion);
  json.set("precision", manifest.precision);
  json.set("mesh", integers(std::vector<int64_t>(std::begin(manifest.mesh.sizes),
                                                 std::end(manifest.mesh.sizes))));
  Json states = Json::array(), ranks = Json::array(), files = Json::array();
  for (const SavedState &state : manifest.states)
    states.append(jsonOf(state));
  for (const SavedRankFile &file : manifest.rankFiles)
    ranks.append(jsonOf(file, manifest.states));
  for (const SavedFile &file : manifest.files) {
    Json item = Json::object();
    item.set("name", file.name);
    item.set("bytes", static_cast<int64_t>(file.bytes));
    item.set("checksum", checksumText(file.checksum));
    files.append(std::move(item));
  }
  json.set("states", std::move(states));
  json.set("ranks", std::move(ranks));
  json.set("files", std::move(files));
  std::string body = json.dump(1).substr(2) + "\n"; // behind the brace and its line's end
  return std::string(kChecksumLine) + checksumText(checksum(body)) + std::string(kChecksumEnd) +
         body;
}

Result<Manifest> parseManifest(const std::string &text) {
  const auto damaged = [](const char *what) {
    return Status::invalidInput(std::string(what) +
                                "; the file is damaged or was edited, take another checkpoint");
  };
  if (text.size() < kHeadBytes || !text.starts_with(kChecksumLine) ||
      std::string_view(text).substr(kHeadBytes - kChecksumEnd.size(), kChecksumEnd.size()) !=
          kChecksumEnd)
    return damaged("does not begin with its checksum");
  std::string_view body = std::string_view(text).substr(kHeadBytes);
  if (checksumFromText(std::string_view(text).substr(kChecksumLine.size(), 16)) != checksum(body))
    return damaged("does not have the checksum that it says");
  SY_ASSIGN_OR_RETURN(Json json, parseJson(text, kManifestFile));
  SY_RETURN_IF_ERROR(getInteger(json, "format_version", kFormatVersion, kFormatVersion).status());
  Manifest manifest;
  SY_RETURN_IF_ERROR(readInfo(json, manifest.info));
  SY_ASSIGN_OR_RETURN(manifest.modelFingerprint, getString(json, "model_fingerprint"));
  SY_ASSIGN_OR_RETURN(manifest.planFingerprint, getString(json, "plan_fingerprint"));
  SY_ASSIGN_OR_RETURN(manifest.compilerVersion, getString(json, "compiler_version"));
  SY_ASSIGN_OR_RETURN(manifest.precision, getString(json, "precision"));
  SY_ASSIGN_OR_RETURN(std::vector<int64_t> mesh, readIntegers(json, "mesh"));
  if (mesh.size() != kNumAxes ||
      std::ranges::any_of(mesh, [](int64_t size) { return size < 1 || size > kMaxRanks; }))
    return Status::invalidInput("\"mesh\" is " + shapeText(mesh) + ", expected [dp, fsdp, ep]");
  std::ranges::copy(mesh, manifest.mesh.sizes);
  SY_RETURN_IF_ERROR(readLists(json, manifest));
  return manifest;
}

} // namespace switchyard

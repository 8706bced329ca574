#include "runtime/checkpoint/CheckpointSaver.h"

#include "runtime/checkpoint/TrainingCheckpoint.h"
#include "runtime/checkpoint/Weights.h"
#include "runtime/core/Checksum.h"
#include "runtime/plan/Layout.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/plan/SavedStates.h"
#include "runtime/safetensors/Writer.h"

#include <algorithm>
#include <filesystem>

namespace switchyard {

namespace {

constexpr uint64_t kPieceBytes = 4 * kChecksumBytes;
constexpr uint64_t kLeastPieces = 2; // one is copied while another is written
constexpr uint64_t kMaxHeaderBytes = kMaxSafetensorsHeaderBytes + 8;
constexpr uint64_t kMaxModelFileBytes = uint64_t{1} << 30;
constexpr char kLatest[] = "latest";
constexpr char kPlanFile[] = "step.plan";

SavedFile describeFile(const std::string &name, std::string_view content) {
  return {name, content.size(), checksum(content)};
}

Status makeFolder(const std::string &path) {
  std::error_code error;
  std::filesystem::create_directory(path, error);
  return error ? Status::failed(path + ": cannot be made: " + errnoText(error.value())) : Status();
}

} // namespace

namespace checkpoint {

void Task::start(std::function<Status()> function) {
  wait();
  isDone_ = false;
  thread_ = std::thread([this, function = std::move(function)] {
    status_ = function();
    isDone_ = true;
  });
}

const Status &Task::wait() {
  if (thread_.joinable())
    thread_.join();
  return status_;
}

} // namespace checkpoint

Result<std::unique_ptr<CheckpointSaver>>
CheckpointSaver::create(Executor &executor, Agreement &agreement, CheckpointSaverOptions options) {
  std::unique_ptr<CheckpointSaver> saver(
      new CheckpointSaver(executor, agreement, std::move(options)));
  SY_ASSIGN_OR_RETURN(saver->blank_, manifestOf(executor.plan()));
  if (agreement.isLeader()) {
    const std::vector<uint8_t> bytes = serialize(executor.plan());
    saver->plan_.assign(bytes.begin(), bytes.end());
  }
  SY_RETURN_IF_ERROR(saver->staging_.allocate(
      std::min(switchyard::stagingBytes(executor.plan()),
               std::max(saver->options_.stagingLimit, kLeastPieces * kPieceBytes))));
  return saver;
}

CheckpointSaver::~CheckpointSaver() {
  (void)task_.wait();
}

Status CheckpointSaver::start(const CheckpointInfo &info) {
  SY_RETURN_IF_ERROR(finish());
  auto begin = [&]() -> Status {
    manifest_ = blank_;
    manifest_.info = info;
    target_ = checkpointFolder(options_.outputDir, info.step);
    if (agreement_.isLeader()) {
      SY_ASSIGN_OR_RETURN(folder_, AtomicFolder::create(target_));
    }
    return {};
  };
  SY_RETURN_IF_ERROR(agreement_.agree(begin()));
  SY_ASSIGN_OR_RETURN(std::string folder, agreement_.share(folder_ ? folder_->path() : ""));
  phase_ = Phase::Writing;
  staging_.reset();
  task_.start([this, folder] { return writeAll(folder); });
  Status staged = stage();
  staging_.close();
  if (Status status = agreement_.agree(staged); !status.ok()) {
    (void)task_.wait();
    folder_.reset();
    phase_ = Phase::Idle;
    return status;
  }
  return {};
}

/// Copies this rank's part, piece by piece; none is across the end of a tensor.
Status CheckpointSaver::stage() {
  const Plan &plan = executor_.plan();
  for (const SavedPiece &piece : manifest_.rankFiles[executor_.rank()].pieces) {
    const SavedState &saved = manifest_.states[piece.state];
    const int64_t width = kernels::byteSize(saved.dtype);
    SY_ASSIGN_OR_RETURN(size_t index, executor_.findState(saved.name));
    const State &state = plan.states[index];
    const int64_t first =
        localRange(state.shape, state.sharding, plan.mesh, executor_.rank()).begin;
    const auto begin = static_cast<uint64_t>((piece.elements.begin - first) * width);
    const auto bytes = static_cast<uint64_t>(piece.elements.count() * width);
    for (uint64_t at = 0; at < bytes; at += kPieceBytes) {
      SY_RETURN_IF_ERROR(
          executor_.readState(index, begin + at, staging_.take(std::min(kPieceBytes, bytes - at))));
      staging_.push();
    }
  }
  return {};
}

/// This rank's file, from what is staged.
Status CheckpointSaver::writeStates(const std::string &folder) {
  const int rank = executor_.rank();
  SavedRankFile &file = manifest_.rankFiles[rank];
  std::vector<TensorSpec> specs;
  for (const SavedPiece &piece : file.pieces) {
    const SavedState &state = manifest_.states[piece.state];
    specs.push_back({state.name, tensorDType(state.dtype), {piece.elements.count()}});
  }
  const std::string path = joinPath(folder, rankFileName(rank, executor_.plan().mesh.numRanks()));
  SY_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::create(path, specs));
  const uint64_t dataBytes = writer.bytesMissing();
  for (SavedPiece &piece : file.pieces) {
    const int64_t width = kernels::byteSize(manifest_.states[piece.state].dtype);
    for (int64_t left = piece.elements.count() * width; left > 0;) {
      std::optional<std::span<const std::byte>> bytes = staging_.pop();
      if (!bytes)
        return Status::failed(path + ": the states could not be copied");
      left -= static_cast<int64_t>(bytes->size());
      std::span<const std::byte> rest = *bytes;
      for (; !rest.empty(); rest = rest.subspan(std::min<size_t>(kChecksumBytes, rest.size())))
        piece.checksums.push_back(
            checksum(rest.first(std::min<size_t>(kChecksumBytes, rest.size()))));
      SY_RETURN_IF_ERROR(writer.append(*bytes));
      staging_.giveBack();
    }
  }
  SY_RETURN_IF_ERROR(writer.finish());
  SY_ASSIGN_OR_RETURN(FileReader reader, FileReader::open(path));
  file.bytes = reader.size();
  SY_ASSIGN_OR_RETURN(std::string header,
                      reader.read(0, std::min(file.bytes - dataBytes, kMaxHeaderBytes)));
  file.headerChecksum = checksum(header);
  return {};
}

/// Rank 0's files beside the states.
Status CheckpointSaver::writeModel(const std::string &folder) {
  const std::string model = joinPath(folder, "model");
  SY_RETURN_IF_ERROR(makeFolder(model));
  SY_RETURN_IF_ERROR(copyFile(joinPath(options_.modelFolder, "config.json"),
                              joinPath(model, "config.json"), FilePlace::InAtomicFolder));
  SY_RETURN_IF_ERROR(copyModelFiles(options_.modelFolder, options_.tokenizerFile, model));
  SY_RETURN_IF_ERROR(
      writeFileAtomically(joinPath(folder, kPlanFile), plan_, FilePlace::InAtomicFolder));
  std::error_code error;
  for (const auto &entry : std::filesystem::directory_iterator(model, error)) {
    SY_ASSIGN_OR_RETURN(std::string content, readFile(entry.path(), kMaxModelFileBytes));
    manifest_.files.push_back(describeFile("model/" + entry.path().filename().string(), content));
  }
  manifest_.files.push_back(describeFile(kPlanFile, plan_));
  std::ranges::sort(manifest_.files, {}, &SavedFile::name);
  return {};
}

Status CheckpointSaver::writeAll(const std::string &folder) {
  Status status = writeStates(folder);
  if (status.ok() && agreement_.isLeader())
    status = writeModel(folder);
  if (!status.ok())
    staging_.abandon();
  return status;
}

/// What each rank found out of its file, to all.
Status CheckpointSaver::gatherChecksums() {
  const auto numbersOf = [&](const SavedRankFile &file) {
    int64_t count = 2;
    for (const SavedPiece &piece : file.pieces)
      count += checksumBlocks(piece.elements.count(), manifest_.states[piece.state].dtype);
    return count;
  };
  int64_t longest = 0;
  for (const SavedRankFile &file : manifest_.rankFiles)
    longest = std::max(longest, numbersOf(file));
  const SavedRankFile &own = manifest_.rankFiles[agreement_.rank()];
  std::vector<int64_t> mine = {static_cast<int64_t>(own.bytes),
                               static_cast<int64_t>(own.headerChecksum)};
  for (const SavedPiece &piece : own.pieces)
    mine.insert(mine.end(), piece.checksums.begin(), piece.checksums.end());
  mine.resize(longest);
  SY_ASSIGN_OR_RETURN(std::span<const int64_t> all, agreement_.gather(mine));
  for (SavedRankFile &file : manifest_.rankFiles) {
    const int64_t *at = all.data();
    file.bytes = static_cast<uint64_t>(*at++);
    file.headerChecksum = static_cast<uint64_t>(*at++);
    for (SavedPiece &piece : file.pieces) {
      const int64_t blocks =
          checksumBlocks(piece.elements.count(), manifest_.states[piece.state].dtype);
      piece.checksums.assign(at, at + blocks);
      at += blocks;
    }
    all = all.subspan(longest);
  }
  return {};
}

/// Rank 0: what makes the folder whole, its name, and what then is one too many.
Status CheckpointSaver::nameFolder() {
  SY_RETURN_IF_ERROR(writeFileAtomically(joinPath(folder_->path(), kManifestFile),
                                         formatManifest(manifest_), FilePlace::InAtomicFolder));
  SY_RETURN_IF_ERROR(folder_->commit());
  SY_RETURN_IF_ERROR(linkAtomically(checkpointFolder("", manifest_.info.step),
                                    joinPath(options_.outputDir, kLatest)));
  return removeOld();
}

Status CheckpointSaver::removeOld() const {
  if (options_.totalLimit == 0)
    return {};
  std::vector<int64_t> steps = checkpointSteps(options_.outputDir);
  const auto kept = static_cast<size_t>(options_.totalLimit);
  for (size_t i = 0; i + kept < steps.size(); ++i)
    SY_RETURN_IF_ERROR(removeAtomically(checkpointFolder(options_.outputDir, steps[i])));
  return {};
}

Status CheckpointSaver::advance() {
  if (phase_ == Phase::Idle)
    return {};
  const bool isWriting = phase_ == Phase::Writing;
  phase_ = Phase::Idle;
  Status status = agreement_.agree(task_.wait());
  if (!status.ok()) {
    folder_.reset();
    return status;
  }
  if (!isWriting) {
    folder_.reset();
    saved_ = target_;
    return {};
  }
  SY_RETURN_IF_ERROR(gatherChecksums());
  phase_ = Phase::Naming;
  task_.start([this] { return agreement_.isLeader() ? nameFolder() : Status(); });
  return {};
}

Status CheckpointSaver::finish() {
  while (isUnderway())
    SY_RETURN_IF_ERROR(advance());
  return {};
}

} // namespace switchyard

#include "runtime/checkpoint/CheckpointSaver.h"

#include "runtime/checkpoint/TrainingCheckpoint.h"
#include "runtime/checkpoint/Weights.h"
#include "runtime/core/Checksum.h"
#include "runtime/plan/Layout.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/safetensors/Writer.h"

#include <algorithm>
#include <filesystem>

namespace switchyard {

namespace {

constexpr int64_t kPieceBytes = 4 * kChecksumBytes;
constexpr uint64_t kMaxHeaderBytes = kMaxSafetensorsHeaderBytes + 8;
constexpr uint64_t kMaxModelFileBytes = uint64_t{1} << 30;
constexpr char kLatest[] = "latest";

/// What `name` in `folder` is now.
Result<SavedFile> describeFile(const std::string &folder, const std::string &name) {
  SY_ASSIGN_OR_RETURN(std::string text, readFile(joinPath(folder, name), kMaxModelFileBytes));
  return SavedFile{name, text.size(), checksum(text)};
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

Staging::Bytes Staging::take(int64_t size) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return used_ == 0 || used_ + size <= limit_ || isAbandoned_; });
  used_ += size;
  Bytes bytes;
  if (!free_.empty()) {
    bytes = std::move(free_.back());
    free_.pop_back();
  }
  lock.unlock();
  bytes.resize(size);
  return bytes;
}

void Staging::push(Bytes bytes) {
  std::lock_guard lock(mutex_);
  if (isAbandoned_) {
    used_ -= static_cast<int64_t>(bytes.size());
    free_.push_back(std::move(bytes));
    return;
  }
  pieces_.push_back(std::move(bytes));
  changed_.notify_all();
}

std::optional<Staging::Bytes> Staging::pop() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !pieces_.empty() || isClosed_; });
  if (pieces_.empty())
    return std::nullopt;
  Bytes bytes = std::move(pieces_.front());
  pieces_.pop_front();
  return bytes;
}

void Staging::giveBack(Bytes bytes) {
  std::lock_guard lock(mutex_);
  used_ -= static_cast<int64_t>(bytes.size());
  free_.push_back(std::move(bytes));
  changed_.notify_all();
}

void Staging::close() {
  std::lock_guard lock(mutex_);
  isClosed_ = true;
  changed_.notify_all();
}

void Staging::abandon() {
  std::lock_guard lock(mutex_);
  isAbandoned_ = true;
  changed_.notify_all();
}

void Staging::reset() {
  std::lock_guard lock(mutex_);
  for (Bytes &bytes : pieces_)
    free_.push_back(std::move(bytes));
  pieces_.clear();
  used_ = 0;
  isClosed_ = isAbandoned_ = false;
}

} // namespace checkpoint

CheckpointSaver::CheckpointSaver(Executor &executor, Agreement &agreement,
                                 CheckpointSaverOptions options)
    : executor_(executor), agreement_(agreement), options_(std::move(options)),
      staging_(options_.stagingBytes) {}

CheckpointSaver::~CheckpointSaver() {
  (void)task_.wait();
}

Status CheckpointSaver::start(const CheckpointInfo &info) {
  SY_RETURN_IF_ERROR(finish());
  auto begin = [&]() -> Status {
    SY_ASSIGN_OR_RETURN(manifest_, manifestOf(executor_.plan()));
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
    const int64_t begin = (piece.elements.begin - first) * width;
    const int64_t bytes = piece.elements.count() * width;
    for (int64_t at = 0; at < bytes; at += kPieceBytes) {
      checkpoint::Staging::Bytes copy = staging_.take(std::min(kPieceBytes, bytes - at));
      SY_RETURN_IF_ERROR(executor_.readState(index, static_cast<uint64_t>(begin + at), copy));
      staging_.push(std::move(copy));
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
      std::optional<checkpoint::Staging::Bytes> bytes = staging_.pop();
      if (!bytes)
        return Status::failed(path + ": the states could not be copied");
      left -= static_cast<int64_t>(bytes->size());
      std::span<const std::byte> rest = *bytes;
      for (; !rest.empty(); rest = rest.subspan(std::min<size_t>(kChecksumBytes, rest.size())))
        piece.checksums.push_back(
            checksum(rest.first(std::min<size_t>(kChecksumBytes, rest.size()))));
      SY_RETURN_IF_ERROR(writer.append(*bytes));
      staging_.giveBack(std::move(*bytes));
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
  SY_RETURN_IF_ERROR(
      copyFile(joinPath(options_.modelFolder, "config.json"), joinPath(model, "config.json")));
  SY_RETURN_IF_ERROR(copyModelFiles(options_.modelFolder, options_.tokenizerFile, model));
  SY_RETURN_IF_ERROR(writePlan(executor_.plan(), joinPath(folder, "step.plan")));
  std::vector<std::string> names = {"step.plan"};
  std::error_code error;
  for (const auto &entry : std::filesystem::directory_iterator(model, error))
    names.push_back("model/" + entry.path().filename().string());
  std::ranges::sort(names);
  for (const std::string &name : names) {
    SY_ASSIGN_OR_RETURN(SavedFile file, describeFile(folder, name));
    manifest_.files.push_back(std::move(file));
  }
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
  SY_RETURN_IF_ERROR(
      writeFileAtomically(joinPath(folder_->path(), kManifestFile), formatManifest(manifest_)));
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

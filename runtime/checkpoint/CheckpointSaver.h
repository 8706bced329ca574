// Saves training checkpoints (TrainingCheckpoint.h) while training goes on.
//
// Each rank copies its part of the states into staging memory and a thread of its own writes it;
// when all ranks have written theirs, rank 0 adds what makes the folder whole and gives it its
// name. Training waits for the copy, and, where the staging memory is smaller than the part, for
// the disk to take the rest. That memory is the plan's stagingBytes() (SavedStates.h), allocated
// when the saver is made.
//
//   start(); training; while isUnderway(): all ranks' isReady()? advance(); training; ... finish();
//
// Whenever the process ends, the folder checkpoint-N is there whole or not at all.
#pragma once

#include "runtime/checkpoint/Manifest.h"
#include "runtime/checkpoint/Staging.h"
#include "runtime/comm/Agreement.h"
#include "runtime/core/File.h"
#include "runtime/executor/Executor.h"

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

namespace switchyard {

struct CheckpointSaverOptions {
  std::string outputDir;
  std::string modelFolder;   // config.json and the tokenizer's files are copied from here
  std::string tokenizerFile; // in their place if it lies elsewhere; may be empty
  /// Host memory for a rank's part on its way to the disk, at most; a few MiB are taken in any
  /// case.
  uint64_t stagingLimit = uint64_t{1} << 30;
  /// How many checkpoints are kept in outputDir, the newest; 0: all.
  int64_t totalLimit = 0;
};

namespace checkpoint {

/// A function on a thread of its own.
class Task {
public:
  ~Task() { wait(); }
  void start(std::function<Status()> function);
  bool isDone() const { return isDone_; }
  /// Waits for its end; its result.
  const Status &wait();

private:
  std::thread thread_;
  std::atomic<bool> isDone_ = true;
  Status status_;
};

} // namespace checkpoint

class CheckpointSaver {
public:
  /// Not collective. What is referred to outlives it. The model's files are read at each save.
  /// DoesNotFit: there is not that much memory.
  static Result<std::unique_ptr<CheckpointSaver>> create(Executor &executor, Agreement &agreement,
                                                         CheckpointSaverOptions options);
  /// Without finish() what is not named yet is removed.
  ~CheckpointSaver();

  /// Saves the states as they are into outputDir/checkpoint-N, N = info.step, after the save that
  /// is under way. Returns when they are copied. Collective, as are the next two; ranks agree on
  /// failures. InvalidInput: the folder is there already.
  Status start(const CheckpointInfo &info);

  bool isUnderway() const { return phase_ != Phase::Idle; }
  /// Whether this rank is done with what it has to do next; advance() then waits for nobody.
  bool isReady() const { return task_.isDone(); }
  /// When all ranks are ready: goes on. Failed: something could not be written; the checkpoint is
  /// not there.
  Status advance();
  /// Until nothing is under way.
  Status finish();

  /// The latest folder that was saved; empty: none.
  const std::string &saved() const { return saved_; }
  /// Bytes of the memory for what is copied.
  uint64_t stagingBytes() const { return staging_.bytes(); }

private:
  enum class Phase : uint8_t { Idle, Writing, Naming };

  CheckpointSaver(Executor &executor, Agreement &agreement, CheckpointSaverOptions options)
      : executor_(executor), agreement_(agreement), options_(std::move(options)) {}
  Status stage();
  Status writeStates(const std::string &folder);
  Status writeModel(const std::string &folder);
  Status writeAll(const std::string &folder);
  Status gatherChecksums();
  Status nameFolder();
  Status removeOld() const;

  Executor &executor_;
  Agreement &agreement_;
  CheckpointSaverOptions options_;
  Phase phase_ = Phase::Idle;
  Manifest blank_;    // what a checkpoint of this plan is, without sizes and checksums
  std::string plan_;  // as a file's bytes
  Manifest manifest_; // of this rank's file its sizes and checksums, at the end on rank 0 all
  std::string target_, saved_;
  std::optional<AtomicFolder> folder_; // rank 0's
  checkpoint::Staging staging_;
  checkpoint::Task task_; // the last member: it uses the others
};

} // namespace switchyard

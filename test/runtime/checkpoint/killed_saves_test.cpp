// Processes that save without end, each killed at a random moment: the checkpoints that have a name
// are whole, always, and hold what was saved; none that was done is missing.
//
// The process under test is forked, so this one has no threads. TMPDIR says where it saves.
#include "runtime/checkpoint/CheckpointSaver.h"
#include "runtime/checkpoint/TrainingCheckpoint.h"
#include "runtime/device/cpu/CpuDevice.h"
#include "runtime/plan/Layout.h"
#include "test/runtime/comm/RankThreads.h"
#include "test/runtime/core/TestFolder.h"
#include "test/runtime/core/Thorough.h"
#include "test/runtime/plan/RanksPlan.h"

#include <gmock/gmock.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <random>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

/// Element `element` of state `state` after `step` updates.
float valueOf(int64_t step, size_t state, int64_t element) {
  return static_cast<float>(step) + 0.25F * static_cast<float>(state) +
         static_cast<float>(element) / 4096;
}

/// What a process says of itself while it saves: the steps whose save has begun and is done.
struct Progress {
  int64_t begun = 0, done = 0;
};

/// One rank of a process that saves after each step, for ever.
Status saveForEver(const Plan &plan, const std::string &folder, int64_t step,
                   Communicator &communicator, int progress) {
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Device> device, createCpuDevice(plan.target));
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Executor> executor,
                      Executor::create(plan, std::move(device), &communicator));
  Agreement agreement(&communicator);
  SY_ASSIGN_OR_RETURN(
      std::unique_ptr<CheckpointSaver> saver,
      CheckpointSaver::create(*executor, agreement,
                              {folder + "/out", folder + "/model", "", uint64_t{1} << 20, 2}));
  for (Progress now{step, step};; ++step) {
    for (size_t index = 0; index < plan.states.size(); ++index) {
      const State &state = plan.states[index];
      const ElementRange held =
          localRange(state.shape, state.sharding, plan.mesh, executor->rank());
      std::vector<float> values;
      for (int64_t i = held.begin; i < held.end; ++i)
        values.push_back(valueOf(step + 1, index, i));
      SY_RETURN_IF_ERROR(executor->writeState(index, 0, std::as_bytes(std::span(values))));
    }
    const auto say = [&](int64_t &number) {
      number = step + 1;
      return !agreement.isLeader() || ::write(progress, &now, sizeof(now)) == sizeof(now);
    };
    if (!say(now.begun))
      return Status::failed("nobody listens");
    SY_RETURN_IF_ERROR(
        saver->start({.step = step + 1, .samplingStrategy = "random", .globalBatch = 1}));
    SY_RETURN_IF_ERROR(saver->finish());
    if (!say(now.done))
      return Status::failed("nobody listens");
  }
}

/// The process: it ends by itself only if something is wrong.
[[noreturn]] void saveOnRanks(const Plan &plan, const std::string &folder, int64_t step,
                              int progress) {
  if (Status status = removeTemporaries(folder + "/out", "checkpoint-"); !status.ok())
    std::cerr << status.message() << "\n";
  test::runRankThreads(static_cast<int>(plan.mesh.numRanks()), {}, [&](Communicator &communicator) {
    Status status = saveForEver(plan, folder, step, communicator, progress);
    std::cerr << status.message() << "\n";
    _exit(1);
  });
  _exit(1);
}

/// Random moments, of which each part of a save gets its share, however long a save takes.
struct Moments {
  std::mt19937_64 random;
  std::chrono::nanoseconds save = std::chrono::milliseconds(20); // how long the latest one took

  /// How many saves are to be done first, and how long the one behind them goes on.
  int64_t saves() { return static_cast<int64_t>(random() % 3); }
  std::chrono::nanoseconds within() {
    return std::chrono::nanoseconds(static_cast<int64_t>(random() % save.count()));
  }
};

/// The next that is said; false at the end.
bool listen(int progress, Progress &last) {
  return ::read(progress, &last, sizeof(last)) == sizeof(last);
}

/// Saves in `folder` from `step` on, and kills the process at a random moment. What it said last.
Progress savedAndKilled(const Plan &plan, const std::string &folder, int64_t step,
                        Moments &moments) {
  int pipe[2];
  EXPECT_EQ(::pipe(pipe), 0);
  const pid_t process = ::fork();
  if (process == 0) {
    ::close(pipe[0]);
    saveOnRanks(plan, folder, step, pipe[1]);
  }
  ::close(pipe[1]);
  Progress last;
  EXPECT_TRUE(listen(pipe[0], last));
  for (int64_t left = moments.saves(); left > 0; --left) {
    const Clock::time_point begun = Clock::now();
    EXPECT_TRUE(listen(pipe[0], last)); // done
    moments.save = Clock::now() - begun;
    EXPECT_TRUE(listen(pipe[0], last)); // the next is begun
  }
  std::this_thread::sleep_for(moments.within());
  ::kill(process, SIGKILL);
  int status = 0;
  EXPECT_EQ(::waitpid(process, &status, 0), process);
  EXPECT_TRUE(WIFSIGNALED(status)) << "it ended by itself";
  while (listen(pipe[0], last)) {
  }
  ::close(pipe[0]);
  return last;
}

/// The checkpoint is whole and of its step.
void expectWhole(const std::string &folder, int64_t step, const Plan &plan) {
  SCOPED_TRACE(folder);
  Result<TrainingCheckpoint> checkpoint = TrainingCheckpoint::open(folder);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ(checkpoint->manifest().info.step, step);
  for (size_t index = 0; index < plan.states.size(); ++index) {
    const State &state = plan.states[index];
    if (state.kind == StateKind::Gradient)
      continue;
    const int64_t saved = checkpoint->findState(state.name);
    ASSERT_GE(saved, 0) << state.name;
    std::vector<float> found(bytesOf(state) / sizeof(float)), expected;
    for (size_t i = 0; i < found.size(); ++i)
      expected.push_back(valueOf(step, index, static_cast<int64_t>(i)));
    Status status = checkpoint->read(static_cast<size_t>(saved), 0, std::ssize(found),
                                     std::as_writable_bytes(std::span(found)));
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(found, expected) << state.name;
  }
}

/// How many entries of `folder` have names that begin so.
int64_t countOf(const std::string &folder, const char *prefix) {
  int64_t count = 0;
  for (const fs::directory_entry &entry : fs::directory_iterator(folder))
    count += entry.path().filename().string().starts_with(prefix);
  return count;
}

/// Where it may be anywhere: a kill takes nothing back that was written, so memory is as good as a
/// disk, and faster.
void preferMemory() {
  constexpr char kMemory[] = "/dev/shm";
  if (::access(kMemory, W_OK | X_OK) == 0)
    ::setenv("TMPDIR", kMemory, 0);
}

/// Of the kills on one number of ranks.
struct Count {
  int kills = 0;
  int inSave = 0;    // a save had begun and was not done
  int torn = 0;      // a part of one was left behind
  int64_t saved = 0; // checkpoints, over all processes
};

/// Where one number of ranks saves, and what has to be there.
struct Place {
  Plan plan;
  TestFolder folder;
  int64_t newest = 0;
  Count count;

  explicit Place(Mesh mesh) : plan(test::shardedPlan(mesh)) {
    fs::create_directory(folder.file("model"));
    fs::create_directory(folder.file("out"));
    folder.write("model/config.json", R"({"model_type": "mixtral"})");
    folder.write("model/tokenizer.model", "pieces");
  }

  void killOne(Moments &moments) {
    const std::string out = folder.file("out");
    const Progress last = savedAndKilled(plan, folder.path(), newest, moments);
    const std::vector<int64_t> steps = checkpointSteps(out);
    const int64_t found = steps.empty() ? 0 : steps.back();
    EXPECT_GE(found, std::max(newest, last.done)) << "a checkpoint that was done is gone";
    EXPECT_LE(found, last.begun);
    EXPECT_EQ(countOf(out, "checkpoint-"), std::ssize(steps)) << "one has a name and no manifest";
    for (int64_t step : steps)
      expectWhole(checkpointFolder(out, step), step, plan);
    if (last.done > newest) { // with the one that was begun then, where it has its name already
      EXPECT_LE(std::ssize(steps), 3) << "two are to be kept";
    }
    if (last.begun == last.done) {
      EXPECT_EQ(fs::read_symlink(out + "/latest"), checkpointFolder("", found));
    }
    ++count.kills;
    count.inSave += last.begun > last.done;
    count.torn += countOf(out, ".checkpoint-") > 0;
    count.saved += found - newest;
    newest = found;
  }
};

TEST(KilledSaves, LeaveWholeCheckpoints) {
  preferMemory();
  const int64_t times = casesOf(200, 1000);
  Moments moments{std::mt19937_64(std::random_device()())};
  std::array<Place, 3> places = {Place(Mesh{{1, 1, 1}}), Place(Mesh{{1, 2, 1}}),
                                 Place(Mesh{{2, 2, 1}})};
  for (int64_t i = 0; i < times && !HasFailure(); ++i)
    places[i % 3].killOne(moments);
  Count all;
  for (const Place &place : places) {
    std::cout << "faults: " << place.count.kills << " kills of " << place.plan.mesh.numRanks()
              << " ranks that save, " << place.count.inSave << " in a save, " << place.count.torn
              << " left a part of one; " << place.count.saved << " checkpoints\n";
    all.inSave += place.count.inSave;
    all.kills += place.count.kills;
  }
  EXPECT_GT(all.inSave, all.kills / 4) << "too few of the kills came in a save";
}

} // namespace
} // namespace switchyard

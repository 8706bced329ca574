// A rank that is killed, stopped, stuck or gone ends the others with exit code 5, in time, and each
// leaves a record that names it and says where everyone stood.
#include "runtime/comm/mpi/MpiCommunicator.h"
#include "runtime/core/File.h"
#include "runtime/core/Json.h"

#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace switchyard {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr int kRanks = 4;

/// Started processes, their folder, and what they left.
class Job {
public:
  explicit Job(const std::string &command) {
    std::string pattern = testing::TempDir() + "switchyard-comm-XXXXXX";
    folder_ = mkdtemp(pattern.data());
    std::string line = command;
    for (size_t at; (at = line.find("{folder}")) != std::string::npos;)
      line.replace(at, 8, folder_);
    process_ = fork();
    if (process_ == 0) {
      int log = open((folder_ + "/log").c_str(), O_WRONLY | O_CREAT, 0644);
      dup2(log, STDOUT_FILENO);
      dup2(log, STDERR_FILENO);
      execl("/bin/sh", "sh", "-c", ("exec " + line).c_str(), nullptr);
      _exit(127);
    }
  }

  ~Job() {
    if (!isOver_) {
      kill(process_, SIGKILL);
      waitpid(process_, nullptr, 0);
    }
    if (!testing::Test::HasFailure())
      std::filesystem::remove_all(folder_);
  }

  /// The one that was started.
  pid_t process() const { return process_; }

  /// The process of `rank`, once it works.
  pid_t pidOf(int rank) { return std::stoi("0" + waitForFile("pid-" + std::to_string(rank))); }

  std::string waitForFile(const std::string &name) {
    auto deadline = Clock::now() + std::chrono::seconds(20);
    while (Clock::now() < deadline) {
      if (std::string text = textOf(name); !text.empty())
        return text;
      std::this_thread::sleep_for(milliseconds(2));
    }
    ADD_FAILURE() << folder_ << "/" << name << " did not come; the job said: " << log();
    return "";
  }

  /// The exit code; -1 if the job is not over by then.
  int waitFor(milliseconds time) {
    auto deadline = Clock::now() + time;
    int status = 0;
    while (waitpid(process_, &status, WNOHANG) == 0) {
      if (Clock::now() > deadline)
        return -1;
      std::this_thread::sleep_for(milliseconds(5));
    }
    isOver_ = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  std::string log() const { return textOf("log"); }
  std::string exitCodeOf(int rank) const { return textOf("exit-" + std::to_string(rank)); }

  bool has(const std::string &name) const { return fileExists(folder_ + "/" + name); }

  /// Checks the record of `rank` and returns where it says that `of` stood, as JSON text.
  std::string checkRecord(int rank, int lost, const std::string &reason, int of) {
    auto text = readFile(folder_ + "/failure-rank-" + std::to_string(rank) + ".jsonl", 1 << 20);
    EXPECT_TRUE(text.ok()) << "rank " << rank << " left no record; the job said: " << log();
    if (!text.ok())
      return "";
    EXPECT_EQ(std::ranges::count(*text, '\n'), 1);
    auto record = parseJson(*text, "record");
    EXPECT_TRUE(record.ok()) << record.status().message();
    if (!record.ok())
      return "";
    EXPECT_EQ(record->find("event")->string(), "rank_lost");
    EXPECT_EQ(record->find("rank")->integer(), rank);
    EXPECT_EQ(record->find("lost_rank")->integer(), lost) << *text;
    EXPECT_EQ(record->find("reason")->string(), reason) << *text;
    EXPECT_EQ(record->find("ranks")->items().size(), size_t{kRanks});
    for (const Json &where : record->find("ranks")->items()) {
      // Where the lost one stood is known as of its last beat.
      if (where.find("rank")->integer() != lost) {
        EXPECT_EQ(where.find("program")->string(), "micro_step") << *text;
      }
      if (where.find("rank")->integer() == of)
        return where.dump();
    }
    return "";
  }

private:
  std::string textOf(const std::string &name) const {
    auto text = readFile(folder_ + "/" + name, 1 << 20);
    return text.ok() ? *text : "";
  }

  std::string folder_;
  pid_t process_ = -1;
  bool isOver_ = false;
};

std::string worker() {
  return SWITCHYARD_COMM_WORKER;
}

/// mpirun with a shell around each rank that notes its exit code, if mpirun leaves it the time.
std::string mpiJob(int timeoutMs, const std::string &misdeed = "") {
  return std::string(SWITCHYARD_MPIRUN) + " -n " + std::to_string(kRanks) +
         " sh -c 'trap : TERM; " + worker() + " mpi " + std::to_string(timeoutMs) + " {folder} " +
         misdeed + "; code=$?; echo $code >{folder}/exit-$OMPI_COMM_WORLD_RANK; exit $code'";
}

bool isGone(pid_t process) {
  for (int turn = 0; turn < 1000; ++turn) {
    if (kill(process, 0) != 0)
      return true;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return false;
}

std::chrono::milliseconds anyTime() {
  return milliseconds(std::random_device()() % 100);
}

/// Of processes: started by mpirun, or by the worker itself.
class ProcessFailure : public testing::TestWithParam<const char *> {
protected:
  void SetUp() override {
    if (isMpi() && !hasMpi())
      GTEST_SKIP() << "this build has no MPI";
  }

  static bool isMpi() { return std::string(GetParam()) == "mpi"; }

  static std::string jobOf(int timeoutMs, const std::string &misdeed = "") {
    if (isMpi())
      return mpiJob(timeoutMs, misdeed);
    return worker() + " tcp " + std::to_string(timeoutMs) + " {folder} " + misdeed;
  }

  /// Sends `signal` to a rank at a random moment; the job is over within `time`.
  void loseRank(int lost, int signal, int timeoutMs, milliseconds time, const std::string &reason) {
    Job job(jobOf(timeoutMs));
    std::vector<pid_t> processes;
    for (int rank = 0; rank < kRanks; ++rank)
      processes.push_back(job.pidOf(rank));
    for (pid_t process : processes) // a signal to -1 would go to every process there is
      ASSERT_GT(process, 1) << job.log();
    std::this_thread::sleep_for(anyTime());
    kill(processes[lost], signal);
    int code = job.waitFor(time);
    // mpirun's is that of the rank whose end it saw first.
    EXPECT_THAT(code, testing::AnyOf(5, signal == SIGKILL ? 137 : 5)) << job.log();
    for (int rank = 0; rank < kRanks; ++rank) {
      EXPECT_TRUE(isGone(processes[rank])) << "rank " << rank;
      if (rank == lost)
        continue;
      EXPECT_THAT(job.exitCodeOf(rank), testing::AnyOf("", "5\n"));
      EXPECT_THAT(job.checkRecord(rank, lost, reason, rank), HasSubstr("micro_step"));
    }
    EXPECT_THAT(job.log(), HasSubstr("error: rank " + std::to_string(lost) + " " + reason));
  }
};

INSTANTIATE_TEST_SUITE_P(Launchers, ProcessFailure, testing::Values("mpi", "tcp"),
                         [](const auto &info) { return std::string(info.param); });

// The timeout is long: a death must be seen without it.
TEST_P(ProcessFailure, KilledRankEndsTheOthers) {
  for (int lost : {0, 2, 3})
    loseRank(lost, SIGKILL, 600'000, milliseconds(5000), "died");
}

TEST_P(ProcessFailure, StoppedRankEndsTheOthersAfterTheTimeout) {
  for (int lost : {0, 1})
    loseRank(lost, SIGSTOP, 1000, milliseconds(1000 + 5000), "stalled");
}

TEST_P(ProcessFailure, RankThatLivesAndDoesNotComeIsStalled) {
  Job job(jobOf(800, "sleep 1"));
  ASSERT_EQ(job.waitFor(milliseconds(60'000)), 5) << job.log();
  for (int rank : {0, 2, 3}) {
    std::string lostOne = job.checkRecord(rank, 1, "stalled", 1);
    EXPECT_THAT(lostOne, HasSubstr("optimizer_step"));
    EXPECT_THAT(lostOne, testing::Not(HasSubstr("doing")));
    EXPECT_THAT(job.checkRecord(rank, 1, "stalled", rank), HasSubstr("all_reduce"));
  }
}

// What a GPU waits for, its host does not know; but hosts that wait for theirs are not to blame.
TEST_P(ProcessFailure, RankThatOthersWaitForOnTheirGpusIsStalled) {
  Job job(jobOf(800, "gpu 1"));
  ASSERT_EQ(job.waitFor(milliseconds(60'000)), 5) << job.log();
  for (int rank : {0, 2, 3}) {
    std::string lostOne = job.checkRecord(rank, 1, "stalled", 1);
    EXPECT_THAT(lostOne, HasSubstr("optimizer_step"));
    EXPECT_THAT(lostOne, testing::Not(HasSubstr("doing")));
    EXPECT_THAT(job.checkRecord(rank, 1, "stalled", rank), HasSubstr("a wait for its GPU"));
  }
}

TEST_P(ProcessFailure, RankThatLeavesWithoutAWordDied) {
  Job job(jobOf(600'000, "exit 2"));
  EXPECT_NE(job.waitFor(milliseconds(60'000)), 0);
  for (int rank : {0, 1, 3})
    job.checkRecord(rank, 2, "died", rank);
}

TEST_P(ProcessFailure, RankThatFailsSaysWhy) {
  Job job(jobOf(600'000, "fail 3"));
  EXPECT_NE(job.waitFor(milliseconds(60'000)), 0);
  for (int rank : {0, 1, 2}) {
    job.checkRecord(rank, 3, "failed", rank);
    EXPECT_THAT(job.exitCodeOf(rank), testing::AnyOf("", "5\n"));
  }
  EXPECT_THAT(job.log(), HasSubstr("error: rank 3 failed (the disk is full)"));
}

/// Ranks that the worker itself started.
class SpawnedRanks : public testing::Test {
protected:
  SpawnedRanks() : job_(worker() + " tcp 600000 {folder}") {
    for (int rank = 0; rank < kRanks; ++rank)
      processes_.push_back(job_.pidOf(rank));
  }
  void expectNoneIsLeft() {
    for (pid_t process : processes_)
      EXPECT_TRUE(isGone(process));
  }

  Job job_;
  std::vector<pid_t> processes_;
};

TEST_F(SpawnedRanks, EndWithTheProcessThatStartedThem) {
  kill(job_.process(), SIGKILL);
  EXPECT_EQ(job_.waitFor(milliseconds(5000)), 128 + SIGKILL);
  expectNoneIsLeft();
}

TEST_F(SpawnedRanks, GetItsSignalsAndItEndsAsTheyDo) {
  kill(job_.process(), SIGINT);
  EXPECT_EQ(job_.waitFor(milliseconds(5000)), 128 + SIGINT) << job_.log();
  expectNoneIsLeft();
}

// The others say so, too; the code is 5.
TEST_F(SpawnedRanks, ThatWereEndedAreNamed) {
  kill(processes_[2], SIGKILL);
  EXPECT_EQ(job_.waitFor(milliseconds(5000)), 5);
  EXPECT_THAT(job_.log(), HasSubstr("rank 2 was ended by SIGKILL"));
  expectNoneIsLeft();
}

TEST(LocalFailure, RankThatDoesNotComeIsStalled) {
  Job job(worker() + " 4 500 {folder} sleep 1");
  EXPECT_EQ(job.waitFor(milliseconds(500 + 5000)), 5) << job.log();
  EXPECT_THAT(job.checkRecord(0, 1, "stalled", 1), HasSubstr("optimizer_step"));
  EXPECT_THAT(job.checkRecord(2, 1, "stalled", 2), HasSubstr("all_reduce"));
  EXPECT_FALSE(job.has("failure-rank-1.jsonl"));
}

// One process has one exit code: the others' calls fail, and the rank that failed is told.
TEST(LocalFailure, RankThatFailsFailsTheOthersCalls) {
  Job job(worker() + " 4 600000 {folder} fail 1");
  EXPECT_EQ(job.waitFor(milliseconds(5000)), 5) << job.log();
  EXPECT_THAT(job.log(), HasSubstr("misbehaved"));
  EXPECT_THAT(job.log(),
              testing::ContainsRegex("micro_step, instruction [0-9]: all_reduce over ranks "
                                     "0, .*: rank 1 failed: the disk is full"));
}

TEST(MpiFallback, ABuildWithoutMpiSaysSo) {
  if (hasMpi())
    GTEST_SKIP() << "this build has MPI";
  auto communicator = createMpiCommunicator({});
  ASSERT_FALSE(communicator.ok());
  EXPECT_EQ(communicator.status().code(), StatusCode::Usage);
  EXPECT_THAT(communicator.status().message(), HasSubstr("this build has no MPI; install"));
}

} // namespace
} // namespace switchyard

#include "runtime/comm/process/SpawnRanks.h"

#include "runtime/comm/process/Connect.h"
#include "runtime/core/File.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <optional>
#include <string>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern char **environ; // POSIX declares it nowhere

namespace switchyard {
namespace comm {
namespace {

using Clock = std::chrono::steady_clock;

/// How long the others have to end by themselves once a rank has failed, and then to obey SIGTERM.
constexpr auto kTimeToNotice = std::chrono::milliseconds(1500);
constexpr auto kTimeToTerminate = std::chrono::milliseconds(1500);

/// What a child process needs, put together before fork().
struct Program {
  std::string path;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
};

Result<Program> thisProgram() {
  Program program;
  char path[4096] = {};
  if (readlink("/proc/self/exe", path, sizeof(path) - 1) < 0)
    return Status::failed("/proc/self/exe: " + errnoText(errno));
  program.path = path;
  std::ifstream words("/proc/self/cmdline"); // which readFile() thinks is empty
  for (std::string word; std::getline(words, word, '\0');)
    program.arguments.push_back(word);
  for (char **entry = environ; *entry; ++entry)
    program.environment.emplace_back(*entry);
  return program;
}

void setVariable(std::vector<std::string> &environment, const std::string &name,
                 const std::string &value) {
  std::erase_if(environment,
                [&](const std::string &entry) { return entry.starts_with(name + "="); });
  environment.push_back(name + "=" + value);
}

std::vector<char *> pointersTo(std::vector<std::string> &words) {
  std::vector<char *> pointers;
  for (std::string &word : words)
    pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

class Ranks {
public:
  /// Blocks the signals that it waits for.
  Ranks() {
    sigemptyset(&signals_);
    for (int signal : {SIGINT, SIGTERM, SIGCHLD})
      sigaddset(&signals_, signal);
    sigprocmask(SIG_BLOCK, &signals_, &before_);
  }
  Ranks(const Ranks &) = delete;
  ~Ranks() {
    for (pid_t process : processes_)
      if (process > 0) {
        kill(process, SIGKILL);
        waitpid(process, nullptr, 0);
      }
    sigprocmask(SIG_SETMASK, &before_, nullptr);
  }

  Status start(const Program &program, int ranks, uint16_t port, int listener, uint64_t job) {
    for (int rank = 0; rank < ranks; ++rank) {
      Program child = program;
      auto set = [&](const char *name, const std::string &value) {
        setVariable(child.environment, name, value);
      };
      set("RANK", std::to_string(rank));
      set("LOCAL_RANK", std::to_string(rank));
      set("WORLD_SIZE", std::to_string(ranks));
      set("LOCAL_WORLD_SIZE", std::to_string(ranks));
      set("MASTER_ADDR", "127.0.0.1");
      set("MASTER_PORT", std::to_string(port));
      set("MOE_JOB", fmt::format("{:016x}", job));
      set("MOE_RENDEZVOUS_SOCKET", std::to_string(listener));
      std::vector<char *> arguments = pointersTo(child.arguments);
      std::vector<char *> environment = pointersTo(child.environment);
      const pid_t parent = getpid();
      pid_t process = fork();
      if (process < 0)
        return Status::failed("fork: " + errnoText(errno));
      if (process == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) // it ended before the line above
          _exit(static_cast<int>(StatusCode::RankFailed));
        setpgid(0, group_);
        if (rank == 0)
          fcntl(listener, F_SETFD, 0); // it alone keeps the socket
        sigprocmask(SIG_SETMASK, &before_, nullptr);
        execve(child.path.c_str(), arguments.data(), environment.data());
        _exit(127);
      }
      if (group_ == 0)
        group_ = process;
      setpgid(process, group_); // whichever of the two comes first
      processes_.push_back(process);
    }
    return {};
  }

  Status wait() {
    while (std::ranges::any_of(processes_, [](pid_t process) { return process > 0; })) {
      reap();
      timespec time{0, 50'000'000};
      int signal = sigtimedwait(&signals_, nullptr, &time);
      if (signal == SIGINT || signal == SIGTERM) {
        requested_ = signal;
        kill(-group_, signal);
      }
      endOthers();
    }
    if (requested_ && endedBy_ == requested_) {
      // As the ranks did.
      struct sigaction action{};
      action.sa_handler = SIG_DFL;
      sigaction(requested_, &action, nullptr);
      sigprocmask(SIG_SETMASK, &before_, nullptr);
      raise(requested_);
    }
    return failure_.value_or(Status());
  }

private:
  /// Notes which ranks have ended.
  void reap() {
    for (size_t rank = 0; rank < processes_.size(); ++rank) {
      int state = 0;
      if (processes_[rank] <= 0 || waitpid(processes_[rank], &state, WNOHANG) != processes_[rank])
        continue;
      processes_[rank] = 0;
      if (WIFEXITED(state) && WEXITSTATUS(state) == 0)
        continue;
      if (WIFSIGNALED(state) && WTERMSIG(state) == requested_)
        endedBy_ = requested_;
      if (!failed_)
        failed_ = Clock::now();
      if (!wasTerminated_)
        note(static_cast<int>(rank), state);
    }
  }

  void note(int rank, int state) {
    auto code =
        WIFEXITED(state) ? static_cast<StatusCode>(WEXITSTATUS(state)) : StatusCode::RankFailed;
    std::string message;
    if (WIFSIGNALED(state))
      message = fmt::format("rank {} was ended by SIG{}", rank, sigabbrev_np(WTERMSIG(state)));
    else if (WEXITSTATUS(state) == 127)
      message = fmt::format("rank {} could not be started", rank);
    bool isMore = failure_ && failure_->code() == StatusCode::RankFailed &&
                  (code != StatusCode::RankFailed || failure_->message().empty());
    if (!failure_ || isMore)
      failure_ = Status(code, message);
  }

  void endOthers() {
    if (!failed_)
      return;
    auto since = Clock::now() - *failed_;
    if (since > kTimeToNotice + kTimeToTerminate) {
      kill(-group_, SIGKILL);
    } else if (since > kTimeToNotice && !wasTerminated_) {
      wasTerminated_ = true;
      kill(-group_, SIGTERM);
    }
  }

  sigset_t signals_, before_;
  std::vector<pid_t> processes_; // by rank; 0: it has ended
  pid_t group_ = 0;
  int requested_ = 0; // the signal that came last
  int endedBy_ = 0;   // that signal, if it ended a rank
  std::optional<Clock::time_point> failed_;
  bool wasTerminated_ = false;
  std::optional<Status> failure_;
};

} // namespace
} // namespace comm

Status spawnRanks(int ranks) {
  SY_ASSIGN_OR_RETURN(comm::Program program, comm::thisProgram());
  uint64_t job = 0;
  if (getrandom(&job, sizeof(job), 0) != sizeof(job))
    return Status::failed("getrandom: " + errnoText(errno));
  uint16_t port = 0;
  SY_ASSIGN_OR_RETURN(comm::Socket listener, comm::listenOn(true, ranks, port));
  comm::Ranks children;
  SY_RETURN_IF_ERROR(children.start(program, ranks, port, listener.get(), job));
  // From now on rank 0's end is the end of the socket.
  listener = comm::Socket();
  return children.wait();
}

} // namespace switchyard

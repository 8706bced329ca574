#include "tools/moe-run/CompilePlan.h"

#include "runtime/core/File.h"

#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace switchyard {

/// Starts `program` without a standard output: what it says of the plan, the caller says better.
static Result<pid_t> spawn(const std::string &program, std::vector<std::string> &words) {
  std::vector<char *> argv;
  for (std::string &word : words)
    argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t child = 0;
  int error = posix_spawn(&child, program.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error)
    return Status::failed(program + ": cannot be started: " + errnoText(error));
  return child;
}

Status compilePlan(const std::string &model, const std::string &plan,
                   const std::vector<std::string> &arguments, StopSignals &signals) {
  std::error_code error;
  std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  std::string program = (self.parent_path() / "moe-compile").string();
  if (error || access(program.c_str(), X_OK) != 0)
    return Status::usage(
        "no --plan was given and there is no " + program +
        " to make one; install the package switchyard-compiler beside this one, or compile a plan "
        "where the compiler is and pass it by --plan");
  std::vector<std::string> words = {program, model, "-o", plan};
  words.insert(words.end(), arguments.begin(), arguments.end());
  SY_ASSIGN_OR_RETURN(pid_t child, spawn(program, words));
  signals.setChild(child);
  int state = 0;
  while (waitpid(child, &state, 0) < 0)
    if (errno != EINTR)
      return Status::failed(program + ": " + errnoText(errno));
  signals.setChild(0);
  if (signals.requested())
    return Status::failed("stopped by a signal while compiling; nothing was written");
  if (WIFEXITED(state) && WEXITSTATUS(state) == 0)
    return {};
  if (!WIFEXITED(state))
    return Status::failed(program + " was ended by signal " + std::to_string(WTERMSIG(state)));
  int code = WEXITSTATUS(state);
  bool isOurs = code >= static_cast<int>(StatusCode::Failed) &&
                code <= static_cast<int>(StatusCode::RankFailed);
  return {isOurs ? static_cast<StatusCode>(code) : StatusCode::Failed,
          "moe-compile made no plan for " + model + " (its message is above)"};
}

} // namespace switchyard

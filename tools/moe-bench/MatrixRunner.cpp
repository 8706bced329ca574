#include "tools/moe-bench/MatrixRunner.h"

#include "runtime/core/File.h"
#include "runtime/core/Json.h"
#include "runtime/core/Log.h"
#include "tools/moe-bench/BenchmarkReport.h"
#include "tools/moe-bench/BenchmarkTable.h"
#include "tools/moe-run/StopSignals.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <filesystem>
#include <iostream>
#include <map>
#include <spawn.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

namespace switchyard::bench {

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxScriptBytes = uint64_t{1} << 20;
constexpr uint64_t kMaxLogBytes = uint64_t{1} << 30;
constexpr const char *kPrefix = "exp_";

/// Removes what is at `path`, if there is something.
Status removeAll(const std::string &path) {
  std::error_code error;
  fs::remove_all(path, error);
  return error ? Status::failed(path + ": cannot be removed: " + error.message()) : Status();
}

/// Runs `script` by the shell, in a process group of its own: a Ctrl-C comes to it by `signals`
/// alone, once. Its output goes to the file `log`. Returns the exit code, 128 and the signal's
/// number for one that a signal ended.
Result<int> runScript(const std::string &script, const std::string &log, StopSignals &signals) {
  std::string shell = "/bin/sh";
  std::string argument = script;
  char *argv[] = {shell.data(), argument.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(),
                                   O_WRONLY | O_CREAT | O_TRUNC, 0666);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  pid_t child = 0;
  const int error = posix_spawn(&child, shell.c_str(), &actions, &attributes, argv, environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error)
    return Status::failed(script + ": cannot be started: " + errnoText(error));
  signals.setChild(child);
  int state = 0;
  while (waitpid(child, &state, 0) < 0)
    if (errno != EINTR)
      return Status::failed(script + ": " + errnoText(errno));
  signals.setChild(0);
  return WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
}

/// The last line of `log` that is an error, without the program's name; else its last line.
std::string lastError(const std::string &log) {
  constexpr std::string_view kMark = "error: ";
  Result<std::string> text = readFile(log, kMaxLogBytes);
  if (!text.ok())
    return "it said nothing";
  while (!text->empty() && text->back() == '\n')
    text->pop_back();
  const size_t mark = text->rfind(kMark);
  const size_t begin = mark != std::string::npos ? mark + kMark.size() : text->rfind('\n') + 1;
  const std::string line = text->substr(begin, text->find('\n', begin) - begin);
  return line.empty() ? "it said nothing" : line;
}

Json toJson(const BenchmarkRow &row) {
  Json object = Json::object();
  for (const auto &[column, text] : row)
    object.set(column, Json(text));
  return object;
}

/// Holds a folder for one matrix at a time. The lock is inherited by runs: one that a killed
/// moe-bench has left goes on, and keeps it.
class FolderLock {
public:
  FolderLock() = default;
  FolderLock(const FolderLock &) = delete;
  ~FolderLock() {
    if (descriptor_ >= 0)
      ::close(descriptor_);
  }

  Status lock(const std::string &folder) {
    descriptor_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY);
    if (descriptor_ < 0)
      return Status::failed(folder + ": cannot be read: " + errnoText(errno));
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0)
      return {};
    return errno == EWOULDBLOCK
               ? Status::failed(folder +
                                ": is in use by another moe-bench, or by a run that a killed "
                                "one left behind; wait for it or end it")
               : Status::failed(folder + ": cannot be locked: " + errnoText(errno));
  }

private:
  int descriptor_ = -1;
};

class MatrixRunner {
public:
  MatrixRunner(const MatrixOptions &options, ScenarioMatrix matrix, std::string program)
      : options_(options), matrix_(std::move(matrix)), program_(std::move(program)) {}

  Status run();

private:
  struct Experiment {
    std::string name; // exp_0
    std::string folder;
    std::string script; // command.sh's text
  };

  Status findExperiments();
  Experiment experimentOf(const ScenarioRun &run);
  std::optional<BenchmarkRow> finishedRow(const Experiment &experiment) const;
  Status execute(const ScenarioRun &run, const Experiment &experiment);
  Status measure(const ScenarioRun &run, const Experiment &experiment);
  Status writeTable() const;
  Status report();
  std::string resultsPath(const char *name) const { return joinPath(options_.results, name); }

  const MatrixOptions &options_;
  ScenarioMatrix matrix_;
  std::string program_;
  FolderLock lock_;
  StopSignals signals_;
  Log log_;
  std::map<std::string, std::string> known_; // names of experiments, by their scripts
  int64_t next_ = 0;                         // number of the next new one
  std::vector<BenchmarkRow> rows_;
  std::vector<std::string> failures_;
};

/// What earlier commands left in the results' folder.
Status MatrixRunner::findExperiments() {
  std::error_code error;
  fs::create_directories(options_.results, error);
  if (error)
    return Status::failed(options_.results + ": cannot be made: " + error.message() +
                          "; give another --results_output_path");
  SY_RETURN_IF_ERROR(lock_.lock(options_.results));
  for (fs::directory_iterator entry(options_.results, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    int64_t number = 0;
    const char *stop = name.data() + name.size();
    if (!name.starts_with(kPrefix) ||
        std::from_chars(name.data() + std::string_view(kPrefix).size(), stop, number).ptr != stop)
      continue;
    next_ = std::max(next_, number + 1);
    Result<std::string> script = readFile((entry->path() / "command.sh").string(), kMaxScriptBytes);
    if (script.ok())
      known_.emplace(*script, name);
  }
  return error ? Status::failed(options_.results + ": cannot be read: " + error.message())
               : Status();
}

MatrixRunner::Experiment MatrixRunner::experimentOf(const ScenarioRun &run) {
  std::vector<std::string> words = {program_, "train"};
  words.insert(words.end(), run.words.begin(), run.words.end());
  words.insert(words.end(), {"--output-dir", "output"});
  Experiment experiment;
  experiment.script = "#!/bin/sh\n# " + run.describe() +
                      "\ncd \"$(dirname \"$0\")\" || exit 1\nexec " + quoteForShell(words) + "\n";
  auto known = known_.find(experiment.script);
  experiment.name = known != known_.end() ? known->second : kPrefix + std::to_string(next_++);
  experiment.folder = joinPath(options_.results, experiment.name);
  return experiment;
}

/// The row of an experiment that an earlier command has done.
std::optional<BenchmarkRow> MatrixRunner::finishedRow(const Experiment &experiment) const {
  Result<Json> results = readJson(joinPath(experiment.folder, "results.json"));
  if (!results.ok() || !results->isObject())
    return std::nullopt;
  BenchmarkRow row;
  for (const Json::Member &member : results->members()) {
    if (!member.value.isString())
      return std::nullopt;
    row[member.key] = member.value.string();
  }
  return row;
}

/// Runs an experiment from its beginning, whatever an interrupted command left of it.
Status MatrixRunner::execute(const ScenarioRun &run, const Experiment &experiment) {
  for (const char *name : {"output", "log", "results.json"})
    SY_RETURN_IF_ERROR(removeAll(joinPath(experiment.folder, name)));
  std::error_code error;
  fs::create_directories(experiment.folder, error);
  if (error)
    return Status::failed(experiment.folder + ": cannot be made: " + error.message());
  const std::string script = joinPath(experiment.folder, "command.sh");
  const std::string log = joinPath(experiment.folder, "log");
  SY_RETURN_IF_ERROR(writeFileAtomically(script, experiment.script));
  SY_ASSIGN_OR_RETURN(int code, runScript(script, log, signals_));
  if (signals_.requested())
    return {};
  Status status =
      code == 0 ? measure(run, experiment)
                : Status::failed(fmt::format("ended with exit code {}: {}", code, lastError(log)));
  if (!status.ok()) {
    failures_.push_back(experiment.name + ": " + run.describe() + ": " + status.message() +
                        " (see " + log + ")");
    log_.error("{}", failures_.back());
  }
  return {};
}

Status MatrixRunner::measure(const ScenarioRun &run, const Experiment &experiment) {
  const std::string output = joinPath(experiment.folder, "output");
  SY_ASSIGN_OR_RETURN(BenchmarkRow row,
                      measureRun(run, output, joinPath(experiment.folder, "log")));
  if (!run.keepsCheckpoints) {
    std::error_code error;
    std::vector<std::string> checkpoints;
    for (const fs::directory_entry &entry : fs::directory_iterator(output, error)) {
      const std::string name = entry.path().filename();
      const bool isLatest = name == "latest" && entry.is_symlink(error);
      if (isLatest || (name.starts_with("checkpoint-") && entry.is_directory(error)))
        checkpoints.push_back(entry.path().string());
    }
    for (const std::string &checkpoint : checkpoints)
      SY_RETURN_IF_ERROR(removeAll(checkpoint));
  }
  SY_RETURN_IF_ERROR(
      writeFileAtomically(joinPath(experiment.folder, "results.json"), toJson(row).dump(2) + "\n"));
  rows_.push_back(std::move(row));
  return {};
}

Status MatrixRunner::writeTable() const {
  return writeFileAtomically(resultsPath("benchmarks.csv"), formatTable(rows_));
}

/// Prints and writes the comparisons.
Status MatrixRunner::report() {
  std::string text = formatReport(rows_);
  int regressions = 0;
  if (!options_.reference.empty()) {
    SY_ASSIGN_OR_RETURN(std::vector<BenchmarkRow> reference, readTable(options_.reference));
    Comparison comparison =
        compareTables(rows_, reference, options_.reference, options_.thresholdRatio);
    text += "\n" + comparison.text;
    regressions = comparison.regressions;
  }
  for (const std::string &failure : failures_)
    text += "failed: " + failure + "\n";
  for (const std::string &skipped : matrix_.skipped)
    text += "skipped: " + skipped + "\n";
  std::cout << text;
  SY_RETURN_IF_ERROR(writeFileAtomically(resultsPath("report.txt"), text));
  if (!failures_.empty())
    return Status::failed(
        fmt::format("{} of {} runs failed; their folders have a log, and the same "
                    "command tries them again",
                    failures_.size(), matrix_.runs.size()));
  if (regressions > 0)
    return Status::failed(fmt::format("{} figures are worse than in {} by more than {:g}%",
                                      regressions, options_.reference,
                                      100 * options_.thresholdRatio));
  return {};
}

Status MatrixRunner::run() {
  if (!options_.reference.empty()) // known to be readable before hours of runs
    SY_RETURN_IF_ERROR(readTable(options_.reference).status());
  SY_RETURN_IF_ERROR(findExperiments());
  size_t done = 0;
  for (const ScenarioRun &run : matrix_.runs) {
    const Experiment experiment = experimentOf(run);
    ++done;
    if (std::optional<BenchmarkRow> row = finishedRow(experiment)) {
      log_.info("{}/{} {}: done before: {}", done, matrix_.runs.size(), experiment.name,
                run.describe());
      rows_.push_back(std::move(*row));
      SY_RETURN_IF_ERROR(writeTable());
      continue;
    }
    log_.info("{}/{} {}: {}", done, matrix_.runs.size(), experiment.name, run.describe());
    SY_RETURN_IF_ERROR(execute(run, experiment));
    if (signals_.requested())
      return Status::failed(fmt::format("stopped by a signal with {} of {} runs done; the same "
                                        "command goes on from there",
                                        rows_.size(), matrix_.runs.size()));
    SY_RETURN_IF_ERROR(writeTable());
  }
  return report();
}

Result<std::string> findMoeRun() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  const std::string program = (self.parent_path() / "moe-run").string();
  if (error || access(program.c_str(), X_OK) != 0)
    return Status::usage("there is no " + program +
                         " to run scenarios with; install moe-run beside moe-bench");
  return program;
}

} // namespace

Status runMatrix(const MatrixOptions &options) {
  SY_ASSIGN_OR_RETURN(ScenarioMatrix matrix, expandMatrix(options));
  const Log log;
  for (const std::string &note : matrix.notes)
    log.info("note: {}", note);
  for (const std::string &skipped : matrix.skipped)
    log.info("skipped: {}", skipped);
  if (!options.dryRun) {
    SY_ASSIGN_OR_RETURN(std::string program, findMoeRun());
    return MatrixRunner(options, std::move(matrix), std::move(program)).run();
  }
  for (const ScenarioRun &run : matrix.runs) {
    std::vector<std::string> words = {"moe-run", "train"};
    words.insert(words.end(), run.words.begin(), run.words.end());
    std::cout << "# " << run.describe() << "\n" << quoteForShell(words) << "\n";
  }
  return {};
}

} // namespace switchyard::bench

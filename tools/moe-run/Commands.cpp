#include "tools/moe-run/Commands.h"

#include "runtime/checkpoint/TrainingCheckpoint.h"
#include "runtime/core/File.h"
#include "runtime/core/Json.h"
#include "runtime/data/Alpaca.h"
#include "runtime/plan/Inspect.h"
#include "runtime/plan/ModelFingerprint.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/plan/Verify.h"
#include "runtime/training/Train.h"
#include "runtime/training/Validate.h"
#include "tools/moe-run/CompilePlan.h"

#include <filesystem>
#include <iostream>
#include <thread>
#include <unistd.h>

namespace switchyard {

namespace {

int threadsOr(int64_t threads) {
  return threads > 0 ? static_cast<int>(threads)
                     : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

Status checkRanks(int64_t ranks) {
  if (ranks == 1)
    return {};
  return Status::usage("--ranks is " + std::to_string(ranks) +
                       ", but this version trains on one rank; leave it at 1");
}

/// What this version cannot do is refused by name, never passed over.
Status checkOffered(const TrainingArguments &arguments) {
  SY_RETURN_IF_ERROR(checkRanks(arguments.ranks));
  if (!arguments.resumeFromCheckpoint.empty())
    return Status::usage(
        "--resume-from-checkpoint is not in this version; start a new run from the "
        "folder that moe-run export writes");
  if (arguments.reportTo != "none")
    return Status::usage("--report-to is \"" + arguments.reportTo +
                         "\", but this version writes metrics.jsonl only; leave it at none");
  if (arguments.auxLossScope.value_or("micro_batch") != "micro_batch")
    return Status::usage("--aux-loss-scope is \"" + *arguments.auxLossScope +
                         "\", but this version averages over micro_batch only; leave it out");
  return {};
}

/// A plan that is safe to execute and was made for the model in `folder`.
Result<Plan> loadPlan(const std::string &path, const std::string &folder) {
  SY_ASSIGN_OR_RETURN(Plan plan, load(path));
  SY_RETURN_IF_ERROR(verify(plan).within(path));
  SY_ASSIGN_OR_RETURN(Json config, readJson(joinPath(folder, "config.json")));
  if (std::string fingerprint = modelFingerprint(config); fingerprint != plan.modelFingerprint)
    return Status::invalidInput(path + ": was made for the model " + plan.modelFingerprint +
                                ", but " + joinPath(folder, "config.json") + " is " + fingerprint +
                                "; compile a plan for this folder");
  return plan;
}

/// The session for `plan` with the weights in `folder`.
Result<std::unique_ptr<Session>> openSession(Plan plan, const Checkpoint &checkpoint,
                                             int64_t threads) {
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Session> session,
                      Session::create(std::move(plan), threadsOr(threads)));
  SY_RETURN_IF_ERROR(session->loadParameters(checkpoint));
  return session;
}

std::string tokenizerPath(const std::string &given, const std::string &model) {
  return given.empty() ? joinPath(model, "tokenizer.model") : given;
}

Result<Dataset> loadDataset(const std::string &data, const std::string &tokenizerFile,
                            const Training &training, const Log &log) {
  SY_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::load(tokenizerFile));
  SY_ASSIGN_OR_RETURN(Dataset dataset,
                      loadAlpaca(data, tokenizer, {training.maxSeqLength, training.vocabSize}));
  if (!dataset.skipped().empty())
    log.warning("{}", dataset.describeSkipped());
  return dataset;
}

/// The files that training and evaluation read, before anything slow is done with them.
Status checkInputs(const std::string &model, const std::string &data,
                   const std::string &tokenizerFile) {
  std::error_code error;
  if (!std::filesystem::is_directory(model, error))
    return Status::invalidInput(model + ": is no folder; --model takes a Hugging Face checkpoint");
  if (!fileExists(data))
    return Status::invalidInput(data + ": no such file; --data takes Alpaca records");
  if (!fileExists(tokenizerFile))
    return Status::invalidInput(tokenizerFile +
                                ": no such file; --tokenizer takes a SentencePiece model");
  return {};
}

/// Whether a run may write to `folder`. One that already holds something is refused: nothing of an
/// earlier run is lost.
Status checkOutput(const std::string &folder) {
  std::error_code error;
  std::filesystem::path existing = std::filesystem::absolute(folder, error);
  if (std::filesystem::exists(existing, error)) {
    if (!std::filesystem::is_directory(existing, error))
      return Status::invalidInput(folder + ": is a file; --output-dir takes a folder");
    if (!std::filesystem::is_empty(existing, error))
      return Status::invalidInput(
          folder + ": is not empty; give another --output-dir, or remove what is in it");
  }
  while (!std::filesystem::exists(existing, error) && existing.has_relative_path())
    existing = existing.parent_path();
  if (!std::filesystem::is_directory(existing, error))
    return Status::invalidInput(folder + ": cannot be made: " + existing.string() +
                                " is a file; give another --output-dir");
  if (access(existing.c_str(), W_OK | X_OK) != 0)
    return Status::failed(folder + ": cannot be written: " + errnoText(errno));
  return {};
}

/// A folder for files that nobody keeps.
class TemporaryFolder {
public:
  static Result<TemporaryFolder> create() {
    std::error_code error;
    std::string path = (std::filesystem::temp_directory_path(error) / "moe-run-XXXXXX").string();
    if (error || !mkdtemp(path.data()))
      return Status::failed(
          path + ": no temporary folder can be made; set TMPDIR to a folder that is writable");
    return TemporaryFolder(std::move(path));
  }
  TemporaryFolder(TemporaryFolder &&other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryFolder &operator=(TemporaryFolder &&other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }
  ~TemporaryFolder() {
    std::error_code error;
    if (!path_.empty())
      std::filesystem::remove_all(path_, error);
  }
  const std::string &path() const { return path_; }

private:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

/// A plan for the model in `folder` that is compiled just now and kept in memory only.
Result<Plan> compiledPlan(const std::string &model, const std::vector<std::string> &arguments) {
  StopSignals signals;
  SY_ASSIGN_OR_RETURN(TemporaryFolder folder, TemporaryFolder::create());
  std::string path = joinPath(folder.path(), "step.plan");
  SY_RETURN_IF_ERROR(compilePlan(model, path, arguments, signals));
  return loadPlan(path, model);
}

/// The plan to train by: the given one, or one that is compiled.
Result<Plan> planForTraining(const TrainingArguments &arguments) {
  TrainingArguments known = arguments;
  known.auxLossScope.reset(); // checkOffered() left the one scope that there is
  std::vector<std::string> compileArguments = known.compileArguments();
  if (!arguments.plan.empty()) {
    if (!compileArguments.empty())
      return Status::usage(
          compileArguments.front() +
          " is what a plan is compiled with and --plan gives one; leave one of them out");
    return loadPlan(arguments.plan, arguments.model);
  }
  if (arguments.threads > 0) {
    compileArguments.emplace_back("--threads");
    compileArguments.push_back(std::to_string(arguments.threads));
  }
  return compiledPlan(arguments.model, compileArguments);
}

/// The output folder of a run. Where the run ends before its first step, what it wrote goes again.
class OutputFolder {
public:
  explicit OutputFolder(std::string path) : path_(std::move(path)) {}
  OutputFolder(const OutputFolder &) = delete;
  ~OutputFolder() {
    std::error_code error;
    if (std::uintmax_t bytes = std::filesystem::file_size(joinPath(path_, kMetrics), error);
        !error && bytes > 0)
      return;
    for (const char *name : {kMetrics, kPlan})
      std::filesystem::remove(joinPath(path_, name), error);
    if (made_)
      std::filesystem::remove(path_, error);
  }

  /// Makes the folder, with `plan` in it unless the user has one.
  Status make(const Plan *plan) {
    std::error_code error;
    made_ = std::filesystem::create_directories(path_, error);
    if (error)
      return Status::failed(path_ + ": cannot be made: " + error.message());
    return plan ? writePlan(*plan, joinPath(path_, kPlan)) : Status();
  }

private:
  static constexpr char kMetrics[] = "metrics.jsonl";
  static constexpr char kPlan[] = "step.plan";

  std::string path_;
  bool made_ = false;
};

} // namespace

Status runTrain(const TrainingArguments &arguments) {
  SY_RETURN_IF_ERROR(validateArguments(arguments));
  SY_RETURN_IF_ERROR(checkOffered(arguments));
  std::string tokenizer = tokenizerPath(arguments.tokenizer, arguments.model);
  SY_RETURN_IF_ERROR(checkInputs(arguments.model, arguments.data, tokenizer));
  SY_RETURN_IF_ERROR(checkOutput(arguments.outputDir));
  Log log;
  // Nothing is written until all is read: a signal may end this program before.
  SY_ASSIGN_OR_RETURN(Plan plan, planForTraining(arguments));
  SY_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::open(arguments.model));
  SY_ASSIGN_OR_RETURN(Dataset dataset, loadDataset(arguments.data, tokenizer, plan.training, log));
  log.info("{}", summary(plan));
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Session> session,
                      openSession(std::move(plan), checkpoint, arguments.threads));
  StopSignals signals;
  OutputFolder output(arguments.outputDir);
  SY_RETURN_IF_ERROR(output.make(arguments.plan.empty() ? &session->plan() : nullptr));
  return train(*session, dataset, arguments, tokenizer, signals.requested(), log);
}

Status runValidate(const ValidateArguments &arguments) {
  SY_RETURN_IF_ERROR(checkRanks(arguments.ranks));
  const std::string &model = arguments.model.empty() ? arguments.golden : arguments.model;
  std::string source = arguments.plan;
  Plan plan;
  if (source.empty()) {
    source = "the plan";
    SY_ASSIGN_OR_RETURN(std::vector<std::string> flags, goldenCompileArguments(arguments.golden));
    SY_ASSIGN_OR_RETURN(plan, compiledPlan(model, flags));
  } else {
    SY_ASSIGN_OR_RETURN(plan, loadPlan(source, model));
  }
  if (plan.training.precision != "f32")
    return Status::invalidInput(
        source + ": has the precision " + plan.training.precision +
        ", but a golden is compared in float32; compile with --precision f32");
  SY_ASSIGN_OR_RETURN(Golden golden, loadGolden(arguments.golden, plan.training.vocabSize));
  SY_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::open(model));
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Session> session,
                      openSession(std::move(plan), checkpoint, arguments.threads));
  return validate(*session, golden, checkpoint, {});
}

Status runEvaluate(const EvaluateArguments &arguments) {
  Log log;
  std::string tokenizer = tokenizerPath(arguments.tokenizer, arguments.model);
  SY_RETURN_IF_ERROR(checkInputs(arguments.model, arguments.data, tokenizer));
  SY_ASSIGN_OR_RETURN(Plan plan, loadPlan(arguments.plan, arguments.model));
  SY_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::open(arguments.model));
  SY_ASSIGN_OR_RETURN(Dataset dataset, loadDataset(arguments.data, tokenizer, plan.training, log));
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Session> session,
                      openSession(std::move(plan), checkpoint, arguments.threads));
  SY_ASSIGN_OR_RETURN(Evaluation result, evaluate(*session, dataset));
  Json line = Json::object();
  line.set("eval_loss", result.loss);
  line.set("eval_aux_loss", result.auxLoss);
  line.set("eval_records", result.records);
  line.set("eval_tokens", result.tokens);
  line.set("eval_labels", result.labels);
  std::cout << line.dump() << "\n";
  return {};
}

Status runExport(const ExportArguments &arguments) {
  StopSignals signals;
  SY_RETURN_IF_ERROR(
      exportTrainingCheckpoint(arguments.checkpoint, arguments.target, &signals.requested()));
  Log().info("wrote {}", arguments.target);
  return {};
}

} // namespace switchyard

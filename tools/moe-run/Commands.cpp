#include "tools/moe-run/Commands.h"

#include "runtime/checkpoint/TrainingCheckpoint.h"
#include "runtime/core/File.h"
#include "runtime/core/Json.h"
#include "runtime/data/Alpaca.h"
#include "runtime/plan/Inspect.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/plan/RunSummary.h"
#include "runtime/training/Resume.h"
#include "runtime/training/Train.h"
#include "runtime/training/Validate.h"
#include "tools/moe-run/Launch.h"
#include "tools/moe-run/PlanSource.h"
#include "tools/moe-run/StopSignals.h"

#include <filesystem>
#include <iostream>
#include <mutex>
#include <optional>
#include <unistd.h>

namespace switchyard {

namespace {

/// What the ranks of a process read together.
struct Inputs {
  std::optional<Checkpoint> checkpoint; // the model's weights, where the run starts with them
  std::optional<TrainingCheckpoint> resumed;
  std::optional<Dataset> dataset;
};

/// The session of a rank, with the states that it holds.
Result<std::unique_ptr<Session>> openSession(const Plan &plan, const Inputs &inputs,
                                             const DeviceOptions &options, Agreement &agreement) {
  auto open = [&]() -> Result<std::unique_ptr<Session>> {
    SY_ASSIGN_OR_RETURN(std::unique_ptr<Session> session,
                        Session::create(plan, options, &agreement));
    SY_RETURN_IF_ERROR(inputs.resumed ? session->loadStates(*inputs.resumed)
                                      : session->loadParameters(*inputs.checkpoint));
    return session;
  };
  return agreement.agree(open());
}

DeviceOptions deviceOptions(const Launch &launch, int64_t threads) {
  return {.threads = launch.threadsPerRank(threads), .rankOnHost = launch.rankHere()};
}

/// Whether the ranks are processes that nobody has started yet.
Result<bool> hasRanksToStart(const Launch &launch, const std::string &plan,
                             const std::string &target) {
  if (!launch.hasThreads())
    return false;
  return isForGpus(plan, target);
}

/// Says what ranks there are, where it is not just the one of this process.
void announce(const Launch &launch, const Log &log) {
  if (launch.isLeader() && !launch.describe().empty())
    log.info("{}", launch.describe());
}

CommunicatorOptions communicatorOptions(double timeout, const std::string &failureFolder) {
  CommunicatorOptions options;
  options.timeout = std::chrono::milliseconds(static_cast<int64_t>(timeout * 1000));
  options.failureFolder = failureFolder;
  return options;
}

std::string tokenizerPath(const std::string &given, const std::string &model) {
  return given.empty() ? tokenizerIn(model) : given;
}

Result<Dataset> loadDataset(const std::string &data, const std::string &tokenizerFile,
                            const Training &training, const Log &log) {
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, Tokenizer::load(tokenizerFile));
  SY_ASSIGN_OR_RETURN(Dataset dataset,
                      loadAlpaca(data, *tokenizer, {training.maxSeqLength, training.vocabSize}));
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
    return Status::invalidInput(
        tokenizerFile +
        ": no such file; --tokenizer takes a tokenizer.json or a SentencePiece model");
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

/// Whether the run goes on in its output folder, which then is not empty.
Result<bool> checkResume(const TrainingArguments &arguments) {
  if (arguments.resumeFromCheckpoint.empty())
    return false;
  SY_ASSIGN_OR_RETURN(std::string checkpoint, resumedFolder(arguments));
  return isResumedIn(checkpoint, arguments);
}

/// The output folder of a run. Where the run ends before its first step, what it wrote goes again;
/// but what an earlier run wrote stays (`isResumed`).
class OutputFolder {
public:
  OutputFolder(std::string path, bool isResumed)
      : path_(std::move(path)), made_(!fileExists(path_)), isResumed_(isResumed) {}
  OutputFolder(const OutputFolder &) = delete;
  ~OutputFolder() {
    std::error_code error;
    if (isResumed_)
      return;
    if (std::uintmax_t bytes = std::filesystem::file_size(joinPath(path_, kMetrics), error);
        !error && bytes > 0)
      return;
    for (const char *name : {kMetrics, kPlan})
      std::filesystem::remove(joinPath(path_, name), error);
    if (made_)
      std::filesystem::remove(path_, error);
  }

  /// Makes the folder, with `plan` in it unless the user has one, and without what a save that was
  /// killed left.
  Status make(const Plan *plan) {
    std::error_code error;
    std::filesystem::create_directories(path_, error);
    if (error)
      return Status::failed(path_ + ": cannot be made: " + errnoText(error.value()));
    for (const char *prefix : {"checkpoint-", "latest"})
      SY_RETURN_IF_ERROR(removeTemporaries(path_, prefix));
    return plan ? writePlan(*plan, joinPath(path_, kPlan)) : Status();
  }

private:
  static constexpr char kMetrics[] = "metrics.jsonl";
  static constexpr char kPlan[] = "step.plan";

  std::string path_;
  bool made_;
  bool isResumed_;
};

/// Says how many ranks there are, and reads the data for `plan` and, unless `resumes`, the model's
/// weights.
Result<Inputs> readInputs(const std::string &model, const std::string &data,
                          const std::string &tokenizer, const Plan &plan, const Launch &launch,
                          const Log &log, bool resumes = false) {
  announce(launch, log);
  SY_RETURN_IF_ERROR(checkInputs(model, data, tokenizer));
  Inputs inputs;
  if (!resumes) {
    SY_ASSIGN_OR_RETURN(inputs.checkpoint, Checkpoint::open(model));
  }
  SY_ASSIGN_OR_RETURN(inputs.dataset, loadDataset(data, tokenizer, plan.training, log));
  return inputs;
}

} // namespace

Status runTrain(const TrainingArguments &arguments) {
  SY_RETURN_IF_ERROR(validateArguments(arguments));
  SY_ASSIGN_OR_RETURN(Launch launch, Launch::create(arguments.ranks));
  SY_ASSIGN_OR_RETURN(bool startsRanks,
                      hasRanksToStart(launch, arguments.plan, arguments.target.value_or("")));
  if (startsRanks)
    return launch.startRanks();
  const std::string tokenizer = tokenizerPath(arguments.tokenizer, arguments.model);
  Plan plan;
  bool isResumed = false; // in the output folder
  if (launch.isLeader()) {
    SY_RETURN_IF_ERROR(checkInputs(arguments.model, arguments.data, tokenizer));
    SY_ASSIGN_OR_RETURN(isResumed, checkResume(arguments));
    if (!isResumed)
      SY_RETURN_IF_ERROR(checkOutput(arguments.outputDir));
    // Nothing is written until all is read: a signal may end this program before.
    SY_ASSIGN_OR_RETURN(plan, planForTraining(arguments, launch));
  }
  std::optional<OutputFolder> output;
  if (launch.isLeader())
    output.emplace(arguments.outputDir, isResumed);
  Inputs inputs;
  std::once_flag once;
  std::optional<StopSignals> signals;
  auto load = [&](const Plan &plan) -> Status {
    const Log log(launch.isLeader() ? Log::Level::Info : Log::Level::Off);
    const bool resumes = !arguments.resumeFromCheckpoint.empty();
    SY_ASSIGN_OR_RETURN(
        inputs, readInputs(arguments.model, arguments.data, tokenizer, plan, launch, log, resumes));
    if (resumes) {
      SY_ASSIGN_OR_RETURN(inputs.resumed, openForResume(arguments, plan, *inputs.dataset));
      log.info("going on from {}", inputs.resumed->folder());
    }
    log.info("{}", summary(plan));
    for (const std::string &line : runSummary(plan))
      log.info("  {}", line);
    return {};
  };
  auto run = [&](const Plan &plan, Agreement &agreement) -> Status {
    SY_ASSIGN_OR_RETURN(
        std::unique_ptr<Session> session,
        openSession(plan, inputs, deviceOptions(launch, arguments.threads), agreement));
    std::call_once(once, [&] { signals.emplace(); });
    SY_RETURN_IF_ERROR(agreement.agree(
        agreement.isLeader() ? output->make(arguments.plan.empty() ? &plan : nullptr) : Status()));
    const Log log(agreement.isLeader() ? Log::Level::Info : Log::Level::Off);
    return train(*session, *inputs.dataset, arguments, tokenizer,
                 inputs.resumed ? &inputs.resumed->manifest().info : nullptr, signals->requested(),
                 log);
  };
  return launch.run(std::move(plan),
                    communicatorOptions(arguments.commTimeout, arguments.outputDir), {load, run});
}

Status runValidate(const ValidateArguments &arguments) {
  SY_ASSIGN_OR_RETURN(Launch launch, Launch::create(arguments.ranks));
  SY_ASSIGN_OR_RETURN(bool startsRanks, hasRanksToStart(launch, arguments.plan, arguments.target));
  if (startsRanks)
    return launch.startRanks();
  const std::string &model = arguments.model.empty() ? arguments.golden : arguments.model;
  if (!arguments.plan.empty() && !(arguments.mesh.empty() && arguments.target.empty()))
    return Status::usage((arguments.mesh.empty() ? "--target" : "--mesh") +
                         std::string(" is what a plan is compiled with and --plan gives one; leave "
                                     "one of them out"));
  const std::string source = arguments.plan.empty() ? "the plan" : arguments.plan;
  Plan plan;
  if (launch.isLeader() && arguments.plan.empty()) {
    SY_ASSIGN_OR_RETURN(std::vector<std::string> flags, goldenCompileArguments(arguments.golden));
    if (!arguments.target.empty())
      flags.insert(flags.end(), {"--target", arguments.target});
    SY_ASSIGN_OR_RETURN(plan,
                        compiledPlan({model, flags, arguments.mesh, arguments.threads}, launch));
  } else if (launch.isLeader()) {
    SY_ASSIGN_OR_RETURN(plan, loadPlan(source, model, launch));
  }
  Inputs inputs;
  std::optional<Golden> golden;
  auto load = [&](const Plan &plan) -> Status {
    if (plan.training.precision != "f32")
      return Status::invalidInput(
          source + ": has the precision " + plan.training.precision +
          ", but a golden is compared in float32; compile with --precision f32");
    announce(launch, Log());
    SY_ASSIGN_OR_RETURN(golden, loadGolden(arguments.golden, plan.training.vocabSize));
    SY_ASSIGN_OR_RETURN(inputs.checkpoint, Checkpoint::open(model));
    return {};
  };
  auto run = [&](const Plan &plan, Agreement &agreement) -> Status {
    SY_ASSIGN_OR_RETURN(
        std::unique_ptr<Session> session,
        openSession(plan, inputs, deviceOptions(launch, arguments.threads), agreement));
    return validate(*session, *golden, *inputs.checkpoint, {});
  };
  return launch.run(std::move(plan), communicatorOptions(arguments.commTimeout, ""), {load, run});
}

Status runEvaluate(const EvaluateArguments &arguments) {
  SY_ASSIGN_OR_RETURN(Launch launch, Launch::create(arguments.ranks));
  SY_ASSIGN_OR_RETURN(bool startsRanks, hasRanksToStart(launch, arguments.plan, ""));
  if (startsRanks)
    return launch.startRanks();
  const std::string tokenizer = tokenizerPath(arguments.tokenizer, arguments.model);
  Plan plan;
  if (launch.isLeader()) {
    SY_RETURN_IF_ERROR(checkInputs(arguments.model, arguments.data, tokenizer));
    SY_ASSIGN_OR_RETURN(plan, loadPlan(arguments.plan, arguments.model, launch));
  }
  Inputs inputs;
  auto load = [&](const Plan &plan) -> Status {
    const Log log(launch.isLeader() ? Log::Level::Info : Log::Level::Off);
    SY_ASSIGN_OR_RETURN(inputs,
                        readInputs(arguments.model, arguments.data, tokenizer, plan, launch, log));
    return {};
  };
  auto run = [&](const Plan &plan, Agreement &agreement) -> Status {
    SY_ASSIGN_OR_RETURN(
        std::unique_ptr<Session> session,
        openSession(plan, inputs, deviceOptions(launch, arguments.threads), agreement));
    const Log log(agreement.isLeader() ? Log::Level::Info : Log::Level::Off);
    SY_ASSIGN_OR_RETURN(Evaluation result,
                        evaluate(*session, *inputs.dataset, arguments.debugNonfinite, log));
    if (!agreement.isLeader())
      return {};
    Json line = Json::object();
    line.set("eval_loss", result.loss);
    line.set("eval_aux_loss", result.auxLoss);
    line.set("eval_records", result.records);
    line.set("eval_tokens", result.tokens);
    line.set("eval_labels", result.labels);
    std::cout << line.dump() << "\n";
    return {};
  };
  return launch.run(std::move(plan), communicatorOptions(arguments.commTimeout, ""), {load, run});
}

Status runExport(const ExportArguments &arguments) {
  StopSignals signals;
  SY_RETURN_IF_ERROR(
      exportTrainingCheckpoint(arguments.checkpoint, arguments.target, &signals.requested()));
  Log().info("wrote {}", arguments.target);
  return {};
}

} // namespace switchyard

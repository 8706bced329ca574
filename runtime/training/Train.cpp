#include "runtime/training/Train.h"

#include "runtime/checkpoint/CheckpointSaver.h"
#include "runtime/comm/DeviceGroup.h"
#include "runtime/core/File.h"
#include "runtime/plan/SavedStates.h"
#include "runtime/plan/TextTable.h"
#include "runtime/training/EventFile.h"
#include "runtime/training/Metrics.h"
#include "runtime/training/ModelFlops.h"
#include "runtime/training/Progress.h"
#include "runtime/training/Schedule.h"
#include "runtime/training/StepProfile.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <unistd.h>

namespace switchyard {

namespace {

SamplerOptions samplerOptions(const Plan &plan, const TrainingArguments *arguments) {
  const Training &training = plan.training;
  SamplerOptions options;
  options.perDeviceTrainBatchSize = training.perDeviceTrainBatchSize;
  options.gradientAccumulationSteps = training.gradientAccumulationSteps;
  options.numRanks = plan.mesh.numRanks();
  options.packing = training.packing;
  options.maxSeqLength = training.maxSeqLength;
  for (const Symbol &symbol : plan.symbols)
    if (symbol.name == "S")
      options.maxSegments = symbol.bound / training.perDeviceTrainBatchSize;
  if (arguments) {
    options.shuffle = arguments->trainSamplingStrategy == "random";
    options.seed = static_cast<uint64_t>(arguments->seed);
  }
  return options;
}

/// The most host memory that a rank's checkpoint may take on its way to the disk: half of what a
/// rank's share of the machine has left beside the plan.
uint64_t stagingLimit(const Plan &plan) {
  const auto pages = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES));
  const uint64_t share = pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) /
                         static_cast<uint64_t>(plan.mesh.numRanks());
  const bool isOnHost = plan.target.kind == kernels::Target::Kind::Cpu;
  const uint64_t taken = isOnHost ? plan.peakBytes : 0;
  return share > taken ? (share - taken) / 2 : 0;
}

/// Steps after which the memory that is in use is as a rule what it stays.
constexpr int64_t kReportsMemoryAfter = 4;

class Trainer {
public:
  Trainer(Session &session, const TrainingArguments &arguments, const std::string &tokenizerFile,
          const Log &log, Sampler sampler, PassFiller filler, Schedule schedule, int64_t totalSteps,
          const Dataset &dataset, CheckpointSaver &saver, int64_t firstStep)
      : session_(session), arguments_(arguments), tokenizerFile_(tokenizerFile), log_(log),
        sampler_(std::move(sampler)), filler_(std::move(filler)), schedule_(schedule),
        modelFlops_(session.plan()), peakFlops_(peakFlops(session.executor().device().name())),
        totalSteps_(totalSteps), progress_(Progress::standardError(firstStep, totalSteps)),
        dataset_(dataset), started_(firstStep), done_(firstStep), saved_(firstStep), saver_(saver) {
    if (peakFlops_)
      *peakFlops_ *= static_cast<double>(session.plan().mesh.numRanks());
  }

  Status run(const std::atomic<bool> &stop);
  /// Until no checkpoint is under way.
  Status finishSaves();

private:
  using Clock = std::chrono::steady_clock;

  /// What is known of a step when it is started.
  struct Started {
    double epoch = 0;
    double learningRate = 0;
    int64_t tokens = 0;
    double flops = 0;
    int64_t sentBytes = 0; // by its programs, as far as the host knows
    int64_t overflowRounds = 0;
    Clock::time_point time;
  };

  Status openMetrics();
  Status reportMemory();
  Status openProfile();
  Status start();
  Status finish();
  Status finishProfile();
  UpdateScalars scalarsOf(int64_t step) const;
  Result<bool> isStopped(const std::atomic<bool> &stop);
  CheckpointInfo checkpointInfo() const;
  Status advanceSave();
  Status checkFinite(const StepResult &result);
  Result<std::string> explainNonFinite(bool applied);
  Status checkStates();
  Status addMemoryAndTraffic(const Started &started, StepMetrics &metrics);
  Status report(const StepMetrics &metrics);
  Status save();

  Session &session_;
  const TrainingArguments &arguments_;
  const std::string &tokenizerFile_;
  const Log &log_;
  Sampler sampler_;
  PassFiller filler_;
  std::optional<MetricsFile> metrics_; // rank 0's
  std::optional<EventFile> events_;    // rank 0's, with --report-to tensorboard
  Schedule schedule_;
  ModelFlops modelFlops_;
  std::optional<double> peakFlops_; // of all ranks' devices
  int64_t totalSteps_;
  Progress progress_;
  StepBatches batches_;
  std::unique_ptr<StepProfile> profile_;
  std::deque<Started> underway_;
  Clock::time_point finished_; // when the latest step was
  const Dataset &dataset_;
  int64_t started_ = 0;      // updates
  int64_t done_ = 0;         // of them, reported
  int64_t saved_ = 0;        // the update that the last checkpoint holds
  bool isSaveReady_ = false; // on all ranks
  CheckpointSaver &saver_;
};

UpdateScalars Trainer::scalarsOf(int64_t step) const {
  UpdateScalars scalars;
  scalars.learningRate = schedule_.rate(step);
  scalars.beta1 = arguments_.adamBeta1;
  scalars.beta2 = arguments_.adamBeta2;
  scalars.epsilon = arguments_.adamEpsilon;
  scalars.weightDecay = arguments_.weightDecay;
  scalars.maxGradNorm = arguments_.maxGradNorm;
  scalars.step = step + 1;
  return scalars;
}

/// Deals the next batch and puts its step on the device.
Status Trainer::start() {
  if (profile_)
    SY_RETURN_IF_ERROR(profile_->beforeStep(started_));
  else if (!arguments_.profile.empty())
    StepProfile::beforeStepOfOthers(session_.executor(), started_);
  Started started;
  started.time = Clock::now();
  const Executor &executor = session_.executor();
  auto sentBefore = static_cast<int64_t>(sentBytes(executor.traffic()));
  int64_t roundsBefore = executor.overflowRounds();
  sampler_.next(batches_);
  SY_RETURN_IF_ERROR(session_.agreement().agree(filler_.setStep(batches_)));
  const UpdateScalars scalars = scalarsOf(started_);
  SY_RETURN_IF_ERROR(session_.startStep(filler_, scalars));
  started.epoch = sampler_.epochs();
  started.learningRate = scalars.learningRate;
  started.tokens = filler_.numTokens();
  for (const SegmentView &segment : batches_.segments)
    started.flops += modelFlops_.ofSegment(segment.numTokens());
  started.sentBytes = static_cast<int64_t>(sentBytes(executor.traffic())) - sentBefore;
  started.overflowRounds = executor.overflowRounds() - roundsBefore;
  underway_.push_back(started);
  ++started_;
  return {};
}

/// What makes it fail, all ranks see alike.
Status Trainer::checkFinite(const StepResult &result) {
  const bool isLoss = !std::isfinite(result.sums.loss);
  if (!isLoss && result.update.applied)
    return {};
  SY_ASSIGN_OR_RETURN(std::string advice, explainNonFinite(result.update.applied));
  return session_.agreement().agree(Status::failed(fmt::format(
      "step {}: the {} is not finite{}{}; {}", done_ + 1, isLoss ? "loss" : "gradient norm",
      ranksText(result.sums.nonFiniteRanks, session_.agreement().size()),
      result.update.applied ? "" : ", so nothing was updated", advice)));
}

/// What was found, for a message; its details are logged.
std::string explained(const NonFiniteReport &found, const Log &log) {
  for (const std::string &line : found.details)
    log.info("  {}", line);
  return found.where.empty() ? "run again, no instruction made such a value"
                             : "the first such value was made " + found.where;
}

/// Where it comes from, or what to do. The latest step is the only one that was started.
Result<std::string> Trainer::explainNonFinite(bool applied) {
  if (!arguments_.debugNonfinite)
    return std::string("lower the learning rate, look at the data of this step, or let "
                       "--debug-nonfinite say where it comes from");
  if (applied)
    return std::string("the gradient norm is, so weights were updated and the step cannot be run "
                       "again to see where it comes from");
  progress_.clear();
  log_.info("running step {} again, one instruction at a time", done_ + 1);
  SY_ASSIGN_OR_RETURN(NonFiniteReport found, session_.findNonFinite(filler_, scalarsOf(done_)));
  return explained(found, log_);
}

/// A run may have been started with such values; their first use tells less.
Status Trainer::checkStates() {
  SY_ASSIGN_OR_RETURN(std::string found, session_.findNonFiniteState());
  if (!found.empty())
    log_.warning("before step {}, {}", done_ + 1, found);
  return {};
}

/// Of the rank that needs most memory, and of the one that sends most.
Status Trainer::addMemoryAndTraffic(const Started &started, StepMetrics &metrics) {
  const int64_t mine[] = {static_cast<int64_t>(session_.executor().highWaterBytes()),
                          started.sentBytes, started.overflowRounds};
  SY_ASSIGN_OR_RETURN(std::span<const int64_t> all, session_.agreement().gather(mine));
  for (size_t i = 0; i < all.size(); i += std::size(mine)) {
    metrics.peakMemoryBytes = std::max(metrics.peakMemoryBytes, static_cast<uint64_t>(all[i]));
    metrics.sentBytes = std::max(metrics.sentBytes, static_cast<uint64_t>(all[i + 1]));
    metrics.overflowRounds = std::max(metrics.overflowRounds, all[i + 2]);
  }
  return {};
}

/// Waits for the step that was started first, and writes its line in the metrics. Its time is from
/// when it was started, or from the end of the step before, whichever was later.
Status Trainer::finish() {
  Started started = underway_.front();
  underway_.pop_front();
  SY_ASSIGN_OR_RETURN(const StepResult *result, session_.finishStep());
  started.sentBytes += result->exchanged.bytesSent + result->exchanged.bytesReturned;
  started.overflowRounds += result->exchanged.overflowRounds;
  SY_RETURN_IF_ERROR(checkFinite(*result));
  ++done_;
  StepMetrics metrics;
  metrics.step = done_;
  metrics.epoch = started.epoch;
  metrics.loss = result->sums.loss;
  metrics.gradNorm = result->update.gradNorm;
  metrics.learningRate = started.learningRate;
  metrics.auxLoss = result->sums.auxLoss;
  metrics.expertLoadMaxOverMean =
      result->sums.expertLoadMaxOverMean(session_.plan().training.numExperts);
  metrics.expertLoadHistogram =
      expertLoadHistogram(result->sums.expertCounts, session_.plan().training.numExperts);
  SY_RETURN_IF_ERROR(addMemoryAndTraffic(started, metrics));
  const Clock::time_point now = Clock::now();
  metrics.stepTime = std::chrono::duration<double>(now - std::max(started.time, finished_)).count();
  finished_ = now;
  metrics.trainTokensPerSecond = static_cast<double>(started.tokens) / metrics.stepTime;
  if (peakFlops_)
    metrics.mfu = started.flops / metrics.stepTime / *peakFlops_;
  SY_RETURN_IF_ERROR(session_.agreement().agree(session_.isLeader() ? report(metrics) : Status()));
  if (done_ == std::min(kReportsMemoryAfter, totalSteps_))
    SY_RETURN_IF_ERROR(reportMemory());
  if (arguments_.profile.empty() || done_ != StepProfile::kFirstStep + StepProfile::kSteps)
    return {};
  return session_.agreement().agree(session_.isLeader() ? finishProfile() : Status());
}

/// Whether a stop signal has come to any of the ranks. Ranks learn too whether a save can go on.
Result<bool> Trainer::isStopped(const std::atomic<bool> &stop) {
  const int64_t mine[] = {stop, saver_.isReady()};
  SY_ASSIGN_OR_RETURN(std::span<const int64_t> all, session_.agreement().gather(mine));
  bool isAnyStopped = false;
  isSaveReady_ = true;
  for (size_t i = 0; i < all.size(); i += 2) {
    isAnyStopped = isAnyStopped || all[i] != 0;
    isSaveReady_ = isSaveReady_ && all[i + 1] != 0;
  }
  return isAnyStopped;
}

Status Trainer::report(const StepMetrics &metrics) {
  bool log = done_ % arguments_.loggingSteps == 0 || done_ == totalSteps_;
  progress_.update(done_, metrics.loss, metrics.trainTokensPerSecond, metrics.stepTime, log);
  SY_RETURN_IF_ERROR(metrics_->append(metrics));
  return events_ ? events_->append(metrics) : Status();
}

Status Trainer::save() {
  if (saved_ == done_)
    return {};
  SY_RETURN_IF_ERROR(finishSaves());
  SY_RETURN_IF_ERROR(saver_.start(checkpointInfo()));
  saved_ = done_;
  return {};
}

Status Trainer::advanceSave() {
  Status status = saver_.advance();
  if (!status.ok() || !saver_.isUnderway())
    progress_.clear();
  if (status.ok() && !saver_.isUnderway())
    log_.info("saved {}", saver_.saved());
  return status;
}

Status Trainer::finishSaves() {
  while (saver_.isUnderway())
    SY_RETURN_IF_ERROR(advanceSave());
  return {};
}

/// After a step that is done, with none under way.
CheckpointInfo Trainer::checkpointInfo() const {
  const Training &training = session_.plan().training;
  CheckpointInfo info;
  info.step = done_;
  info.position = sampler_.position();
  info.epoch = info.position / dataset_.size();
  info.seed = arguments_.seed;
  info.samplingStrategy = arguments_.trainSamplingStrategy;
  info.records = dataset_.size();
  info.tokens = dataset_.numTokens();
  info.globalBatch = sampler_.globalBatch();
  info.packing = training.packing;
  info.maxSeqLength = training.maxSeqLength;
  return info;
}

Status Trainer::openMetrics() {
  if (arguments_.reportTo == "tensorboard")
    events_.emplace(joinPath(arguments_.outputDir, "runs"));
  SY_ASSIGN_OR_RETURN(metrics_,
                      MetricsFile::open(joinPath(arguments_.outputDir, "metrics.jsonl"), done_));
  return {};
}

/// Once steps have been run in all ways that there are. moe-bench reads what the driver counts
/// here.
Status Trainer::reportMemory() {
  SY_ASSIGN_OR_RETURN(std::optional<MemoryUse> use, session_.executor().device().memoryUse());
  if (!use)
    return {};
  if (const Communicator *ranks = session_.agreement().communicator(); ranks && ranks->devices())
    use->communication = ranks->devices()->memoryBytes();
  progress_.clear();
  auto mib = [](uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  log_.info("GPU memory: plan {:.1f} MiB, its rounding {:.1f}, staging {:.1f}, libraries and "
            "kernels {:.1f}, graphs {:.1f}, collectives {:.1f}, context {:.1f}: {:.1f} MiB; the "
            "driver counts {:.1f} MiB ({:+.2f}%)",
            mib(use->allocated), mib(use->rounding), mib(use->staging), mib(use->libraries),
            mib(use->graphs), mib(use->communication), mib(use->context), mib(use->listed()),
            mib(use->counted), 100 * (mib(use->counted) / mib(use->listed()) - 1));
  return {};
}

/// Rank 0's.
Status Trainer::openProfile() {
  constexpr int64_t kLast = StepProfile::kFirstStep + StepProfile::kSteps;
  if (arguments_.profile.empty() || !session_.isLeader())
    return {};
  if (totalSteps_ < kLast)
    return Status::usage(
        fmt::format("--profile is of steps {} to {}, but the run has {}; raise --max-steps",
                    StepProfile::kFirstStep + 1, kLast, totalSteps_));
  if (done_ > StepProfile::kFirstStep)
    return Status::usage(fmt::format("--profile is of steps {} to {}, but the run goes on at {}; "
                                     "leave it out, or start a new run",
                                     StepProfile::kFirstStep + 1, kLast, done_ + 1));
  SY_ASSIGN_OR_RETURN(profile_, StepProfile::create(session_.executor()));
  return {};
}

Status Trainer::finishProfile() {
  progress_.clear();
  Status status = profile_->write(arguments_.profile);
  for (const StepSummary &summary : profile_->summaries())
    log_.info("{}", describe(summary));
  profile_.reset();
  if (status.ok())
    log_.info("wrote {}", arguments_.profile);
  return status;
}

Status Trainer::run(const std::atomic<bool> &stop) {
  Agreement &agreement = session_.agreement();
  SY_RETURN_IF_ERROR(agreement.agree(session_.isLeader() ? openMetrics() : Status()));
  SY_RETURN_IF_ERROR(agreement.agree(openProfile()));
  if (arguments_.debugNonfinite)
    SY_RETURN_IF_ERROR(checkStates());
  const bool isProfiled = !arguments_.profile.empty(); // on rank 0, but all keep step
  bool stopped = false;
  auto check = [&](Status status) {
    if (!status.ok())
      progress_.clear();
    return status;
  };
  while (started_ < totalSteps_) {
    SY_ASSIGN_OR_RETURN(stopped, isStopped(stop));
    if (saver_.isUnderway() && isSaveReady_)
      SY_RETURN_IF_ERROR(advanceSave());
    if (stopped)
      break;
    SY_RETURN_IF_ERROR(check(start()));
    const bool isSaved = started_ % arguments_.saveSteps == 0;
    const bool runsAhead = session_.executor().device().runsAhead() && !isSaved &&
                           !arguments_.debugNonfinite && started_ < totalSteps_ &&
                           !(isProfiled && StepProfile::isEdge(started_));
    while (done_ + (runsAhead ? 1 : 0) < started_)
      SY_RETURN_IF_ERROR(check(finish()));
    if (isSaved)
      SY_RETURN_IF_ERROR(save());
  }
  while (done_ < started_)
    SY_RETURN_IF_ERROR(check(finish()));
  progress_.finish();
  if (stopped && done_ == 0)
    return session_.agreement().agree(
        Status::failed("stopped by a signal before the first step; nothing was saved"));
  if (stopped)
    log_.info("stopped by a signal after step {} of {}", done_, totalSteps_);
  SY_RETURN_IF_ERROR(save());
  return finishSaves();
}

/// Ranks that read other data would compute other passes.
Status checkSameData(Agreement &agreement, const Dataset &dataset) {
  const int64_t mine[] = {dataset.size(), dataset.numTokens()};
  SY_ASSIGN_OR_RETURN(std::span<const int64_t> all, agreement.gather(mine));
  for (size_t i = 2; i < all.size(); i += 2)
    if (all[i] != all[0] || all[i + 1] != all[1])
      return agreement.agree(Status::invalidInput(fmt::format(
          "{}: rank {} reads {} records of {} tokens, but rank 0 {} of {}; give all hosts the same "
          "file and tokenizer",
          dataset.source(), i / 2, all[i], all[i + 1], all[0], all[1])));
  return {};
}

/// Ranks that go on from other checkpoints would train other models.
Status checkSameStart(Agreement &agreement, const CheckpointInfo *resumed) {
  const int64_t mine[] = {resumed ? resumed->step : 0, resumed ? resumed->position : 0};
  SY_ASSIGN_OR_RETURN(std::span<const int64_t> all, agreement.gather(mine));
  for (size_t i = 2; i < all.size(); i += 2)
    if (all[i] != all[0] || all[i + 1] != all[1])
      return agreement.agree(Status::invalidInput(fmt::format(
          "rank {} goes on from step {}, but rank 0 from step {}; give all hosts the same "
          "--output-dir and checkpoint",
          i / 2, all[i], all[0])));
  return {};
}

} // namespace

Status train(Session &session, const Dataset &dataset, const TrainingArguments &arguments,
             const std::string &tokenizerFile, const CheckpointInfo *resumed,
             const std::atomic<bool> &stop, const Log &log) {
  Agreement &agreement = session.agreement();
  SY_RETURN_IF_ERROR(checkSameData(agreement, dataset));
  SY_RETURN_IF_ERROR(checkSameStart(agreement, resumed));
  SY_ASSIGN_OR_RETURN(Sampler sampler, agreement.agree(Sampler::create(
                                           dataset, samplerOptions(session.plan(), &arguments))));
  SY_ASSIGN_OR_RETURN(PassFiller filler,
                      agreement.agree(session.createFiller(session.lossNormalization())));
  int64_t totalSteps = arguments.maxSteps;
  if (totalSteps <= 0) {
    SY_ASSIGN_OR_RETURN(totalSteps, agreement.agree(sampler.totalSteps(arguments.numTrainEpochs)));
  }
  SY_ASSIGN_OR_RETURN(ScheduleType type,
                      agreement.agree(parseScheduleType(arguments.lrSchedulerType)));
  const int64_t firstStep = resumed ? resumed->step : 0;
  if (resumed)
    SY_RETURN_IF_ERROR(agreement.agree(sampler.seek(resumed->position)));
  if (firstStep >= totalSteps)
    return agreement.agree(Status::usage(
        fmt::format("the run is of {} steps, and the checkpoint has {} done; raise --max-steps or "
                    "--num-train-epochs",
                    totalSteps, firstStep)));
  Schedule schedule(type, arguments.learningRate, arguments.warmupStepsOf(totalSteps), totalSteps);
  SY_ASSIGN_OR_RETURN(std::unique_ptr<CheckpointSaver> saver,
                      agreement.agree(CheckpointSaver::create(
                          session.executor(), agreement,
                          {arguments.outputDir, arguments.model, tokenizerFile,
                           stagingLimit(session.plan()), arguments.saveTotalLimit})));
  if (const uint64_t planned = stagingBytes(session.plan()); saver->stagingBytes() < planned)
    log.info(
        "saving gets {} of these {} of host memory, half of what is left of it; each save waits "
        "for the disk with the rest",
        humanBytes(saver->stagingBytes()), humanBytes(planned));
  log.info("{} records, {} tokens; {} steps of {} records", dataset.size(), dataset.numTokens(),
           totalSteps, sampler.globalBatch());
  Trainer trainer(session, arguments, tokenizerFile, log, std::move(sampler), std::move(filler),
                  schedule, totalSteps, dataset, *saver, firstStep);
  Status status = trainer.run(stop);
  // What was saved before a failure that all ranks know of is good.
  if (!status.ok() && (agreement.size() == 1 || agreement.hasFailed()))
    (void)trainer.finishSaves();
  return status;
}

Result<Evaluation> evaluate(Session &session, const Dataset &dataset, bool debugNonfinite,
                            const Log &log) {
  Agreement &agreement = session.agreement();
  SY_RETURN_IF_ERROR(checkSameData(agreement, dataset));
  SY_ASSIGN_OR_RETURN(Sampler sampler, agreement.agree(Sampler::create(
                                           dataset, samplerOptions(session.plan(), nullptr))));
  SY_ASSIGN_OR_RETURN(PassFiller filler,
                      agreement.agree(session.createFiller(LossNormalization::Global)));
  double coefficient = session.plan().training.auxLossCoef;
  Evaluation result;
  StepBatches batches;
  int64_t steps = sampler.stepsInEpoch(0);
  for (int64_t step = 0; step < steps; ++step) {
    sampler.next(batches);
    SY_RETURN_IF_ERROR(agreement.agree(filler.setStep(batches)));
    SY_ASSIGN_OR_RETURN(const StepSums *sums, session.evaluate(filler));
    if (debugNonfinite && !std::isfinite(sums->loss)) {
      SY_ASSIGN_OR_RETURN(NonFiniteReport found, session.findNonFiniteInEvaluation(filler));
      return agreement.agree(Status::failed(
          fmt::format("batch {} of {}: the loss is not finite{}; {}", step + 1, steps,
                      ranksText(sums->nonFiniteRanks, agreement.size()), explained(found, log))));
    }
    auto labels = static_cast<double>(filler.numLabels());
    result.loss += (sums->loss - coefficient * sums->auxLoss) * labels;
    result.auxLoss += sums->auxLoss / static_cast<double>(steps);
    result.tokens += filler.numTokens();
    result.labels += filler.numLabels();
  }
  result.records = dataset.size();
  if (result.labels > 0)
    result.loss /= static_cast<double>(result.labels);
  return result;
}

} // namespace switchyard

#include "runtime/training/Train.h"

#include "runtime/checkpoint/TrainingCheckpoint.h"
#include "runtime/core/File.h"
#include "runtime/training/Metrics.h"
#include "runtime/training/Progress.h"
#include "runtime/training/Schedule.h"

#include <chrono>
#include <cmath>

namespace switchyard {

namespace {

SamplerOptions samplerOptions(const Plan &plan, const TrainingArguments *arguments) {
  const Training &training = plan.training;
  SamplerOptions options;
  options.perDeviceTrainBatchSize = training.perDeviceTrainBatchSize;
  options.gradientAccumulationSteps = training.gradientAccumulationSteps;
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

class Trainer {
public:
  Trainer(Session &session, const TrainingArguments &arguments, const std::string &tokenizerFile,
          const Log &log, Sampler sampler, PassFiller filler, MetricsFile metrics,
          Schedule schedule, int64_t totalSteps)
      : session_(session), arguments_(arguments), tokenizerFile_(tokenizerFile), log_(log),
        sampler_(std::move(sampler)), filler_(std::move(filler)), metrics_(std::move(metrics)),
        schedule_(schedule), totalSteps_(totalSteps),
        progress_(Progress::standardError(0, totalSteps)) {}

  Status run(const std::atomic<bool> &stop);

private:
  Status step();
  Status report(const StepMetrics &metrics);
  Status save();

  Session &session_;
  const TrainingArguments &arguments_;
  const std::string &tokenizerFile_;
  const Log &log_;
  Sampler sampler_;
  PassFiller filler_;
  MetricsFile metrics_;
  Schedule schedule_;
  int64_t totalSteps_;
  Progress progress_;
  StepBatches batches_;
  int64_t done_ = 0;  // updates
  int64_t saved_ = 0; // the update that the last checkpoint holds
};

Status Trainer::step() {
  auto start = std::chrono::steady_clock::now();
  sampler_.next(batches_);
  SY_RETURN_IF_ERROR(filler_.setStep(batches_));
  SY_ASSIGN_OR_RETURN(const StepSums *sums, session_.accumulate(filler_));
  std::string where = "step " + std::to_string(done_ + 1);
  if (!std::isfinite(sums->loss))
    return Status::failed(where +
                          ": the loss is not finite, so nothing was updated; lower the learning "
                          "rate or look at the data of this step");
  UpdateScalars scalars;
  scalars.learningRate = schedule_.rate(done_);
  scalars.beta1 = arguments_.adamBeta1;
  scalars.beta2 = arguments_.adamBeta2;
  scalars.epsilon = arguments_.adamEpsilon;
  scalars.weightDecay = arguments_.weightDecay;
  scalars.maxGradNorm = arguments_.maxGradNorm;
  scalars.step = done_ + 1;
  SY_ASSIGN_OR_RETURN(UpdateResult update, session_.update(scalars));
  if (!update.applied)
    return Status::failed(where +
                          ": the gradient norm is not finite, so nothing was updated; lower the "
                          "learning rate or look at the data of this step");
  ++done_;

  StepMetrics metrics;
  metrics.step = done_;
  metrics.epoch = sampler_.epochs();
  metrics.loss = sums->loss;
  metrics.gradNorm = update.gradNorm;
  metrics.learningRate = scalars.learningRate;
  metrics.auxLoss = sums->auxLoss;
  metrics.expertLoadMaxOverMean = sums->expertLoadMaxOverMean(session_.plan().training.numExperts);
  metrics.stepTime =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  metrics.trainTokensPerSecond = static_cast<double>(filler_.numTokens()) / metrics.stepTime;
  metrics.peakMemoryBytes = session_.executor().highWaterBytes();
  return report(metrics);
}

Status Trainer::report(const StepMetrics &metrics) {
  bool log = done_ % arguments_.loggingSteps == 0 || done_ == totalSteps_;
  progress_.update(done_, metrics.loss, metrics.trainTokensPerSecond, metrics.stepTime, log);
  return metrics_.append(metrics);
}

Status Trainer::save() {
  if (saved_ == done_)
    return {};
  progress_.clear();
  std::string folder = joinPath(arguments_.outputDir, "checkpoint-" + std::to_string(done_));
  SY_RETURN_IF_ERROR(saveTrainingCheckpoint(
      folder, session_.executor(), {done_, sampler_.position()}, arguments_.model, tokenizerFile_));
  saved_ = done_;
  log_.info("saved {}", folder);
  return {};
}

Status Trainer::run(const std::atomic<bool> &stop) {
  while (done_ < totalSteps_ && !stop) {
    if (Status status = step(); !status.ok()) {
      progress_.clear();
      return status;
    }
    if (done_ % arguments_.saveSteps == 0)
      SY_RETURN_IF_ERROR(save());
  }
  progress_.finish();
  if (done_ == 0 && stop)
    return Status::failed("stopped by a signal before the first step; nothing was saved");
  if (stop)
    log_.info("stopped by a signal after step {} of {}", done_, totalSteps_);
  return save();
}

} // namespace

Status train(Session &session, const Dataset &dataset, const TrainingArguments &arguments,
             const std::string &tokenizerFile, const std::atomic<bool> &stop, const Log &log) {
  SY_ASSIGN_OR_RETURN(Sampler sampler,
                      Sampler::create(dataset, samplerOptions(session.plan(), &arguments)));
  SY_ASSIGN_OR_RETURN(PassFiller filler,
                      PassFiller::create(session.passLimits(), session.lossNormalization(), 1));
  int64_t totalSteps = arguments.maxSteps;
  if (totalSteps <= 0) {
    SY_ASSIGN_OR_RETURN(totalSteps, sampler.totalSteps(arguments.numTrainEpochs));
  }
  SY_ASSIGN_OR_RETURN(ScheduleType type, parseScheduleType(arguments.lrSchedulerType));
  Schedule schedule(type, arguments.learningRate, arguments.warmupStepsOf(totalSteps), totalSteps);
  SY_ASSIGN_OR_RETURN(MetricsFile metrics,
                      MetricsFile::open(joinPath(arguments.outputDir, "metrics.jsonl"), 0));
  log.info("{} records, {} tokens; {} steps of {} records", dataset.size(), dataset.numTokens(),
           totalSteps, sampler.globalBatch());
  return Trainer(session, arguments, tokenizerFile, log, std::move(sampler), std::move(filler),
                 std::move(metrics), schedule, totalSteps)
      .run(stop);
}

Result<Evaluation> evaluate(Session &session, const Dataset &dataset) {
  SY_ASSIGN_OR_RETURN(Sampler sampler,
                      Sampler::create(dataset, samplerOptions(session.plan(), nullptr)));
  SY_ASSIGN_OR_RETURN(PassFiller filler,
                      PassFiller::create(session.passLimits(), LossNormalization::Global, 1));
  double coefficient = session.plan().training.auxLossCoef;
  Evaluation result;
  StepBatches batches;
  int64_t steps = sampler.stepsInEpoch(0);
  for (int64_t step = 0; step < steps; ++step) {
    sampler.next(batches);
    SY_RETURN_IF_ERROR(filler.setStep(batches));
    SY_ASSIGN_OR_RETURN(const StepSums *sums, session.evaluate(filler));
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

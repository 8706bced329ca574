#include "tools/moe-bench/StepBenchmark.h"

#include "runtime/comm/DeviceGroup.h"
#include "runtime/core/File.h"
#include "runtime/training/ModelFlops.h"
#include "runtime/training/Session.h"
#include "runtime/training/StepProfile.h"
#include "tools/moe-bench/PlanRun.h"
#include "tools/moe-bench/RandomWeights.h"
#include "tools/moe-bench/Report.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <deque>
#include <optional>
#include <random>

namespace switchyard::bench {

namespace {

constexpr uint64_t kMaxLengthsBytes = uint64_t{64} << 20;

/// Tokens of the records of the timed steps, in their order; the list of a file starts over where
/// it ends.
Result<std::vector<int64_t>> recordLengths(const StepArguments &arguments, const Training &training,
                                           int64_t records) {
  std::vector<int64_t> listed = {arguments.length > 0 ? arguments.length : training.maxSeqLength};
  if (!arguments.lengths.empty()) {
    SY_ASSIGN_OR_RETURN(std::string text, readFile(arguments.lengths, kMaxLengthsBytes));
    SY_ASSIGN_OR_RETURN(listed, parseLengths(text, arguments.lengths));
    for (int64_t &length : listed)
      length = std::min(length, training.maxSeqLength);
  }
  if (listed[0] > training.maxSeqLength)
    return Status::usage("--length is " + std::to_string(listed[0]) +
                         ", but the plan was compiled with --max-seq-length " +
                         std::to_string(training.maxSeqLength) + "; give at most that");
  std::vector<int64_t> lengths(records);
  for (int64_t i = 0; i < records; ++i)
    lengths[i] = listed[i % listed.size()];
  return lengths;
}

Dataset randomRecords(std::span<const int64_t> lengths, int64_t vocabSize, int64_t seed) {
  Dataset dataset("random tokens");
  std::mt19937_64 random(static_cast<uint64_t>(seed));
  std::vector<int32_t> ids;
  for (size_t i = 0; i < lengths.size(); ++i) {
    ids.resize(lengths[i]);
    for (int32_t &id : ids)
      id = static_cast<int32_t>(random() % static_cast<uint64_t>(vocabSize));
    dataset.append(ids, 0, static_cast<int64_t>(i));
  }
  return dataset;
}

/// Steps of one session, one after the other; where the device runs ahead, each is put on it while
/// the one before still runs, as in training.
class Stepper {
public:
  Stepper(Session &session, Sampler sampler, PassFiller filler)
      : session_(session), sampler_(std::move(sampler)), filler_(std::move(filler)),
        modelFlops_(session.plan()) {}

  /// Runs `count` steps; when it returns, all are done. The time of a step is from when it was
  /// started, or from the end of the one before, whichever was later.
  Result<std::vector<Run>> run(int64_t count) {
    const int64_t ahead = session_.executor().device().runsAhead() ? 1 : 0;
    std::vector<Run> runs;
    for (int64_t started = 0; static_cast<int64_t>(runs.size()) < count;) {
      if (started < count && started - static_cast<int64_t>(runs.size()) <= ahead) {
        SY_RETURN_IF_ERROR(start());
        ++started;
      } else {
        SY_ASSIGN_OR_RETURN(Run done, finish());
        runs.push_back(done);
      }
    }
    return runs;
  }
  double loss() const { return loss_; }

  /// Runs the steps of a profile, on all ranks; rank 0 says what was in them, and has the result.
  Result<std::vector<StepSummary>> profile(const std::string &path) {
    Agreement &agreement = session_.agreement();
    auto create = [&]() -> Status {
      SY_ASSIGN_OR_RETURN(profile_, StepProfile::create(session_.executor()));
      return {};
    };
    SY_RETURN_IF_ERROR(agreement.agree(agreement.isLeader() ? create() : Status()));
    profiled_ = StepProfile::kFirstStep;
    SY_RETURN_IF_ERROR(run(1).status()); // alone, as each instruction of it
    SY_RETURN_IF_ERROR(run(StepProfile::kSteps - 1).status());
    profiled_.reset();
    SY_RETURN_IF_ERROR(agreement.agree(profile_ ? profile_->write(path) : Status()));
    std::vector<StepSummary> summaries;
    if (profile_)
      summaries = profile_->summaries();
    profile_.reset();
    for (const StepSummary &summary : summaries)
      std::printf("%s\n", describe(summary).c_str());
    return summaries;
  }

private:
  using Clock = std::chrono::steady_clock;
  struct Started {
    Clock::time_point time;
    Run work;
  };

  Status start() {
    if (profile_)
      SY_RETURN_IF_ERROR(profile_->beforeStep(*profiled_));
    else if (profiled_)
      StepProfile::beforeStepOfOthers(session_.executor(), *profiled_);
    if (profiled_)
      ++*profiled_;
    Started &started = underway_.emplace_back();
    started.time = Clock::now();
    sampler_.next(batches_);
    SY_RETURN_IF_ERROR(filler_.setStep(batches_));
    scalars_.step += 1;
    SY_RETURN_IF_ERROR(session_.startStep(filler_, scalars_));
    started.work.tokens = static_cast<double>(filler_.numTokens());
    for (const SegmentView &segment : batches_.segments)
      started.work.flops += modelFlops_.ofSegment(segment.numTokens());
    return {};
  }

  Result<Run> finish() {
    SY_ASSIGN_OR_RETURN(const StepResult *result, session_.finishStep());
    const Clock::time_point now = Clock::now();
    const Started started = underway_.front();
    underway_.pop_front();
    loss_ = result->sums.loss;
    ++done_;
    if (!result->update.applied || !std::isfinite(loss_)) // on all ranks alike
      return session_.agreement().agree(
          Status::failed(fmt::format("step {}: the loss is {:.4g} and the gradient norm {:.4g}, so "
                                     "its time is that of no training step",
                                     done_, loss_, result->update.gradNorm)));
    Run run = started.work;
    run.milliseconds =
        std::chrono::duration<double, std::milli>(now - std::max(started.time, finished_)).count();
    finished_ = now;
    return run;
  }

  Session &session_;
  Sampler sampler_;
  PassFiller filler_;
  ModelFlops modelFlops_;
  StepBatches batches_;
  UpdateScalars scalars_{.learningRate = 5e-5, .weightDecay = 0.01, .maxGradNorm = 1, .step = 0};
  std::unique_ptr<StepProfile> profile_;
  std::optional<int64_t> profiled_; // the number of the step that it sees next, on some rank
  std::deque<Started> underway_;
  Clock::time_point finished_; // when the latest step was
  int64_t done_ = 0;
  double loss_ = 0;
};

std::string caseName(const StepArguments &arguments, const Training &training) {
  if (!arguments.name.empty())
    return "step " + arguments.name;
  const int64_t length = arguments.length > 0 ? arguments.length : training.maxSeqLength;
  return "step " + std::to_string(training.perDeviceTrainBatchSize) + "x" +
         (arguments.lengths.empty() ? std::to_string(length) : "listed") + "x" +
         std::to_string(training.gradientAccumulationSteps);
}

Result<std::unique_ptr<Session>> createSession(const Plan &plan, const StepArguments &arguments,
                                               const Launch &launch, Agreement &agreement) {
  const DeviceOptions options = {.threads = launch.threadsPerRank(arguments.threads),
                                 .rankOnHost = launch.rankHere()};
  auto create = [&]() -> Result<std::unique_ptr<Session>> {
    SY_ASSIGN_OR_RETURN(std::unique_ptr<Session> session,
                        Session::create(plan, options, &agreement));
    SY_RETURN_IF_ERROR(
        fillRandomWeights(session->executor(), static_cast<uint64_t>(arguments.seed)));
    return session;
  };
  return agreement.agree(create());
}

using NamedBytes = std::vector<std::pair<std::string, uint64_t>>;

/// What the driver and the list of what is in use say of this rank; nothing where no driver counts.
Result<NamedBytes> deviceBytes(Session &session) {
  SY_ASSIGN_OR_RETURN(std::optional<MemoryUse> use, session.executor().device().memoryUse());
  if (!use)
    return NamedBytes();
  if (const Communicator *ranks = session.agreement().communicator(); ranks && ranks->devices())
    use->communication = ranks->devices()->memoryBytes();
  return NamedBytes{{"listed_bytes", use->listed()}, {"driver_bytes", use->counted}};
}

/// Each figure of the rank where it is largest.
Status takeLargest(Agreement &agreement, NamedBytes &bytes) {
  std::vector<int64_t> mine;
  for (const auto &[key, value] : bytes)
    mine.push_back(static_cast<int64_t>(value));
  SY_ASSIGN_OR_RETURN(std::span<const int64_t> all, agreement.gather(mine));
  for (size_t i = 0; i < all.size(); ++i)
    bytes[i % bytes.size()].second =
        std::max(bytes[i % bytes.size()].second, static_cast<uint64_t>(all[i]));
  return {};
}

/// What one rank does.
class StepBenchmark {
public:
  StepBenchmark(const StepArguments &arguments, const Launch &launch)
      : arguments_(arguments), launch_(launch) {}

  /// What the ranks of a process share.
  Status load(const Plan &plan) {
    const Training &training = plan.training;
    const int64_t records = training.perDeviceTrainBatchSize * training.gradientAccumulationSteps *
                            plan.mesh.numRanks() * arguments_.steps;
    SY_ASSIGN_OR_RETURN(std::vector<int64_t> lengths, recordLengths(arguments_, training, records));
    dataset_ = randomRecords(lengths, training.vocabSize, arguments_.seed);
    return {};
  }

  Status run(const Plan &plan, Agreement &agreement) const {
    const Training &training = plan.training;
    SY_ASSIGN_OR_RETURN(
        Sampler sampler,
        Sampler::create(*dataset_, {.perDeviceTrainBatchSize = training.perDeviceTrainBatchSize,
                                    .gradientAccumulationSteps = training.gradientAccumulationSteps,
                                    .numRanks = plan.mesh.numRanks(),
                                    .maxSeqLength = training.maxSeqLength}));
    SY_ASSIGN_OR_RETURN(std::unique_ptr<Session> session,
                        createSession(plan, arguments_, launch_, agreement));
    SY_ASSIGN_OR_RETURN(PassFiller filler, session->createFiller(session->lossNormalization()));
    Stepper stepper(*session, std::move(sampler), std::move(filler));
    SY_RETURN_IF_ERROR(stepper.run(arguments_.warmup).status());
    SY_ASSIGN_OR_RETURN(NamedBytes used, agreement.agree(deviceBytes(*session)));

    Measurement measurement;
    measurement.name = caseName(arguments_, training);
    measurement.device = session->executor().device().name();
    measurement.ranks = agreement.size();
    measurement.mesh = text(plan.mesh);
    measurement.maxFlops = peakFlops(measurement.device);
    if (measurement.maxFlops)
      *measurement.maxFlops *= agreement.size();
    SY_ASSIGN_OR_RETURN(measurement.runs, stepper.run(arguments_.steps));
    measurement.loss = stepper.loss();
    measurement.bytes = {{"peak_bytes", plan.peakBytes},
                         {"high_water_bytes", session->executor().highWaterBytes()}};
    measurement.bytes.insert(measurement.bytes.end(), used.begin(), used.end());
    SY_RETURN_IF_ERROR(takeLargest(agreement, measurement.bytes));
    Status profiled; // the figures are good without it
    if (!arguments_.profile.empty()) {
      Result<std::vector<StepSummary>> steps = stepper.profile(arguments_.profile);
      profiled = steps.status();
      if (steps.ok() && agreement.isLeader() && agreement.size() > 1)
        measurement.communication = meanCommunication(*steps);
    }
    SY_RETURN_IF_ERROR(
        agreement.agree(agreement.isLeader() ? report(measurement, arguments_.json) : Status()));
    return profiled;
  }

private:
  const StepArguments &arguments_;
  const Launch &launch_;
  std::optional<Dataset> dataset_;
};

} // namespace

Result<std::vector<int64_t>> parseLengths(std::string_view text, const std::string &source) {
  constexpr std::string_view kSpace = " \t\r\n";
  std::vector<int64_t> lengths;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.starts_with('#'))
      continue;
    for (size_t at = line.find_first_not_of(kSpace); at != line.npos;
         at = line.find_first_not_of(kSpace, at)) {
      const size_t end = std::min(line.find_first_of(kSpace, at), line.size());
      const std::string_view word = line.substr(at, end - at);
      int64_t length = 0;
      auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), length);
      if (error != std::errc() || stop != word.data() + word.size() || length < 1)
        return Status::invalidInput(source + ": found \"" + std::string(word.substr(0, 40)) +
                                    "\", expected tokens of records: integers from 1, separated by "
                                    "white space");
      lengths.push_back(length);
      at = end;
    }
  }
  if (lengths.empty())
    return Status::invalidInput(source + ": has no numbers, expected tokens of records");
  return lengths;
}

Status runStepBenchmark(const StepArguments &arguments) {
  if (arguments.length > 0 && !arguments.lengths.empty())
    return Status::usage("--length and --lengths both say how long records are; leave one out");
  std::optional<StepBenchmark> benchmark;
  return runOnRanks(arguments.plan, arguments.ranks, [&](const Launch &launch) -> Launch::Tasks {
    benchmark.emplace(arguments, launch);
    return {[&benchmark](const Plan &plan) { return benchmark->load(plan); },
            [&benchmark](const Plan &plan, Agreement &agreement) {
              return benchmark->run(plan, agreement);
            }};
  });
}

} // namespace switchyard::bench

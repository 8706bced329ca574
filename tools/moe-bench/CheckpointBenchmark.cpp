#include "tools/moe-bench/CheckpointBenchmark.h"

#include "runtime/checkpoint/CheckpointSaver.h"
#include "runtime/checkpoint/TrainingCheckpoint.h"
#include "runtime/core/File.h"
#include "runtime/plan/SavedStates.h"
#include "runtime/training/Session.h"
#include "tools/moe-bench/PlanRun.h"
#include "tools/moe-bench/RandomWeights.h"
#include "tools/moe-bench/Report.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <optional>
#include <random>
#include <unistd.h>

namespace switchyard::bench {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr int kWarmup = 5;
constexpr uint64_t kReadBytes = uint64_t{16} << 20;
constexpr UpdateScalars kScalars{.learningRate = 1e-5, .maxGradNorm = 1};

double millisecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

/// The files in `folder` and below.
std::vector<std::string> filesIn(const std::string &folder) {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto &entry : fs::recursive_directory_iterator(folder, error))
    if (entry.is_regular_file())
      files.push_back(entry.path());
  return files;
}

/// Makes the system forget what it keeps of the files in memory.
void forget(const std::string &folder) {
  for (const std::string &file : filesIn(folder))
    if (int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC); descriptor >= 0) {
      (void)::fdatasync(descriptor);
      (void)::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
      ::close(descriptor);
    }
}

/// Reads all files of `folder`, and gives their bytes.
Result<uint64_t> readAll(const std::string &folder) {
  std::vector<std::byte> buffer(kReadBytes);
  uint64_t bytes = 0;
  for (const std::string &file : filesIn(folder)) {
    const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    ssize_t count = descriptor < 0 ? -1 : 1;
    while (count > 0) {
      count = ::read(descriptor, buffer.data(), buffer.size());
      bytes += static_cast<uint64_t>(std::max<ssize_t>(count, 0));
    }
    const int error = errno;
    ::close(descriptor);
    if (count < 0)
      return Status::failed(file + ": cannot be read: " + errnoText(error));
  }
  return bytes;
}

/// What one rank does.
class CheckpointBenchmark {
public:
  CheckpointBenchmark(const CheckpointArguments &arguments, const Launch &launch)
      : arguments_(arguments), launch_(launch) {}

  /// What the ranks of a process share.
  Status load(const Plan &plan);
  Status run(const Plan &plan, Agreement &agreement) const;

private:
  /// On a rank.
  struct Bench {
    Session &session;
    PassFiller filler;
    int64_t step = 0;
    std::string saved = {}; // the latest checkpoint

    Status train();
  };

  /// What a save costs, in milliseconds.
  struct Save {
    double waiting = 0;       // of training
    double beside = 0;        // by which the steps beside it were longer
    double processor = 0;     // of all threads, beside the steps'
    double stepProcessor = 0; // that a step takes without it
    std::vector<Run> steps;   // without it
  };

  Result<Save> timeSave(Bench &bench, CheckpointSaver &saver) const;
  Status timeSaves(Bench &bench) const;
  Result<std::vector<Run>> time(Bench &bench, const std::string &folder,
                                const std::function<Result<uint64_t>()> &work) const;
  Status timeLoads(Bench &bench) const;
  Status say(Bench &bench, const std::string &name, std::vector<Run> runs,
             std::vector<std::pair<std::string, double>> shares) const;
  Status removeAll() const;

  std::string exported() const { return joinPath(arguments_.folder, "hf"); }

  const CheckpointArguments &arguments_;
  const Launch &launch_;
  std::vector<int32_t> tokens_;
  StepBatches step_;
};

Status CheckpointBenchmark::load(const Plan &plan) {
  const Training &training = plan.training;
  const int64_t length = arguments_.length > 0 ? arguments_.length : training.maxSeqLength;
  if (length > training.maxSeqLength)
    return Status::usage("--length is " + std::to_string(length) +
                         ", but the plan was compiled with --max-seq-length " +
                         std::to_string(training.maxSeqLength) + "; give at most that");
  const int64_t batches = training.gradientAccumulationSteps * plan.mesh.numRanks();
  const int64_t records = batches * training.perDeviceTrainBatchSize;
  std::mt19937_64 random(1);
  tokens_.resize(records * length);
  for (int32_t &token : tokens_)
    token = static_cast<int32_t>(random() % static_cast<uint64_t>(training.vocabSize));
  for (int64_t i = 0; i < records; ++i)
    step_.segments.push_back({std::span(tokens_).subspan(i * length, length), {}, 0, i});
  for (int64_t i = 1; i <= batches; ++i)
    step_.microBatchEnds.push_back(i * training.perDeviceTrainBatchSize);
  return {};
}

Status CheckpointBenchmark::Bench::train() {
  UpdateScalars scalars = kScalars;
  scalars.step = ++step;
  SY_ASSIGN_OR_RETURN(const StepResult *done, session.step(filler, scalars));
  return done->update.applied
             ? Status()
             : session.agreement().agree(Status::failed("the gradient norm is not finite"));
}

/// Rank 0 alone prints.
Status CheckpointBenchmark::say(Bench &bench, const std::string &name, std::vector<Run> runs,
                                std::vector<std::pair<std::string, double>> shares) const {
  Measurement measurement;
  measurement.name = name;
  measurement.device = bench.session.executor().device().name();
  measurement.ranks = bench.session.agreement().size();
  measurement.mesh = text(bench.session.plan().mesh);
  measurement.runs = std::move(runs);
  measurement.shares = std::move(shares);
  return bench.session.agreement().agree(
      bench.session.isLeader() ? report(measurement, arguments_.json) : Status());
}

double medianOf(const std::vector<Run> &runs) {
  std::vector<double> times;
  for (const Run &run : runs)
    times.push_back(run.milliseconds);
  return median(times);
}

/// The time that training and all its threads have used.
struct Times {
  Clock::time_point wall = Clock::now();
  double processor = processorMilliseconds();

  static double processorMilliseconds() {
    timespec time = {};
    (void)::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) * 1e-6;
  }
};

/// A save, with the steps beside which it is written, as training does it; and what it costs.
Result<CheckpointBenchmark::Save> CheckpointBenchmark::timeSave(Bench &bench,
                                                                CheckpointSaver &saver) const {
  Agreement &agreement = bench.session.agreement();
  Save save;
  const Times before;
  SY_RETURN_IF_ERROR(
      saver.start({.step = bench.step, .samplingStrategy = "random", .globalBatch = 1}));
  save.waiting = millisecondsSince(before.wall);
  while (saver.isUnderway()) {
    Clock::time_point begin = Clock::now();
    SY_RETURN_IF_ERROR(bench.train());
    save.beside += millisecondsSince(begin);
    const int64_t mine[] = {saver.isReady()};
    SY_ASSIGN_OR_RETURN(std::span<const int64_t> ready, agreement.gather(mine));
    begin = Clock::now();
    if (std::ranges::all_of(ready, [](int64_t one) { return one != 0; }))
      SY_RETURN_IF_ERROR(saver.advance());
    save.waiting += millisecondsSince(begin);
    save.steps.emplace_back();
  }
  save.processor = Times::processorMilliseconds() - before.processor;
  // As many steps without it.
  const Times after;
  for (Run &step : save.steps) {
    const Clock::time_point begin = Clock::now();
    SY_RETURN_IF_ERROR(bench.train());
    step.milliseconds = millisecondsSince(begin);
    save.beside -= step.milliseconds;
  }
  save.stepProcessor =
      (Times::processorMilliseconds() - after.processor) / static_cast<double>(save.steps.size());
  save.processor -= save.stepProcessor * static_cast<double>(save.steps.size());
  return save;
}

Status CheckpointBenchmark::timeSaves(Bench &bench) const {
  CheckpointSaverOptions options;
  options.outputDir = arguments_.folder;
  options.modelFolder = arguments_.model;
  options.totalLimit = 1;
  options.stagingLimit = stagingBytes(bench.session.plan());
  SY_ASSIGN_OR_RETURN(std::unique_ptr<CheckpointSaver> saver,
                      bench.session.agreement().agree(CheckpointSaver::create(
                          bench.session.executor(), bench.session.agreement(), options)));
  for (int i = 0; i < kWarmup; ++i)
    SY_RETURN_IF_ERROR(bench.train());
  std::vector<Run> steps, waiting, beside, processor;
  std::vector<double> stepProcessor;
  for (int64_t i = 0; i < std::max<int64_t>(arguments_.saves, 1); ++i) {
    SY_ASSIGN_OR_RETURN(Save save, timeSave(bench, *saver));
    steps.insert(steps.end(), save.steps.begin(), save.steps.end());
    waiting.push_back({save.waiting});
    beside.push_back({save.beside});
    processor.push_back({save.processor});
    stepProcessor.push_back(save.stepProcessor);
  }
  bench.saved = saver->saved();
  if (arguments_.saves == 0)
    return {};
  const double step = medianOf(steps);
  SY_RETURN_IF_ERROR(say(bench, "step", steps, {}));
  const auto share = [](const std::vector<Run> &runs, double of) {
    return std::vector{std::pair<std::string, double>("of_a_step", medianOf(runs) / of)};
  };
  SY_RETURN_IF_ERROR(say(bench, "save, waiting", waiting, share(waiting, step)));
  SY_RETURN_IF_ERROR(say(bench, "save, steps beside", beside, share(beside, step)));
  return say(bench, "save, processor time", processor, share(processor, median(stepProcessor)));
}

/// `work` on all ranks, after the system has forgotten the files of `folder`, several times.
Result<std::vector<Run>>
CheckpointBenchmark::time(Bench &bench, const std::string &folder,
                          const std::function<Result<uint64_t>()> &work) const {
  Agreement &agreement = bench.session.agreement();
  std::vector<Run> runs;
  for (int64_t i = 0; i < arguments_.loads; ++i) {
    if (bench.session.isLeader())
      forget(folder);
    SY_RETURN_IF_ERROR(agreement.agree(Status()));
    const Clock::time_point begin = Clock::now();
    SY_ASSIGN_OR_RETURN(uint64_t bytes, agreement.agree(work()));
    runs.push_back({.milliseconds = millisecondsSince(begin)});
    const int64_t mine[] = {static_cast<int64_t>(bytes)};
    SY_ASSIGN_OR_RETURN(std::span<const int64_t> all, agreement.gather(mine));
    for (int64_t one : all)
      runs.back().bytes += static_cast<double>(one);
  }
  return runs;
}

Status CheckpointBenchmark::timeLoads(Bench &bench) const {
  Session &session = bench.session;
  const std::string &saved = bench.saved;
  SY_RETURN_IF_ERROR(session.agreement().agree(
      session.isLeader() ? exportTrainingCheckpoint(saved, exported()) : Status()));
  const auto loaded = [&](const auto &load) -> Result<uint64_t> {
    const uint64_t before = session.bytesRead();
    SY_RETURN_IF_ERROR(load());
    return session.bytesRead() - before;
  };
  struct Kind {
    const char *name;
    std::string folder;
    std::function<Status()> load;
  };
  const Kind kinds[] = {{"of a checkpoint", saved,
                         [&]() -> Status {
                           SY_ASSIGN_OR_RETURN(TrainingCheckpoint checkpoint,
                                               TrainingCheckpoint::open(saved));
                           return session.loadStates(checkpoint);
                         }},
                        {"of a model", exported(), [&]() -> Status {
                           SY_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::open(exported()));
                           return session.loadParameters(checkpoint);
                         }}};
  for (const Kind &kind : kinds) {
    SY_ASSIGN_OR_RETURN(std::vector<Run> reads, time(bench, kind.folder, [&]() -> Result<uint64_t> {
                          return session.isLeader() ? readAll(kind.folder) : uint64_t{0};
                        }));
    SY_ASSIGN_OR_RETURN(std::vector<Run> loads,
                        time(bench, kind.folder, [&] { return loaded(kind.load); }));
    SY_RETURN_IF_ERROR(say(bench, std::string("read ") + kind.name, reads, {}));
    SY_RETURN_IF_ERROR(say(bench, std::string("load ") + kind.name, loads,
                           {{"of_the_speed_of_reading", medianOf(reads) / medianOf(loads)}}));
  }
  return {};
}

/// What this has written, which was all that was there.
Status CheckpointBenchmark::removeAll() const {
  std::error_code error;
  for (const auto &entry : fs::directory_iterator(arguments_.folder, error))
    fs::remove_all(entry.path(), error);
  return {};
}

Status CheckpointBenchmark::run(const Plan &plan, Agreement &agreement) const {
  const DeviceOptions options = {.threads = launch_.threadsPerRank(arguments_.threads),
                                 .rankOnHost = launch_.rankHere()};
  auto create = [&]() -> Result<std::unique_ptr<Session>> {
    SY_ASSIGN_OR_RETURN(std::unique_ptr<Session> session,
                        Session::create(plan, options, &agreement));
    SY_RETURN_IF_ERROR(fillRandomWeights(session->executor(), 1));
    return session;
  };
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Session> session, agreement.agree(create()));
  SY_ASSIGN_OR_RETURN(PassFiller filler, session->createFiller(session->lossNormalization()));
  SY_RETURN_IF_ERROR(agreement.agree(filler.setStep(step_)));
  Bench bench{*session, std::move(filler)};
  Status status = timeSaves(bench);
  if (status.ok() && arguments_.loads > 0)
    status = timeLoads(bench);
  if (agreement.isLeader())
    (void)removeAll();
  return status;
}

Status checkFolder(const std::string &folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    return Status::failed(folder + ": cannot be made: " + errnoText(error.value()));
  return fs::is_empty(folder, error) && !error
             ? Status()
             : Status::invalidInput(folder + ": is not empty; give another --folder");
}

} // namespace

Status runCheckpointBenchmark(const CheckpointArguments &arguments) {
  std::optional<CheckpointBenchmark> benchmark;
  return runOnRanks(arguments.plan, arguments.ranks, [&](const Launch &launch) -> Launch::Tasks {
    benchmark.emplace(arguments, launch);
    return {[&benchmark, &arguments, &launch](const Plan &plan) {
              Status status = launch.isLeader() ? checkFolder(arguments.folder) : Status();
              return status.ok() ? benchmark->load(plan) : status;
            },
            [&benchmark](const Plan &plan, Agreement &agreement) {
              return benchmark->run(plan, agreement);
            }};
  });
}

} // namespace switchyard::bench

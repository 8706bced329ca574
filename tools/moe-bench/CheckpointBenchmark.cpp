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

double medianOf(const std::vector<Run> &runs) {
  std::vector<double> times;
  for (const Run &run : runs)
    times.push_back(run.milliseconds);
  return median(times);
}

double processorMilliseconds() {
  timespec time = {};
  (void)::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) * 1e-6;
}

/// What the ranks of a process share: the records of all steps, which are the same.
struct Shared {
  const CheckpointArguments &arguments;
  const Launch &launch;
  std::vector<int32_t> tokens = {};
  StepBatches step = {};

  Status load(const Plan &plan);
};

Status Shared::load(const Plan &plan) {
  const Training &training = plan.training;
  const int64_t length = arguments.length > 0 ? arguments.length : training.maxSeqLength;
  if (length > training.maxSeqLength)
    return Status::usage("--length is " + std::to_string(length) +
                         ", but the plan was compiled with --max-seq-length " +
                         std::to_string(training.maxSeqLength) + "; give at most that");
  const int64_t batches = training.gradientAccumulationSteps * plan.mesh.numRanks();
  const int64_t records = batches * training.perDeviceTrainBatchSize;
  std::mt19937_64 random(1);
  tokens.resize(records * length);
  for (int32_t &token : tokens)
    token = static_cast<int32_t>(random() % static_cast<uint64_t>(training.vocabSize));
  for (int64_t i = 0; i < records; ++i)
    step.segments.push_back({std::span(tokens).subspan(i * length, length), {}, 0, i});
  for (int64_t i = 1; i <= batches; ++i)
    step.microBatchEnds.push_back(i * training.perDeviceTrainBatchSize);
  return {};
}

/// What one rank does.
class CheckpointBenchmark {
public:
  CheckpointBenchmark(const Shared &shared, const Plan &plan, Agreement &agreement)
      : shared_(shared), arguments_(shared.arguments), plan_(plan), agreement_(agreement) {}

  Status run();

private:
  /// What a save costs, in milliseconds.
  struct Save {
    double waiting = 0;       // of training
    double beside = 0;        // by which the steps beside it were longer
    double processor = 0;     // of all threads, beside the steps'
    double stepProcessor = 0; // that a step takes without it
    std::vector<Run> steps;   // without it
  };
  /// A way of loading.
  struct Kind {
    std::string name, folder;
    std::function<Status(Session &session)> load;
  };

  Result<std::unique_ptr<Session>> open();
  Status train(Session &session);
  Result<Save> timeSave(Session &session, CheckpointSaver &saver);
  Status timeSaves();
  Result<Run> time(const std::string &folder, const std::function<Result<uint64_t>()> &work);
  Status timeLoads(const Kind &kind);
  Status say(const std::string &name, std::vector<Run> runs,
             std::vector<std::pair<std::string, double>> shares = {});
  void removeAll() const;

  const Shared &shared_;
  const CheckpointArguments &arguments_;
  const Plan &plan_;
  Agreement &agreement_;
  std::string device_;
  std::optional<PassFiller> filler_;
  int64_t step_ = 0;
  std::string saved_; // the latest checkpoint
};

/// A session whose states are zero.
Result<std::unique_ptr<Session>> CheckpointBenchmark::open() {
  const DeviceOptions options = {.threads = shared_.launch.threadsPerRank(arguments_.threads),
                                 .rankOnHost = shared_.launch.rankHere()};
  return agreement_.agree(Session::create(plan_, options, &agreement_));
}

Status CheckpointBenchmark::train(Session &session) {
  UpdateScalars scalars = kScalars;
  scalars.step = ++step_;
  SY_ASSIGN_OR_RETURN(const StepResult *done, session.step(*filler_, scalars));
  return done->update.applied ? Status()
                              : agreement_.agree(Status::failed("the gradient norm is not finite"));
}

/// Rank 0 alone prints.
Status CheckpointBenchmark::say(const std::string &name, std::vector<Run> runs,
                                std::vector<std::pair<std::string, double>> shares) {
  Measurement measurement;
  measurement.name = name;
  measurement.device = device_;
  measurement.ranks = agreement_.size();
  measurement.mesh = text(plan_.mesh);
  measurement.runs = std::move(runs);
  measurement.shares = std::move(shares);
  return agreement_.agree(agreement_.isLeader() ? report(measurement, arguments_.json) : Status());
}

/// A save, with the steps beside which it is written, as training does it; then as many steps
/// without it.
Result<CheckpointBenchmark::Save> CheckpointBenchmark::timeSave(Session &session,
                                                                CheckpointSaver &saver) {
  Save save;
  double processor = processorMilliseconds();
  Clock::time_point begin = Clock::now();
  SY_RETURN_IF_ERROR(saver.start({.step = step_, .samplingStrategy = "random", .globalBatch = 1}));
  save.waiting = millisecondsSince(begin);
  while (saver.isUnderway()) {
    begin = Clock::now();
    SY_RETURN_IF_ERROR(train(session));
    save.beside += millisecondsSince(begin);
    const int64_t mine[] = {saver.isReady()};
    SY_ASSIGN_OR_RETURN(std::span<const int64_t> ready, agreement_.gather(mine));
    begin = Clock::now();
    if (std::ranges::all_of(ready, [](int64_t one) { return one != 0; }))
      SY_RETURN_IF_ERROR(saver.advance());
    save.waiting += millisecondsSince(begin);
    save.steps.emplace_back();
  }
  save.processor = processorMilliseconds() - processor;
  processor = processorMilliseconds();
  for (Run &step : save.steps) {
    begin = Clock::now();
    SY_RETURN_IF_ERROR(train(session));
    step.milliseconds = millisecondsSince(begin);
    save.beside -= step.milliseconds;
  }
  processor = processorMilliseconds() - processor;
  save.stepProcessor = processor / static_cast<double>(save.steps.size());
  save.processor -= processor;
  return save;
}

Status CheckpointBenchmark::timeSaves() {
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Session> session, open());
  device_ = session->executor().device().name();
  SY_RETURN_IF_ERROR(agreement_.agree(fillRandomWeights(session->executor(), 1)));
  SY_ASSIGN_OR_RETURN(filler_, session->createFiller(session->lossNormalization()));
  SY_RETURN_IF_ERROR(agreement_.agree(filler_->setStep(shared_.step)));
  CheckpointSaverOptions options;
  options.outputDir = arguments_.folder;
  options.modelFolder = arguments_.model;
  options.totalLimit = 1;
  options.stagingLimit = stagingBytes(plan_);
  SY_ASSIGN_OR_RETURN(
      std::unique_ptr<CheckpointSaver> saver,
      agreement_.agree(CheckpointSaver::create(session->executor(), agreement_, options)));
  for (int i = 0; i < kWarmup; ++i)
    SY_RETURN_IF_ERROR(train(*session));
  std::vector<Run> steps, waiting, beside, processor;
  std::vector<double> stepProcessor;
  for (int64_t i = 0; i < std::max<int64_t>(arguments_.saves, 1); ++i) {
    SY_ASSIGN_OR_RETURN(Save save, timeSave(*session, *saver));
    steps.insert(steps.end(), save.steps.begin(), save.steps.end());
    waiting.push_back({save.waiting});
    beside.push_back({save.beside});
    processor.push_back({save.processor});
    stepProcessor.push_back(save.stepProcessor);
  }
  saved_ = saver->saved();
  if (arguments_.saves == 0)
    return {};
  const auto share = [](const std::vector<Run> &runs, double of) {
    return std::vector{std::pair<std::string, double>("of_a_step", medianOf(runs) / of)};
  };
  const double step = medianOf(steps);
  SY_RETURN_IF_ERROR(say("step", steps));
  SY_RETURN_IF_ERROR(say("save, waiting", waiting, share(waiting, step)));
  SY_RETURN_IF_ERROR(say("save, steps beside", beside, share(beside, step)));
  return say("save, processor time", processor, share(processor, median(stepProcessor)));
}

/// `work` on all ranks, which gives the bytes that it reads, after the system has forgotten the
/// files of `folder`.
Result<Run> CheckpointBenchmark::time(const std::string &folder,
                                      const std::function<Result<uint64_t>()> &work) {
  if (agreement_.isLeader())
    forget(folder);
  SY_RETURN_IF_ERROR(agreement_.agree(Status()));
  const Clock::time_point begin = Clock::now();
  SY_ASSIGN_OR_RETURN(uint64_t bytes, agreement_.agree(work()));
  Run run{.milliseconds = millisecondsSince(begin)};
  const int64_t mine[] = {static_cast<int64_t>(bytes)};
  SY_ASSIGN_OR_RETURN(std::span<const int64_t> all, agreement_.gather(mine));
  for (int64_t one : all)
    run.bytes += static_cast<double>(one);
  return run;
}

/// In turn with plain reads, after one that is not timed: what memory costs that is used for the
/// first time is the system's affair, and much in a virtual machine.
Status CheckpointBenchmark::timeLoads(const Kind &kind) {
  std::vector<Run> reads, loads;
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Session> session, open());
  SY_RETURN_IF_ERROR(agreement_.agree(kind.load(*session)));
  for (int64_t i = 0; i < arguments_.loads; ++i) {
    SY_ASSIGN_OR_RETURN(Run read, time(kind.folder, [&]() -> Result<uint64_t> {
                          return agreement_.isLeader() ? readAll(kind.folder) : uint64_t{0};
                        }));
    const uint64_t before = session->bytesRead();
    SY_ASSIGN_OR_RETURN(Run load, time(kind.folder, [&]() -> Result<uint64_t> {
                          SY_RETURN_IF_ERROR(kind.load(*session));
                          return session->bytesRead() - before;
                        }));
    reads.push_back(read);
    loads.push_back(load);
  }
  SY_RETURN_IF_ERROR(say("read of a " + kind.name, reads));
  return say("load of a " + kind.name, loads,
             {{"of_the_speed_of_reading", medianOf(reads) / medianOf(loads)}});
}

/// What this has written, which was all that was there.
void CheckpointBenchmark::removeAll() const {
  std::error_code error;
  for (const auto &entry : fs::directory_iterator(arguments_.folder, error))
    fs::remove_all(entry.path(), error);
}

Status CheckpointBenchmark::run() {
  const std::string exported = joinPath(arguments_.folder, "hf");
  auto loads = [&]() -> Status {
    SY_RETURN_IF_ERROR(agreement_.agree(
        agreement_.isLeader() ? exportTrainingCheckpoint(saved_, exported) : Status()));
    SY_RETURN_IF_ERROR(timeLoads({"checkpoint", saved_, [&](Session &session) -> Status {
                                    SY_ASSIGN_OR_RETURN(TrainingCheckpoint checkpoint,
                                                        TrainingCheckpoint::open(saved_));
                                    return session.loadStates(checkpoint);
                                  }}));
    return timeLoads({"model", exported, [&](Session &session) -> Status {
                        SY_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::open(exported));
                        return session.loadParameters(checkpoint);
                      }});
  };
  Status status = timeSaves();
  if (status.ok() && arguments_.loads > 0)
    status = loads();
  if (agreement_.isLeader())
    removeAll();
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
  std::optional<Shared> shared;
  return runOnRanks(arguments.plan, arguments.ranks, [&](const Launch &launch) -> Launch::Tasks {
    shared.emplace(Shared{arguments, launch});
    return {[&shared](const Plan &plan) {
              const Shared &one = *shared;
              Status status = one.launch.isLeader() ? checkFolder(one.arguments.folder) : Status();
              return status.ok() ? shared->load(plan) : status;
            },
            [&shared](const Plan &plan, Agreement &agreement) {
              return CheckpointBenchmark(*shared, plan, agreement).run();
            }};
  });
}

} // namespace switchyard::bench

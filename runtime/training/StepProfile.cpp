#include "runtime/training/StepProfile.h"

#include "runtime/core/File.h"
#include "runtime/core/Json.h"
#include "runtime/plan/Layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>

namespace switchyard {

namespace {

/// A label is that of a run, times this, plus the instruction's number and 2.
constexpr uint64_t kLabelsOfRun = uint64_t{1} << 32;

double microseconds(uint64_t nanoseconds) {
  return static_cast<double>(nanoseconds) / 1e3;
}

Json metadata(const char *what, int64_t track, const std::string &name) {
  Json arguments = Json::object();
  arguments.set("name", Json(name));
  Json event = Json::object();
  event.set("ph", Json("M"));
  event.set("name", Json(what));
  event.set("pid", Json(0));
  event.set("tid", Json(track));
  event.set("args", std::move(arguments));
  return event;
}

Json slice(const std::string &name, int64_t track, double begin, double duration, Json arguments) {
  Json event = Json::object();
  event.set("ph", Json("X"));
  event.set("name", Json(name));
  event.set("pid", Json(0));
  event.set("tid", Json(track));
  event.set("ts", Json(begin));
  event.set("dur", Json(duration));
  event.set("args", std::move(arguments));
  return event;
}

} // namespace

std::string describe(const StepSummary &summary) {
  std::string text = fmt::format(
      "step {} ({}): {} kernels, {} copies, {} fills in {:.3f} ms, busy {:.1f}%", summary.step,
      summary.isReplayed ? "replayed" : "one by one", summary.kernels, summary.copies,
      summary.fills, summary.milliseconds,
      summary.milliseconds > 0 ? 100 * summary.busyMilliseconds / summary.milliseconds : 0);
  if (summary.largestGapMicroseconds > 0)
    text += fmt::format(", largest gap {:.1f} us ({}, {})", summary.largestGapMicroseconds,
                        summary.beforeGap, summary.afterGap);
  if (summary.pauseMicroseconds > 0)
    text += fmt::format(", {:.1f} us after the step before", summary.pauseMicroseconds);
  if (const CommunicationTime &time = summary.communication; time.milliseconds > 0)
    text += fmt::format(", communication {:.3f} ms, exposed {:.3f} ms ({:.1f}%)", time.milliseconds,
                        time.exposedMilliseconds,
                        100 * time.exposedMilliseconds / summary.milliseconds);
  return text;
}

Result<std::unique_ptr<StepProfile>> StepProfile::create(Executor &executor) {
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Profiler> profiler, executor.device().createProfiler());
  return std::unique_ptr<StepProfile>(new StepProfile(executor, std::move(profiler)));
}

StepProfile::~StepProfile() {
  executor_.setMarker({});
  executor_.allowGraphs(true);
}

Status StepProfile::beforeStep(int64_t step) {
  step_ = step;
  if (step == kFirstStep) {
    SY_ASSIGN_OR_RETURN(exchanged_, executor_.exchanged());
    SY_RETURN_IF_ERROR(profiler_->begin());
    executor_.setMarker(
        [this](const Program &program, int64_t instruction) { return mark(program, instruction); });
  }
  executor_.allowGraphs(step != kFirstStep);
  if (step >= kFirstStep)
    traffic_.push_back(executor_.traffic());
  return {};
}

Status StepProfile::mark(const Program &program, int64_t instruction) {
  if (instruction < 0)
    runs_.push_back({&program, step_});
  return profiler_->mark(runs_.size() * kLabelsOfRun + static_cast<uint64_t>(instruction + 2));
}

/// By run, in the order in which they began. Those of a replay get the instructions of a run that
/// was made one by one, of one that did as much if there is one.
std::vector<std::vector<PlacedActivity>> StepProfile::placedByRun() const {
  std::vector<std::vector<PlacedActivity>> runs(runs_.size());
  for (const DeviceActivity &activity : activities_) {
    uint64_t run = activity.label / kLabelsOfRun;
    if (run == 0 || run > runs.size())
      continue;
    int64_t instruction = static_cast<int64_t>(activity.label % kLabelsOfRun) - 2;
    if (activity.isReplayed)
      instruction = -1;
    runs[run - 1].push_back({&activity, instruction, activity.isReplayed || instruction >= 0});
  }
  std::vector<PlacedActivities> known(runs.size()), replayed(runs.size());
  for (size_t i = 0; i < runs.size(); ++i)
    for (PlacedActivity &one : runs[i])
      if (one.isOfProgram)
        (one.activity->isReplayed ? replayed : known)[i].push_back(&one);
  for (size_t i = 0; i < runs.size(); ++i) {
    const PlacedActivities *like = nullptr;
    for (size_t j = 0; j < runs.size(); ++j)
      if (!replayed[i].empty() && !known[j].empty() && runs_[j].program == runs_[i].program &&
          (!like || known[j].size() == replayed[i].size()))
        like = &known[j];
    if (like)
      nameReplayed(*runs_[i].program, *like, replayed[i]);
  }
  return runs;
}

std::string StepProfile::nameOf(const Run &run, const PlacedActivity &placed) const {
  if (placed.instruction < 0)
    return placed.activity->name.empty() ? "host" : placed.activity->name;
  return fmt::format("{} {}", switchyard::nameOf(run.program->instructions[placed.instruction]),
                     placed.instruction);
}

std::string StepProfile::operandsOf(const Run &run, const PlacedActivity &placed) const {
  std::string text;
  if (placed.instruction < 0)
    return text;
  for (const Access &access : accessesOf(run.program->instructions[placed.instruction])) {
    const Buffer &buffer = run.program->buffers[access.buffer];
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", access.operand,
                        typeText(executor_.plan(), buffer.dtype, buffer.shape));
  }
  return text;
}

void StepProfile::summarize(const std::vector<std::vector<PlacedActivity>> &runs) {
  summaries_.clear();
  uint64_t first = 0, last = 0, lastOfStepBefore = 0;
  for (size_t i = 0; i < runs.size(); ++i) {
    if (summaries_.empty() || summaries_.back().step != runs_[i].step + 1) {
      summaries_.emplace_back().step = runs_[i].step + 1;
      lastOfStepBefore = last;
      first = std::numeric_limits<uint64_t>::max();
      last = 0;
    }
    StepSummary &summary = summaries_.back();
    const PlacedActivity *before = nullptr; // the one that ends last so far
    for (const PlacedActivity &placed : runs[i]) {
      const DeviceActivity &activity = *placed.activity;
      if (!placed.isOfProgram)
        continue;
      summary.isReplayed &= activity.isReplayed;
      ++(activity.kind == DeviceActivity::Kind::Kernel ? summary.kernels
         : activity.kind == DeviceActivity::Kind::Copy ? summary.copies
                                                       : summary.fills);
      uint64_t covered = before ? before->activity->end : activity.begin;
      if (before && activity.begin > covered &&
          microseconds(activity.begin - covered) > summary.largestGapMicroseconds) {
        summary.largestGapMicroseconds = microseconds(activity.begin - covered);
        summary.beforeGap = nameOf(runs_[i], *before);
        summary.afterGap = nameOf(runs_[i], placed);
      }
      if (activity.end > std::max(covered, activity.begin))
        summary.busyMilliseconds +=
            microseconds(activity.end - std::max(covered, activity.begin)) / 1e3;
      if (!before || activity.end > covered)
        before = &placed;
      first = std::min(first, activity.begin);
      last = std::max(last, activity.end);
    }
    if (last > first)
      summary.milliseconds = microseconds(last - first) / 1e3;
    if (lastOfStepBefore > 0 && last > first && first > lastOfStepBefore)
      summary.pauseMicroseconds = microseconds(first - lastOfStepBefore);
  }
}

void StepProfile::addCommunication(const std::vector<std::vector<PlacedActivity>> &runs) {
  for (StepSummary &summary : summaries_) {
    std::vector<Work> work;
    for (size_t i = 0; i < runs.size(); ++i) {
      if (runs_[i].step + 1 != summary.step)
        continue;
      for (const PlacedActivity &placed : runs[i]) {
        const DeviceActivity &activity = *placed.activity;
        const auto *collective = collectiveOf(*runs_[i].program, placed.instruction);
        // A replay's that could not be named are NCCL's, or something that computes.
        const bool isCollective = collective || activity.name.starts_with("nccl");
        const bool counts = activity.kind == DeviceActivity::Kind::Kernel ||
                            (collective && activity.kind == DeviceActivity::Kind::Copy);
        if (placed.isOfProgram && counts)
          work.push_back({activity.begin, activity.end, isCollective,
                          collective ? std::optional(collective->kind) : std::nullopt});
      }
    }
    summary.communication = communicationTime(work);
    const auto step = static_cast<size_t>(summary.step - 1 - kFirstStep);
    if (step + 1 >= traffic_.size())
      continue;
    for (size_t kind = 0; kind < summary.communication.kinds.size(); ++kind) {
      const Traffic &before = traffic_[step][kind], &after = traffic_[step + 1][kind];
      summary.communication.kinds[kind].calls = static_cast<int64_t>(after.calls - before.calls);
      summary.communication.kinds[kind].bytes = static_cast<int64_t>(after.bytes - before.bytes);
    }
    // The device counts over all steps: each has its share.
    auto bytesOf = [&](CollectiveKind kind) -> int64_t & {
      return summary.communication.kinds[static_cast<size_t>(kind)].bytes;
    };
    bytesOf(CollectiveKind::TokenExchange) += exchanged_.bytesSent / std::ssize(summaries_);
    bytesOf(CollectiveKind::TokenReturn) += exchanged_.bytesReturned / std::ssize(summaries_);
  }
}

std::string StepProfile::traceText(const std::vector<std::vector<PlacedActivity>> &runs) const {
  constexpr int64_t kStepsTrack = 1000;
  uint64_t origin = activities_.empty() ? 0 : activities_.front().begin;
  Json events = Json::array();
  events.append(metadata("process_name", 0, "device"));
  events.append(metadata("thread_name", kStepsTrack, "programs"));
  for (size_t i = 0; i < runs.size(); ++i) {
    const Run &run = runs_[i];
    uint64_t begin = std::numeric_limits<uint64_t>::max(), end = 0;
    for (const PlacedActivity &placed : runs[i]) {
      const DeviceActivity &activity = *placed.activity;
      Json arguments = Json::object();
      arguments.set("step", Json(run.step + 1));
      arguments.set("program", Json(run.program->name));
      if (!activity.name.empty())
        arguments.set("kernel", Json(activity.name));
      if (placed.instruction >= 0) {
        arguments.set("instruction", Json(placed.instruction));
        arguments.set("operands", Json(operandsOf(run, placed)));
      }
      events.append(slice(nameOf(run, placed), activity.stream,
                          microseconds(activity.begin - origin),
                          microseconds(activity.end - activity.begin), std::move(arguments)));
      if (!placed.isOfProgram)
        continue;
      begin = std::min(begin, activity.begin);
      end = std::max(end, activity.end);
    }
    if (end == 0)
      continue;
    Json arguments = Json::object();
    arguments.set("step", Json(run.step + 1));
    events.append(slice(run.program->name, kStepsTrack, microseconds(begin - origin),
                        microseconds(end - begin), std::move(arguments)));
  }
  Json trace = Json::object();
  trace.set("traceEvents", std::move(events));
  return trace.dump() + "\n";
}

Status StepProfile::write(const std::string &path) {
  SY_ASSIGN_OR_RETURN(activities_, profiler_->end());
  executor_.setMarker({});
  traffic_.push_back(executor_.traffic());
  SY_ASSIGN_OR_RETURN(const ExchangeTotals exchanged, executor_.exchanged());
  exchanged_ = exchanged - exchanged_;
  const std::vector<std::vector<PlacedActivity>> runs = placedByRun();
  summarize(runs);
  addCommunication(runs);
  return writeFileAtomically(path, traceText(runs));
}

} // namespace switchyard

// A trace of a few training steps, in the form that chrome://tracing and Perfetto read, with the
// plan's instructions as names.
//
// The first of the steps is run instruction by instruction, so that each activity of the device is
// known to be of an instruction; the others are run as without a profile. Activities of a replayed
// graph get their instructions from that first step (nameReplayed).
#pragma once

#include "runtime/executor/Executor.h"
#include "runtime/training/CommunicationTime.h"
#include "runtime/training/PlacedActivity.h"

#include <memory>
#include <string>
#include <vector>

namespace switchyard {

/// What the device did in one step.
struct StepSummary {
  int64_t step = 0;       // from 1
  bool isReplayed = true; // all of it
  int64_t kernels = 0, copies = 0, fills = 0;
  double milliseconds = 0; // from the first activity of its programs to the last
  double busyMilliseconds = 0;
  double largestGapMicroseconds = 0; // in which nothing ran, between two activities of a program
  std::string beforeGap, afterGap;   // the instructions around it
  double pauseMicroseconds = 0;      // since the end of the step before, where that is known
  CommunicationTime communication;   // bytes and calls are those of the executor's counters
};

/// "step 5 (replayed): 312 kernels, 4 copies, 0 fills in 8.123 ms, busy 98.2%, largest gap 1.3 us
/// (linear 12, add 13), 31.5 us after the step before, communication 2.100 ms, exposed 0.200 ms
/// (2.5%)".
std::string describe(const StepSummary &summary);

class StepProfile {
public:
  /// Steps that run before the first one that is profiled, and the number of those.
  static constexpr int64_t kFirstStep = 3;
  static constexpr int64_t kSteps = 4;

  /// For the steps of `executor`, which outlives it. Usage: its device cannot be profiled.
  static Result<std::unique_ptr<StepProfile>> create(Executor &executor);
  ~StepProfile();

  /// Before step `step` (from 0) is started, with no step under way if isEdge(step).
  Status beforeStep(int64_t step);
  /// For step `step` of `executor` on ranks that are not profiled, while another one is: a step is
  /// run instruction by instruction on all of them or on none, as a collective need not be the same
  /// in a graph.
  static void beforeStepOfOthers(Executor &executor, int64_t step) {
    executor.allowGraphs(step != kFirstStep);
  }
  /// Whether the steps before `step` have to be done before it is started.
  static bool isEdge(int64_t step) {
    return step == kFirstStep || step == kFirstStep + 1 || step == kFirstStep + kSteps;
  }

  /// After the last of them is done: ends the profile and writes the trace to `path`.
  Status write(const std::string &path);
  const std::vector<StepSummary> &summaries() const { return summaries_; }

private:
  /// A program as it was run once: label / kLabelsOfRun, from 1.
  struct Run {
    const Program *program = nullptr;
    int64_t step = 0;
  };

  StepProfile(Executor &executor, std::unique_ptr<Profiler> profiler)
      : executor_(executor), profiler_(std::move(profiler)) {}

  Status mark(const Program &program, int64_t instruction);
  std::vector<std::vector<PlacedActivity>> placedByRun() const;
  void summarize(const std::vector<std::vector<PlacedActivity>> &runs);
  void addCommunication(const std::vector<std::vector<PlacedActivity>> &runs);
  std::string nameOf(const Run &run, const PlacedActivity &placed) const;
  std::string operandsOf(const Run &run, const PlacedActivity &placed) const;
  std::string traceText(const std::vector<std::vector<PlacedActivity>> &runs) const;

  Executor &executor_;
  std::unique_ptr<Profiler> profiler_;
  int64_t step_ = 0;
  std::vector<Run> runs_;
  std::vector<TrafficByKind> traffic_; // the executor's, before each step and at the end
  ExchangeTotals exchanged_; // what the device counts: before the first step, then that of all
  std::vector<DeviceActivity> activities_;
  std::vector<StepSummary> summaries_;
};

} // namespace switchyard

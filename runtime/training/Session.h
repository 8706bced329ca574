// A plan that is ready to train: its executor, and the schedule of a step over its programs.
//
// A step is one program of the plan, train_step, where a pass holds all of it; else micro_step over
// all passes of its batches, then optimizer_step. step() serves both. accumulate() and update() are
// the halves of a step that has them. evaluate() and logits() run the same batches forward. States
// are filled by Weights.h.
//
// Where the device runs ahead, one step may be started while another is under way:
//
//   startStep(1); startStep(2); finishStep(); startStep(3); finishStep(); ...
//
// The host then waits in finishStep() only, for the step that was started first.
//
// With many ranks each has a session, and all of them call the same, with the same batches: a rank
// takes its share of them. What comes back is over all ranks, the same on each.
#pragma once

#include "runtime/checkpoint/TrainingCheckpoint.h"
#include "runtime/comm/Agreement.h"
#include "runtime/core/Floats.h"
#include "runtime/data/Batches.h"
#include "runtime/device/CreateDevice.h"
#include "runtime/executor/Executor.h"
#include "runtime/safetensors/Checkpoint.h"

#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace switchyard {

/// What the passes of one step add up to over all ranks.
struct StepSums {
  double loss = 0;                  // with the aux term
  double auxLoss = 0;               // unscaled
  std::vector<double> expertCounts; // [L, E] slots that were routed to each expert of each layer
  std::vector<int> nonFiniteRanks;  // whose own loss is infinite or NaN

  /// The largest expert's load over the mean, of the layer where it is largest; 0 without tokens.
  double expertLoadMaxOverMean(int64_t numExperts) const;
};

/// The inputs of optimizer_step.
struct UpdateScalars {
  double learningRate = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weightDecay = 0;
  double maxGradNorm = 0; // 0: no clipping
  int64_t step = 1;       // counted from 1
};

struct UpdateResult {
  double gradNorm = 0;  // before clipping
  bool applied = false; // false: the norm was not finite and nothing was changed
};

struct StepResult {
  StepSums sums;
  UpdateResult update;
  ExchangeTotals exchanged; // by this rank in this step, as far as the device counts it
};

/// For people: where the first value was made that is infinite or NaN.
struct NonFiniteReport {
  std::string where; // "on rank 1 by program train_step, instruction 12 (linear)"; empty: none was
  std::vector<std::string> details; // lines
};

class Session {
public:
  /// On the device that the plan is for. `agreement` is of the plan's ranks and outlives the
  /// session; null only for a plan of one. Fails as createDevice and Executor::create do.
  static Result<std::unique_ptr<Session>> create(Plan plan, const DeviceOptions &options,
                                                 Agreement *agreement = nullptr);

  const Plan &plan() const { return executor_->plan(); }
  Executor &executor() { return *executor_; }
  /// With the other ranks' sessions.
  Agreement &agreement() { return *agreement_; }
  bool isLeader() const { return agreement_->isLeader(); }

  /// Fills this rank's part of parameters and masters from `checkpoint`, of which it reads nothing
  /// else, a buffer of limited size at a time; zeroes padding and moments. Not collective. Fails as
  /// loadElements and checkExtra (Weights.h).
  Status loadParameters(const Checkpoint &checkpoint);
  /// Fills this rank's part of parameters, masters and moments from `checkpoint`, which is of this
  /// model (checkSameModel), in the same way. A state that the checkpoint has in another dtype is
  /// converted; masters that it has not are its parameters. What this plan has no use for is
  /// checked for damage all the same, a share on each rank. Not collective. Fails as
  /// TrainingCheckpoint::read does.
  Status loadStates(const TrainingCheckpoint &checkpoint);

  /// Bytes of tensors that loadParameters() and loadStates() have read.
  uint64_t bytesRead() const { return bytesRead_; }

  /// The bounds that a PassFiller for this plan takes.
  PassLimits passLimits() const;
  LossNormalization lossNormalization() const;
  /// A filler of passes for this plan's bounds and ranks.
  Result<PassFiller> createFiller(LossNormalization normalization) const;

  /// Whether a step is one program: then there are no gradients between programs to be read.
  bool isFused() const { return plan().findProgram("train_step") != nullptr; }

  /// A step on the passes that `filler` has dealt. The result is valid until the next one.
  /// Allocates nothing once it has seen the bucket. Failed: a fused step has more than one pass.
  Result<const StepResult *> step(const PassFiller &filler, const UpdateScalars &scalars);

  /// Puts a step on the device. What `filler` refers to is free again. Failed: kMaxUnderway steps
  /// are under way.
  Status startStep(const PassFiller &filler, const UpdateScalars &scalars);
  /// Waits for the step that was started first, of those under way.
  Result<const StepResult *> finishStep();
  static constexpr size_t kMaxUnderway = 2;

  /// Zeroes the gradients and adds those of every pass that `filler` has dealt. Not of a fused
  /// plan.
  Result<const StepSums *> accumulate(const PassFiller &filler);

  /// The same sums without gradients.
  Result<const StepSums *> evaluate(const PassFiller &filler);

  /// Runs a step that was not applied once more, with none under way, and looks at what each of its
  /// instructions makes (NonFiniteSearch.h): states are as before it, so it makes the same. Says
  /// which one, of all ranks, was the first to make a value that is infinite or NaN. Collective,
  /// with the same result on all ranks; so are the next two.
  Result<NonFiniteReport> findNonFinite(const PassFiller &filler, const UpdateScalars &scalars);
  /// The same of evaluate().
  Result<NonFiniteReport> findNonFiniteInEvaluation(const PassFiller &filler);
  /// The first parameter, master or moment that holds such a value, of the lowest rank that has
  /// one: "state norm: 1 of 64 values not finite, the first [63] = nan on rank 1"; empty: none
  /// does.
  Result<std::string> findNonFiniteState();

  /// Clips and updates with the gradients that are there.
  Result<UpdateResult> update(const UpdateScalars &scalars);

  /// The logits of rank 0's tokens [begin, begin + rows) of pass `pass`, rows at most kLogitRows,
  /// to rank 0's `out` [rows, vocabulary]. For float32 plans only.
  Status logits(const PassFiller &filler, int64_t pass, int64_t begin, int64_t rows,
                std::span<float> out);
  static constexpr int64_t kLogitRows = 64;

private:
  Session(std::unique_ptr<Executor> executor, Agreement *agreement);

  /// Whether the load-balancing loss is over all ranks' tokens of a pass.
  bool isOverPasses() const { return plan().training.auxLossScope == "pass"; }
  /// Gives elements [begin, end) of a state in its dtype, and raises `bytesRead`. Used from several
  /// threads.
  using ReadElements = std::function<Status(size_t state, int64_t begin, int64_t end,
                                            std::span<std::byte> out, uint64_t &bytesRead)>;
  Status fillStates(const std::vector<bool> &isRead, const ReadElements &read);
  Result<std::shared_ptr<const Binding>> bindAt(const char *program, int64_t bucket);
  Status setBatch(const Binding &binding, bool forLoss);
  Status setScalars(const Binding &binding, const UpdateScalars &scalars);

  /// A step, or a part of one, whose outputs are on their way. Its memory is used again.
  struct Underway {
    std::vector<std::unique_ptr<Outputs>> passes;
    std::unique_ptr<Outputs> update; // of optimizer_step
    int64_t numPasses = 0;
  };
  Status startPass(const Binding &binding, int64_t pass, Underway &underway);
  Status startPasses(const char *program, const PassFiller &filler, Underway &underway);
  Status startUpdate(const UpdateScalars &scalars, Underway &underway);
  Status startFused(const PassFiller &filler, const UpdateScalars &scalars, Underway &underway);
  Result<const StepSums *> finishPasses(Underway &underway);
  Status finishUpdate(Outputs &outputs);
  Status waitFor(Outputs &outputs);
  Status sumOverRanks();
  Status replay(const PassFiller &filler, const UpdateScalars *scalars);
  Result<NonFiniteReport> findNonFinite(const PassFiller &filler, const UpdateScalars *scalars);
  Result<NonFiniteValues> nonFiniteValuesOf(size_t index);

  std::unique_ptr<Executor> executor_;
  Agreement alone_;
  Agreement *agreement_;
  uint64_t bytesRead_ = 0;
  std::vector<int64_t> symbolValues_; // of the latest binding, in the plan's order
  PassBatch batch_;
  Underway steps_[kMaxUnderway];
  size_t firstStep_ = 0; // of those under way
  size_t numSteps_ = 0;
  Underway gradients_, evaluation_;
  StepResult result_;
  ExchangeTotals exchanged_; // up to the program that was waited for last
  std::vector<float> counts_;
  std::vector<float> stepCounts_; // on this rank, then over all; whole numbers up to 2^24 are exact
};

} // namespace switchyard

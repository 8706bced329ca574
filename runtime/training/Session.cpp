#include "runtime/training/Session.h"

#include "runtime/checkpoint/Weights.h"
#include "runtime/core/Ahead.h"
#include "runtime/core/Floats.h"
#include "runtime/plan/Layout.h"
#include "runtime/plan/SavedStates.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

namespace switchyard {

/// Elements of a state that pass through host memory at once when it is loaded.
static constexpr int64_t kStagingElements = int64_t{1} << 22;
/// A disk wants several reads at once, and checksums take time.
static constexpr int kReadingThreads = 4;

double StepSums::expertLoadMaxOverMean(int64_t numExperts) const {
  double worst = 0;
  for (size_t begin = 0; begin + numExperts <= expertCounts.size(); begin += numExperts) {
    auto layer = std::span(expertCounts).subspan(begin, numExperts);
    double sum = 0;
    for (double count : layer)
      sum += count;
    if (sum > 0)
      worst =
          std::max(worst, *std::ranges::max_element(layer) * static_cast<double>(numExperts) / sum);
  }
  return worst;
}

Session::Session(std::unique_ptr<Executor> executor, Agreement *agreement)
    : executor_(std::move(executor)), agreement_(agreement ? agreement : &alone_) {
  symbolValues_.resize(plan().symbols.size());
  batch_.reserve(passLimits());
  const Training &training = plan().training;
  counts_.resize(training.numLayers * training.numExperts);
  stepCounts_.resize(counts_.size());
  result_.sums.expertCounts.resize(counts_.size());
}

Result<std::unique_ptr<Session>> Session::create(Plan plan, const DeviceOptions &options,
                                                 Agreement *agreement) {
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Device> device, createDevice(plan.target, options));
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Executor> executor,
                      Executor::create(std::move(plan), std::move(device),
                                       agreement ? agreement->communicator() : nullptr));
  return std::unique_ptr<Session>(new Session(std::move(executor), agreement));
}

Status Session::loadParameters(const Checkpoint &checkpoint) {
  std::vector<HostState> sources;
  for (const State &state : plan().states)
    if (state.kind == StateKind::Parameter)
      sources.push_back({state.name, state.dtype, state.shape, state.source, nullptr});
  SY_RETURN_IF_ERROR(checkExtra(checkpoint, sources));

  std::vector<bool> isRead;
  for (const State &state : plan().states)
    isRead.push_back(state.kind == StateKind::Parameter || state.kind == StateKind::Master);
  return fillStates(isRead, [&](size_t index, int64_t begin, int64_t end, std::span<std::byte> out,
                                uint64_t &bytesRead) {
    const State &state = plan().states[index];
    return loadElements(checkpoint, {state.name, state.dtype, state.shape, state.source, nullptr},
                        begin, end, out, {.bytesRead = &bytesRead});
  });
}

/// This rank's parts of all states: those that are not read become zero, as does padding. Pieces
/// are read ahead of what is done with them.
Status Session::fillStates(const std::vector<bool> &isRead, const ReadElements &read) {
  struct Piece {
    size_t state = 0;
    int64_t begin = 0, end = 0; // elements of the rank's part; none: all of it becomes zero
    uint64_t bytesRead = 0;
  };
  std::vector<Piece> pieces;
  for (size_t index = 0; index < plan().states.size(); ++index) {
    const State &state = plan().states[index];
    if (!isRead[index])
      pieces.push_back({index});
    const auto count =
        static_cast<int64_t>(localBytesOf(state, plan().mesh)) / kernels::byteSize(state.dtype);
    for (int64_t begin = 0; isRead[index] && begin < count; begin += kStagingElements)
      pieces.push_back({index, begin, std::min(count, begin + kStagingElements)});
  }
  const auto make = [&](size_t number, std::vector<std::byte> &buffer) -> Status {
    Piece &piece = pieces[number];
    const State &state = plan().states[piece.state];
    const auto width = static_cast<size_t>(kernels::byteSize(state.dtype));
    const ElementRange held =
        localRange(state.shape, state.sharding, plan().mesh, agreement_->rank());
    const int64_t last = std::clamp(held.count(), piece.begin, piece.end);
    buffer.resize(static_cast<size_t>(piece.end - piece.begin) * width);
    const auto data = std::span(buffer).first(static_cast<size_t>(last - piece.begin) * width);
    std::ranges::fill(std::span(buffer).subspan(data.size()), std::byte{0});
    return data.empty() ? Status()
                        : read(piece.state, held.begin + piece.begin, held.begin + last, data,
                               piece.bytesRead);
  };
  const auto use = [&](size_t number, std::span<const std::byte> bytes) {
    const Piece &piece = pieces[number];
    if (!isRead[piece.state])
      return executor_->zeroState(piece.state);
    bytesRead_ += piece.bytesRead;
    const auto width = static_cast<uint64_t>(kernels::byteSize(plan().states[piece.state].dtype));
    return executor_->writeState(piece.state, static_cast<uint64_t>(piece.begin) * width, bytes);
  };
  return makeAhead(pieces.size(), kReadingThreads, make, use);
}

/// The state of `checkpoint` that `state` is made of: the one of its name; of parameters in float32
/// that the checkpoint has in less, their master; of masters that it has not, their parameter.
static int64_t savedStateFor(const TrainingCheckpoint &checkpoint, const Plan &plan,
                             const State &state) {
  const int64_t same = checkpoint.findState(state.name);
  if (same >= 0 && checkpoint.manifest().states[same].dtype == state.dtype)
    return same;
  if (state.kind == StateKind::Parameter && state.dtype == DType::F32) {
    const int64_t master = checkpoint.findState(state.name + ".master");
    return master >= 0 ? master : same;
  }
  return same >= 0 || state.of < 0 ? same : checkpoint.findState(plan.states[state.of].name);
}

Status Session::loadStates(const TrainingCheckpoint &checkpoint) {
  const std::vector<SavedState> &saved = checkpoint.manifest().states;
  std::vector<bool> isUsed(saved.size()), isRead(plan().states.size());
  std::vector<size_t> from(plan().states.size());
  for (size_t index = 0; index < plan().states.size(); ++index) {
    const State &state = plan().states[index];
    if (!isSaved(state))
      continue;
    const int64_t found = savedStateFor(checkpoint, plan(), state);
    if (found < 0 || saved[found].shape != state.shape)
      return Status::invalidInput(checkpoint.folder() + ": has no state " + state.name +
                                  " of this plan's shape");
    isUsed[found] = isRead[index] = true;
    from[index] = static_cast<size_t>(found);
  }
  const auto read = [&](size_t index, int64_t begin, int64_t end, std::span<std::byte> out,
                        uint64_t &bytesRead) -> Status {
    const DType to = plan().states[index].dtype, dtype = saved[from[index]].dtype;
    if (dtype == to)
      return checkpoint.read(from[index], begin, end, out, &bytesRead);
    std::vector<std::byte> stored((end - begin) * kernels::byteSize(dtype));
    SY_RETURN_IF_ERROR(checkpoint.read(from[index], begin, end, stored, &bytesRead));
    convertFloats(*floatFormat(dtype), stored, *floatFormat(to), out);
    return {};
  };
  SY_RETURN_IF_ERROR(fillStates(isRead, read));
  const int64_t ranks = agreement_->size(), rank = agreement_->rank();
  for (size_t i = 0; i < saved.size(); ++i)
    if (!isUsed[i])
      SY_RETURN_IF_ERROR(checkpoint.check(i, saved[i].count() * rank / ranks,
                                          saved[i].count() * (rank + 1) / ranks));
  return {};
}

PassLimits Session::passLimits() const {
  PassLimits limits;
  for (const Symbol &symbol : plan().symbols) {
    if (symbol.name == "T")
      limits.tokens = symbol.bound;
    else if (symbol.name == "S")
      limits.segments = symbol.bound;
    else if (symbol.name == "M")
      limits.microBatches = symbol.bound;
  }
  return limits;
}

LossNormalization Session::lossNormalization() const {
  return plan().training.lossNormalization == "global" ? LossNormalization::Global
                                                       : LossNormalization::MicroBatch;
}

Result<PassFiller> Session::createFiller(LossNormalization normalization) const {
  return PassFiller::create(passLimits(), normalization, plan().mesh.numRanks(),
                            isOverPasses() ? AuxLossScope::Pass : AuxLossScope::MicroBatch);
}

Result<std::shared_ptr<const Binding>> Session::bindAt(const char *program, int64_t bucket) {
  for (size_t i = 0; i < symbolValues_.size(); ++i)
    symbolValues_[i] = valueFor(plan().symbols[i], bucket);
  return executor_->bind(program, symbolValues_);
}

Status Session::setBatch(const Binding &binding, bool forLoss) {
  auto ints = [&](const char *port, const std::vector<int32_t> &values) {
    return executor_->setInput<int32_t>(binding, port, values);
  };
  SY_RETURN_IF_ERROR(ints("input_ids", batch_.inputIds));
  SY_RETURN_IF_ERROR(ints("position_ids", batch_.positionIds));
  SY_RETURN_IF_ERROR(ints("cu_seqlens", batch_.cuSeqlens));
  SY_RETURN_IF_ERROR(ints("micro_batch_ids", batch_.microBatchIds));
  if (!forLoss)
    return {};
  SY_RETURN_IF_ERROR(ints("labels", batch_.labels));
  SY_RETURN_IF_ERROR(executor_->setInput<float>(binding, "loss_weights", batch_.lossWeights));
  return executor_->setInput<float>(binding, "aux_weights", batch_.auxWeights);
}

/// Runs what is set, and starts to read back its outputs as those of pass `pass`.
Status Session::startPass(const Binding &binding, int64_t pass, Underway &underway) {
  SY_RETURN_IF_ERROR(executor_->start(binding));
  while (static_cast<int64_t>(underway.passes.size()) <= pass) {
    SY_ASSIGN_OR_RETURN(std::unique_ptr<Outputs> outputs,
                        executor_->createOutputs(binding.program().name));
    underway.passes.push_back(std::move(outputs));
  }
  return executor_->readBack(binding, *underway.passes[pass]);
}

Status Session::startPasses(const char *program, const PassFiller &filler, Underway &underway) {
  SY_ASSIGN_OR_RETURN(std::shared_ptr<const Binding> binding, bindAt(program, filler.bucket()));
  underway.numPasses = filler.numPasses();
  for (int64_t pass = 0; pass < underway.numPasses; ++pass) {
    filler.fill(agreement_->rank(), pass, batch_);
    SY_RETURN_IF_ERROR(setBatch(*binding, true));
    SY_RETURN_IF_ERROR(startPass(*binding, pass, underway));
  }
  return {};
}

/// Adds to the step's what was exchanged since the program that was waited for last.
Status Session::waitFor(Outputs &outputs) {
  SY_RETURN_IF_ERROR(outputs.wait());
  const ExchangeTotals before = std::exchange(exchanged_, outputs.exchanged());
  result_.exchanged += exchanged_ - before;
  return {};
}

Result<const StepSums *> Session::finishPasses(Underway &underway) {
  result_.sums.loss = result_.sums.auxLoss = 0;
  std::ranges::fill(stepCounts_, 0.0F);
  for (int64_t pass = 0; pass < underway.numPasses; ++pass) {
    Outputs &outputs = *underway.passes[pass];
    SY_RETURN_IF_ERROR(waitFor(outputs));
    SY_ASSIGN_OR_RETURN(float loss, outputs.getScalar<float>("loss"));
    SY_ASSIGN_OR_RETURN(float auxLoss, outputs.getScalar<float>("aux_loss"));
    SY_RETURN_IF_ERROR(outputs.get<float>("expert_counts", std::span<float>(counts_)));
    result_.sums.loss += loss;
    result_.sums.auxLoss += auxLoss;
    for (size_t i = 0; i < counts_.size(); ++i)
      stepCounts_[i] += counts_[i];
  }
  SY_RETURN_IF_ERROR(sumOverRanks());
  std::ranges::copy(stepCounts_, result_.sums.expertCounts.begin());
  return &result_.sums;
}

/// Losses are added as float64, as passes are. Of a loss over passes each rank has its share too.
Status Session::sumOverRanks() {
  auto isFinite = [](double loss, double auxLoss) {
    return std::isfinite(loss) && std::isfinite(auxLoss);
  };
  result_.sums.nonFiniteRanks.clear();
  if (agreement_->size() == 1) {
    if (!isFinite(result_.sums.loss, result_.sums.auxLoss))
      result_.sums.nonFiniteRanks.push_back(0);
    return {};
  }
  const int64_t mine[] = {std::bit_cast<int64_t>(result_.sums.loss),
                          std::bit_cast<int64_t>(result_.sums.auxLoss)};
  SY_ASSIGN_OR_RETURN(std::span<const int64_t> all, agreement_->gather(mine));
  result_.sums.loss = result_.sums.auxLoss = 0;
  for (size_t i = 0; i < all.size(); i += 2) {
    const auto loss = std::bit_cast<double>(all[i]), auxLoss = std::bit_cast<double>(all[i + 1]);
    result_.sums.loss += loss;
    result_.sums.auxLoss += auxLoss;
    if (!isFinite(loss, auxLoss))
      result_.sums.nonFiniteRanks.push_back(static_cast<int>(i / 2));
  }
  return agreement_->communicator()->world().allReduce(
      {"between programs"}, Reduction::Sum,
      Transfer{DType::F32, stepCounts_.data(), stepCounts_.data(),
               static_cast<int64_t>(stepCounts_.size())});
}

Result<const StepSums *> Session::accumulate(const PassFiller &filler) {
  if (isFused())
    return Status::invalidInput("the plan's step is the program train_step, which keeps no "
                                "gradients; compile it with --step-program split to read them");
  SY_RETURN_IF_ERROR(executor_->zeroGradients());
  SY_RETURN_IF_ERROR(startPasses("micro_step", filler, gradients_));
  return finishPasses(gradients_);
}

Result<const StepSums *> Session::evaluate(const PassFiller &filler) {
  SY_RETURN_IF_ERROR(startPasses("evaluate", filler, evaluation_));
  return finishPasses(evaluation_);
}

Status Session::setScalars(const Binding &binding, const UpdateScalars &scalars) {
  const std::pair<const char *, double> inputs[] = {{"learning_rate", scalars.learningRate},
                                                    {"beta1", scalars.beta1},
                                                    {"beta2", scalars.beta2},
                                                    {"epsilon", scalars.epsilon},
                                                    {"weight_decay", scalars.weightDecay},
                                                    {"max_grad_norm", scalars.maxGradNorm},
                                                    {"step", static_cast<double>(scalars.step)}};
  for (const auto &[port, value] : inputs)
    SY_RETURN_IF_ERROR(executor_->setScalar<float>(binding, port, static_cast<float>(value)));
  return {};
}

Status Session::startUpdate(const UpdateScalars &scalars, Underway &underway) {
  SY_ASSIGN_OR_RETURN(std::shared_ptr<const Binding> binding, bindAt("optimizer_step", 0));
  SY_RETURN_IF_ERROR(setScalars(*binding, scalars));
  SY_RETURN_IF_ERROR(executor_->start(*binding));
  if (!underway.update) {
    SY_ASSIGN_OR_RETURN(underway.update, executor_->createOutputs("optimizer_step"));
  }
  return executor_->readBack(*binding, *underway.update);
}

Status Session::finishUpdate(Outputs &outputs) {
  SY_RETURN_IF_ERROR(waitFor(outputs));
  SY_ASSIGN_OR_RETURN(float gradNorm, outputs.getScalar<float>("grad_norm"));
  SY_ASSIGN_OR_RETURN(int32_t applied, outputs.getScalar<int32_t>("apply"));
  result_.update = {gradNorm, applied != 0};
  return {};
}

Result<UpdateResult> Session::update(const UpdateScalars &scalars) {
  SY_RETURN_IF_ERROR(startUpdate(scalars, gradients_));
  SY_RETURN_IF_ERROR(finishUpdate(*gradients_.update));
  return result_.update;
}

Status Session::startFused(const PassFiller &filler, const UpdateScalars &scalars,
                           Underway &underway) {
  if (filler.numPasses() != 1)
    return Status::failed("the step has " + std::to_string(filler.numPasses()) +
                          " passes, but the plan's train_step is for one; compile it with "
                          "--step-program split, or for more tokens (--coalesce)");
  SY_ASSIGN_OR_RETURN(std::shared_ptr<const Binding> binding,
                      bindAt("train_step", filler.bucket()));
  filler.fill(agreement_->rank(), 0, batch_);
  SY_RETURN_IF_ERROR(setBatch(*binding, true));
  SY_RETURN_IF_ERROR(setScalars(*binding, scalars));
  underway.numPasses = 1;
  return startPass(*binding, 0, underway);
}

Status Session::startStep(const PassFiller &filler, const UpdateScalars &scalars) {
  if (numSteps_ == kMaxUnderway)
    return Status::failed(std::to_string(kMaxUnderway) +
                          " steps are under way already; finish one first");
  if (numSteps_ == 0)
    firstStep_ = 0;
  Underway &underway = steps_[(firstStep_ + numSteps_) % kMaxUnderway];
  if (isFused()) {
    SY_RETURN_IF_ERROR(startFused(filler, scalars, underway));
  } else {
    SY_RETURN_IF_ERROR(executor_->zeroGradients());
    SY_RETURN_IF_ERROR(startPasses("micro_step", filler, underway));
    SY_RETURN_IF_ERROR(startUpdate(scalars, underway));
  }
  ++numSteps_;
  return {};
}

Result<const StepResult *> Session::finishStep() {
  if (numSteps_ == 0)
    return Status::failed("no step is under way; start one first");
  Underway &underway = steps_[firstStep_];
  firstStep_ = (firstStep_ + 1) % kMaxUnderway;
  --numSteps_;
  result_.exchanged = {};
  SY_RETURN_IF_ERROR(finishPasses(underway).status());
  SY_RETURN_IF_ERROR(finishUpdate(isFused() ? *underway.passes[0] : *underway.update));
  return &result_;
}

Result<const StepResult *> Session::step(const PassFiller &filler, const UpdateScalars &scalars) {
  SY_RETURN_IF_ERROR(startStep(filler, scalars));
  return finishStep();
}

Status Session::logits(const PassFiller &filler, int64_t pass, int64_t begin, int64_t rows,
                       std::span<float> out) {
  if (plan().training.precision != "f32")
    return Status::invalidInput("the plan's logits are " + plan().training.precision +
                                "; compile it with --precision f32 to compare them");
  SY_ASSIGN_OR_RETURN(std::shared_ptr<const Binding> binding, bindAt("logits", filler.bucket()));
  filler.fill(agreement_->rank(), pass, batch_);
  SY_RETURN_IF_ERROR(setBatch(*binding, false));
  std::vector<int32_t> rowIds(kLogitRows, static_cast<int32_t>(begin));
  for (int64_t i = 0; i < rows; ++i)
    rowIds[i] = static_cast<int32_t>(begin + i);
  SY_RETURN_IF_ERROR(executor_->setInput<int32_t>(*binding, "rows", rowIds));
  SY_RETURN_IF_ERROR(executor_->run(*binding));
  std::vector<float> all(kLogitRows * plan().training.vocabSize);
  SY_RETURN_IF_ERROR(executor_->getOutput<float>(*binding, "logits", std::span<float>(all)));
  if (isLeader())
    std::copy_n(all.begin(), rows * plan().training.vocabSize, out.begin());
  return {};
}

} // namespace switchyard

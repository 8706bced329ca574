#include "runtime/plan/Verify.h"

#include "runtime/plan/Layout.h"
#include "runtime/plan/VerifyProgram.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <utility>

namespace switchyard {
namespace {

/// As dialects/dist has it.
constexpr int64_t kMaxPlanRanks = 65536;

bool isOneOf(std::string_view text, std::initializer_list<std::string_view> choices) {
  return std::find(choices.begin(), choices.end(), text) != choices.end();
}

Status verifyTarget(const Plan &plan) {
  if (plan.compilerVersion.empty() || plan.modelFingerprint.empty())
    return Status::invalidInput("the plan does not say which compiler made it from which model");
  if (plan.target.threads < 1 || plan.target.threads > 4096)
    return Status::invalidInput("target has " + std::to_string(plan.target.threads) +
                                " threads; expected 1 to 4096");
  for (int32_t size : plan.mesh.sizes)
    if (size < 1 || size > kMaxPlanRanks)
      return Status::invalidInput("the mesh has an axis of size " + std::to_string(size) +
                                  "; expected 1 to " + std::to_string(kMaxPlanRanks));
  if (plan.mesh.numRanks() > kMaxPlanRanks)
    return Status::invalidInput("the mesh " + text(plan.mesh) + " has " +
                                std::to_string(plan.mesh.numRanks()) + " ranks; expected at most " +
                                std::to_string(kMaxPlanRanks));
  return {};
}

Status verifySymbols(const Plan &plan) {
  std::set<std::string_view> names;
  for (const Symbol &symbol : plan.symbols) {
    if (!isOneOf(symbol.name, {"T", "S", "M", "R"}))
      return Status::invalidInput("symbol '" + symbol.name + "' is unknown; expected T, S, M or R");
    if (!names.insert(symbol.name).second)
      return Status::invalidInput("symbol '" + symbol.name + "' is listed twice");
    if (symbol.bound < 1 || symbol.bound > static_cast<int64_t>(kernels::kMaxExtent))
      return Status::invalidInput("symbol '" + symbol.name + "' has bound " +
                                  std::to_string(symbol.bound) + "; expected 1 to 2^40");
    bool isReceived = symbol.name == "R";
    if (isReceived && symbol.bound > std::numeric_limits<int32_t>::max())
      return Status::invalidInput("symbol 'R' has bound " + std::to_string(symbol.bound) +
                                  "; expected less than 2^31, as rows are counted in i32");
    if (isReceived ? !(symbol.rowsPerToken > 0 && symbol.rowsPerToken <= kernels::kMaxExtent)
                   : symbol.rowsPerToken != 0)
      return Status::invalidInput(
          "symbol '" + symbol.name + "' has " + std::to_string(symbol.rowsPerToken) +
          " rows per token; expected " + (isReceived ? "more than 0" : "none, which only R has"));
  }
  if (names.contains("R") && !names.contains("T"))
    return Status::invalidInput("symbol 'R' follows T, which the plan lacks");
  return {};
}

Status verifyTraining(const Training &training) {
  struct Number {
    std::string_view name;
    int64_t value;
    int64_t least;
  };
  const Number numbers[] = {
      {"vocab_size", training.vocabSize, 1},
      {"num_layers", training.numLayers, 1},
      {"num_experts", training.numExperts, 1},
      {"top_k", training.topK, 1},
      {"active_parameters", training.activeParameters, 0},
      {"per_device_train_batch_size", training.perDeviceTrainBatchSize, 1},
      {"gradient_accumulation_steps", training.gradientAccumulationSteps, 1},
      {"max_seq_length", training.maxSeqLength, 1},
  };
  for (const Number &number : numbers)
    if (number.value < number.least || number.value > static_cast<int64_t>(kernels::kMaxExtent))
      return Status::invalidInput("training setting " + std::string(number.name) + " is " +
                                  std::to_string(number.value) + "; expected " +
                                  std::to_string(number.least) + " to 2^40");
  if (!std::isfinite(training.auxLossCoef) || training.auxLossCoef < 0)
    return Status::invalidInput("training setting aux_loss_coef is " +
                                std::to_string(training.auxLossCoef) +
                                "; expected a number of 0 or more");
  if (!isOneOf(training.precision, {"f32", "bf16", "bf16_f32_state"}))
    return Status::invalidInput("training setting precision is '" + training.precision +
                                "'; expected f32, bf16 or bf16_f32_state");
  if (!isOneOf(training.lossNormalization, {"micro_batch", "global"}))
    return Status::invalidInput("training setting loss_normalization is '" +
                                training.lossNormalization + "'; expected micro_batch or global");
  if (!isOneOf(training.weightDecayScope, {"hf", "all"}))
    return Status::invalidInput("training setting weight_decay_scope is '" +
                                training.weightDecayScope + "'; expected hf or all");
  if (!isOneOf(training.auxLossScope, {"micro_batch", "pass"}))
    return Status::invalidInput("training setting aux_loss_scope is '" + training.auxLossScope +
                                "'; expected micro_batch or pass");
  return {};
}

/// `source` with sizes where its joins leave them to the model's files: any that add up to `shape`,
/// so that the rest of the tree can be checked. What does not add up is left as it is.
Source withSizes(const Source &source, std::span<const int64_t> shape) {
  Source result = source;
  if (source.kind == Source::Kind::Concat && source.sizes.empty() && !shape.empty()) {
    int64_t left = shape[0];
    for (const Source &child : source.children) {
      bool isStack = child.kind == Source::Kind::Stack;
      result.sizes.push_back(isStack ? child.end - child.begin : 1);
      left -= std::clamp<int64_t>(result.sizes.back(), 0, shape[0]);
    }
    for (size_t i = source.children.size(); i-- > 0 && left > 0;)
      if (source.children[i].kind != Source::Kind::Stack)
        result.sizes[i] += std::exchange(left, 0);
  }
  std::vector<int64_t> inner(shape.begin(), shape.end());
  if (source.kind == Source::Kind::Stack && !inner.empty())
    inner.erase(inner.begin());
  for (size_t i = 0; i < result.children.size(); ++i) {
    if (i < result.sizes.size() && !inner.empty())
      inner[0] = result.sizes[i];
    result.children[i] = withSizes(source.children[i], inner);
  }
  return result;
}

bool isEmpty(const Source &source) {
  return source.kind == Source::Kind::Leaf && source.name.empty();
}

class StateVerifier {
public:
  explicit StateVerifier(const Plan &plan) : plan_(plan) {}

  Status verify(uint64_t &end) {
    for (const State &state : plan_.states)
      SY_RETURN_IF_ERROR(verifyState(state).within("state '" + state.name + "'"));
    SY_RETURN_IF_ERROR(verifyDisjoint());
    for (const State &state : plan_.states)
      end = std::max(end, alignUp(endOf(state)));
    return {};
  }

private:
  uint64_t endOf(const State &state) const { return state.offset + capacityOf(state, plan_.mesh); }

  Status verifyState(const State &state) {
    if (state.name.empty() || !names_.insert(state.name).second)
      return Status::invalidInput("its name is empty or used twice");
    SY_RETURN_IF_ERROR(verifyType(state));
    SY_RETURN_IF_ERROR(verifySharding(state));
    uint64_t arenaBytes = plan_.arenaBytes[static_cast<size_t>(Arena::State)];
    if (state.offset % kBufferAlignment != 0)
      return Status::invalidInput("is at offset " + std::to_string(state.offset) +
                                  "; expected a multiple of " + std::to_string(kBufferAlignment));
    if (state.offset > arenaBytes || endOf(state) > arenaBytes)
      return Status::invalidInput(typeText(state.dtype, localShapeOf(state)) + " at offset " +
                                  std::to_string(state.offset) + " leaves the state arena of " +
                                  std::to_string(arenaBytes) + " bytes");
    if (state.layer < -1 || state.layer >= plan_.training.numLayers)
      return Status::invalidInput("belongs to layer " + std::to_string(state.layer) +
                                  "; the model has " + std::to_string(plan_.training.numLayers));
    SY_RETURN_IF_ERROR(verifyParameter(state));
    return verifySource(state);
  }

  Status verifyType(const State &state) const {
    std::string type = typeText(state.dtype, state.shape);
    if (state.shape.size() > kernels::kMaxRank)
      return Status::invalidInput("is " + type + "; expected a rank of at most " +
                                  std::to_string(kernels::kMaxRank));
    auto tooLarge = [](int64_t extent) {
      return extent > static_cast<int64_t>(kernels::kMaxExtent);
    };
    if (!checkedBytes(state.dtype, state.shape) ||
        std::any_of(state.shape.begin(), state.shape.end(), tooLarge))
      return Status::invalidInput("is " + type +
                                  "; expected extents from 1 to 2^40 and at most 2^50 bytes");
    if (state.dtype == DType::I32 || (state.kind == StateKind::Master && state.dtype != DType::F32))
      return Status::invalidInput("is " + type + "; expected f32" +
                                  (state.kind == StateKind::Master ? "" : " or bf16"));
    return {};
  }

  std::vector<int64_t> localShapeOf(const State &state) const {
    return localShape(state.shape, state.sharding, plan_.mesh);
  }

  /// How the state is divided, and the room that a rank's part has.
  Status verifySharding(const State &state) const {
    const Sharding &sharding = state.sharding;
    std::string type = typeText(state.dtype, state.shape);
    if ((sharding.dim0.bits() | sharding.flat.bits()) >> kNumAxes != 0)
      return Status::invalidInput("is divided over unknown axes");
    if (sharding.dim0.intersects(sharding.flat))
      return Status::invalidInput("is divided over " + text(sharding.dim0) + " and flat over " +
                                  text(sharding.flat) + "; expected no axis in both");
    int64_t parts = plan_.mesh.groupSize(sharding.dim0);
    if (!sharding.dim0.empty() && (state.shape.empty() || state.shape[0] % parts != 0))
      return Status::invalidInput("is " + type + "; expected an extent that " +
                                  std::to_string(parts) + " ranks of " + text(sharding.dim0) +
                                  " can divide");
    auto elements = static_cast<int64_t>(bytesOf(state)) / kernels::byteSize(state.dtype);
    if (!sharding.empty() && elements > static_cast<int64_t>(kernels::kMaxExtent))
      return Status::invalidInput("is " + type + "; expected at most 2^40 elements to divide");
    if (state.reserve == 0)
      return {};
    auto local =
        static_cast<int64_t>(localBytesOf(state, plan_.mesh)) / kernels::byteSize(state.dtype);
    if (state.reserve <= local || state.reserve > kernels::kMaxElements)
      return Status::invalidInput("reserves room for " + std::to_string(state.reserve) +
                                  " elements; expected more than its " + std::to_string(local) +
                                  " and at most 2^48");
    return {};
  }

  /// What belongs to a parameter is divided as it is, to be updated side by side. Gradients that
  /// are summed over ranks only in optimizer_step are whole until then.
  Status verifySameSharding(const State &state, const State &parameter) const {
    const Sharding whole{parameter.sharding.dim0, {}};
    bool mayBeWhole = state.kind == StateKind::Gradient && !plan_.training.syncEachBatch;
    if (state.sharding == parameter.sharding || (mayBeWhole && state.sharding == whole))
      return {};
    auto textOf = [](const Sharding &sharding) {
      return "dim 0 over " + text(sharding.dim0) + ", flat over " + text(sharding.flat);
    };
    return Status::invalidInput("is divided by " + textOf(state.sharding) + "; expected " +
                                textOf(parameter.sharding) + " as its parameter '" +
                                parameter.name + "' is");
  }

  /// The parameter that a state belongs to: there, of its shape, and with at most one gradient, one
  /// master, two moments.
  Status verifyParameter(const State &state) {
    if (state.kind == StateKind::Parameter)
      return state.of == -1
                 ? Status()
                 : Status::invalidInput("is a parameter of state " + std::to_string(state.of));
    if (state.of < 0 || static_cast<size_t>(state.of) >= plan_.states.size() ||
        plan_.states[state.of].kind != StateKind::Parameter)
      return Status::invalidInput("is the " + std::string(name(state.kind)) + " of state " +
                                  std::to_string(state.of) + ", which is no parameter");
    const State &parameter = plan_.states[state.of];
    if (state.shape != parameter.shape)
      return Status::invalidInput("is " + typeText(state.dtype, state.shape) +
                                  "; expected the shape of its parameter '" + parameter.name +
                                  "', " + typeText(parameter.dtype, parameter.shape));
    SY_RETURN_IF_ERROR(verifySameSharding(state, parameter));
    if (state.decay || !state.moduleName.empty())
      return Status::invalidInput(
          "has weight decay or a module's name, which only parameters have");
    int count = static_cast<int>(++companions_[{state.of, state.kind}]);
    int most = state.kind == StateKind::Moment ? 2 : 1;
    if (count > most)
      return Status::invalidInput("is one " + std::string(name(state.kind)) +
                                  " too many of parameter '" + parameter.name +
                                  "'; expected at most " + std::to_string(most));
    return {};
  }

  Status verifySource(const State &state) const {
    bool hasSource = state.kind == StateKind::Parameter || state.kind == StateKind::Master;
    if (isEmpty(state.source))
      return state.kind == StateKind::Parameter
                 ? Status::invalidInput("has no source; expected the tensors it is made of")
                 : Status();
    if (!hasSource)
      return Status::invalidInput("has a source, which only parameters and masters have");
    auto slices = resolve(withSizes(state.source, state.shape), state.shape);
    return slices.ok() ? Status() : slices.status();
  }

  Status verifyDisjoint() const {
    std::vector<const State *> byOffset;
    for (const State &state : plan_.states)
      byOffset.push_back(&state);
    std::sort(byOffset.begin(), byOffset.end(),
              [](const State *a, const State *b) { return a->offset < b->offset; });
    for (size_t i = 1; i < byOffset.size(); ++i) {
      const State &before = *byOffset[i - 1], &after = *byOffset[i];
      if (endOf(before) > after.offset)
        return Status::invalidInput("state '" + after.name + "' at offset " +
                                    std::to_string(after.offset) + " overlaps state '" +
                                    before.name + "', which ends at " +
                                    std::to_string(endOf(before)));
    }
    return {};
  }

  const Plan &plan_;
  std::set<std::string_view> names_;
  std::map<std::pair<int32_t, StateKind>, int> companions_;
};

const Program *findProgram(const Plan &plan, std::string_view name) {
  auto found = std::find_if(plan.programs.begin(), plan.programs.end(),
                            [&](const Program &program) { return program.name == name; });
  return found == plan.programs.end() ? nullptr : &*found;
}

int64_t boundOf(const Plan &plan, std::string_view name) {
  auto found = std::find_if(plan.symbols.begin(), plan.symbols.end(),
                            [&](const Symbol &symbol) { return symbol.name == name; });
  return found == plan.symbols.end() ? 0 : found->bound;
}

/// A step is one program over one pass, which then holds all of its micro-batches, or two.
Status verifyStep(const Plan &plan) {
  if (!findProgram(plan, "train_step"))
    return {};
  for (std::string_view other : {"micro_step", "optimizer_step"})
    if (findProgram(plan, other))
      return Status::invalidInput("has the program train_step, a whole step, and beside it " +
                                  std::string(other) + "; expected one or the other");
  const Training &training = plan.training; // its numbers are at most 2^40
  const int64_t microBatches = training.gradientAccumulationSteps;
  const double tokens = static_cast<double>(training.perDeviceTrainBatchSize) *
                        static_cast<double>(training.maxSeqLength) *
                        static_cast<double>(microBatches);
  if (static_cast<double>(boundOf(plan, "T")) < tokens || boundOf(plan, "M") < microBatches)
    return Status::invalidInput(
        "has the program train_step, but a pass of T = " + std::to_string(boundOf(plan, "T")) +
        " tokens and M = " + std::to_string(boundOf(plan, "M")) +
        " micro-batches does not hold the step's " + std::to_string(microBatches) + " x " +
        std::to_string(training.perDeviceTrainBatchSize) + " rows of " +
        std::to_string(training.maxSeqLength) + " tokens");
  return {};
}

Status verifyPeak(const Plan &plan) {
  uint64_t sum = 0;
  for (int i = 0; i < kNumArenas; ++i) {
    if (plan.arenaBytes[i] > kMaxBytes)
      return Status::invalidInput("arena " + std::string(name(Arena(i))) + " has " +
                                  std::to_string(plan.arenaBytes[i]) +
                                  " bytes; expected at most 2^50");
    sum += plan.arenaBytes[i];
  }
  if (sum != plan.peakBytes)
    return Status::invalidInput("the peak is " + std::to_string(plan.peakBytes) +
                                " bytes; expected " + std::to_string(sum) +
                                ", the sum of the arenas");
  return {};
}

Status verifyArenas(const Plan &plan, const ArenaEnds &ends) {
  for (int i = 0; i < kNumArenas; ++i)
    if (plan.arenaBytes[i] != ends[i])
      return Status::invalidInput("arena " + std::string(name(Arena(i))) + " has " +
                                  std::to_string(plan.arenaBytes[i]) + " bytes; expected " +
                                  std::to_string(ends[i]) + ", where what lies in it ends");
  return {};
}

Status verifyAll(const Plan &plan) {
  SY_RETURN_IF_ERROR(verifyTarget(plan));
  SY_RETURN_IF_ERROR(verifySymbols(plan));
  SY_RETURN_IF_ERROR(verifyTraining(plan.training));
  SY_RETURN_IF_ERROR(verifyPeak(plan));
  SY_RETURN_IF_ERROR(verifyStep(plan));
  ArenaEnds ends = {};
  SY_RETURN_IF_ERROR(StateVerifier(plan).verify(ends[static_cast<size_t>(Arena::State)]));
  std::set<std::string_view> names;
  for (const Program &program : plan.programs) {
    if (!names.insert(program.name).second)
      return Status::invalidInput("program " + program.name + " is listed twice");
    SY_RETURN_IF_ERROR(verifyProgram(plan, program, ends));
  }
  if (plan.programs.empty())
    return Status::invalidInput("the plan has no programs");
  return verifyArenas(plan, ends);
}

} // namespace

Status verify(const Plan &plan) {
  return verifyAll(plan).within("plan");
}

} // namespace switchyard

#include "runtime/plan/Layout.h"
#include "runtime/plan/VerifyProgram.h"

#include <algorithm>
#include <array>
#include <set>

namespace switchyard {
namespace {

/// What a port's shape must be. Tokens: [T]. Vector: one extent of any size.
enum class PortShape { Scalar, Vector, Tokens, ExpertCounts, Rows, Logits };

struct PortSpec {
  std::string_view name;
  PortShape shape = PortShape::Scalar;
  DType dtype = DType::F32;
  bool optional = false;
};

constexpr PortSpec kPassInputs[] = {
    {"input_ids", PortShape::Tokens, DType::I32},
    {"position_ids", PortShape::Tokens, DType::I32},
    {"cu_seqlens", PortShape::Vector, DType::I32},
    {"labels", PortShape::Tokens, DType::I32},
    {"loss_weights", PortShape::Tokens, DType::F32},
    {"micro_batch_ids", PortShape::Tokens, DType::I32},
    {"aux_weights", PortShape::Vector, DType::F32},
};
constexpr PortSpec kPassOutputs[] = {
    {"loss"},
    {"aux_loss"},
    {"expert_counts", PortShape::ExpertCounts},
};
constexpr PortSpec kLogitsInputs[] = {
    {"input_ids", PortShape::Tokens, DType::I32},
    {"position_ids", PortShape::Tokens, DType::I32},
    {"cu_seqlens", PortShape::Vector, DType::I32},
    {"micro_batch_ids", PortShape::Tokens, DType::I32},
    {"aux_weights", PortShape::Vector, DType::F32, /*optional=*/true},
    {"rows", PortShape::Rows, DType::I32},
};
constexpr PortSpec kLogitsOutputs[] = {{"logits", PortShape::Logits}};
constexpr PortSpec kOptimizerInputs[] = {
    {"learning_rate"}, {"beta1"},         {"beta2"}, {"epsilon"},
    {"weight_decay"},  {"max_grad_norm"}, {"step"},
};
constexpr PortSpec kOptimizerOutputs[] = {{"grad_norm"}, {"apply", PortShape::Scalar, DType::I32}};

template <size_t N, size_t M>
constexpr std::array<PortSpec, N + M> join(const PortSpec (&first)[N],
                                           const PortSpec (&second)[M]) {
  std::array<PortSpec, N + M> all;
  std::copy(std::begin(first), std::end(first), all.begin());
  std::copy(std::begin(second), std::end(second), all.begin() + N);
  return all;
}
constexpr auto kTrainInputs = join(kPassInputs, kOptimizerInputs);
constexpr auto kTrainOutputs = join(kPassOutputs, kOptimizerOutputs);

struct ProgramSpec {
  std::string_view name;
  std::span<const PortSpec> inputs;
  std::span<const PortSpec> outputs;
};
constexpr ProgramSpec kPrograms[] = {
    {"micro_step", kPassInputs, kPassOutputs},
    {"optimizer_step", kOptimizerInputs, kOptimizerOutputs},
    {"train_step", kTrainInputs, kTrainOutputs},
    {"evaluate", kPassInputs, kPassOutputs},
    {"logits", kLogitsInputs, kLogitsOutputs},
};

class PortVerifier {
public:
  PortVerifier(const Plan &plan, const Program &program) : plan_(plan), program_(program) {}

  Status check(const std::vector<Port> &ports, std::span<const PortSpec> specs,
               const std::string &what) const {
    for (const PortSpec &spec : specs)
      if (!spec.optional && !find(ports, spec.name))
        return Status::invalidInput("has no " + what + " '" + std::string(spec.name) +
                                    "'; expected " + list(specs));
    for (const Port &port : ports) {
      auto spec = std::find_if(specs.begin(), specs.end(),
                               [&](const PortSpec &s) { return s.name == port.name; });
      if (spec == specs.end())
        return Status::invalidInput("has an unknown " + what + " '" + port.name + "'; expected " +
                                    list(specs));
      SY_RETURN_IF_ERROR(checkType(port, *spec, what));
    }
    return {};
  }

private:
  static const Port *find(const std::vector<Port> &ports, std::string_view name) {
    auto found = std::find_if(ports.begin(), ports.end(),
                              [&](const Port &port) { return port.name == name; });
    return found == ports.end() ? nullptr : &*found;
  }

  static std::string list(std::span<const PortSpec> specs) {
    std::string text;
    for (const PortSpec &spec : specs)
      text += (text.empty() ? "" : ", ") + std::string(spec.name);
    return text;
  }

  Status checkType(const Port &port, const PortSpec &spec, const std::string &what) const {
    const Buffer &buffer = program_.buffers[port.buffer];
    std::string found = typeText(plan_, buffer.dtype, buffer.shape);
    std::vector<Extent> expected;
    bool anyFloat = false;
    switch (spec.shape) {
    case PortShape::Scalar:
      break;
    case PortShape::Tokens:
      expected = {{1, symbol("T"), 0}};
      break;
    case PortShape::Vector:
      if (buffer.dtype != spec.dtype || buffer.shape.size() != 1)
        return Status::invalidInput(what + " '" + port.name + "' is " + found + "; expected " +
                                    std::string(kernels::name(spec.dtype)) + " of rank 1");
      return {};
    case PortShape::ExpertCounts:
      expected = {fixed(plan_.training.numLayers), fixed(plan_.training.numExperts)};
      break;
    case PortShape::Rows:
      if (buffer.dtype != spec.dtype || buffer.shape.size() != 1 || buffer.shape[0].symbol >= 0)
        return Status::invalidInput(what + " '" + port.name + "' is " + found +
                                    "; expected i32 of rank 1 and a fixed extent");
      return {};
    case PortShape::Logits:
      expected = {program_.buffers[find(program_.inputs, "rows")->buffer].shape[0],
                  fixed(plan_.training.vocabSize)};
      anyFloat = buffer.dtype == DType::BF16;
      break;
    }
    if ((buffer.dtype != spec.dtype && !anyFloat) || buffer.shape != expected)
      return Status::invalidInput(what + " '" + port.name + "' is " + found + "; expected " +
                                  typeText(plan_, spec.dtype, expected));
    return {};
  }

  static Extent fixed(int64_t value) { return {0, -1, value}; }

  /// The index of the symbol called `name`. Where the plan lacks it, one that no buffer has.
  int32_t symbol(std::string_view name) const {
    auto found = std::find_if(plan_.symbols.begin(), plan_.symbols.end(),
                              [&](const Symbol &s) { return s.name == name; });
    return static_cast<int32_t>(found - plan_.symbols.begin());
  }

  const Plan &plan_;
  const Program &program_;
};

} // namespace

Status verifyPorts(const Plan &plan, const Program &program) {
  auto spec =
      std::find_if(std::begin(kPrograms), std::end(kPrograms),
                   [&](const ProgramSpec &candidate) { return candidate.name == program.name; });
  if (spec == std::end(kPrograms))
    return Status::invalidInput(
        "is no known program; expected micro_step, optimizer_step, train_step, evaluate or logits");
  PortVerifier verifier(plan, program);
  SY_RETURN_IF_ERROR(verifier.check(program.inputs, spec->inputs, "input"));
  return verifier.check(program.outputs, spec->outputs, "output");
}

} // namespace switchyard

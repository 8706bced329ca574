#include "runtime/plan/InstructionText.h"

#include "runtime/plan/Layout.h"

#include <fmt/format.h>

namespace switchyard {
namespace {

std::string valueText(const kernels::AttributeSpec &spec, const kernels::AttributeValue &value) {
  using Kind = kernels::AttributeSpec::Kind;
  if (spec.kind == Kind::Choice)
    return std::string(spec.choices[static_cast<size_t>(value.integer)]);
  return spec.kind == Kind::Float ? fmt::format("{}", value.real)
                                  : fmt::format("{}", value.integer);
}

std::string detail(const LaunchInstruction &launch) {
  const kernels::Signature &signature = *kernels::findSignature(launch.kernel);
  std::string text;
  for (size_t i = 0; i < launch.attributes.size(); ++i)
    text += fmt::format(", {} = {}", signature.attributes[i].name,
                        valueText(signature.attributes[i], launch.attributes[i]));
  return text;
}

std::string detail(const CollectiveInstruction &collective) {
  return fmt::format(", over {}{}{}", text(collective.axes), collective.isMax ? ", maximum" : "",
                     collective.adds ? ", adds" : "");
}

std::string detail(const RepeatInstruction &repeat) {
  return fmt::format(", over {}, the next {} instructions", text(repeat.axes), repeat.length);
}

std::string detail(const CopyInstruction &) {
  return "";
}

std::string detail(const RecordInstruction &record) {
  return fmt::format(", event {}", record.event);
}

std::string detail(const WaitInstruction &wait) {
  return fmt::format(", event {}", wait.event);
}

} // namespace

std::string bufferText(const Plan &plan, const Program &program, uint32_t buffer) {
  const Buffer &memory = program.buffers[buffer];
  std::string type = " " + typeText(plan, memory.dtype, memory.shape);
  if (memory.state >= 0)
    return plan.states[static_cast<size_t>(memory.state)].name + type;
  for (const std::vector<Port> *ports : {&program.inputs, &program.outputs})
    for (const Port &port : *ports)
      if (port.buffer == buffer)
        return port.name + type;
  return "%" + std::to_string(buffer) + type;
}

std::string describe(const Plan &plan, const Program &program, const Instruction &instruction) {
  std::string operands;
  for (const Access &access : accessesOf(instruction))
    operands += (operands.empty() ? "" : ", ") + access.operand + " = " +
                bufferText(plan, program, access.buffer);
  std::string result = std::string(nameOf(instruction));
  if (!operands.empty())
    result += "(" + operands + ")";
  result += std::visit([](const auto &alternative) { return detail(alternative); }, instruction);
  if (streamOf(instruction) != 0)
    result += fmt::format(", stream {}", streamOf(instruction));
  return result;
}

} // namespace switchyard

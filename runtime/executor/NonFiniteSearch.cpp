#include "runtime/executor/NonFiniteSearch.h"

#include "runtime/plan/InstructionText.h"
#include "runtime/plan/Layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace switchyard {

namespace {

/// Bytes that are on the host at once.
constexpr uint64_t kPieceBytes = uint64_t{4} << 20;

bool isRead(const Access &access) {
  return access.role != kernels::Role::Out;
}

bool isWritten(const Access &access) {
  return access.role != kernels::Role::In && !access.isWorkspace;
}

std::vector<int64_t> shapeOf(const Buffer &buffer, std::span<const int64_t> values) {
  std::vector<int64_t> shape;
  for (const Extent &extent : buffer.shape)
    shape.push_back(valueOf(extent, values));
  return shape;
}

} // namespace

std::string describe(const NonFiniteValues &found, std::span<const int64_t> shape) {
  const std::string value = std::isnan(found.value) ? "nan" : found.value > 0 ? "inf" : "-inf";
  if (shape.empty())
    return value;
  int64_t total = 1;
  for (int64_t extent : shape)
    total *= extent;
  std::string place;
  int64_t rest = found.first;
  for (size_t i = shape.size(); i-- > 0; rest /= shape[i])
    place = fmt::format("{}{}{}", rest % shape[i], place.empty() ? "" : ", ", place);
  return fmt::format("{} of {} values not finite, the first [{}] = {}", found.count, total, place,
                     value);
}

NonFiniteSearch::NonFiniteSearch(Executor &executor) : executor_(executor) {
  executor_.setWatch(this);
}

NonFiniteSearch::~NonFiniteSearch() {
  executor_.setWatch(nullptr);
}

/// Keeps place_ at the instruction.
void NonFiniteSearch::follow(const Program &program, size_t instruction) {
  const auto index = static_cast<int64_t>(instruction);
  if (index == 0) {
    ++place_.run;
    place_.instruction = place_.round = 0;
    gathered_.assign(program.buffers.size(), -1);
    parameter_ = -1;
  }
  const auto *repeat = std::get_if<RepeatInstruction>(
      &program.instructions[static_cast<size_t>(place_.instruction)]);
  if (repeat && index > place_.instruction && index <= place_.instruction + repeat->length) {
    place_.round += index == place_.instruction + 1;
  } else {
    place_.instruction = index;
    place_.round = 0;
  }
  place_.inner = index;
}

/// A launch reads a parameter, or a copy that was gathered of one.
void NonFiniteSearch::noteParameter(const Program &program, size_t instruction) {
  const Instruction &made = program.instructions[instruction];
  const auto *collective = std::get_if<CollectiveInstruction>(&made);
  if (collective && collective->kind == CollectiveKind::AllGather)
    for (size_t i = 0; i + 1 < collective->operands.size(); i += 2)
      gathered_[collective->operands[i + 1]] = program.buffers[collective->operands[i]].state;
  if (!std::holds_alternative<LaunchInstruction>(made))
    return;
  for (const Access &access : accessesOf(made)) {
    const int32_t own = program.buffers[access.buffer].state;
    const int32_t state = own >= 0 ? own : gathered_[access.buffer];
    if (state >= 0 && executor_.plan().states[state].kind == StateKind::Parameter)
      parameter_ = state;
  }
}

Result<NonFiniteValues> NonFiniteSearch::look(const Binding &binding, uint32_t buffer) {
  const Buffer &memory = binding.program().buffers[buffer];
  const std::optional<FloatFormat> format = floatFormat(memory.dtype);
  NonFiniteValues found;
  if (!format)
    return found;
  const uint64_t bytes = bytesOf(memory, binding.symbolValues());
  for (uint64_t at = 0; at < bytes; at += kPieceBytes) {
    bytes_.resize(std::min(kPieceBytes, bytes - at));
    SY_RETURN_IF_ERROR(executor_.readBuffer(binding, buffer, at, bytes_));
    const NonFiniteValues here = findNonFinite(*format, bytes_);
    if (found.count == 0 && here.count > 0) {
      found.first = static_cast<int64_t>(at / byteSize(*format)) + here.first;
      found.value = here.value;
    }
    found.count += here.count;
  }
  return found;
}

/// Of what it reads, states and inputs are looked at: what instructions have made was finite.
Status NonFiniteSearch::before(const Binding &binding, size_t instruction) {
  const Program &program = binding.program();
  follow(program, instruction);
  inherited_.clear();
  if (found_)
    return {};
  noteParameter(program, instruction);
  for (const Access &access : accessesOf(program.instructions[instruction])) {
    const Buffer &buffer = program.buffers[access.buffer];
    if (!isRead(access) || (buffer.arena != Arena::State && buffer.arena != Arena::Io))
      continue;
    SY_ASSIGN_OR_RETURN(NonFiniteValues values, look(binding, access.buffer));
    if (values.count > 0)
      inherited_.push_back(fmt::format(
          "{} had them before: {}, in {}", access.operand,
          describe(values, shapeOf(buffer, binding.symbolValues())),
          buffer.state >= 0
              ? "state " + executor_.plan().states[static_cast<size_t>(buffer.state)].name
              : bufferText(executor_.plan(), program, access.buffer)));
  }
  return {};
}

Status NonFiniteSearch::after(const Binding &binding, size_t instruction) {
  if (found_)
    return {};
  const Program &program = binding.program();
  const Instruction &made = program.instructions[instruction];
  std::vector<std::string> outputs;
  for (const Access &access : accessesOf(made)) {
    if (!isWritten(access))
      continue;
    SY_ASSIGN_OR_RETURN(NonFiniteValues values, look(binding, access.buffer));
    if (values.count > 0)
      outputs.push_back(
          access.operand + ": " +
          describe(values, shapeOf(program.buffers[access.buffer], binding.symbolValues())));
  }
  if (outputs.empty())
    return {};
  NonFinite found{place_, !inherited_.empty(), instructionText(program, instruction), {}};
  found.details.push_back(describe(executor_.plan(), program, made));
  found.details.insert(found.details.end(), outputs.begin(), outputs.end());
  if (inherited_.empty())
    found.details.emplace_back("what it reads was finite");
  found.details.insert(found.details.end(), inherited_.begin(), inherited_.end());
  if (parameter_ >= 0)
    found.details.push_back("the parameter that was used last: " +
                            executor_.plan().states[static_cast<size_t>(parameter_)].name);
  found_ = std::move(found);
  return {};
}

} // namespace switchyard

#include "runtime/plan/InspectHtml.h"

#include "runtime/core/Json.h"
#include "runtime/plan/Inspect.h"
#include "runtime/plan/InstructionText.h"
#include "runtime/plan/Layout.h"
#include "runtime/plan/Lifetimes.h"
#include "runtime/plan/TextTable.h"
#include "runtime/plan/Traffic.h"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>

namespace switchyard {
namespace {

// The marker in it is where the plan goes.
constexpr std::string_view kPage =
#include "runtime/plan/InspectPage.inc"
    ;
constexpr std::string_view kMarker = "@plan@";

Json number(uint64_t value) {
  return Json(static_cast<int64_t>(value));
}

template <typename... Values>
Json row(Values... values) {
  Json result = Json::array();
  (result.append(Json(std::move(values))), ...);
  return result;
}

/// What colours it, of the page's legend.
const char *familyOf(const Instruction &instruction) {
  if (std::holds_alternative<CollectiveInstruction>(instruction))
    return "collective";
  const auto *launch = std::get_if<LaunchInstruction>(&instruction);
  if (!launch)
    return std::holds_alternative<CopyInstruction>(instruction) ? "other" : "order";
  auto has = [&](std::string_view part) { return launch->kernel.find(part) != std::string::npos; };
  if (has("gemm") || has("linear"))
    return "matrix product";
  if (has("attention"))
    return "attention";
  return has("adamw") || has("sum_of_squares") || has("clip") ? "optimizer" : "other";
}

/// The state that the operand `index` of `instruction` is, or is gathered from or scattered to.
const State *stateNear(const Plan &plan, const Program &program, const Instruction &instruction,
                       const std::vector<Access> &accesses, size_t index) {
  const auto *collective = std::get_if<CollectiveInstruction>(&instruction);
  bool hasPairs = collective && collective->kind != CollectiveKind::TokenExchange &&
                  collective->kind != CollectiveKind::TokenReturn;
  for (size_t i = 0; i < accesses.size(); ++i) {
    int32_t state = program.buffers[accesses[i].buffer].state;
    if (state >= 0 && (!hasPairs || i == (index ^ 1)))
      return &plan.states[static_cast<size_t>(state)];
  }
  return nullptr;
}

/// What to call the memory that an instruction names first: by it, and by a state that it is with.
std::string labelOf(const Plan &plan, const Program &program, size_t instruction, size_t operand) {
  const Instruction &made = program.instructions[instruction];
  std::vector<Access> accesses = accessesOf(made);
  std::string label = std::string(nameOf(made)) + " " + accesses[operand].operand;
  if (const State *state = stateNear(plan, program, made, accesses, operand))
    label += " (" + state->name + ")";
  return label;
}

/// Rows of label, type, arena, offset, bytes, first and last instruction, and the family of what
/// names it first.
Json buffersOf(const Plan &plan, const Program &program,
               const std::vector<std::optional<Lifetime>> &lifetimes) {
  std::vector<std::string> labels(program.buffers.size());
  std::vector<const char *> families(program.buffers.size());
  for (size_t i = 0; i < program.instructions.size(); ++i) {
    std::vector<Access> accesses = accessesOf(program.instructions[i]);
    for (size_t k = 0; k < accesses.size(); ++k)
      if (uint32_t buffer = accesses[k].buffer; labels[buffer].empty()) {
        labels[buffer] = labelOf(plan, program, i, k);
        families[buffer] = familyOf(program.instructions[i]);
      }
  }
  Json result = Json::array();
  for (size_t i = 0; i < program.buffers.size(); ++i) {
    const Buffer &buffer = program.buffers[i];
    if (!lifetimes[i] || (buffer.arena != Arena::Transient && buffer.arena != Arena::Comm))
      continue;
    result.append(row(labels[i], typeText(plan, buffer.dtype, buffer.shape),
                      std::string(name(buffer.arena)), static_cast<int64_t>(lifetimes[i]->offset),
                      static_cast<int64_t>(lifetimes[i]->bytes),
                      static_cast<int64_t>(lifetimes[i]->begin),
                      static_cast<int64_t>(lifetimes[i]->end), families[i]));
  }
  return result;
}

/// Bytes of `arena` that are needed at each instruction.
Json memoryOf(const Program &program, const std::vector<std::optional<Lifetime>> &lifetimes,
              Arena arena) {
  std::vector<Lifetime> ofArena;
  for (size_t i = 0; i < program.buffers.size(); ++i)
    if (lifetimes[i] && program.buffers[i].arena == arena)
      ofArena.push_back(*lifetimes[i]);
  Json result = Json::array();
  for (size_t i = 0; i < program.instructions.size(); ++i)
    result.append(number(bytesAt(ofArena, i)));
  return result;
}

/// Rows of the instruction's number, kind, axes, ranks, stream, tensors, bytes as foreseen and at
/// most, and whether it is in a repeat.
Json collectivesOf(const Plan &plan, const Program &program) {
  Json result = Json::array();
  const std::vector<int64_t> bounds = symbolBounds(plan);
  size_t behind = 0; // the repeat that was seen last
  for (size_t i = 0; i < program.instructions.size(); ++i) {
    if (const auto *repeat = std::get_if<RepeatInstruction>(&program.instructions[i]))
      behind = i + 1 + repeat->length;
    const auto *collective = std::get_if<CollectiveInstruction>(&program.instructions[i]);
    if (!collective)
      continue;
    bool isExchange = collective->kind == CollectiveKind::TokenExchange ||
                      collective->kind == CollectiveKind::TokenReturn;
    CollectiveBytes bytes = bytesOf(plan, program, *collective, bounds);
    result.append(
        row(static_cast<int64_t>(i), std::string(name(collective->kind)), text(collective->axes),
            plan.mesh.groupSize(collective->axes), static_cast<int64_t>(collective->stream),
            static_cast<int64_t>(isExchange ? 1 : collective->operands.size() / 2),
            static_cast<int64_t>(bytes.expected), static_cast<int64_t>(bytes.worst), i < behind));
  }
  return result;
}

/// Pairs of the instructions that record an event and wait for it.
Json eventsOf(const Program &program) {
  std::map<uint32_t, size_t> recorded;
  Json result = Json::array();
  for (size_t i = 0; i < program.instructions.size(); ++i) {
    if (const auto *record = std::get_if<RecordInstruction>(&program.instructions[i]))
      recorded[record->event] = i;
    if (const auto *wait = std::get_if<WaitInstruction>(&program.instructions[i]))
      result.append(row(static_cast<int64_t>(recorded[wait->event]), static_cast<int64_t>(i)));
  }
  return result;
}

Json programOf(const Plan &plan, const Program &program) {
  std::vector<std::optional<Lifetime>> lifetimes = lifetimesOf(plan, program);
  Json instructions = Json::array();
  for (const Instruction &instruction : program.instructions)
    instructions.append(row(std::string(nameOf(instruction)), familyOf(instruction),
                            static_cast<int64_t>(streamOf(instruction)),
                            describe(plan, program, instruction)));
  Json result = Json::object();
  result.set("name", Json(program.name));
  result.set("instructions", std::move(instructions));
  result.set("buffers", buffersOf(plan, program, lifetimes));
  result.set("transient", memoryOf(program, lifetimes, Arena::Transient));
  result.set("comm", memoryOf(program, lifetimes, Arena::Comm));
  result.set("collectives", collectivesOf(plan, program));
  result.set("events", eventsOf(program));
  return result;
}

Json planOf(const Plan &plan) {
  Json result = Json::object();
  result.set("model", Json(plan.training.modelType));
  result.set("mesh", Json(text(plan.mesh)));
  result.set("ranks", Json(plan.mesh.numRanks()));
  result.set("precision", Json(plan.training.precision));
  result.set("target", Json(plan.target.kind == kernels::Target::Kind::Cpu ? "cpu" : "cuda"));
  result.set("peak", number(plan.peakBytes));
  Json arenas = Json::object();
  for (int i = 0; i < kNumArenas; ++i)
    arenas.set(std::string(name(Arena(i))), number(plan.arenaBytes[i]));
  result.set("arenas", std::move(arenas));
  std::array<uint64_t, 4> kinds = {};
  for (const State &state : plan.states)
    kinds[static_cast<size_t>(state.kind)] += localBytesOf(state, plan.mesh);
  Json states = Json::array();
  for (size_t kind = 0; kind < kinds.size(); ++kind)
    if (kinds[kind] > 0)
      states.append(row(std::string(name(StateKind(kind))), static_cast<int64_t>(kinds[kind])));
  result.set("states", std::move(states));
  Json programs = Json::array();
  for (const Program &program : plan.programs)
    programs.append(programOf(plan, program));
  result.set("programs", std::move(programs));
  result.set("text", Json(inspect(plan)));
  return result;
}

} // namespace

std::string inspectHtml(const Plan &plan) {
  std::string data;
  for (char c : planOf(plan).dump()) {
    if (c == '<') // nothing in it ends the element that holds it
      data += "\\u003c";
    else
      data += c;
  }
  size_t at = kPage.find(kMarker);
  return std::string(kPage.substr(0, at)) + data + std::string(kPage.substr(at + kMarker.size()));
}

} // namespace switchyard

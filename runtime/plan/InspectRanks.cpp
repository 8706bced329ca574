#include "runtime/plan/InspectRanks.h"

#include "runtime/plan/Inspect.h"
#include "runtime/plan/Layout.h"
#include "runtime/plan/SourceRanges.h"
#include "runtime/plan/TextTable.h"
#include "runtime/plan/Traffic.h"

#include <algorithm>

namespace switchyard {
namespace {

/// Rows that a rank's tokens have in the experts, at the bound of T.
double expertRows(const Plan &plan) {
  int32_t tokens = findSymbol(plan, "T");
  return tokens < 0 ? 0
                    : static_cast<double>(plan.training.topK) *
                          static_cast<double>(plan.symbols[tokens].bound);
}

void addTraffic(Table &table, const std::string &what, const ProgramTraffic &traffic) {
  std::string first = what;
  for (int kind = 0; kind < kNumCollectiveKinds; ++kind) {
    const Traffic &expected = traffic.expected[kind], &worst = traffic.worst[kind];
    if (worst.calls == 0)
      continue;
    table.add({std::exchange(first, ""), std::string(name(CollectiveKind(kind))),
               grouped(expected.calls), humanBytes(expected.bytes), grouped(expected.bytes),
               worst.bytes == expected.bytes ? "" : "<= " + humanBytes(worst.bytes)});
  }
}

void add(TrafficByKind &sum, const TrafficByKind &more) {
  for (int kind = 0; kind < kNumCollectiveKinds; ++kind) {
    sum[kind].calls += more[kind].calls;
    sum[kind].bytes += more[kind].bytes;
  }
}

} // namespace

ExpertWork expertWork(const Plan &plan, const Program &program) {
  ExpertWork work;
  size_t bodyEnd = 0; // instructions before it are in a repeat
  for (size_t i = 0; i < program.instructions.size(); ++i) {
    if (const auto *repeat = std::get_if<RepeatInstruction>(&program.instructions[i]))
      bodyEnd = i + 1 + repeat->length;
    const auto *launch = std::get_if<LaunchInstruction>(&program.instructions[i]);
    if (!launch || i < bodyEnd || !launch->kernel.starts_with("grouped_gemm"))
      continue;
    // Of its operands the experts' matrices [E, N, K], or their gradient, have three extents.
    for (uint32_t operand : launch->operands)
      if (const std::vector<Extent> &w = program.buffers[operand].shape; w.size() == 3)
        work.flops += 2 * expertRows(plan) * static_cast<double>(w[1].offset) *
                      static_cast<double>(w[2].offset);
  }
  return work;
}

ParameterBytes parameterBytes(const Plan &plan) {
  ParameterBytes bytes;
  for (const State &state : plan.states) {
    if (state.kind != StateKind::Parameter)
      continue;
    uint64_t local = localBytesOf(state, plan.mesh);
    bytes.all += local;
    if (state.shape.size() == 3 && state.shape[0] == plan.training.numExperts)
      bytes.experts += local;
  }
  return bytes;
}

std::string communicationText(const Plan &plan) {
  std::vector<int64_t> bounds = symbolBounds(plan);
  Table table({false, false, true, true, true, true});
  ProgramTraffic step;
  for (const Program &program : plan.programs) {
    ProgramTraffic traffic = trafficOf(plan, program, bounds);
    addTraffic(table, program.name, traffic);
    if (program.name != "micro_step" && program.name != "optimizer_step" &&
        program.name != "train_step")
      continue;
    add(step.expected, traffic.expected);
    add(step.worst, traffic.worst);
  }
  addTraffic(table, "step of one pass", step);
  return "Communication: calls, and bytes that a rank sends at the bounds (routing evenly; at "
         "most)\n" +
         table.text();
}

std::string workText(const Plan &plan) {
  ParameterBytes bytes = parameterBytes(plan);
  Table table({false, true, false});
  table.add({"parameters", humanBytes(bytes.all), grouped(bytes.all) + " bytes"});
  table.add({"of experts", humanBytes(bytes.experts), grouped(bytes.experts) + " bytes"});
  int32_t tokens = findSymbol(plan, "T");
  for (const Program &program : plan.programs) {
    double flops = expertWork(plan, program).flops;
    if (flops == 0 || tokens < 0)
      continue;
    double perToken = flops / static_cast<double>(plan.symbols[tokens].bound) /
                      static_cast<double>(plan.mesh.numRanks());
    table.add({program.name, humanCount(static_cast<uint64_t>(flops)),
               "FLOP in experts at the bounds; " + humanCount(static_cast<uint64_t>(perToken)) +
                   " per token of all ranks"});
  }
  return "Work of each rank\n" + table.text();
}

Result<std::string> inspectRank(const Plan &plan, int64_t rank) {
  if (rank < 0 || rank >= plan.mesh.numRanks())
    return Status::usage("there is no rank " + std::to_string(rank) + "; the plan has ranks 0 to " +
                         std::to_string(plan.mesh.numRanks() - 1));
  SY_ASSIGN_OR_RETURN(std::vector<SourceRange> ranges, sourceRanges(plan, rank));
  Table table({false, true, true, true, false});
  uint64_t sum = 0;
  for (const SourceRange &range : ranges) {
    DType dtype = plan.states[range.state].dtype;
    uint64_t bytes = static_cast<uint64_t>(range.elements.count()) *
                     static_cast<uint64_t>(kernels::byteSize(dtype));
    sum += bytes;
    uint64_t whole = 1;
    for (int64_t extent : range.shape)
      whole *= static_cast<uint64_t>(extent);
    bool isWhole = range.elements.count() == static_cast<int64_t>(whole);
    table.add({range.tensor, grouped(static_cast<uint64_t>(range.elements.begin)),
               "to " + grouped(static_cast<uint64_t>(range.elements.end)), grouped(bytes),
               isWhole ? "all"
                       : "of " + grouped(whole * static_cast<uint64_t>(kernels::byteSize(dtype)))});
  }
  Mesh mesh = plan.mesh;
  std::string place;
  constexpr const char *kNames[kNumAxes] = {"dp", "fsdp", "ep"};
  for (int axis = 0; axis < kNumAxes; ++axis)
    if (mesh.sizes[axis] > 1)
      place += (place.empty() ? " (" : ", ") + std::string(kNames[axis]) + " " +
               std::to_string(mesh.coordinate(rank, Axis(axis)));
  return "Rank " + std::to_string(rank) + " of " + std::to_string(mesh.numRanks()) + place +
         (place.empty() ? "" : ")") +
         ": elements of the model's tensors that it reads, and bytes in the plan's types\n" +
         table.text() + "  sum: " + humanBytes(sum) + ", " + grouped(sum) + " bytes of " +
         plural(static_cast<int64_t>(ranges.size()), "range") + "\n";
}

} // namespace switchyard

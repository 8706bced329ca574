#include "runtime/plan/RunSummary.h"

#include "runtime/plan/Layout.h"
#include "runtime/plan/SavedStates.h"
#include "runtime/plan/TextTable.h"
#include "runtime/plan/Traffic.h"

#include <fmt/format.h>

namespace switchyard {
namespace {

std::string modelText(const Plan &plan) {
  uint64_t parameters = 0;
  for (const State &state : plan.states)
    if (state.kind == StateKind::Parameter)
      parameters += bytesOf(state) / static_cast<uint64_t>(kernels::byteSize(state.dtype));
  return fmt::format("{}: {} parameters, {} active per token, in {}", plan.training.modelType,
                     humanCount(parameters),
                     humanCount(static_cast<uint64_t>(plan.training.activeParameters)),
                     plan.training.precision);
}

std::string meshText(const Plan &plan) {
  bool isCpu = plan.target.kind == kernels::Target::Kind::Cpu;
  std::string ranks = plural(plan.mesh.numRanks(), "rank");
  if (plan.mesh.numRanks() > 1)
    ranks += ", " + text(plan.mesh);
  return ranks + (isCpu ? ", on the CPU" : ", each on a GPU");
}

std::string memoryText(const Plan &plan) {
  std::string text =
      fmt::format("memory of {}: {}", plan.mesh.numRanks() > 1 ? "each rank" : "the plan",
                  humanBytes(plan.peakBytes));
  const char *separator = " = ";
  auto add = [&](std::string_view what, uint64_t bytes) {
    if (bytes == 0)
      return;
    text += fmt::format("{}{} {}", separator, what, humanBytes(bytes));
    separator = ", ";
  };
  constexpr const char *kKinds[] = {"parameters", "masters", "gradients", "moments"};
  for (int kind = 0; kind < 4; ++kind) {
    uint64_t bytes = 0;
    for (const State &state : plan.states)
      if (state.kind == StateKind(kind))
        bytes += alignUp(capacityOf(state, plan.mesh));
    add(kKinds[kind], bytes);
  }
  add("inputs and outputs", plan.arenaBytes[static_cast<size_t>(Arena::Io)]);
  add("buffers of collectives", plan.arenaBytes[static_cast<size_t>(Arena::Comm)]);
  add("activations and workspaces", plan.arenaBytes[static_cast<size_t>(Arena::Transient)]);
  return text;
}

std::string savingText(const Plan &plan) {
  return fmt::format("saving takes {} of host memory{}", humanBytes(stagingBytes(plan)),
                     plan.mesh.numRanks() > 1 ? " for each rank" : "");
}

/// What a rank sends in a program of a step; empty if nothing.
std::string sentText(const Plan &plan, const char *name, const char *when) {
  const Program *program = plan.findProgram(name);
  if (!program)
    return "";
  TrafficByKind traffic = trafficOf(plan, *program, symbolBounds(plan)).expected;
  if (sentBytes(traffic) == 0)
    return "";
  std::string kinds;
  for (int kind = 0; kind < kNumCollectiveKinds; ++kind)
    if (traffic[kind].bytes > 0)
      kinds += fmt::format("{}{} {}", kinds.empty() ? "" : ", ",
                           switchyard::name(CollectiveKind(kind)), humanBytes(traffic[kind].bytes));
  return fmt::format("each rank sends up to {} in {} if routing is even: {}",
                     humanBytes(sentBytes(traffic)), when, kinds);
}

} // namespace

std::vector<std::string> runSummary(const Plan &plan) {
  std::vector<std::string> lines = {modelText(plan), meshText(plan), memoryText(plan),
                                    savingText(plan)};
  for (const std::string &sent :
       {sentText(plan, "train_step", "a step"), sentText(plan, "micro_step", "a pass"),
        sentText(plan, "optimizer_step", "an update")})
    if (!sent.empty())
      lines.push_back(sent);
  return lines;
}

} // namespace switchyard

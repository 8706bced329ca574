#include "runtime/plan/Inspect.h"

#include "runtime/plan/InspectMemory.h"
#include "runtime/plan/InspectRanks.h"
#include "runtime/plan/Layout.h"
#include "runtime/plan/SavedStates.h"
#include "runtime/plan/TextTable.h"

#include <algorithm>
#include <cstdio>
#include <map>

namespace switchyard {
namespace {

constexpr size_t kColumns = 100;

/// `items` separated by ", ", in lines of at most kColumns, the first after `head`, the others
/// indented as far.
std::string wrapped(std::string head, const std::vector<std::string> &items) {
  std::string indent(head.size(), ' ');
  std::string result, line = std::move(head);
  bool fresh = true;
  for (size_t i = 0; i < items.size(); ++i) {
    std::string item = items[i] + (i + 1 < items.size() ? "," : "");
    if (!fresh && line.size() + 1 + item.size() > kColumns) {
      result += line + "\n";
      line = indent;
      fresh = true;
    }
    line += (fresh ? "" : " ") + item;
    fresh = false;
  }
  return result + line + "\n";
}

/// The tree as pieces that wrapped() joins by ", ".
void appendSource(const Source &source, const std::string &before, const std::string &after,
                  std::vector<std::string> &pieces) {
  if (source.kind == Source::Kind::Leaf) {
    pieces.push_back(before + source.name + after);
    return;
  }
  std::string open = source.kind == Source::Kind::Concat
                         ? "concat("
                         : "stack(" + source.index + "=" + std::to_string(source.begin) + ".." +
                               std::to_string(source.end - 1) + ": ";
  for (size_t i = 0; i < source.children.size(); ++i)
    appendSource(source.children[i], i == 0 ? before + open : "",
                 i + 1 == source.children.size() ? ")" + after : "", pieces);
}

std::string shapeOf(const State &state) {
  std::string text;
  for (int64_t extent : state.shape)
    text += (text.empty() ? "" : " x ") + std::to_string(extent);
  return text.empty() ? "scalar" : text;
}

/// "0.001", "2".
std::string shortNumber(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", number);
  return text;
}

std::string headText(const Plan &plan) {
  const Training &training = plan.training;
  uint64_t parameters = 0;
  for (const State &state : plan.states)
    if (state.kind == StateKind::Parameter)
      parameters += bytesOf(state) / static_cast<uint64_t>(kernels::byteSize(state.dtype));
  bool isCpu = plan.target.kind == kernels::Target::Kind::Cpu;
  std::string target = isCpu ? "cpu, " + plural(plan.target.threads, "thread") : "cuda";
  Table table({false, false});
  table.add({"model", training.modelType + ", " + humanCount(parameters) + " parameters, " +
                          humanCount(static_cast<uint64_t>(training.activeParameters)) +
                          " active per token"});
  table.add({"", plural(training.numLayers, "layer") + ", " +
                     plural(training.numExperts, "expert") + ", top " +
                     std::to_string(training.topK) + ", vocabulary " +
                     std::to_string(training.vocabSize)});
  table.add({"fingerprint", plan.modelFingerprint});
  table.add({"compiler", plan.compilerVersion});
  table.add({"target", target + ", " + plural(plan.mesh.numRanks(), "rank")});
  if (plan.mesh.numRanks() > 1)
    table.add({"mesh", text(plan.mesh)});
  table.add({"precision", training.precision});
  table.add({"batch", std::to_string(training.perDeviceTrainBatchSize) + " x " +
                          std::to_string(training.gradientAccumulationSteps) +
                          " micro-batches, up to " + std::to_string(training.maxSeqLength) +
                          " tokens each" + (training.packing ? ", packed" : "")});
  table.add(
      {"loss", training.lossNormalization + " normalization" +
                   (training.auxLossCoef > 0 ? ", aux loss x " + shortNumber(training.auxLossCoef)
                                             : ", no aux loss")});
  table.add({"weight decay",
             training.weightDecayScope == "hf" ? "hf (no norms, no biases)" : "all parameters"});
  return "Plan\n" + table.text();
}

std::string symbolText(const Plan &plan) {
  Table table({false, true, false});
  for (const Symbol &symbol : plan.symbols)
    table.add({symbol.name, "<= " + std::to_string(symbol.bound),
               symbol.name == "T"   ? "tokens of a pass"
               : symbol.name == "S" ? "segments of a pass"
               : symbol.name == "M" ? "micro-batches of a pass"
                                    : "rows received at once, " + shortNumber(symbol.rowsPerToken) +
                                          " for each token"});
  return "Symbols\n" + table.text();
}

std::string memoryText(const Plan &plan) {
  uint64_t kinds[4] = {};
  for (const State &state : plan.states)
    kinds[static_cast<size_t>(state.kind)] += localBytesOf(state, plan.mesh);
  Table table({false, true, true});
  for (int i = 0; i < kNumArenas; ++i) {
    table.add(
        {std::string(name(Arena(i))), humanBytes(plan.arenaBytes[i]), grouped(plan.arenaBytes[i])});
    for (int kind = 0; Arena(i) == Arena::State && kind < 4; ++kind)
      if (kinds[kind] > 0)
        table.add({"  " + std::string(name(StateKind(kind))), humanBytes(kinds[kind]),
                   grouped(kinds[kind])});
  }
  table.add({"peak", humanBytes(plan.peakBytes), grouped(plan.peakBytes)});
  const uint64_t saving = stagingBytes(plan); // on the host, whatever the plan runs on
  table.add({"saving", humanBytes(saving), grouped(saving)});
  return (plan.mesh.numRanks() > 1 ? "Memory of each rank (bytes)\n" : "Memory (bytes)\n") +
         table.text();
}

std::vector<std::string> portTexts(const Plan &plan, const Program &program,
                                   const std::vector<Port> &ports) {
  std::vector<std::string> texts;
  for (const Port &port : ports) {
    const Buffer &buffer = program.buffers[port.buffer];
    texts.push_back(port.name + " " + typeText(plan, buffer.dtype, buffer.shape));
  }
  return texts;
}

std::string programText(const Plan &plan, const Program &program) {
  std::vector<int64_t> bounds = symbolBounds(plan);
  uint64_t transient = 0;
  for (const Buffer &buffer : program.buffers)
    if (buffer.arena == Arena::Transient)
      transient = std::max(transient, alignUp(buffer.offset + bytesOf(buffer, bounds)));
  std::map<std::string_view, size_t> counts;
  for (const Instruction &instruction : program.instructions)
    ++counts[nameOf(instruction)];
  std::vector<std::string> kernels;
  for (const auto &[kernel, count] : counts)
    kernels.push_back(std::to_string(count) + " " + std::string(kernel));
  return "Program " + program.name + ": " +
         plural(static_cast<int64_t>(program.instructions.size()), "instruction") + ", " +
         humanBytes(transient) + " transient\n" +
         wrapped("  inputs   ", portTexts(plan, program, program.inputs)) +
         wrapped("  outputs  ", portTexts(plan, program, program.outputs)) +
         wrapped("  kernels  ", kernels);
}

std::string parameterText(const Plan &plan) {
  bool hasRanks = plan.mesh.numRanks() > 1;
  Table table(hasRanks ? std::vector{false, false, false, true, true, false}
                       : std::vector{false, false, false, true, false});
  std::vector<std::vector<std::string>> sources;
  for (const State &state : plan.states) {
    if (state.kind != StateKind::Parameter)
      continue;
    std::vector<std::string> cells = {state.name, std::string(kernels::name(state.dtype)),
                                      shapeOf(state), humanBytes(bytesOf(state))};
    if (hasRanks)
      cells.push_back(humanBytes(localBytesOf(state, plan.mesh)));
    cells.emplace_back(state.decay ? "decay" : "");
    table.add(std::move(cells));
    sources.emplace_back();
    if (state.source.kind != Source::Kind::Leaf || state.source.name != state.name)
      appendSource(state.source, "", "", sources.back());
  }
  // Each row, and under it the tensors it is made of where they are not of its name.
  std::string rows = table.text(),
              result = hasRanks ? "Parameters, whole and on a rank\n" : "Parameters\n";
  size_t at = 0;
  for (const auto &pieces : sources) {
    size_t end = rows.find('\n', at) + 1;
    result += rows.substr(at, end - at);
    at = end;
    if (!pieces.empty())
      result += wrapped("      = ", pieces);
  }
  return result;
}

} // namespace

std::string inspect(const Plan &plan) {
  std::string text = headText(plan) + "\n" + symbolText(plan) + "\n" + memoryText(plan);
  for (const Program &program : plan.programs)
    text += "\n" + programText(plan, program);
  if (std::string peak = memoryPeakText(plan); !peak.empty())
    text += "\n" + peak;
  if (plan.mesh.numRanks() > 1)
    text += "\n" + communicationText(plan) + "\n" + workText(plan);
  return text + "\n" + parameterText(plan);
}

std::string summary(const Plan &plan) {
  int64_t instructions = 0;
  for (const Program &program : plan.programs)
    instructions += static_cast<int64_t>(program.instructions.size());
  return plural(static_cast<int64_t>(plan.programs.size()), "program") + ", " +
         plural(instructions, "instruction") + ", peak " + humanBytes(plan.peakBytes) + " (" +
         grouped(plan.peakBytes) + " bytes)";
}

} // namespace switchyard

#include "runtime/plan/Diff.h"

#include "runtime/plan/InstructionText.h"
#include "runtime/plan/Layout.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/plan/TextTable.h"
#include "runtime/plan/Traffic.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

namespace switchyard {
namespace {

/// Names that a list shows before it only counts.
constexpr size_t kNamesShown = 4;

/// A part of the result: a title and the rows in which the plans differ.
class Section {
public:
  explicit Section(std::string title, std::vector<bool> right = {false, true, true, true})
      : title_(std::move(title)), table_(std::move(right)) {}

  void text(const std::string &what, const std::string &a, const std::string &b) {
    if (a != b)
      add({what, a.empty() ? "-" : a, b.empty() ? "-" : b, ""});
  }
  /// `isIn`: whether the plan has such a thing at all.
  void number(const std::string &what, uint64_t a, uint64_t b, bool isInA = true,
              bool isInB = true) {
    if (a == b && isInA == isInB)
      return;
    std::string change = (b >= a ? "+" : "-") + grouped(b >= a ? b - a : a - b);
    if (a > 0 && b > 0)
      change +=
          fmt::format(" ({:+.1f}%)", 100 * (static_cast<double>(b) / static_cast<double>(a) - 1));
    add({what, isInA ? grouped(a) : "-", isInB ? grouped(b) : "-", change});
  }
  void line(const std::string &text) { lines_ += "  " + text + "\n"; }

  bool empty() const { return !hasRows_ && lines_.empty(); }
  std::string result() const {
    return empty() ? "" : title_ + "\n" + (hasRows_ ? table_.text() : "") + lines_;
  }

private:
  void add(std::vector<std::string> cells) {
    table_.add(std::move(cells));
    hasRows_ = true;
  }

  std::string title_;
  Table table_;
  bool hasRows_ = false;
  std::string lines_;
};

std::string listed(const std::vector<std::string> &names) {
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kNamesShown); ++i)
    text += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > kNamesShown)
    text += fmt::format(" and {} more", names.size() - kNamesShown);
  return text;
}

std::string yesNo(bool value) {
  return value ? "yes" : "no";
}

std::string targetText(const kernels::Target &target) {
  return target.kind == kernels::Target::Kind::Cpu ? "cpu, " + plural(target.threads, "thread")
                                                   : "cuda";
}

std::string settings(const Plan &a, const Plan &b) {
  Section section("Settings", {false, false, false, false});
  const Training &s = a.training, &t = b.training;
  auto number = [](auto value) { return fmt::format("{}", value); };
  section.text("compiler", a.compilerVersion, b.compilerVersion);
  section.text("model", s.modelType, t.modelType);
  section.text("fingerprint", a.modelFingerprint, b.modelFingerprint);
  section.text("vocabulary", number(s.vocabSize), number(t.vocabSize));
  section.text("layers", number(s.numLayers), number(t.numLayers));
  section.text("experts", number(s.numExperts), number(t.numExperts));
  section.text("experts of a token", number(s.topK), number(t.topK));
  section.text("active parameters", number(s.activeParameters), number(t.activeParameters));
  section.text("target", targetText(a.target), targetText(b.target));
  if (a.target.threads != b.target.threads && targetText(a.target) == targetText(b.target))
    section.text("threads", number(a.target.threads), number(b.target.threads));
  section.text("ranks", number(a.mesh.numRanks()), number(b.mesh.numRanks()));
  section.text("mesh", text(a.mesh), text(b.mesh));
  section.text("precision", s.precision, t.precision);
  section.text("sequences of a micro-batch", number(s.perDeviceTrainBatchSize),
               number(t.perDeviceTrainBatchSize));
  section.text("micro-batches of a step", number(s.gradientAccumulationSteps),
               number(t.gradientAccumulationSteps));
  section.text("tokens of a sequence", number(s.maxSeqLength), number(t.maxSeqLength));
  section.text("packing", yesNo(s.packing), yesNo(t.packing));
  section.text("loss normalization", s.lossNormalization, t.lossNormalization);
  section.text("aux loss", number(s.auxLossCoef), number(t.auxLossCoef));
  section.text("aux loss over", s.auxLossScope, t.auxLossScope);
  section.text("weight decay of", s.weightDecayScope, t.weightDecayScope);
  section.text("sync each batch", yesNo(s.syncEachBatch), yesNo(t.syncEachBatch));
  return section.result();
}

std::string symbols(const Plan &a, const Plan &b) {
  Section section("Symbols (bounds)");
  std::vector<std::string> names;
  for (const Plan *plan : {&a, &b})
    for (const Symbol &symbol : plan->symbols)
      if (std::ranges::find(names, symbol.name) == names.end())
        names.push_back(symbol.name);
  auto find = [](const Plan &plan, const std::string &name) -> const Symbol * {
    int32_t index = findSymbol(plan, name);
    return index < 0 ? nullptr : &plan.symbols[static_cast<size_t>(index)];
  };
  for (const std::string &name : names) {
    const Symbol *x = find(a, name), *y = find(b, name);
    section.number(name, x ? static_cast<uint64_t>(x->bound) : 0,
                   y ? static_cast<uint64_t>(y->bound) : 0, x, y);
    if (x && y && x->rowsPerToken != y->rowsPerToken)
      section.line(fmt::format("{}: {} rows for each token, then {}", name, x->rowsPerToken,
                               y->rowsPerToken));
  }
  auto order = [](const Plan &plan) {
    std::vector<std::string> result;
    for (const Symbol &symbol : plan.symbols)
      result.push_back(symbol.name);
    return result;
  };
  if (section.empty() && order(a) != order(b))
    section.line("another order: " + listed(order(a)) + "; " + listed(order(b)));
  return section.result();
}

std::string memory(const Plan &a, const Plan &b) {
  Section section("Memory of each rank (bytes)");
  auto ofKind = [](const Plan &plan, StateKind kind) {
    uint64_t bytes = 0;
    for (const State &state : plan.states)
      bytes += state.kind == kind ? localBytesOf(state, plan.mesh) : 0;
    return bytes;
  };
  for (int i = 0; i < kNumArenas; ++i) {
    section.number(std::string(name(Arena(i))), a.arenaBytes[i], b.arenaBytes[i]);
    for (StateKind kind :
         {StateKind::Parameter, StateKind::Master, StateKind::Gradient, StateKind::Moment})
      if (Arena(i) == Arena::State)
        section.number("  " + std::string(name(kind)), ofKind(a, kind), ofKind(b, kind));
  }
  section.number("peak", a.peakBytes, b.peakBytes);
  return section.result();
}

void appendSource(const Source &source, std::string &text) {
  text += fmt::format("{}:{}:{}:{}:{}", static_cast<int>(source.kind), source.name, source.index,
                      source.begin, source.end);
  for (int64_t size : source.sizes)
    text += fmt::format(",{}", size);
  text += "(";
  for (const Source &child : source.children)
    appendSource(child, text);
  text += ")";
}

/// What of the states called `x.name` differs, in words; empty if nothing.
std::string changeOf(const Plan &a, const State &x, const Plan &b, const State &y) {
  std::string sourceOfX, sourceOfY, text;
  appendSource(x.source, sourceOfX);
  appendSource(y.source, sourceOfY);
  auto parent = [](const Plan &plan, const State &state) {
    return state.of < 0 ? std::string() : plan.states[static_cast<size_t>(state.of)].name;
  };
  struct Part {
    bool differs;
    std::string words;
  };
  std::string types = typeText(x.dtype, x.shape) + " is now " + typeText(y.dtype, y.shape);
  for (const Part &part :
       {Part{x.kind != y.kind, fmt::format("{} is now {}", name(x.kind), name(y.kind))},
        Part{x.dtype != y.dtype || x.shape != y.shape, types},
        Part{x.sharding != y.sharding, "other sharding"}, Part{x.decay != y.decay, "other decay"},
        Part{x.layer != y.layer, "other layer"}, Part{parent(a, x) != parent(b, y), "of another"},
        Part{x.moduleName != y.moduleName || sourceOfX != sourceOfY, "other tensors"},
        Part{x.reserve != y.reserve, "other padding"}})
    if (part.differs)
      text += (text.empty() ? "" : ", ") + part.words;
  return text;
}

std::string states(const Plan &a, const Plan &b) {
  Section section("States");
  std::map<std::string, const State *> ofA, ofB;
  for (const State &state : a.states)
    ofA[state.name] = &state;
  for (const State &state : b.states)
    ofB[state.name] = &state;
  std::vector<std::string> onlyA, onlyB;
  std::map<std::string, std::vector<std::string>> changed;
  for (const auto &[name, state] : ofA) {
    auto found = ofB.find(name);
    if (found == ofB.end())
      onlyA.push_back(name);
    else if (std::string change = changeOf(a, *state, b, *found->second); !change.empty())
      changed[change].push_back(name);
  }
  for (const auto &[name, state] : ofB)
    if (!ofA.contains(name))
      onlyB.push_back(name);
  if (!onlyA.empty())
    section.line(fmt::format("{} only in the first: {}", onlyA.size(), listed(onlyA)));
  if (!onlyB.empty())
    section.line(fmt::format("{} only in the second: {}", onlyB.size(), listed(onlyB)));
  for (const auto &[change, names] : changed)
    section.line(fmt::format("{} with {}: {}", names.size(), change, listed(names)));
  auto places = [](const Plan &plan) {
    std::vector<std::pair<std::string, uint64_t>> result;
    for (const State &state : plan.states)
      result.emplace_back(state.name, state.offset);
    return result;
  };
  if (section.empty() && places(a) != places(b))
    section.line("the same ones, in another order or at other addresses");
  return section.result();
}

std::vector<std::string> portTexts(const Plan &plan, const Program &program,
                                   const std::vector<Port> &ports) {
  std::vector<std::string> texts;
  for (const Port &port : ports)
    texts.push_back(bufferText(plan, program, port.buffer));
  return texts;
}

uint64_t transientBytes(const Plan &plan, const Program &program) {
  std::vector<int64_t> bounds = symbolBounds(plan);
  uint64_t bytes = 0;
  for (const Buffer &buffer : program.buffers)
    if (buffer.arena == Arena::Transient)
      bytes = std::max(bytes, buffer.offset + capacityOf(buffer, bounds));
  return alignUp(bytes);
}

/// Where the programs' lists part, and what only their memory shows.
void addInstructions(const Plan &a, const Program &x, const Plan &b, const Program &y,
                     Section &section) {
  const size_t common = std::min(x.instructions.size(), y.instructions.size());
  for (size_t i = 0; i <= common; ++i) {
    auto at = [i](const Plan &plan, const Program &program) {
      return i < program.instructions.size() ? describe(plan, program, program.instructions[i])
                                             : std::string("ends");
    };
    std::string first = at(a, x), second = at(b, y);
    if (first == second)
      continue;
    section.line(fmt::format("from instruction {} on they differ:", i));
    section.line("  " + first);
    section.line("  " + second);
    return;
  }
  size_t moved = 0;
  for (size_t i = 0; i < std::min(x.buffers.size(), y.buffers.size()); ++i) {
    const Buffer &p = x.buffers[i], &q = y.buffers[i];
    moved += p.arena != q.arena || p.offset != q.offset || p.reserve != q.reserve ||
             p.dtype != q.dtype || p.shape != q.shape || p.state != q.state;
  }
  moved +=
      std::max(x.buffers.size(), y.buffers.size()) - std::min(x.buffers.size(), y.buffers.size());
  if (moved > 0)
    section.line(fmt::format("the same instructions, {} of {} buffers at other addresses", moved,
                             std::max(x.buffers.size(), y.buffers.size())));
}

std::string program(const Plan &a, const Program &x, const Plan &b, const Program &y) {
  Section section("Program " + x.name);
  section.number("instructions", x.instructions.size(), y.instructions.size());
  section.number("transient bytes", transientBytes(a, x), transientBytes(b, y));
  std::map<std::string, std::pair<uint64_t, uint64_t>> counts;
  for (const Instruction &instruction : x.instructions)
    ++counts[std::string(nameOf(instruction))].first;
  for (const Instruction &instruction : y.instructions)
    ++counts[std::string(nameOf(instruction))].second;
  for (const auto &[kernel, count] : counts)
    section.number("  " + kernel, count.first, count.second);
  struct Ports {
    const char *what;
    std::vector<Port> Program::*ports;
  };
  for (const Ports &ports :
       {Ports{"inputs", &Program::inputs}, Ports{"outputs", &Program::outputs}}) {
    std::vector<std::string> p = portTexts(a, x, x.*ports.ports),
                             q = portTexts(b, y, y.*ports.ports);
    std::vector<std::string> only[2];
    for (const std::string &text : p)
      if (std::ranges::find(q, text) == q.end())
        only[0].push_back(text);
    for (const std::string &text : q)
      if (std::ranges::find(p, text) == p.end())
        only[1].push_back(text);
    for (int i = 0; i < 2; ++i)
      if (!only[i].empty())
        section.line(fmt::format("{} only in the {}: {}", ports.what, i == 0 ? "first" : "second",
                                 listed(only[i])));
    if (p != q && only[0].empty() && only[1].empty())
      section.line(fmt::format("{} in another order", ports.what));
  }
  addInstructions(a, x, b, y, section);
  return section.result();
}

std::string programs(const Plan &a, const Plan &b) {
  std::string result;
  Section section("Programs");
  for (const Program &x : a.programs) {
    if (const Program *y = b.findProgram(x.name)) {
      std::string text = program(a, x, b, *y);
      result += (text.empty() ? "" : "\n") + text;
    } else {
      section.line("only in the first: " + x.name + ", " +
                   plural(static_cast<int64_t>(x.instructions.size()), "instruction"));
    }
  }
  for (const Program &y : b.programs)
    if (!a.findProgram(y.name))
      section.line("only in the second: " + y.name + ", " +
                   plural(static_cast<int64_t>(y.instructions.size()), "instruction"));
  auto order = [](const Plan &plan) {
    std::vector<std::string> names;
    for (const Program &each : plan.programs)
      names.push_back(each.name);
    return names;
  };
  if (section.empty() && order(a) != order(b))
    section.line("another order: " + listed(order(a)) + "; " + listed(order(b)));
  return section.empty() ? result : "\n" + section.result() + result;
}

std::string communication(const Plan &a, const Plan &b) {
  Section section("Communication (bytes that a rank sends at the bounds, routing evenly)");
  std::set<std::string> names;
  for (const Plan *plan : {&a, &b})
    for (const Program &program : plan->programs)
      names.insert(program.name);
  auto traffic = [](const Plan &plan, const std::string &name) {
    const Program *program = plan.findProgram(name);
    return program ? trafficOf(plan, *program, symbolBounds(plan)) : ProgramTraffic();
  };
  for (const std::string &each : names) {
    ProgramTraffic x = traffic(a, each), y = traffic(b, each);
    for (int kind = 0; kind < kNumCollectiveKinds; ++kind) {
      std::string what = each + " " + std::string(name(CollectiveKind(kind)));
      section.number(what + " calls", x.expected[kind].calls, y.expected[kind].calls);
      section.number(what + " bytes", x.expected[kind].bytes, y.expected[kind].bytes);
      if (x.expected[kind] == y.expected[kind])
        section.number(what + " bytes at most", x.worst[kind].bytes, y.worst[kind].bytes);
    }
  }
  return section.result();
}

} // namespace

std::string diff(const Plan &a, const Plan &b) {
  std::string result;
  for (const std::string &part : {settings(a, b), symbols(a, b), memory(a, b), states(a, b)})
    if (!part.empty())
      result += (result.empty() ? "" : "\n") + part;
  for (std::string part : {programs(a, b), communication(a, b)}) {
    if (part.starts_with('\n'))
      part.erase(0, 1);
    if (!part.empty())
      result += (result.empty() ? "" : "\n") + part;
  }
  if (result.empty() && serialize(a) != serialize(b))
    return "Files\n  differ only in what has no effect: the numbers of buffers, unused values\n";
  return result;
}

} // namespace switchyard

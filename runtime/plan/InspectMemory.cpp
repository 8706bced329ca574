#include "runtime/plan/InspectMemory.h"

#include "runtime/plan/Layout.h"
#include "runtime/plan/Lifetimes.h"
#include "runtime/plan/TextTable.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace switchyard {
namespace {

/// No more buffers are listed.
constexpr size_t kMostListed = 16;

/// A span of transient memory, and the instructions that need it. Buffers that take each other over
/// in place are one.
struct Span : Lifetime {
  std::string type;
};

std::vector<Span> spansOf(const Plan &plan, const Program &program) {
  const std::vector<std::optional<Lifetime>> lifetimes = lifetimesOf(plan, program);
  std::vector<Span> spans;
  for (size_t index = 0; index < program.buffers.size(); ++index) {
    const Buffer &buffer = program.buffers[index];
    if (!lifetimes[index] || buffer.arena != Arena::Transient)
      continue;
    Span span{*lifetimes[index], typeText(plan, buffer.dtype, buffer.shape)};
    spans.push_back(span);
  }
  std::sort(spans.begin(), spans.end(), [](const Span &a, const Span &b) {
    return std::pair(a.begin, a.offset) < std::pair(b.begin, b.offset);
  });
  std::vector<Span> merged;
  std::map<uint64_t, size_t> at; // the latest of `merged`, by offset
  for (const Span &span : spans) {
    auto [place, isNew] = at.try_emplace(span.offset, merged.size());
    Span *before = isNew ? nullptr : &merged[place->second];
    if (before && before->end == span.begin && before->bytes == span.bytes) {
      before->end = span.end;
      continue;
    }
    place->second = merged.size();
    merged.push_back(span);
  }
  return merged;
}

} // namespace

std::string memoryPeakText(const Plan &plan) {
  const Program *most = nullptr;
  std::vector<Span> spans;
  uint64_t bytes = 0;
  size_t place = 0;
  for (const Program &program : plan.programs) {
    std::vector<Span> found = spansOf(plan, program);
    bool isMost = false;
    const std::vector<Lifetime> lifetimes(found.begin(), found.end());
    for (size_t i = 0; i < program.instructions.size(); ++i)
      if (uint64_t here = bytesAt(lifetimes, i); here > bytes) {
        bytes = here;
        place = i;
        isMost = true;
      }
    if (isMost) {
      most = &program;
      spans = std::move(found);
    }
  }
  if (!most)
    return "";
  std::erase_if(spans, [&](const Span &span) { return span.begin > place || span.end < place; });
  std::sort(spans.begin(), spans.end(), [](const Span &a, const Span &b) {
    return std::tuple(b.bytes, a.begin, a.offset) < std::tuple(a.bytes, b.begin, b.offset);
  });
  auto textOf = [&](size_t index) {
    return std::to_string(index) + " (" + std::string(nameOf(most->instructions[index])) + ")";
  };
  Table table({true, false, false, false});
  for (size_t i = 0; i < std::min(spans.size(), kMostListed); ++i)
    table.add({humanBytes(spans[i].bytes), spans[i].type, "from " + textOf(spans[i].begin),
               "to " + textOf(spans[i].end)});
  std::string rest;
  if (spans.size() > kMostListed)
    rest =
        "  and " + plural(static_cast<int64_t>(spans.size() - kMostListed), "smaller one") + "\n";
  return "Most transient memory: " + humanBytes(bytes) + " in " + most->name + ", at instruction " +
         textOf(place) + "\n" + table.text() + rest;
}

} // namespace switchyard

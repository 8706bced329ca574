#include "runtime/plan/Lifetimes.h"

#include "runtime/plan/Layout.h"

#include <algorithm>

namespace switchyard {

std::vector<std::optional<Lifetime>> lifetimesOf(const Plan &plan, const Program &program) {
  const std::vector<int64_t> bounds = symbolBounds(plan);
  std::vector<std::optional<Lifetime>> lifetimes(program.buffers.size());
  size_t first = 0, behind = 0; // the repeat that was seen last
  for (size_t i = 0; i < program.instructions.size(); ++i) {
    if (const auto *repeat = std::get_if<RepeatInstruction>(&program.instructions[i])) {
      first = i;
      behind = i + repeat->length + 1;
    }
    const bool isRepeated = i < behind;
    for (const Access &access : accessesOf(program.instructions[i])) {
      const Buffer &buffer = program.buffers[access.buffer];
      std::optional<Lifetime> &lifetime = lifetimes[access.buffer];
      if (!lifetime)
        lifetime = Lifetime{buffer.offset, capacityOf(buffer, bounds), isRepeated ? first : i, 0};
      lifetime->end = isRepeated ? behind - 1 : i;
    }
  }
  return lifetimes;
}

uint64_t bytesAt(const std::vector<Lifetime> &lifetimes, size_t instruction) {
  std::vector<const Lifetime *> needed;
  for (const Lifetime &lifetime : lifetimes)
    if (lifetime.begin <= instruction && instruction <= lifetime.end)
      needed.push_back(&lifetime);
  std::sort(needed.begin(), needed.end(),
            [](const Lifetime *a, const Lifetime *b) { return a->offset < b->offset; });
  uint64_t bytes = 0, reached = 0;
  for (const Lifetime *lifetime : needed) {
    uint64_t end = lifetime->offset + lifetime->bytes;
    bytes += end > reached ? end - std::max(reached, lifetime->offset) : 0;
    reached = std::max(reached, end);
  }
  return bytes;
}

} // namespace switchyard

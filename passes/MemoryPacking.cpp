// Spans are placed one after the other, each at the lowest offset where nothing lies that is needed
// at the same time (Pisarchyk & Lee 2020, "greedy by size"). Which order is best depends on the
// program, so several are tried.

#include "passes/MemoryPacking.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/MathExtras.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

namespace switchyard::passes {

namespace {

using llvm::ArrayRef;
using llvm::MutableArrayRef;

int64_t aligned(int64_t bytes) {
  return static_cast<int64_t>(llvm::alignTo(bytes, kAlignment));
}

/// A span that has its place.
struct Placed {
  int begin, end;
  int64_t offset, behind;
};

/// Gives offsets to the spans in `order`. Returns the bytes used.
int64_t pack(MutableArrayRef<MemorySpan> spans, ArrayRef<int> order) {
  int64_t used = 0;
  std::vector<Placed> placed; // by offset
  placed.reserve(order.size());
  for (int index : order) {
    MemorySpan &span = spans[index];
    span.offset = 0;
    if (span.bytes == 0)
      continue;
    int64_t offset = 0;
    for (const Placed &fixed : placed) {
      if (fixed.end < span.begin || span.end < fixed.begin)
        continue;
      if (offset + span.bytes <= fixed.offset)
        break;
      offset = std::max(offset, fixed.behind);
    }
    span.offset = offset;
    used = std::max(used, offset + span.bytes);
    auto place =
        std::upper_bound(placed.begin(), placed.end(), offset,
                         [](int64_t value, const Placed &other) { return value < other.offset; });
    placed.insert(place, {span.begin, span.end, offset, aligned(offset + span.bytes)});
  }
  return aligned(used);
}

/// Whether the arena's last byte belongs to a span that varies, so that a smaller pass reaches less
/// far.
bool endsVarying(ArrayRef<MemorySpan> spans) {
  const MemorySpan *last = nullptr;
  for (const MemorySpan &span : spans)
    if (span.bytes > 0 && (!last || span.offset + span.bytes > last->offset + last->bytes))
      last = &span;
  return !last || last->varies;
}

constexpr int kNumOrders = 6;

/// Three orders, by size, by size times duration and by time, each also with the spans of fixed
/// size first, hence lowest.
llvm::SmallVector<int> makeOrder(ArrayRef<MemorySpan> spans, int which) {
  llvm::SmallVector<int> order(spans.size());
  std::iota(order.begin(), order.end(), 0);
  auto area = [&](int i) {
    return static_cast<double>(spans[i].bytes) * (spans[i].end - spans[i].begin + 1);
  };
  if (which / 2 == 0)
    llvm::stable_sort(order, [&](int a, int b) { return spans[a].bytes > spans[b].bytes; });
  else if (which / 2 == 1)
    llvm::stable_sort(order, [&](int a, int b) { return area(a) > area(b); });
  else
    llvm::stable_sort(order, [&](int a, int b) { return spans[a].begin < spans[b].begin; });
  if (which % 2 == 0)
    llvm::stable_sort(order, [&](int a, int b) { return spans[a].varies < spans[b].varies; });
  return order;
}

} // namespace

int64_t mostBytesAtOnce(ArrayRef<MemorySpan> spans) {
  int last = 0;
  for (const MemorySpan &span : spans)
    last = std::max(last, span.end);
  std::vector<int64_t> change(last + 2);
  for (const MemorySpan &span : spans) {
    change[span.begin] += span.bytes;
    change[span.end + 1] -= span.bytes;
  }
  int64_t now = 0, most = 0;
  for (int64_t bytes : change)
    most = std::max(most, now += bytes);
  return most;
}

std::optional<int64_t> packWithin(MutableArrayRef<MemorySpan> spans, int64_t limit) {
  if (mostBytesAtOnce(spans) > limit)
    return std::nullopt;
  for (int which = 0; which < kNumOrders; ++which)
    if (int64_t bytes = pack(spans, makeOrder(spans, which)); bytes <= limit)
      return bytes;
  return std::nullopt;
}

int64_t packBest(MutableArrayRef<MemorySpan> spans, int64_t limit) {
  std::vector<MemorySpan> best;
  int64_t bestBytes = 0;
  std::pair<bool, double> bestCost(true, std::numeric_limits<double>::infinity());
  for (int which = 0; which < kNumOrders; ++which) {
    int64_t bytes = pack(spans, makeOrder(spans, which));
    // A last byte that varies is worth one percent.
    std::pair<bool, double> cost(bytes > limit,
                                 static_cast<double>(bytes) * (endsVarying(spans) ? 1.0 : 1.01));
    if (cost >= bestCost)
      continue;
    bestCost = cost;
    bestBytes = bytes;
    best.assign(spans.begin(), spans.end());
  }
  llvm::copy(best, spans.begin());
  return bestBytes;
}

} // namespace switchyard::passes

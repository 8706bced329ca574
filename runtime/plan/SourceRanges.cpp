#include "runtime/plan/SourceRanges.h"

#include <algorithm>

namespace switchyard {

Result<std::vector<SourceRange>> sourceRanges(const Plan &plan, int64_t rank) {
  std::vector<SourceRange> ranges;
  for (size_t i = 0; i < plan.states.size(); ++i) {
    const State &state = plan.states[i];
    if (state.source.kind == Source::Kind::Leaf && state.source.name.empty())
      continue;
    auto slices = resolve(state.source, state.shape);
    if (!slices.ok())
      return slices.status().within("state '" + state.name + "'");
    ElementRange held = localRange(state.shape, state.sharding, plan.mesh, rank);
    for (SourceSlice &slice : *slices) {
      int64_t begin = std::max(held.begin, slice.begin), end = std::min(held.end, slice.end);
      if (begin < end)
        ranges.push_back({i,
                          std::move(slice.name),
                          std::move(slice.shape),
                          {begin - slice.begin, end - slice.begin}});
    }
  }
  return ranges;
}

} // namespace switchyard

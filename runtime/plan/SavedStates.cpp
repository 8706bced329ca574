#include "runtime/plan/SavedStates.h"

#include <algorithm>

namespace switchyard {

ElementRange savedPart(const State &state, const Mesh &mesh, int64_t rank) {
  AxisSet divided = state.sharding.dim0 | state.sharding.flat, replicated;
  for (Axis axis : {Axis::Dp, Axis::Fsdp, Axis::Ep})
    if (!divided.contains(axis))
      replicated = replicated | axis;
  const ElementRange held = localRange(state.shape, state.sharding, mesh, rank);
  const int64_t sharers = mesh.groupSize(replicated), index = mesh.indexInGroup(rank, replicated);
  const int64_t share = (held.count() + sharers - 1) / sharers;
  return {held.begin + std::min(index * share, held.count()),
          held.begin + std::min((index + 1) * share, held.count())};
}

/// Of all ranks, the first has the largest part of each state: shards and shares are full from the
/// first one on.
uint64_t stagingBytes(const Plan &plan) {
  uint64_t bytes = 0;
  for (const State &state : plan.states)
    if (isSaved(state))
      bytes += static_cast<uint64_t>(savedPart(state, plan.mesh, 0).count() *
                                     kernels::byteSize(state.dtype));
  return bytes;
}

} // namespace switchyard

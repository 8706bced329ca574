#include "runtime/checkpoint/GatherState.h"

#include <algorithm>
#include <cstring>

namespace switchyard {

namespace {

/// What failure records say of a rank that waits here.
constexpr Where kWhere{"between programs", -1};

/// Elements of a state's range, and who has them.
struct Range {
  const State &state;
  const Mesh &mesh;
  ElementRange elements;

  /// What of the range `rank` holds.
  ElementRange heldBy(int64_t rank) const {
    ElementRange held = localRange(state.shape, state.sharding, mesh, rank);
    int64_t begin = std::clamp(held.begin, elements.begin, elements.end);
    return {begin, std::clamp(held.end, begin, elements.end)};
  }

  /// What of it `rank` gives: of ranks that hold the same, the first gives it.
  ElementRange givenBy(int64_t rank) const {
    AxisSet divided = state.sharding.dim0 | state.sharding.flat;
    for (Axis axis : {Axis::Dp, Axis::Fsdp, Axis::Ep})
      if (!divided.contains(axis) && mesh.coordinate(rank, axis) != 0)
        return {elements.begin, elements.begin};
    return heldBy(rank);
  }
};

Status readPart(Executor &executor, size_t state, int64_t rank, ElementRange part,
                std::span<std::byte> out) {
  const Plan &plan = executor.plan();
  const State &description = plan.states[state];
  if (part.count() == 0)
    return {};
  int64_t first = localRange(description.shape, description.sharding, plan.mesh, rank).begin;
  return executor.readState(state, (part.begin - first) * kernels::byteSize(description.dtype),
                            out);
}

/// Every rank's bytes of the range, one rank behind the other, to rank 0.
Status gatherParts(Executor &executor, Communicator &communicator, size_t state, const Range &range,
                   std::span<std::byte> out) {
  const int64_t width = kernels::byteSize(range.state.dtype);
  const int rank = communicator.rank();
  ElementRange mine = range.givenBy(rank);
  std::vector<std::byte> send(mine.count() * width), receive(rank == 0 ? out.size() : 0);
  SY_RETURN_IF_ERROR(readPart(executor, state, rank, mine, send));

  std::vector<int64_t> sendCounts(communicator.size(), 0), receiveCounts(communicator.size(), 0);
  sendCounts[0] = mine.count();
  if (rank == 0)
    for (int other = 0; other < communicator.size(); ++other)
      receiveCounts[other] = range.givenBy(other).count();
  SY_RETURN_IF_ERROR(communicator.world().allToAllV(kWhere, width, send, {sendCounts, {}}, receive,
                                                    {receiveCounts, {}}));
  if (rank != 0)
    return {};
  const std::byte *from = receive.data();
  for (int other = 0; other < communicator.size(); ++other) {
    ElementRange part = range.givenBy(other);
    if (part.count() == 0)
      continue;
    std::memcpy(out.data() + (part.begin - range.elements.begin) * width, from,
                part.count() * width);
    from += part.count() * width;
  }
  return {};
}

/// The sum of what every rank has of the range.
Status sumParts(Executor &executor, Communicator &communicator, size_t state, const Range &range,
                std::span<std::byte> out) {
  const int64_t width = kernels::byteSize(range.state.dtype);
  std::vector<std::byte> sum(range.elements.count() * width);
  ElementRange mine = range.heldBy(communicator.rank());
  SY_RETURN_IF_ERROR(readPart(
      executor, state, communicator.rank(), mine,
      std::span(sum).subspan((mine.begin - range.elements.begin) * width, mine.count() * width)));
  SY_RETURN_IF_ERROR(communicator.world().allReduce(
      kWhere, Reduction::Sum,
      Transfer{range.state.dtype, sum.data(), sum.data(), range.elements.count()}));
  if (communicator.rank() == 0)
    std::ranges::copy(sum, out.begin());
  return {};
}

} // namespace

Status gatherState(Executor &executor, Communicator *communicator, size_t state, int64_t begin,
                   int64_t end, std::span<std::byte> out) {
  const Plan &plan = executor.plan();
  const State &description = plan.states[state];
  if (!communicator)
    return executor.readState(state, begin * kernels::byteSize(description.dtype), out);
  const Range range{description, plan.mesh, {begin, end}};
  bool isPending = description.kind == StateKind::Gradient && !plan.training.syncEachBatch;
  return isPending ? sumParts(executor, *communicator, state, range, out)
                   : gatherParts(executor, *communicator, state, range, out);
}

} // namespace switchyard

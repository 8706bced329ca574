#include "runtime/plan/Mesh.h"

#include <algorithm>

namespace switchyard {
namespace {

constexpr const char *kAxisNames[kNumAxes] = {"dp", "fsdp", "ep"};
constexpr Axis kAxes[kNumAxes] = {Axis::Dp, Axis::Fsdp, Axis::Ep};

int64_t elementsOf(const std::vector<int64_t> &shape) {
  int64_t count = 1;
  for (int64_t extent : shape)
    count *= extent;
  return count;
}

} // namespace

std::string text(AxisSet axes) {
  std::string result = "[";
  for (Axis axis : kAxes)
    if (axes.contains(axis))
      result += std::string(result.size() > 1 ? ", \"" : "\"") +
                kAxisNames[static_cast<int>(axis)] + "\"";
  return result + "]";
}

std::string text(const Mesh &mesh) {
  std::string result;
  for (Axis axis : kAxes)
    if (mesh.size(axis) > 1)
      result += (result.empty() ? "" : ",") + std::string(kAxisNames[static_cast<int>(axis)]) +
                "=" + std::to_string(mesh.size(axis));
  return result;
}

int32_t Mesh::coordinate(int64_t rank, Axis axis) const {
  for (int i = kNumAxes - 1; i > static_cast<int>(axis); --i)
    rank /= sizes[i];
  return static_cast<int32_t>(rank % size(axis));
}

int64_t Mesh::groupSize(AxisSet axes) const {
  int64_t count = 1;
  for (Axis axis : kAxes)
    if (axes.contains(axis))
      count *= size(axis);
  return count;
}

int64_t Mesh::indexInGroup(int64_t rank, AxisSet axes) const {
  int64_t index = 0;
  for (Axis axis : kAxes)
    if (axes.contains(axis))
      index = index * size(axis) + coordinate(rank, axis);
  return index;
}

std::vector<int64_t> Mesh::groupOf(int64_t rank, AxisSet axes) const {
  std::vector<int64_t> ranks;
  for (int64_t other = 0; other < numRanks(); ++other)
    if (std::ranges::all_of(kAxes, [&](Axis axis) {
          return axes.contains(axis) || coordinate(other, axis) == coordinate(rank, axis);
        }))
      ranks.push_back(other);
  return ranks;
}

int64_t flatShardElements(int64_t elements, int64_t ranks) {
  int64_t share = (elements + ranks - 1) / ranks;
  return (share + kFlatAlignment - 1) / kFlatAlignment * kFlatAlignment;
}

std::vector<int64_t> localShape(std::vector<int64_t> shape, const Sharding &sharding,
                                const Mesh &mesh) {
  if (!sharding.dim0.empty())
    shape[0] /= mesh.groupSize(sharding.dim0);
  if (!sharding.flat.empty())
    return {flatShardElements(elementsOf(shape), mesh.groupSize(sharding.flat))};
  return shape;
}

ElementRange localRange(const std::vector<int64_t> &shape, const Sharding &sharding,
                        const Mesh &mesh, int64_t rank) {
  int64_t count = elementsOf(shape) / mesh.groupSize(sharding.dim0);
  int64_t begin = mesh.indexInGroup(rank, sharding.dim0) * count;
  if (sharding.flat.empty())
    return {begin, begin + count};
  int64_t part = flatShardElements(count, mesh.groupSize(sharding.flat));
  int64_t first = mesh.indexInGroup(rank, sharding.flat) * part;
  return {begin + std::min(first, count), begin + std::min(first + part, count)};
}

} // namespace switchyard

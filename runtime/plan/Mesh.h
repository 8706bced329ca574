// The grid of ranks with named axes, and which part of a state a rank holds. dialects/dist/Attrs.td
// has the same in the compiler.
//
// rank = ((dp * F) + fsdp) * E + ep: ep varies fastest. Groups list their ranks in ascending order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

enum class Axis : uint8_t { Dp, Fsdp, Ep };
inline constexpr int kNumAxes = 3;

/// Some axes of the mesh. Ranks of a group over them have the same coordinates along all others.
class AxisSet {
public:
  constexpr AxisSet() = default;
  constexpr explicit AxisSet(uint8_t bits) : bits_(bits) {}
  constexpr AxisSet(Axis axis) : bits_(static_cast<uint8_t>(1U << static_cast<int>(axis))) {}

  constexpr bool contains(Axis axis) const { return (bits_ >> static_cast<int>(axis) & 1) != 0; }
  constexpr bool contains(AxisSet other) const { return (bits_ & other.bits_) == other.bits_; }
  constexpr bool intersects(AxisSet other) const { return (bits_ & other.bits_) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr uint8_t bits() const { return bits_; }
  constexpr AxisSet operator|(AxisSet other) const {
    return AxisSet(static_cast<uint8_t>(bits_ | other.bits_));
  }
  constexpr bool operator==(const AxisSet &) const = default;
  constexpr auto operator<=>(const AxisSet &) const = default;

private:
  uint8_t bits_ = 0; // bit i: axis i
};

/// `["fsdp", "ep"]`.
std::string text(AxisSet axes);

struct Mesh {
  int32_t sizes[kNumAxes] = {1, 1, 1}; // by Axis

  int32_t size(Axis axis) const { return sizes[static_cast<int>(axis)]; }
  int64_t numRanks() const { return int64_t{sizes[0]} * sizes[1] * sizes[2]; }
  int32_t coordinate(int64_t rank, Axis axis) const;
  /// How many ranks a group over `axes` has; 1 for none.
  int64_t groupSize(AxisSet axes) const;
  /// The place of `rank` in its group over `axes`, from 0.
  int64_t indexInGroup(int64_t rank, AxisSet axes) const;
  /// The ranks of the group of `rank` over `axes`, ascending.
  std::vector<int64_t> groupOf(int64_t rank, AxisSet axes) const;
  bool operator==(const Mesh &) const = default;
};

/// `fsdp=2,ep=4`, axes of size 1 left out; empty for one rank.
std::string text(const Mesh &mesh);

/// Dimension 0 is cut in equal parts over the ranks of a group along `dim0`; what is left,
/// row-major and padded with zeros to a multiple of n * kFlatAlignment elements, in n equal parts
/// over the n ranks of a group along `flat`. Neither: each rank holds all.
struct Sharding {
  AxisSet dim0;
  AxisSet flat;
  bool empty() const { return dim0.empty() && flat.empty(); }
  bool operator==(const Sharding &) const = default;
};

/// A flat shard is a multiple of this many elements.
inline constexpr int64_t kFlatAlignment = 128;

/// How many elements each of `ranks` flat shards of `elements` elements has.
int64_t flatShardElements(int64_t elements, int64_t ranks);

/// Elements [begin, end) of a row-major tensor.
struct ElementRange {
  int64_t begin = 0, end = 0;
  int64_t count() const { return end - begin; }
  bool operator==(const ElementRange &) const = default;
};

/// The type's extents of a rank's part of a tensor of `shape`: `shape` itself, with dimension 0
/// divided, or one extent. `shape` can be divided so (Verify.h).
std::vector<int64_t> localShape(std::vector<int64_t> shape, const Sharding &sharding,
                                const Mesh &mesh);

/// The elements of the whole tensor that `rank` holds, padding left out; empty where it holds only
/// padding.
ElementRange localRange(const std::vector<int64_t> &shape, const Sharding &sharding,
                        const Mesh &mesh, int64_t rank);

} // namespace switchyard

// Sizes and names of what a plan lays out: extents at given symbol values, bytes of buffers, the
// text of types.
#pragma once

#include "runtime/plan/Plan.h"

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace switchyard {

/// No state, buffer or arena is larger (1 PiB); sums of a few of them cannot overflow.
inline constexpr uint64_t kMaxBytes = uint64_t{1} << 50;

std::string_view name(Arena arena);
std::string_view name(StateKind kind);

/// The least multiple of kBufferAlignment that is not below `bytes`.
inline uint64_t alignUp(uint64_t bytes) {
  return (bytes + kBufferAlignment - 1) / kBufferAlignment * kBufferAlignment;
}

/// The bounds of the plan's symbols, in their order.
std::vector<int64_t> symbolBounds(const Plan &plan);

/// `extent` with the plan's symbols at `values`. The extent is one of a verified plan.
inline int64_t valueOf(const Extent &extent, std::span<const int64_t> values) {
  return extent.offset + (extent.symbol < 0 ? 0 : extent.scale * values[extent.symbol]);
}

/// Bytes of `buffer` with the plan's symbols at `values`. The buffer is one of a verified plan.
uint64_t bytesOf(const Buffer &buffer, std::span<const int64_t> values);

/// Bytes of `state`. The state is one of a verified plan.
uint64_t bytesOf(const State &state);

/// Bytes of a tensor of static `shape`, or nothing where an extent is below 1 or the product above
/// kMaxBytes.
std::optional<uint64_t> checkedBytes(DType dtype, std::span<const int64_t> shape);

/// "bf16[2*T, 64]", "f32[]". Symbols that the plan lacks are printed by their index.
std::string typeText(const Plan &plan, DType dtype, std::span<const Extent> shape);
std::string typeText(DType dtype, std::span<const int64_t> shape);

/// A buffer that an instruction names, and its part: an operand of the kernel ("x",
/// "statistics[2]"), "workspace", "from", "to".
struct Access {
  uint32_t buffer = 0;
  kernels::Role role = kernels::Role::In;
  std::string operand;
  bool isWorkspace = false;
};

/// The accesses of `instruction`, operands first, in their order. The launch's kernel exists and
/// takes that many operands.
std::vector<Access> accessesOf(const Instruction &instruction);

/// The kernel's name, or "copy".
std::string_view nameOf(const Instruction &instruction);

} // namespace switchyard

// Sizes and names of what a plan lays out: extents at given symbol values, bytes of buffers, the
// text of types.
#pragma once

#include "runtime/core/Floats.h"
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
std::string_view name(CollectiveKind kind);

/// `dtype` as a format of floats; nothing of integers.
std::optional<FloatFormat> floatFormat(DType dtype);

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

/// Bytes of memory that `buffer` has with the plan's symbols at `values`: its own, and the padding
/// that it reserves.
uint64_t capacityOf(const Buffer &buffer, std::span<const int64_t> values);

/// Bytes of the whole of `state`, on all ranks together. The state is one of a verified plan.
uint64_t bytesOf(const State &state);

/// Bytes of a rank's part of `state`: the same on all ranks, a flat shard's padding included.
uint64_t localBytesOf(const State &state, const Mesh &mesh);

/// Bytes of memory that a rank's part of `state` has: its own, and the padding that it reserves.
uint64_t capacityOf(const State &state, const Mesh &mesh);

/// The value that `symbol` has in a pass of `tokens` tokens: the rows that an exchange receives at
/// once follow T.
int64_t valueFor(const Symbol &symbol, int64_t tokens);

/// The index of the plan's symbol called `name`, or -1.
int32_t findSymbol(const Plan &plan, std::string_view name);

/// Bytes of a tensor of static `shape`, or nothing where an extent is below 1 or the product above
/// kMaxBytes.
std::optional<uint64_t> checkedBytes(DType dtype, std::span<const int64_t> shape);

/// "bf16[2*T, 64]", "f32[]". Symbols that the plan lacks are printed by their index.
std::string typeText(const Plan &plan, DType dtype, std::span<const Extent> shape);
std::string typeText(DType dtype, std::span<const int64_t> shape);

/// A buffer that an instruction names, and its part: an operand of the kernel ("x",
/// "statistics[2]"), "workspace", "from", "to", an operand of a collective ("in[0]", "received").
struct Access {
  uint32_t buffer = 0;
  kernels::Role role = kernels::Role::In;
  std::string operand;
  bool isWorkspace = false;
};

/// The accesses of `instruction`, operands first, in their order; of a repeat, those that it makes
/// itself. The launch's kernel exists and takes that many operands; a collective's operands are as
/// many as its kind has.
std::vector<Access> accessesOf(const Instruction &instruction);

uint32_t streamOf(const Instruction &instruction);

/// The kernel's or the collective's name, or "copy", "repeat", "record", "wait".
std::string_view nameOf(const Instruction &instruction);

/// "program micro_step, instruction 3 (linear)".
std::string instructionText(const Program &program, size_t index);

} // namespace switchyard

// What ranks send each other. One place says it for what is foreseen (Inspect.h) and for what is
// counted while a plan runs (the executor), so that the two can be compared.
#pragma once

#include "runtime/plan/Plan.h"

#include <array>
#include <cstdint>
#include <span>

namespace switchyard {

inline constexpr int kNumCollectiveKinds = 5;

/// Calls of collectives, and the bytes that a rank sends in them to other ranks.
struct Traffic {
  uint64_t calls = 0;
  uint64_t bytes = 0;
  bool operator==(const Traffic &) const = default;
};
/// Indexed by CollectiveKind.
using TrafficByKind = std::array<Traffic, kNumCollectiveKinds>;

/// Of all kinds together.
uint64_t sentBytes(const TrafficByKind &traffic);

/// What a rank of a group of `ranks` sends for one pair of buffers of an all_gather or
/// reduce_scatter of parts of `bytes` bytes, or of an all_reduce of `bytes` bytes: what rings send,
/// (n - 1) parts, or 2 (n - 1) / n of the whole.
uint64_t bytesSent(CollectiveKind kind, int64_t ranks, uint64_t bytes);

/// What a rank sends in `program`, run once with the plan's symbols at `values`.
struct ProgramTraffic {
  /// token_exchange and token_return: if each of a rank's tokens goes to any rank as likely as to
  /// any other, in round 0 alone.
  TrafficByKind expected = {};
  /// At most that, whatever the routing: every row leaves its rank. The rounds of a repeat move
  /// each row once, so their number does not matter; `calls` are those of one round.
  TrafficByKind worst = {};
};
/// Bytes of `collective` alone, run once: of `expected`, and of `worst`.
struct CollectiveBytes {
  uint64_t expected = 0;
  uint64_t worst = 0;
};
CollectiveBytes bytesOf(const Plan &plan, const Program &program,
                        const CollectiveInstruction &collective, std::span<const int64_t> values);

ProgramTraffic trafficOf(const Plan &plan, const Program &program, std::span<const int64_t> values);

} // namespace switchyard

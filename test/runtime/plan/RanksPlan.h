// Small valid plans for many ranks, built by hand.
#pragma once

#include "test/runtime/plan/TinyPlan.h"

namespace switchyard::test {

inline constexpr AxisSet kAllAxes = AxisSet(Axis::Dp) | kFsdpAndEp;

/// As many elements as several shards, the last of them not full.
inline constexpr int64_t kShardedVocab = 20;
inline constexpr int64_t kShardedWidth = 24;

/// An embedding and a head, trained on the ranks of `mesh`: flat shards over fsdp and ep, replicas
/// over dp. micro_step gathers both parameters in one call and adds their summed gradients up;
/// optimizer_step updates the shards. With one rank it has no collectives.
Plan shardedPlan(Mesh mesh);

/// The width of exchangePlan()'s rows, and how many there are at most.
inline constexpr int64_t kExchangeWidth = 6;
inline constexpr int64_t kExchangeRows = 24;

/// Tokens that go to experts: `logits` sends the embedding of each of its tokens, which stand
/// expert by expert as `cu_seqlens` [E] counts them, to the rank of its expert over `axes`, where
/// it is multiplied with the expert's matrix; what comes back, round 0 and then overflow rounds, is
/// given out as `logits` [kExchangeRows, kExchangeWidth] in the order of `rows`. A round has
/// ceil(rowsPerToken * T) rows. Experts [E, D, D] are divided over `axes`.
Plan exchangePlan(Mesh mesh, AxisSet axes, int64_t experts, double rowsPerToken);

} // namespace switchyard::test

// What a checkpoint takes of a plan's states: which, which part of them on which rank, and the host
// memory for it.
#pragma once

#include "runtime/plan/Plan.h"

namespace switchyard {

/// Parameters, masters and moments; gradients begin each step as zeros.
inline bool isSaved(const State &state) {
  return state.kind != StateKind::Gradient;
}

/// The elements of `state` that `rank` saves: what it holds, shared with the ranks that hold the
/// same.
ElementRange savedPart(const State &state, const Mesh &mesh, int64_t rank);

/// Bytes that a rank copies to host memory for a save: the most of any rank. With that much memory
/// training waits for the copy alone.
uint64_t stagingBytes(const Plan &plan);

} // namespace switchyard

// A launch of attention: its shape, and what both directions check.
#pragma once

#include "kernels/cuda/Kernels.h"

namespace switchyard::kernels::cuda {

/// Tiles stand in shared memory and registers, which bounds head_dim.
inline constexpr int64_t kMaxHeadDim = 256;

/// A launch's shapes and segments.
struct AttentionShape {
  int64_t tokens = 0;
  int64_t heads = 0;
  int64_t kvHeads = 0;
  int64_t headDim = 0;
  float scale = 1;
  int64_t window = 0;            // the number of positions that a query sees; never 0
  const int32_t *ends = nullptr; // cu_seqlens
  int64_t boundaries = 0;        // its extent
};

AttentionShape attentionShape(const Launch &launch, const Tensor &qkv, const Tensor &cuSeqlens);

/// Why a launch cannot run, or nothing.
Fault checkAttention(const Launch &launch);

} // namespace switchyard::kernels::cuda

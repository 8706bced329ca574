#include "kernels/cuda/AttentionTiles.h"

#include <algorithm>

namespace switchyard::kernels::cuda {

AttentionShape attentionShape(const Launch &launch, const Tensor &qkv, const Tensor &cuSeqlens) {
  AttentionShape shape;
  shape.tokens = qkv.dims[0];
  shape.heads = launch.attributes[0].integer;
  shape.kvHeads = launch.attributes[1].integer;
  shape.headDim = launch.attributes[2].integer;
  shape.scale = static_cast<float>(launch.attributes[3].real);
  int64_t window = launch.attributes[4].integer;
  // No position is further away than the first: an open window is one of all tokens.
  shape.window = window == 0 ? std::max<int64_t>(shape.tokens, 1) : window;
  shape.ends = cuSeqlens.as<int32_t>();
  shape.boundaries = cuSeqlens.dims[0];
  return shape;
}

Fault checkAttention(const Launch &launch) {
  int64_t heads = launch.attributes[0].integer;
  int64_t kvHeads = launch.attributes[1].integer;
  int64_t headDim = launch.attributes[2].integer;
  if (heads % kvHeads != 0)
    return "attention: num_heads " + std::to_string(heads) + " is not a multiple of num_kv_heads " +
           std::to_string(kvHeads);
  if (headDim > kMaxHeadDim)
    return "attention: head_dim " + std::to_string(headDim) + " is more than " +
           std::to_string(kMaxHeadDim) + ", the most that the CUDA kernel handles";
  return std::nullopt;
}

} // namespace switchyard::kernels::cuda

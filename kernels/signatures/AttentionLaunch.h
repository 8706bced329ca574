// A launch of attention or attention_grad as all backends read it: its extents and attributes
// (attention.h), and what it has to fulfil beyond its signature.
#pragma once

#include "kernels/signatures/Launch.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

namespace switchyard::kernels {

/// A launch's extents and segments.
struct AttentionShape {
  int64_t tokens = 0;
  int64_t heads = 0;
  int64_t kvHeads = 0;
  int64_t headDim = 0;
  float scale = 1;
  int64_t window = 0;            // the number of positions that a query sees; never 0
  const int32_t *ends = nullptr; // cu_seqlens
  int64_t boundaries = 0;        // its extent

  constexpr int64_t group() const { return heads / kvHeads; }
  constexpr int64_t packedWidth() const { return (heads + 2 * kvHeads) * headDim; }
  constexpr int64_t outputWidth() const { return heads * headDim; }
  constexpr int64_t keyColumn(int64_t kvHead) const { return (heads + kvHead) * headDim; }
  constexpr int64_t valueColumn(int64_t kvHead) const {
    return (heads + kvHeads + kvHead) * headDim;
  }
};

inline AttentionShape attentionShape(const Launch &launch, const Tensor &qkv,
                                     const Tensor &cuSeqlens) {
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

/// Why the kernel of `backend` ("CPU"), which takes a head_dim of up to `maxHeadDim`, cannot run a
/// launch; or nothing.
inline std::optional<std::string> checkAttention(const Launch &launch, int64_t maxHeadDim,
                                                 std::string_view backend) {
  int64_t heads = launch.attributes[0].integer;
  int64_t kvHeads = launch.attributes[1].integer;
  int64_t headDim = launch.attributes[2].integer;
  if (heads % kvHeads != 0)
    return "attention: num_heads " + std::to_string(heads) + " is not a multiple of num_kv_heads " +
           std::to_string(kvHeads);
  if (headDim > maxHeadDim)
    return "attention: head_dim " + std::to_string(headDim) + " is more than " +
           std::to_string(maxHeadDim) + ", the most that the " + std::string(backend) +
           " kernel handles";
  return std::nullopt;
}

} // namespace switchyard::kernels

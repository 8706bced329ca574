// Causal attention inside segments, over packed rows [q | k | v] with num_heads query heads that
// share num_kv_heads key and value heads (GQA). Segment s holds rows cu_seqlens[s] to
// cu_seqlens[s+1]; rows past the last are zero. `window` = W > 0 lets a query see its own and the W
// - 1 positions before it; 0 is no window. lse is the logsumexp of each row's scaled scores.
// Blockwise with running maxima (FlashAttention-2, Dao 2023): no [T, T] buffer.
#pragma once

#include "kernels/signatures/Workspace.h"

namespace switchyard::kernels {

/// Rows that CUDA's kernels keep something of: tiles of up to 128 rows are read from any of T rows
/// on.
constexpr int64_t attentionRows(int64_t tokens) {
  return (tokens + 127) / 128 * 128 + 128;
}

/// On a GPU the range of rows that each query sees, those of each 64 queries together, a counter.
constexpr int64_t attentionWorkspace(const Dims &dims, Target target) {
  int64_t rows = attentionRows(dims["T"]);
  return target.kind == Target::Kind::Cuda ? rows * 8 + rows / 64 * 16 + 4 : 0;
}

/// The row sums of dy * y, [T, num_heads]; on a GPU also the rows' logsumexp by heads, and the
/// ranges of rows that each row sees and is seen by.
constexpr int64_t attentionGradWorkspace(const Dims &dims, Target target) {
  int64_t tokens = dims["T"], heads = dims["num_heads"];
  return target.kind == Target::Kind::Cuda ? attentionRows(tokens) * (heads * 8 + 16)
                                           : tokens * heads * 4;
}

inline constexpr OperandSpec kAttentionOperands[] = {
    in("qkv", DTypeRule::A, "T, num_heads*head_dim + 2*num_kv_heads*head_dim"),
    in("cu_seqlens", DTypeRule::I32, "S"),
    out("y", DTypeRule::A, "T, num_heads*head_dim"),
    out("lse", DTypeRule::F32, "T, num_heads"),
};
inline constexpr AttributeSpec kAttentionAttributes[] = {
    integer("num_heads", 1, 65536), integer("num_kv_heads", 1, 65536),
    integer("head_dim", 1, 65536), real("scale", 0, 1e6), integer("window", 0)};
inline constexpr Signature kAttention = {"attention", kAttentionOperands, kAttentionAttributes,
                                         attentionWorkspace};

inline constexpr OperandSpec kAttentionGradOperands[] = {
    in("dy", DTypeRule::A, "T, num_heads*head_dim"),
    in("qkv", DTypeRule::A, "T, num_heads*head_dim + 2*num_kv_heads*head_dim"),
    in("y", DTypeRule::A, "T, num_heads*head_dim"),
    in("lse", DTypeRule::F32, "T, num_heads"),
    in("cu_seqlens", DTypeRule::I32, "S"),
    out("dqkv", DTypeRule::A, "T, num_heads*head_dim + 2*num_kv_heads*head_dim"),
};
inline constexpr AttributeSpec kAttentionGradAttributes[] = {
    integer("num_heads", 1, 65536), integer("num_kv_heads", 1, 65536),
    integer("head_dim", 1, 65536), real("scale", 0, 1e6), integer("window", 0)};
inline constexpr Signature kAttentionGrad = {"attention_grad", kAttentionGradOperands,
                                             kAttentionGradAttributes, attentionGradWorkspace};

} // namespace switchyard::kernels

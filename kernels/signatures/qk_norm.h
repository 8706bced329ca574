// RMSNorm of the whole query and the whole key projection inside packed rows [q | k | v] (OLMoE's
// q_norm and k_norm); the value columns are copied. And its gradients.
#pragma once

#include "kernels/signatures/Workspace.h"

namespace switchyard::kernels {

/// Partial sums of both weights' gradients.
constexpr int64_t qkNormWorkspace(const Dims &dims, Target target) {
  return reductionBlocks(target) * (dims["num_heads"] + dims["num_kv_heads"]) * dims["head_dim"] *
         4;
}

inline constexpr OperandSpec kQkNormOperands[] = {
    in("qkv", DTypeRule::A, "T, num_heads*head_dim + 2*num_kv_heads*head_dim"),
    in("q_weight", DTypeRule::A, "num_heads*head_dim"),
    in("k_weight", DTypeRule::A, "num_kv_heads*head_dim"),
    out("y", DTypeRule::A, "T, num_heads*head_dim + 2*num_kv_heads*head_dim", 0),
};
inline constexpr AttributeSpec kQkNormAttributes[] = {
    integer("num_heads", 1, 65536), integer("num_kv_heads", 1, 65536),
    integer("head_dim", 1, 65536), real("eps", 0, 1)};
inline constexpr Signature kQkNorm = {"qk_norm", kQkNormOperands, kQkNormAttributes};

inline constexpr OperandSpec kQkNormGradOperands[] = {
    in("dy", DTypeRule::A, "T, num_heads*head_dim + 2*num_kv_heads*head_dim"),
    in("qkv", DTypeRule::A, "T, num_heads*head_dim + 2*num_kv_heads*head_dim"),
    in("q_weight", DTypeRule::A, "num_heads*head_dim"),
    in("k_weight", DTypeRule::A, "num_kv_heads*head_dim"),
    out("dqkv", DTypeRule::A, "T, num_heads*head_dim + 2*num_kv_heads*head_dim", 0),
    out("dq_weight", DTypeRule::F32, "num_heads*head_dim"),
    out("dk_weight", DTypeRule::F32, "num_kv_heads*head_dim"),
};
inline constexpr AttributeSpec kQkNormGradAttributes[] = {
    integer("num_heads", 1, 65536), integer("num_kv_heads", 1, 65536),
    integer("head_dim", 1, 65536), real("eps", 0, 1)};
inline constexpr Signature kQkNormGrad = {"qk_norm_grad", kQkNormGradOperands,
                                          kQkNormGradAttributes, qkNormWorkspace};

} // namespace switchyard::kernels

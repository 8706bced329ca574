// Load-balancing loss (Fedus et al. 2021, as transformers' load_balancing_loss_func) over the
// router statistics of all L layers: per micro-batch m, aux_m = E * sum_e (counts / (L n)) * (sums
// / (L n)), n its tokens = counts / top_k; the loss is sum_m aux_weights[m] * aux_m, a micro-batch
// without tokens gives 0. expert_counts[l, e] counts slots over all micro-batches. The gradient is
// by the summed probabilities, the same for every layer; counts get none (0).
#pragma once

#include "kernels/signatures/Workspace.h"

namespace switchyard::kernels {

/// On a GPU, each micro-batch's term in float64.
constexpr int64_t loadBalanceLossWorkspace(const Dims &dims, Target target) {
  return target.kind == Target::Kind::Cuda ? dims["M"] * 8 : 0;
}

inline constexpr OperandSpec kLoadBalanceLossOperands[] = {
    in("aux_weights", DTypeRule::F32, "M"),
    repeatedIn("statistics", DTypeRule::F32, "M, 2, E"),
    out("loss", DTypeRule::F32, ""),
    out("expert_counts", DTypeRule::F32, "L, E"),
};
inline constexpr AttributeSpec kLoadBalanceLossAttributes[] = {integer("top_k", 1, 65536)};
inline constexpr Signature kLoadBalanceLoss = {"load_balance_loss", kLoadBalanceLossOperands,
                                               kLoadBalanceLossAttributes,
                                               loadBalanceLossWorkspace};

inline constexpr OperandSpec kLoadBalanceLossGradOperands[] = {
    in("dloss", DTypeRule::F32, ""),
    in("aux_weights", DTypeRule::F32, "M"),
    repeatedIn("statistics", DTypeRule::F32, "M, 2, E"),
    out("dstatistics", DTypeRule::F32, "M, 2, E"),
};
inline constexpr AttributeSpec kLoadBalanceLossGradAttributes[] = {integer("top_k", 1, 65536)};
inline constexpr Signature kLoadBalanceLossGrad = {
    "load_balance_loss_grad", kLoadBalanceLossGradOperands, kLoadBalanceLossGradAttributes};

} // namespace switchyard::kernels

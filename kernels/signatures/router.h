// Router: float32 softmax over the experts' logits, top-k (ties to the lowest expert), weights
// optionally renormalized to sum 1 and rounded to their dtype. A token whose micro-batch id is
// negative is inert: its experts are -1 and its weights 0. statistics[m, 0, e] counts the slots of
// micro-batch m routed to e; statistics[m, 1, e] sums the probabilities of e (rounded to the
// logits' dtype) over its tokens. The gradient recomputes the softmax. Renormalized weights are a
// softmax of the chosen logits; the gradient by them alone needs no logits: with g = dweights,
// dlogits[t, experts[t, j]] = w_j sum_i w_i (g_j - g_i), and 0 for experts that are not chosen.
#pragma once

#include "kernels/signatures/Workspace.h"

namespace switchyard::kernels {

inline constexpr std::string_view kRouterScores[] = {"softmax"};

/// Partial statistics and one token's probabilities of each block of tokens.
constexpr int64_t routerWorkspace(const Dims &dims, Target target) {
  return reductionBlocks(target) * (2 * dims["M"] + 1) * dims["E"] * 4;
}

/// One token's probabilities and their gradients of each block of tokens; a GPU needs none.
constexpr int64_t routerGradWorkspace(const Dims &dims, Target target) {
  return target.kind == Target::Kind::Cuda ? 0 : kReductionBlocks * 2 * dims["E"] * 4;
}

inline constexpr OperandSpec kRouterOperands[] = {
    in("logits", DTypeRule::A, "T, E"),           in("micro_batch_ids", DTypeRule::I32, "T"),
    out("weights", DTypeRule::B, "T, top_k"),     out("experts", DTypeRule::I32, "T, top_k"),
    out("statistics", DTypeRule::F32, "M, 2, E"),
};
inline constexpr AttributeSpec kRouterAttributes[] = {
    integer("top_k", 1, 65536), choice("score", kRouterScores), flag("renormalize")};
inline constexpr Signature kRouter = {"router", kRouterOperands, kRouterAttributes,
                                      routerWorkspace};

inline constexpr OperandSpec kRouterGradOperands[] = {
    in("dweights", DTypeRule::B, "T, top_k"),   in("dstatistics", DTypeRule::F32, "M, 2, E"),
    in("logits", DTypeRule::A, "T, E"),         in("experts", DTypeRule::I32, "T, top_k"),
    in("micro_batch_ids", DTypeRule::I32, "T"), out("dlogits", DTypeRule::A, "T, E"),
};
inline constexpr AttributeSpec kRouterGradAttributes[] = {
    integer("top_k", 1, 65536), choice("score", kRouterScores), flag("renormalize")};
inline constexpr Signature kRouterGrad = {"router_grad", kRouterGradOperands, kRouterGradAttributes,
                                          routerGradWorkspace};

inline constexpr OperandSpec kRouterGradRenormalizedOperands[] = {
    in("dweights", DTypeRule::B, "T, top_k"),
    in("weights", DTypeRule::B, "T, top_k"),
    in("experts", DTypeRule::I32, "T, top_k"),
    out("dlogits", DTypeRule::A, "T, num_experts"),
};
inline constexpr AttributeSpec kRouterGradRenormalizedAttributes[] = {
    integer("num_experts", 1, 65536)};
inline constexpr Signature kRouterGradRenormalized = {
    "router_grad_renormalized", kRouterGradRenormalizedOperands, kRouterGradRenormalizedAttributes};

} // namespace switchyard::kernels

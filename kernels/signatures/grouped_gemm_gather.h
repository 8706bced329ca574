// Grouped GEMM on tokens where they stand: row r of the contraction is row token_of_row[r] of
// [T, ...], so that no permuted copy of the tokens is made. A number outside [0, T) is no token;
// its row counts as zero. See grouped_gemm.h and grouped_gemm_gated.h for the products.
//
// rows_of_tokens turns row_of_slot (permute.h) round: token_of_row [T k] is the token of each row,
// -1 for a row of no slot, and weight_of_row the weight of its slot, or 0.
//
// grouped_gemm_dgrad_gated_gather stands for unpermute_grad, grouped_gemm_dgrad_gated and what else
// the weights need. With p[r] = (dy[token_of_row[r]] w[e]) rounded, and y0[r] the activated row:
// dgate_up is the activation's gradient by weight_of_row[r] p[r], y[r] = weight_of_row[r] y0[r] is
// what the weight gradient of w contracts with dy, and dweights[t, j] = sum_f p[r, f] y0[r, f] for
// r = row_of_slot[t, j]: what dy[t] . (w[e] y0[r]) is, without that product.
//
// grouped_gemm_dgrad_gated_weighted is the same of rows that permute made of dy: p[r] = (dy[r]
// w[e]) rounded.
#pragma once

#include "kernels/signatures/gated_activation.h"
#include "kernels/signatures/grouped_gemm.h"

namespace switchyard::kernels {

/// The largest F of experts whose backward direction gathers too. What gathers copies rows by
/// threads, which slows a gradient by weight by 15 to 25%; what it saves, two passes over [R, D],
/// is less than that where the products are wide. On one H100 in bfloat16 the backward direction of
/// T, D, F, E, K = 24576, 1536, 256, 128, 8 is 18% faster gathered, that of OLMoE's layer, F =
/// 1,024, is 4% faster with rows permuted again.
inline constexpr int64_t kWidestGatheredExpert = 512;

/// On a CPU the tokens' rows are gathered first: [R, width] of them.
constexpr int64_t gatheredRows(const Dims &dims, Target target, int64_t width) {
  return target.kind == Target::Kind::Cuda ? 0
                                           : dims["R"] * width * dims.elementBytes(DTypeRule::A);
}

constexpr int64_t gatedGatherWorkspace(const Dims &dims, Target target) {
  return gemmWorkspace(dims, target) + gatheredRows(dims, target, dims["K"]);
}
constexpr int64_t wgradGatherXWorkspace(const Dims &dims, Target target) {
  return weightGradientWorkspace(dims, target) + gatheredRows(dims, target, dims["K"]);
}
constexpr int64_t wgradGatherDyWorkspace(const Dims &dims, Target target) {
  return weightGradientWorkspace(dims, target) + gatheredRows(dims, target, dims["N"]);
}
constexpr int64_t wgradGatherXAccumulateWorkspace(const Dims &dims, Target target) {
  return wgradAccumulateWorkspace(dims, target) + gatheredRows(dims, target, dims["K"]);
}
constexpr int64_t wgradGatherDyAccumulateWorkspace(const Dims &dims, Target target) {
  return wgradAccumulateWorkspace(dims, target) + gatheredRows(dims, target, dims["N"]);
}

/// On a GPU, each row's part of dweights in float32.
constexpr int64_t dgradGatedGatherWorkspace(const Dims &dims, Target target) {
  int64_t bytes = target.kind == Target::Kind::Cuda ? dims["R"] * 4 : 0;
  return gemmWorkspace(dims, target) + gatheredRows(dims, target, dims["N"]) + bytes;
}

/// On a GPU, each row's parts of dweights in float32.
constexpr int64_t dgradGatedWeightedWorkspace(const Dims &dims, Target target) {
  int64_t parts = (dims["F"] + kColumnsOfPart - 1) / kColumnsOfPart;
  int64_t bytes = target.kind == Target::Kind::Cuda ? dims["R"] * parts * 4 : 0;
  return gemmWorkspace(dims, target) + bytes;
}

inline constexpr OperandSpec kRowsOfTokensOperands[] = {
    in("row_of_slot", DTypeRule::I32, "T, k"),
    in("weights", DTypeRule::B, "T, k"),
    out("token_of_row", DTypeRule::I32, "T*k"),
    out("weight_of_row", DTypeRule::B, "T*k"),
};
inline constexpr Signature kRowsOfTokens = {"rows_of_tokens", kRowsOfTokensOperands};

inline constexpr OperandSpec kGroupedGemmGatedGatherOperands[] = {
    in("x", DTypeRule::A, "T, K"),          in("token_of_row", DTypeRule::I32, "R"),
    in("w", DTypeRule::A, "E, 2*F, K"),     in("group_sizes", DTypeRule::I32, "E"),
    out("gate_up", DTypeRule::A, "R, 2*F"), out("y", DTypeRule::A, "R, F"),
};
inline constexpr Signature kGroupedGemmGatedGather = {
    "grouped_gemm_gated_gather", kGroupedGemmGatedGatherOperands, kGatedActivationAttributes,
    gatedGatherWorkspace};

inline constexpr OperandSpec kGroupedGemmDgradGatedGatherOperands[] = {
    in("dy", DTypeRule::A, "T, N"),         in("token_of_row", DTypeRule::I32, "R"),
    in("weight_of_row", DTypeRule::B, "R"), in("row_of_slot", DTypeRule::I32, "T, k"),
    in("w", DTypeRule::A, "E, N, F"),       in("group_sizes", DTypeRule::I32, "E"),
    in("gate_up", DTypeRule::A, "R, 2*F"),  out("dgate_up", DTypeRule::A, "R, 2*F", 6),
    out("y", DTypeRule::A, "R, F"),         out("dweights", DTypeRule::B, "T, k"),
};
inline constexpr Signature kGroupedGemmDgradGatedGather = {
    "grouped_gemm_dgrad_gated_gather", kGroupedGemmDgradGatedGatherOperands,
    kGatedActivationAttributes, dgradGatedGatherWorkspace};

inline constexpr OperandSpec kGroupedGemmDgradGatedWeightedOperands[] = {
    in("dy", DTypeRule::A, "R, N"),
    in("weight_of_row", DTypeRule::B, "R"),
    in("row_of_slot", DTypeRule::I32, "T, k"),
    in("w", DTypeRule::A, "E, N, F"),
    in("group_sizes", DTypeRule::I32, "E"),
    in("gate_up", DTypeRule::A, "R, 2*F"),
    out("dgate_up", DTypeRule::A, "R, 2*F", 5),
    out("y", DTypeRule::A, "R, F"),
    out("dweights", DTypeRule::B, "T, k"),
};
inline constexpr Signature kGroupedGemmDgradGatedWeighted = {
    "grouped_gemm_dgrad_gated_weighted", kGroupedGemmDgradGatedWeightedOperands,
    kGatedActivationAttributes, dgradGatedWeightedWorkspace};

/// dw[e] = dy_e^T x_e where x_e are the tokens of the expert's rows.
inline constexpr OperandSpec kGroupedGemmWgradGatherXOperands[] = {
    in("dy", DTypeRule::A, "R, N"),          in("x", DTypeRule::A, "T, K"),
    in("token_of_row", DTypeRule::I32, "R"), in("group_sizes", DTypeRule::I32, "E"),
    out("dw", DTypeRule::F32OrA, "E, N, K"),
};
inline constexpr Signature kGroupedGemmWgradGatherX = {
    "grouped_gemm_wgrad_gather_x", kGroupedGemmWgradGatherXOperands, {}, wgradGatherXWorkspace};

/// The same where dy_e are.
inline constexpr OperandSpec kGroupedGemmWgradGatherDyOperands[] = {
    in("dy", DTypeRule::A, "T, N"),          in("token_of_row", DTypeRule::I32, "R"),
    in("x", DTypeRule::A, "R, K"),           in("group_sizes", DTypeRule::I32, "E"),
    out("dw", DTypeRule::F32OrA, "E, N, K"),
};
inline constexpr Signature kGroupedGemmWgradGatherDy = {
    "grouped_gemm_wgrad_gather_dy", kGroupedGemmWgradGatherDyOperands, {}, wgradGatherDyWorkspace};

/// Both, added to what there is as grouped_gemm_wgrad_accumulate does.
inline constexpr OperandSpec kGroupedGemmWgradGatherXAccumulateOperands[] = {
    in("dy", DTypeRule::A, "R, N"),
    in("x", DTypeRule::A, "T, K"),
    in("token_of_row", DTypeRule::I32, "R"),
    in("group_sizes", DTypeRule::I32, "E"),
    update("accumulator", DTypeRule::F32OrA, "E, N, K"),
};
inline constexpr Signature kGroupedGemmWgradGatherXAccumulate = {
    "grouped_gemm_wgrad_gather_x_accumulate",
    kGroupedGemmWgradGatherXAccumulateOperands,
    {},
    wgradGatherXAccumulateWorkspace};

inline constexpr OperandSpec kGroupedGemmWgradGatherDyAccumulateOperands[] = {
    in("dy", DTypeRule::A, "T, N"),
    in("token_of_row", DTypeRule::I32, "R"),
    in("x", DTypeRule::A, "R, K"),
    in("group_sizes", DTypeRule::I32, "E"),
    update("accumulator", DTypeRule::F32OrA, "E, N, K"),
};
inline constexpr Signature kGroupedGemmWgradGatherDyAccumulate = {
    "grouped_gemm_wgrad_gather_dy_accumulate",
    kGroupedGemmWgradGatherDyAccumulateOperands,
    {},
    wgradGatherDyAccumulateWorkspace};

} // namespace switchyard::kernels

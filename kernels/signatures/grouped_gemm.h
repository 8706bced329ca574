// Grouped GEMM: the rows [R, K] of expert e, which stand one group after the other, times its
// matrix w[e] [N, K] transposed; group_sizes [E] is data. Rows past the last group are zero in
// every result. Gradients by data (dy w) and by weight (dw[e] = dy_e^T x_e, the float32 sum or
// its rounding to the operands' dtype; zero for an empty group). grouped_gemm_wgrad_squared also
// sums the squares of dw's elements as they are stored, in float32 and always in the same order;
// grouped_gemm_wgrad_accumulate adds the float32 sums to what there is, and rounds once.
#pragma once

#include "kernels/signatures/Workspace.h"
#include "kernels/signatures/optimizer.h"

#include <algorithm>

namespace switchyard::kernels {

inline constexpr OperandSpec kGroupedGemmOperands[] = {
    in("x", DTypeRule::A, "R, K"),
    in("w", DTypeRule::A, "E, N, K"),
    in("group_sizes", DTypeRule::I32, "E"),
    out("y", DTypeRule::A, "R, N"),
};
inline constexpr Signature kGroupedGemm = {"grouped_gemm", kGroupedGemmOperands, {}, gemmWorkspace};

inline constexpr OperandSpec kGroupedGemmDgradOperands[] = {
    in("dy", DTypeRule::A, "R, N"),
    in("w", DTypeRule::A, "E, N, K"),
    in("group_sizes", DTypeRule::I32, "E"),
    out("dx", DTypeRule::A, "R, K"),
};
inline constexpr Signature kGroupedGemmDgrad = {
    "grouped_gemm_dgrad", kGroupedGemmDgradOperands, {}, gemmWorkspace};

inline constexpr OperandSpec kGroupedGemmWgradOperands[] = {
    in("dy", DTypeRule::A, "R, N"),
    in("x", DTypeRule::A, "R, K"),
    in("group_sizes", DTypeRule::I32, "E"),
    out("dw", DTypeRule::F32OrA, "E, N, K"),
};
inline constexpr Signature kGroupedGemmWgrad = {
    "grouped_gemm_wgrad", kGroupedGemmWgradOperands, {}, weightGradientWorkspace};

/// GEMM scratch; on a CPU also each thread's tile of the sums.
constexpr int64_t wgradAccumulateWorkspace(const Dims &dims, Target target) {
  int64_t bytes = gemmWorkspace(dims, target);
  return target.kind == Target::Kind::Cuda ? bytes : bytes + weightGradientTiles(dims, target);
}

inline constexpr OperandSpec kGroupedGemmWgradAccumulateOperands[] = {
    in("dy", DTypeRule::A, "R, N"),
    in("x", DTypeRule::A, "R, K"),
    in("group_sizes", DTypeRule::I32, "E"),
    update("accumulator", DTypeRule::F32OrA, "E, N, K"),
};
inline constexpr Signature kGroupedGemmWgradAccumulate = {"grouped_gemm_wgrad_accumulate",
                                                          kGroupedGemmWgradAccumulateOperands,
                                                          {},
                                                          wgradAccumulateWorkspace};

/// A part of a result over which a GPU sums first, as it stores it: squares over all of it, or dots
/// along its rows.
inline constexpr int64_t kRowsOfPart = 16;
inline constexpr int64_t kColumnsOfPart = 128;

/// How many sums of dw's parts a GPU adds up next.
inline constexpr int64_t kSquaredSums = 1024;

/// That of the gradient; behind it that of sum_of_squares, on a GPU at least a sum for each part,
/// and the sums of these.
constexpr int64_t wgradSquaredWorkspace(const Dims &dims, Target target) {
  int64_t gradient = weightGradientWorkspace(dims, target),
          squares = sumOfSquaresWorkspace(dims, target);
  if (target.kind != Target::Kind::Cuda)
    return gradient + squares;
  int64_t parts = dims["E"] * ((dims["N"] + kRowsOfPart - 1) / kRowsOfPart) *
                  ((dims["K"] + kColumnsOfPart - 1) / kColumnsOfPart);
  return gradient + std::max(squares, parts * 4) + kSquaredSums * 4;
}

inline constexpr OperandSpec kGroupedGemmWgradSquaredOperands[] = {
    in("dy", DTypeRule::A, "R, N"),         in("x", DTypeRule::A, "R, K"),
    in("group_sizes", DTypeRule::I32, "E"), out("dw", DTypeRule::F32OrA, "E, N, K"),
    out("squares", DTypeRule::F32, ""),
};
inline constexpr Signature kGroupedGemmWgradSquared = {
    "grouped_gemm_wgrad_squared", kGroupedGemmWgradSquaredOperands, {}, wgradSquaredWorkspace};

} // namespace switchyard::kernels

// Grouped GEMM: the rows [R, K] of expert e, which stand one group after the other, times its
// matrix w[e] [N, K] transposed; group_sizes [E] is data. Rows past the last group are zero in
// every result. Gradients by data (dy w) and by weight (dw[e] = dy_e^T x_e, the float32 sum or
// its rounding to the operands' dtype; zero for an empty group).
#pragma once

#include "kernels/signatures/Workspace.h"

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

} // namespace switchyard::kernels

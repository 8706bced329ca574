// Linear: y = x w^T for x [T, K] and w [N, K], and its gradients by data (dx = dy w) and by weight
// (dw = dy^T x, the float32 sum or its rounding to the operands' dtype).
#pragma once

#include "kernels/signatures/Workspace.h"

namespace switchyard::kernels {

inline constexpr OperandSpec kLinearOperands[] = {
    in("x", DTypeRule::A, "T, K"),
    in("w", DTypeRule::A, "N, K"),
    out("y", DTypeRule::A, "T, N"),
};
inline constexpr Signature kLinear = {"linear", kLinearOperands, {}, gemmWorkspace};

inline constexpr OperandSpec kLinearDgradOperands[] = {
    in("dy", DTypeRule::A, "T, N"),
    in("w", DTypeRule::A, "N, K"),
    out("dx", DTypeRule::A, "T, K"),
};
inline constexpr Signature kLinearDgrad = {"linear_dgrad", kLinearDgradOperands, {}, gemmWorkspace};

inline constexpr OperandSpec kLinearWgradOperands[] = {
    in("dy", DTypeRule::A, "T, N"),
    in("x", DTypeRule::A, "T, K"),
    out("dw", DTypeRule::F32OrA, "N, K"),
};
inline constexpr Signature kLinearWgrad = {
    "linear_wgrad", kLinearWgradOperands, {}, weightGradientWorkspace};

} // namespace switchyard::kernels

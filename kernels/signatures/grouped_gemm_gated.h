// grouped_gemm followed by gated_activation, and grouped_gemm_dgrad followed by
// gated_activation_grad, each as one kernel: w [E, 2 F, K] has each expert's gate rows before its
// up rows, gate_up is rounded to the dtype before it is activated. grouped_gemm_dgrad_gated also
// yields the activated rows y again, which need not be kept for it.
#pragma once

#include "kernels/signatures/Workspace.h"
#include "kernels/signatures/gated_activation.h"

namespace switchyard::kernels {

inline constexpr OperandSpec kGroupedGemmGatedOperands[] = {
    in("x", DTypeRule::A, "R, K"),          in("w", DTypeRule::A, "E, 2*F, K"),
    in("group_sizes", DTypeRule::I32, "E"), out("gate_up", DTypeRule::A, "R, 2*F"),
    out("y", DTypeRule::A, "R, F"),
};
inline constexpr Signature kGroupedGemmGated = {"grouped_gemm_gated", kGroupedGemmGatedOperands,
                                                kGatedActivationAttributes, gemmWorkspace};

inline constexpr OperandSpec kGroupedGemmDgradGatedOperands[] = {
    in("dy", DTypeRule::A, "R, N"),
    in("w", DTypeRule::A, "E, N, F"),
    in("group_sizes", DTypeRule::I32, "E"),
    in("gate_up", DTypeRule::A, "R, 2*F"),
    out("dgate_up", DTypeRule::A, "R, 2*F", 3),
    out("y", DTypeRule::A, "R, F"),
};
inline constexpr Signature kGroupedGemmDgradGated = {"grouped_gemm_dgrad_gated",
                                                     kGroupedGemmDgradGatedOperands,
                                                     kGatedActivationAttributes, gemmWorkspace};

} // namespace switchyard::kernels

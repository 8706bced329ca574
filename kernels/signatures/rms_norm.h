// RMSNorm over the last dimension: y = cast(x * rsqrt(mean(x^2) + eps)) * w, float32 inside (Zhang
// & Sennrich 2019, as transformers' MixtralRMSNorm), and its gradients.
#pragma once

#include "kernels/signatures/Workspace.h"

namespace switchyard::kernels {

inline constexpr OperandSpec kRmsNormOperands[] = {
    in("x", DTypeRule::A, "T, D"),
    in("w", DTypeRule::A, "D"),
    out("y", DTypeRule::A, "T, D", 0),
};
inline constexpr AttributeSpec kRmsNormAttributes[] = {real("eps", 0, 1)};
inline constexpr Signature kRmsNorm = {"rms_norm", kRmsNormOperands, kRmsNormAttributes};

inline constexpr OperandSpec kRmsNormGradOperands[] = {
    in("dy", DTypeRule::A, "T, D"),     in("x", DTypeRule::A, "T, D"),  in("w", DTypeRule::A, "D"),
    out("dx", DTypeRule::A, "T, D", 0), out("dw", DTypeRule::F32, "D"),
};
inline constexpr AttributeSpec kRmsNormGradAttributes[] = {real("eps", 0, 1)};
inline constexpr Signature kRmsNormGrad = {"rms_norm_grad", kRmsNormGradOperands,
                                           kRmsNormGradAttributes, rowReductionWorkspace<1>};

} // namespace switchyard::kernels

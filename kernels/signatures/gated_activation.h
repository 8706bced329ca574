// Gated activation: y = act(gate) * up for rows [gate | up] (SwiGLU, Shazeer 2020, for silu), and
// its gradient. float32 inside, act(gate) rounded to the dtype before the product, as transformers
// does.
#pragma once

#include "kernels/signatures/Signature.h"

namespace switchyard::kernels {

inline constexpr std::string_view kActivations[] = {"silu"};

inline constexpr OperandSpec kGatedActivationOperands[] = {
    in("gate_up", DTypeRule::A, "R, 2*F"),
    out("y", DTypeRule::A, "R, F"),
};
inline constexpr AttributeSpec kGatedActivationAttributes[] = {choice("activation", kActivations)};
inline constexpr Signature kGatedActivation = {"gated_activation", kGatedActivationOperands,
                                               kGatedActivationAttributes};

inline constexpr OperandSpec kGatedActivationGradOperands[] = {
    in("dy", DTypeRule::A, "R, F"),
    in("gate_up", DTypeRule::A, "R, 2*F"),
    out("dgate_up", DTypeRule::A, "R, 2*F", 1),
};
inline constexpr AttributeSpec kGatedActivationGradAttributes[] = {
    choice("activation", kActivations)};
inline constexpr Signature kGatedActivationGrad = {
    "gated_activation_grad", kGatedActivationGradOperands, kGatedActivationGradAttributes};

} // namespace switchyard::kernels

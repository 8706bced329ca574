// Rotary position embedding (Su et al. 2021) of the query and key heads of packed rows [q | k | v]:
// half rotation, cos and sin computed in float32 and cast to the dtype of qkv. `inverse` rotates
// back, which is the gradient.
#pragma once

#include "kernels/signatures/Signature.h"

namespace switchyard::kernels {

inline constexpr OperandSpec kRotaryOperands[] = {
    in("qkv", DTypeRule::A, "T, num_heads*head_dim + 2*num_kv_heads*head_dim"),
    in("position_ids", DTypeRule::I32, "T"),
    out("y", DTypeRule::A, "T, num_heads*head_dim + 2*num_kv_heads*head_dim", 0),
};
inline constexpr AttributeSpec kRotaryAttributes[] = {
    integer("num_heads", 1, 65536), integer("num_kv_heads", 1, 65536),
    integer("head_dim", 1, 65536), real("theta", 1, 1e12), flag("inverse")};
inline constexpr Signature kRotary = {"rotary", kRotaryOperands, kRotaryAttributes};

} // namespace switchyard::kernels

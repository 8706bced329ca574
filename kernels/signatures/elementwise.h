// Elementwise and row operations: sum of two tensors, product with a constant, a constant,
// accumulation into a wider or narrower buffer (float32 sum, one rounding), conversion to another
// dtype, selected rows (ids in [0, T)), sum of scalars in order.
#pragma once

#include "kernels/signatures/Signature.h"

namespace switchyard::kernels {

inline constexpr OperandSpec kAddOperands[] = {
    in("a", DTypeRule::A, "..."),
    in("b", DTypeRule::A, "..."),
    out("y", DTypeRule::A, "...", 0),
};
inline constexpr Signature kAdd = {"add", kAddOperands};

inline constexpr OperandSpec kScaleOperands[] = {
    in("x", DTypeRule::A, "..."),
    out("y", DTypeRule::A, "...", 0),
};
inline constexpr AttributeSpec kScaleAttributes[] = {real("factor", -1e30, 1e30)};
inline constexpr Signature kScale = {"scale", kScaleOperands, kScaleAttributes};

inline constexpr OperandSpec kConstantOperands[] = {
    out("y", DTypeRule::A, "..."),
};
inline constexpr AttributeSpec kConstantAttributes[] = {real("value", -1e30, 1e30)};
inline constexpr Signature kConstant = {"constant", kConstantOperands, kConstantAttributes};

inline constexpr OperandSpec kAccumulateOperands[] = {
    update("accumulator", DTypeRule::B, "..."),
    in("value", DTypeRule::A, "..."),
};
inline constexpr Signature kAccumulate = {"accumulate", kAccumulateOperands};

inline constexpr OperandSpec kCastOperands[] = {
    in("x", DTypeRule::A, "..."),
    out("y", DTypeRule::B, "..."),
};
inline constexpr Signature kCast = {"cast", kCastOperands};

inline constexpr OperandSpec kGatherRowsOperands[] = {
    in("x", DTypeRule::A, "T, D"),
    in("rows", DTypeRule::I32, "B"),
    out("y", DTypeRule::A, "B, D"),
};
inline constexpr Signature kGatherRows = {"gather_rows", kGatherRowsOperands};

inline constexpr OperandSpec kSumOperands[] = {
    repeatedIn("terms", DTypeRule::F32, ""),
    out("y", DTypeRule::F32, ""),
};
inline constexpr Signature kSum = {"sum", kSumOperands};

} // namespace switchyard::kernels

// Dropless dispatch. sort_by_expert orders the slots (t, j) of experts [T, k] stably by expert:
// row_of_slot is the row of each slot (-1 for an inert one), group_sizes the rows of each expert.
// permute copies token rows to their slots' rows (rows of no slot are zero); unpermute sums each
// token's k rows, weighted, in top-k order, in float32. The kernels of _add add that sum, rounded,
// to x, as the kernel add does: the same bits.
#pragma once

#include "kernels/signatures/Workspace.h"

namespace switchyard::kernels {

/// The number of slots of each expert in each block of tokens; on a GPU also their sums.
constexpr int64_t sortByExpertWorkspace(const Dims &dims, Target target) {
  int64_t arrays = target.kind == Target::Kind::Cuda ? 2 : 1;
  return arrays * reductionBlocks(target) * dims["num_experts"] * 4;
}

/// On a GPU, the slot of each row.
constexpr int64_t slotOfRowWorkspace(const Dims &dims, Target target) {
  return target.kind == Target::Kind::Cuda ? dims["T"] * dims["k"] * 4 : 0;
}

inline constexpr OperandSpec kSortByExpertOperands[] = {
    in("experts", DTypeRule::I32, "T, k"),
    out("group_sizes", DTypeRule::I32, "num_experts"),
    out("row_of_slot", DTypeRule::I32, "T, k"),
};
inline constexpr AttributeSpec kSortByExpertAttributes[] = {integer("num_experts", 1, 65536)};
inline constexpr Signature kSortByExpert = {"sort_by_expert", kSortByExpertOperands,
                                            kSortByExpertAttributes, sortByExpertWorkspace};

inline constexpr OperandSpec kPermuteOperands[] = {
    in("x", DTypeRule::A, "T, D"),
    in("row_of_slot", DTypeRule::I32, "T, k"),
    out("rows", DTypeRule::A, "T*k, D"),
};
inline constexpr Signature kPermute = {"permute", kPermuteOperands, {}, slotOfRowWorkspace};

inline constexpr OperandSpec kPermuteGradOperands[] = {
    in("drows", DTypeRule::A, "T*k, D"),
    in("row_of_slot", DTypeRule::I32, "T, k"),
    out("dx", DTypeRule::A, "T, D"),
};
inline constexpr Signature kPermuteGrad = {"permute_grad", kPermuteGradOperands};

inline constexpr OperandSpec kPermuteGradAddOperands[] = {
    in("drows", DTypeRule::A, "T*k, D"),
    in("row_of_slot", DTypeRule::I32, "T, k"),
    in("x", DTypeRule::A, "T, D"),
    out("dx", DTypeRule::A, "T, D", 2),
};
inline constexpr Signature kPermuteGradAdd = {"permute_grad_add", kPermuteGradAddOperands};

inline constexpr OperandSpec kUnpermuteOperands[] = {
    in("rows", DTypeRule::A, "T*k, D"),
    in("weights", DTypeRule::B, "T, k"),
    in("row_of_slot", DTypeRule::I32, "T, k"),
    out("y", DTypeRule::A, "T, D"),
};
inline constexpr Signature kUnpermute = {"unpermute", kUnpermuteOperands};

inline constexpr OperandSpec kUnpermuteAddOperands[] = {
    in("rows", DTypeRule::A, "T*k, D"),        in("weights", DTypeRule::B, "T, k"),
    in("row_of_slot", DTypeRule::I32, "T, k"), in("x", DTypeRule::A, "T, D"),
    out("y", DTypeRule::A, "T, D", 3),
};
inline constexpr Signature kUnpermuteAdd = {"unpermute_add", kUnpermuteAddOperands};

inline constexpr OperandSpec kUnpermuteGradOperands[] = {
    in("dy", DTypeRule::A, "T, D"),       in("rows", DTypeRule::A, "T*k, D"),
    in("weights", DTypeRule::B, "T, k"),  in("row_of_slot", DTypeRule::I32, "T, k"),
    out("drows", DTypeRule::A, "T*k, D"), out("dweights", DTypeRule::B, "T, k"),
};
inline constexpr Signature kUnpermuteGrad = {
    "unpermute_grad", kUnpermuteGradOperands, {}, slotOfRowWorkspace};

} // namespace switchyard::kernels

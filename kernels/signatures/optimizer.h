// AdamW with decoupled weight decay (Loshchilov & Hutter 2019, as torch.optim.AdamW) and the
// clipped global norm (as torch.nn.utils.clip_grad_norm_). clip: grad_norm = sqrt(sum), coefficient
// = min(1, max_grad_norm / (grad_norm + 1e-6)) (1 where max_grad_norm <= 0), apply = 1 if the norm
// is finite, else 0. adamw: p *= 1 - lr * weight_decay (if `decay`), moments from coefficient *
// grad, p -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + epsilon); step counts
// from 1; nothing is written where apply is 0. Each of torch's operations (the clip, the decay,
// each moment's product and sum, root, quotient, + epsilon) is computed in float32 and rounded to
// the dtype of what it overwrites. adamw_master keeps the float32 value of the parameter in master
// and stores its rounding in param.
#pragma once

#include "kernels/signatures/Workspace.h"

namespace switchyard::kernels {

/// Blocks that sum a part of the elements each; their sums are added in order. On a GPU at most.
inline constexpr int64_t kSumOfSquaresBlocks = 1024;
inline constexpr int64_t kCudaSumOfSquaresBlocks = 8192;

constexpr int64_t sumOfSquaresWorkspace(const Dims &, Target target) {
  return (target.kind == Target::Kind::Cuda ? kCudaSumOfSquaresBlocks : kSumOfSquaresBlocks) * 4;
}

inline constexpr OperandSpec kSumOfSquaresOperands[] = {
    in("x", DTypeRule::A, "..."),
    out("y", DTypeRule::F32, ""),
};
inline constexpr Signature kSumOfSquares = {
    "sum_of_squares", kSumOfSquaresOperands, {}, sumOfSquaresWorkspace};

inline constexpr OperandSpec kClipOperands[] = {
    in("sum_of_squares", DTypeRule::F32, ""), in("max_grad_norm", DTypeRule::F32, ""),
    out("grad_norm", DTypeRule::F32, ""),     out("coefficient", DTypeRule::F32, ""),
    out("apply", DTypeRule::I32, ""),
};
inline constexpr Signature kClip = {"clip", kClipOperands};

inline constexpr OperandSpec kAdamwOperands[] = {
    update("param", DTypeRule::A, "..."),      update("exp_avg", DTypeRule::C, "..."),
    update("exp_avg_sq", DTypeRule::C, "..."), in("grad", DTypeRule::B, "..."),
    in("coefficient", DTypeRule::F32, ""),     in("apply", DTypeRule::I32, ""),
    in("learning_rate", DTypeRule::F32, ""),   in("beta1", DTypeRule::F32, ""),
    in("beta2", DTypeRule::F32, ""),           in("epsilon", DTypeRule::F32, ""),
    in("weight_decay", DTypeRule::F32, ""),    in("step", DTypeRule::F32, ""),
};
inline constexpr AttributeSpec kAdamwAttributes[] = {flag("decay")};
inline constexpr Signature kAdamw = {"adamw", kAdamwOperands, kAdamwAttributes};

inline constexpr OperandSpec kAdamwMasterOperands[] = {
    update("param", DTypeRule::A, "..."),
    update("exp_avg", DTypeRule::C, "..."),
    update("exp_avg_sq", DTypeRule::C, "..."),
    update("master", DTypeRule::F32, "..."),
    in("grad", DTypeRule::B, "..."),
    in("coefficient", DTypeRule::F32, ""),
    in("apply", DTypeRule::I32, ""),
    in("learning_rate", DTypeRule::F32, ""),
    in("beta1", DTypeRule::F32, ""),
    in("beta2", DTypeRule::F32, ""),
    in("epsilon", DTypeRule::F32, ""),
    in("weight_decay", DTypeRule::F32, ""),
    in("step", DTypeRule::F32, ""),
};
inline constexpr AttributeSpec kAdamwMasterAttributes[] = {flag("decay")};
inline constexpr Signature kAdamwMaster = {"adamw_master", kAdamwMasterOperands,
                                           kAdamwMasterAttributes};

} // namespace switchyard::kernels

// attention and attention_grad in bfloat16 on the tensor cores of any GPU since Ampere
// (AttentionMma.cu), for heads of up to 128 in multiples of 8.
#pragma once

#include "kernels/cuda/Kernels.h"
#include "kernels/signatures/AttentionLaunch.h"

namespace switchyard::kernels::cuda {

/// Whether these kernels run launches of `shape`.
bool takenByMma(const AttentionShape &shape, DType dtype);

// For launches that takenByMma. `delta` is rowsum(dy * y), [T, heads].
Fault prepareAttentionMma(const AttentionShape &shape);
Fault runAttentionMma(const Launch &launch, const AttentionShape &shape);
Fault prepareAttentionGradMma(const AttentionShape &shape);
Fault runAttentionGradMma(const Launch &launch, const AttentionShape &shape, const float *delta);

} // namespace switchyard::kernels::cuda

// attention and attention_grad on a Hopper GPU in bfloat16 (AttentionHopper.cu,
// AttentionGradHopper.cu), for heads of 64 or 128.
#pragma once

#include "kernels/cuda/Kernels.h"
#include "kernels/signatures/AttentionLaunch.h"

namespace switchyard::kernels::cuda {

/// Whether these kernels run launches of `shape` on the current device.
bool takenByHopper(const AttentionShape &shape, DType dtype);

// For launches that takenByHopper, with the signatures' bound of workspace.
Fault prepareAttentionHopper(const AttentionShape &shape);
Fault runAttentionHopper(const Launch &launch, const AttentionShape &shape);
Fault prepareAttentionGradHopper(const AttentionShape &shape);
Fault runAttentionGradHopper(const Launch &launch, const AttentionShape &shape);

} // namespace switchyard::kernels::cuda

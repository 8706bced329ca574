// attention_grad on a Hopper GPU (AttentionGradHopper.cu): bfloat16, heads of 64 or 128.
#pragma once

#include "kernels/cuda/Kernels.h"
#include "kernels/signatures/AttentionLaunch.h"

namespace switchyard::kernels::cuda {

/// Whether these kernels run launches of `shape` on the current device.
bool takenByHopper(const AttentionShape &shape, DType dtype);

/// For a launch that takenByHopper.
Fault prepareAttentionGradHopper(const AttentionShape &shape);

/// Takes attentionGradWorkspace's bytes of workspace.
Fault runAttentionGradHopper(const Launch &launch, const AttentionShape &shape);

} // namespace switchyard::kernels::cuda

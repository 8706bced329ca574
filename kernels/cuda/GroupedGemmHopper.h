// Grouped GEMM on sm_90a: bfloat16 whose rows begin at multiples of 16 bytes.
#pragma once

#include "kernels/cuda/GroupedGemm.h"

namespace switchyard::kernels::cuda {

/// Lets the kernels use all of a block's shared memory. Does nothing on other devices.
Fault prepareGroupedGemmHopper();

/// Whether the current device, this build and the operands allow it.
bool runsOnHopper(GroupedProduct product, const GroupedOperands &operands);

Fault runGroupedGemmHopper(const Launch &launch, GroupedProduct product,
                           const GroupedOperands &operands);

} // namespace switchyard::kernels::cuda

// Grouped GEMM on sm_90a, for what GroupedGemm.cu decides to send here: bfloat16 whose rows begin
// at multiples of 16 bytes.
#pragma once

#include "kernels/cuda/Kernels.h"

namespace switchyard::kernels::cuda {

/// grouped_gemm, grouped_gemm_dgrad or grouped_gemm_wgrad.
enum class GroupedProduct { Forward, ByData, ByWeight };

/// Lets the kernels use all of a block's shared memory. Does nothing on other devices.
Fault prepareGroupedGemmHopper();

/// Whether the current device, this build and the launch allow it.
bool runsOnHopper(const Launch &launch);

Fault runGroupedGemmHopper(const Launch &launch, GroupedProduct product);

} // namespace switchyard::kernels::cuda

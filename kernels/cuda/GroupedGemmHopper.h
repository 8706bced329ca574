// Grouped GEMM on sm_90a, for what GroupedGemm.cu decides to send here: bfloat16 whose rows begin
// at multiples of 16 bytes.
#pragma once

#include "kernels/cuda/Kernels.h"

namespace switchyard::kernels::cuda {

/// grouped_gemm, grouped_gemm_dgrad, grouped_gemm_wgrad, grouped_gemm_gated or
/// grouped_gemm_dgrad_gated.
enum class GroupedProduct { Forward, ByData, ByWeight, Gated, ByDataGated };

/// Lets the kernels use all of a block's shared memory. Does nothing on other devices.
Fault prepareGroupedGemmHopper();

/// Whether the current device, this build and the launch allow it.
bool runsOnHopper(const Launch &launch, GroupedProduct product);

Fault runGroupedGemmHopper(const Launch &launch, GroupedProduct product);

} // namespace switchyard::kernels::cuda

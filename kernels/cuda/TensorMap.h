// Tensors as Hopper's copy engine sees them.
#pragma once

#include "kernels/cuda/Kernels.h"

#include <cstdint>
#include <cuda.h>

namespace switchyard::kernels::cuda {

/// Describes elements to the copy engine: `dims` counts them along each dimension, the contiguous
/// one first; `strides` are the bytes between neighbours along the other two, multiples of 16. A
/// copy moves a `box` of them; what is outside the tensor arrives as zero. bfloat16 is swizzled
/// over 128 bytes, of which a box is 64 elements wide then; float32 is not. Host work alone,
/// without a call to the device.
Fault describeTensor(CUtensorMap &map, DType dtype, const void *data, const int64_t (&dims)[3],
                     const int64_t (&strides)[2], const int64_t (&box)[3]);

} // namespace switchyard::kernels::cuda

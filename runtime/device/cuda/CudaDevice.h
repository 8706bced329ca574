// A CUDA GPU as a device: memory of cudaMalloc, kernels from kernels/cuda on one stream, copies
// from and to the host through pinned memory.
#pragma once

#include "runtime/device/Device.h"

#include <memory>

namespace switchyard {

/// How many GPUs this process sees: at least one, or Usage.
Result<int> countGpus();

/// GPU `ordinal` of this process as the device of a plan of `target`. Fails if there is no such GPU
/// or `target` is no GPU.
Result<std::unique_ptr<Device>> createCudaDevice(const kernels::Target &target, int ordinal = 0);

} // namespace switchyard

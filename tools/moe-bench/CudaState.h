// deviceState() of GPU 0; CudaState.cpp asks CUDA, NoCuda.cpp stands in for it in builds without.
#pragma once

#include "tools/moe-bench/DeviceState.h"

namespace switchyard::bench {

Result<DeviceState> cudaState();

} // namespace switchyard::bench

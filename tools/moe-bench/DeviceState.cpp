#include "tools/moe-bench/DeviceState.h"

#include "tools/moe-bench/CudaState.h"

namespace switchyard::bench {

Result<DeviceState> deviceState(kernels::Target::Kind kind) {
  if (kind == kernels::Target::Kind::Cuda)
    return cudaState();
  return DeviceState{"CPU", 0};
}

} // namespace switchyard::bench

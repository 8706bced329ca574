#include "tools/moe-bench/CudaState.h"

#include <cuda_runtime_api.h>

namespace switchyard::bench {

static Status statusOf(cudaError_t error, const char *call) {
  if (error == cudaSuccess)
    return {};
  return Status::failed(std::string(call) + ": " + cudaGetErrorString(error));
}

Result<DeviceState> cudaState() {
  cudaDeviceProp properties{};
  SY_RETURN_IF_ERROR(statusOf(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties"));
  size_t free = 0, total = 0;
  SY_RETURN_IF_ERROR(statusOf(cudaMemGetInfo(&free, &total), "cudaMemGetInfo"));
  return DeviceState{properties.name, total - free};
}

} // namespace switchyard::bench

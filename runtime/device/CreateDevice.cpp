#include "runtime/device/CreateDevice.h"

#include "runtime/device/cpu/CpuDevice.h"
#ifdef SWITCHYARD_HAS_CUDA
#include "runtime/device/cuda/CudaDevice.h"
#endif

namespace switchyard {

Result<std::unique_ptr<Device>> createDevice(const kernels::Target &target,
                                             const DeviceOptions &options) {
  if (target.kind == kernels::Target::Kind::Cpu)
    return createCpuDevice(target, options.threads);
#ifdef SWITCHYARD_HAS_CUDA
  if (options.gpu)
    return createCudaDevice(target, *options.gpu);
  SY_ASSIGN_OR_RETURN(int gpus, countGpus());
  return createCudaDevice(target, options.rankOnHost % gpus);
#else
  return Status::usage("the plan is for CUDA devices, and this program was built without CUDA; "
                       "build it with -DMOE_CUDA=ON, or compile the plan with --target cpu");
#endif
}

} // namespace switchyard

#include "tools/moe-bench/CudaState.h"

namespace switchyard::bench {

Result<DeviceState> cudaState() {
  return Status::failed("this build has no CUDA backend; configure it with -DMOE_CUDA=ON");
}

} // namespace switchyard::bench

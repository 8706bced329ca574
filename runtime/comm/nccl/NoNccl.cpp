// Stands for NcclGroups.cpp in a build without NCCL.
#include "runtime/comm/nccl/NcclGroups.h"

namespace switchyard {

bool hasNccl() {
  return false;
}

Result<std::unique_ptr<DeviceGroups>> createNcclGroups(const NcclOptions &) {
  return Status::usage("ranks on GPUs talk by NCCL, which this build is without; configure it with "
                       "-DMOE_CUDA=ON -DMOE_NCCL=ON where nccl.h is, or compile the plan for one "
                       "rank or with --target cpu");
}

} // namespace switchyard

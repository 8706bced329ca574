// Collectives on GPUs by NCCL: one process and one GPU per rank.
//
// The library is loaded when it is asked for, so that a program built with NCCL runs without it.
#pragma once

#include "runtime/comm/DeviceGroup.h"

namespace switchyard {

/// Whether this build has NCCL.
bool hasNccl();

struct NcclOptions {
  /// The most thread blocks that a collective may take, of the GPU's multiprocessors. Fixed, so
  /// that what is left for other kernels does not change from call to call. NCCL_MAX_CTAS goes over
  /// it.
  int maxBlocks = 16;
};

/// Loads NCCL. Usage: this build has none, or none is installed, or it is too old.
Result<std::unique_ptr<DeviceGroups>> createNcclGroups(const NcclOptions &options = {});

} // namespace switchyard

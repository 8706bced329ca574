// The device that a plan runs on.
#pragma once

#include "runtime/device/Device.h"

#include <memory>
#include <optional>

namespace switchyard {

struct DeviceOptions {
  int threads = 0; // CPU: worker threads; 0: as many as the plan allows
  /// CUDA: the number of the GPU among those that this process sees. Without it, the ranks of a
  /// host take them in turn.
  std::optional<int> gpu = std::nullopt;
  int rankOnHost = 0;
};

/// A device for a plan of `target`. Fails as createCpuDevice and createCudaDevice do; Usage if it
/// needs CUDA, which this build does not have.
Result<std::unique_ptr<Device>> createDevice(const kernels::Target &target,
                                             const DeviceOptions &options = {});

} // namespace switchyard

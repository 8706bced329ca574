// The CPU as a device: memory mapped from the system, kernels from kernels/cpu over one pool of
// threads.
#pragma once

#include "runtime/device/Device.h"

#include <memory>

namespace switchyard {

/// A CPU device for a plan of `target`. It has `threads` threads, but not more than the plan's
/// workspaces are made for; 0: as many as the plan allows. Fails if `target` is no CPU.
Result<std::unique_ptr<Device>> createCpuDevice(const kernels::Target &target, int threads = 0);

} // namespace switchyard

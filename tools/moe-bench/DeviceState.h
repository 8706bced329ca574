// The device that a benchmark runs on: what it is called, and what its driver says is in use.
#pragma once

#include "kernels/signatures/Signature.h"
#include "runtime/core/Status.h"

#include <string>

namespace switchyard::bench {

struct DeviceState {
  std::string name;       // "NVIDIA H200"
  uint64_t usedBytes = 0; // of all programs on it, contexts included; of the CPU: 0
};

/// Of the device that plans for `kind` run on. Fails if there is none, or this build has no backend
/// for it.
Result<DeviceState> deviceState(kernels::Target::Kind kind);

} // namespace switchyard::bench

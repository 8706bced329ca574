// The CUDA backend's kernels: a function per signature, found by name.
//
// A launch is enqueued on the context's stream: no function waits for the device, and run allocates
// nothing, so launches can be captured as a CUDA graph. Results are the same bits each time: no
// floating-point atomics, and every sum has a fixed order.
#pragma once

#include "kernels/signatures/Launch.h"

#include <cuda_runtime_api.h>
#include <optional>
#include <string>

namespace switchyard::kernels::cuda {

class GemmCache;

/// What kernels share: a rank's stream and its prepared GEMMs.
struct Context {
  cudaStream_t stream = nullptr;
  GemmCache *gemms = nullptr;
};

inline Context &contextOf(const Launch &launch) {
  return *static_cast<Context *>(launch.context);
}

/// Nothing, or a message that names the failing call and what CUDA says of it.
using Fault = std::optional<std::string>;

/// The fault of a CUDA call, if it is one.
Fault faultOf(cudaError_t error, const char *call);

/// The fault of the kernel launches since the last check, if any.
Fault launchFault(const char *kernel);

struct Kernel {
  std::string_view name;
  /// Does all work that may allocate (choosing cuBLASLt's algorithms) for launches of these shapes;
  /// the data pointers may be null. Returns a message if the launch cannot run. Null: nothing to
  /// prepare.
  Fault (*prepare)(const Launch &launch) = nullptr;
  /// Enqueues the work. Allocates nothing.
  Fault (*run)(const Launch &launch) = nullptr;
};

/// The kernel of the signature called `name`, or null.
const Kernel *findKernel(std::string_view name);

} // namespace switchyard::kernels::cuda

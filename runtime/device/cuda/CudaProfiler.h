// Activities of a GPU, as CUPTI's activity interface records them: kernels of replayed graphs too.
#pragma once

#include "runtime/device/Profiler.h"

#include <memory>

namespace switchyard {

/// Fails if the program was built without CUPTI's headers, or its library, which is loaded here and
/// not before, is not on this machine.
Result<std::unique_ptr<Profiler>> createCudaProfiler();

} // namespace switchyard

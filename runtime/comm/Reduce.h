// The reduction that every backend uses: element by element, in rank order.
#pragma once

#include "runtime/comm/Communicator.h"

namespace switchyard::comm {

/// destination[count] = sources[0][count], reduced with sources[1], sources[2], ... in this order;
/// bf16 is rounded once, at the end. The destination may be one of the sources.
void reduceInOrder(kernels::DType dtype, Reduction reduction, std::span<const void *const> sources,
                   int64_t count, void *destination);

} // namespace switchyard::comm

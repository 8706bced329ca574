// The whole of a state, where each rank holds a part of it.
#pragma once

#include "runtime/comm/Agreement.h"
#include "runtime/executor/Executor.h"

namespace switchyard {

/// Elements [begin, end) of the whole of state `state`, row-major, to `out` on rank 0; on other
/// ranks `out` is not touched. Padding is no part of it. Collective: every rank calls it with the
/// same range. On the way each rank holds as many bytes as the range has, rank 0 twice: ask for
/// chunks.
///
/// A gradient that ranks have not summed yet (Training::syncEachBatch is false) is summed over them
/// in rank order.
Status gatherState(Executor &executor, Communicator *communicator, size_t state, int64_t begin,
                   int64_t end, std::span<std::byte> out);

} // namespace switchyard

// The worlds in which the conformance suite runs: ranks as threads, or this process as one rank of
// a job, started by mpirun, or by itself: `comm_test --spawn 4`.
#pragma once

#include "runtime/comm/Communicator.h"

#include <functional>

namespace switchyard::test {

/// Small enough that the suite's reductions go in several pieces.
inline constexpr int64_t kScratchBytes = 4096;

/// The communicator of a job, or null: then worlds are made of threads.
Communicator *&jobCommunicator();

/// Runs `body` on each rank of a world of `size` ranks, at once; skips the test if this is a
/// job of another size.
void runRanks(int size, const std::function<void(Communicator &communicator)> &body);

} // namespace switchyard::test

// The worlds in which the conformance suite runs: ranks as threads, or this process as one rank of
// an mpirun job.
#pragma once

#include "runtime/comm/Communicator.h"

#include <functional>

namespace switchyard::test {

/// Small enough that the suite's reductions go in several pieces.
inline constexpr int64_t kScratchBytes = 4096;

/// The communicator of an mpirun job, or null: then worlds are made of threads.
Communicator *&mpiCommunicator();

/// Runs `body` on each rank of a world of `size` ranks, at once; skips the test if this is an
/// mpirun job of another size.
void runRanks(int size, const std::function<void(Communicator &communicator)> &body);

} // namespace switchyard::test

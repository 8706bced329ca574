// Ranks as processes started by mpirun, over MPI (Open MPI 4 is what it is tested with).
//
// Bytes move by MPI's sends and receives; reductions are done here, in rank order, not by
// MPI_Reduce, whose order is its own. MPI is called by one thread at a time
// (MPI_THREAD_SERIALIZED). Beside MPI, every two ranks keep a TCP connection (RankWatch.h) by which
// a lost rank is noticed.
#pragma once

#include "runtime/comm/Communicator.h"

namespace switchyard {

/// Whether this build has MPI.
bool hasMpi();

/// Starts MPI and the watch over the other ranks; called by all processes, once, before they start
/// threads of their own. finish() ends MPI. Usage failure if this build has no MPI.
///
/// mpirun ends the other processes with SIGTERM when one dies. So that they still leave their
/// records, SIGTERM at its default action then takes effect 0.7 s late; a handler that the program
/// installs is left alone, and should not end it before that time either.
Result<std::unique_ptr<Communicator>> createMpiCommunicator(const CommunicatorOptions &options);

} // namespace switchyard

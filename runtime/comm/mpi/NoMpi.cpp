// Stands for MpiCommunicator.cpp in a build without MPI.
#include "runtime/comm/mpi/MpiCommunicator.h"

namespace switchyard {

bool hasMpi() {
  return false;
}

Result<std::unique_ptr<Communicator>> createMpiCommunicator(const CommunicatorOptions &) {
  return Status::usage("ranks were started by mpirun, but this build has no MPI; install "
                       "libopenmpi-dev (scripts/setup does) and configure again with -DMOE_MPI=ON, "
                       "or run the ranks as threads with --ranks N");
}

} // namespace switchyard

// Ranks as processes that know where to meet (RankPlace.h): started by torchrun, srun, mpirun or
// moe-run itself. Bytes move over TCP, by one connection for every two members of a group; a lost
// rank is noticed by the watch (RankWatch.h).
//
// This is for what hosts have to agree about, and for ranks on CPUs where there is no MPI; ranks on
// GPUs move their tensors by NCCL (nccl/NcclGroups.h).
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/comm/process/RankPlace.h"

namespace switchyard {

/// Meets the other ranks and starts the watch over them; called by all processes, once, before they
/// start threads of their own. Ranks wait for each other for the timeout, a minute at least.
/// SIGTERM is delayed as createMpiCommunicator() says.
Result<std::unique_ptr<Communicator>> createTcpCommunicator(const RankPlace &place,
                                                            const CommunicatorOptions &options);

} // namespace switchyard

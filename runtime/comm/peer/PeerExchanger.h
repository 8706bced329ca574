// Exchanges of rows by kernels that write to the memory of other GPUs of the host and read it
// (kernels/cuda/TokenExchange.h). Ranks are processes, which map each other's memory by CUDA's
// inter-process handles.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/comm/RowExchanger.h"

#include <memory>

namespace switchyard {

/// Shares `memory`, one cudaMalloc on this thread's current GPU, with the ranks of `group`. Null on
/// all ranks of the world where that cannot be on one of them: a rank on another host, GPUs that do
/// not reach each other, more ranks than kMaxPeers, NCCL_P2P_DISABLE=1. Called by all ranks of the
/// world at once, while nothing uses the memory, with the same number of bytes in each group.
Result<std::unique_ptr<RowExchanger>> createPeerExchanger(Communicator &communicator, Group &group,
                                                          std::span<std::byte> memory);

} // namespace switchyard

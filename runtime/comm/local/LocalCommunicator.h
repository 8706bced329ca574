// Ranks as threads of one process: collectives read each other's memory.
//
//   auto world = LocalWorld::create(4, options);
//   each thread r: auto communicator = (*world)->join(r);
//
// A waiting rank spins for some tens of microseconds, then sleeps.
#pragma once

#include "runtime/comm/Communicator.h"

namespace switchyard {

namespace comm {
struct LocalShared;
}

class LocalWorld {
public:
  static Result<std::unique_ptr<LocalWorld>> create(int size, const CommunicatorOptions &options);
  ~LocalWorld();

  /// The communicator of `rank`, once; called by all ranks, each on its own thread: returns when
  /// all have joined. The world may go before the communicators.
  Result<std::unique_ptr<Communicator>> join(int rank);

private:
  explicit LocalWorld(std::shared_ptr<comm::LocalShared> shared);

  std::shared_ptr<comm::LocalShared> shared_;
};

} // namespace switchyard

// Ranks as threads of a test.
#pragma once

#include "runtime/comm/local/LocalCommunicator.h"

#include <gtest/gtest.h>

#include <functional>
#include <thread>
#include <vector>

namespace switchyard::test {

/// Runs `body` on each rank of a world of `size` threads, at once, and ends the communication in
/// good order.
inline void runRankThreads(int size, const CommunicatorOptions &options,
                           const std::function<void(Communicator &communicator)> &body) {
  auto world = LocalWorld::create(size, options);
  ASSERT_TRUE(world.ok()) << world.status().message();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      auto communicator = (*world)->join(rank);
      ASSERT_TRUE(communicator.ok()) << communicator.status().message();
      body(**communicator);
      // A rank that has failed goes without: so the others do not wait for it.
      if (!::testing::Test::HasFatalFailure()) {
        EXPECT_TRUE((*communicator)->finish().ok());
      }
    });
  for (std::thread &thread : threads)
    thread.join();
}

} // namespace switchyard::test

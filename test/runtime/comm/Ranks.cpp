#include "test/runtime/comm/Ranks.h"

#include "runtime/comm/local/LocalCommunicator.h"
#include "runtime/comm/mpi/MpiCommunicator.h"

#include <cstdio>
#include <gtest/gtest.h>
#include <thread>

namespace switchyard::test {

Communicator *&mpiCommunicator() {
  static Communicator *communicator = nullptr;
  return communicator;
}

namespace {

CommunicatorOptions options() {
  CommunicatorOptions options;
  options.timeout = std::chrono::seconds(60);
  options.scratchBytes = kScratchBytes;
  return options;
}

} // namespace

void runRanks(int size, const std::function<void(Communicator &communicator)> &body) {
  if (Communicator *communicator = mpiCommunicator()) {
    if (communicator->size() != size)
      GTEST_SKIP() << "this job has " << communicator->size() << " ranks";
    body(*communicator);
    return;
  }
  auto world = LocalWorld::create(size, options());
  ASSERT_TRUE(world.ok()) << world.status().message();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      auto communicator = (*world)->join(rank);
      ASSERT_TRUE(communicator.ok()) << communicator.status().message();
      body(**communicator);
      EXPECT_TRUE((*communicator)->finish().ok());
    });
  for (std::thread &thread : threads)
    thread.join();
}

} // namespace switchyard::test

int main(int argc, char **argv) {
  using namespace switchyard;
  testing::InitGoogleTest(&argc, argv);
  if (!mpiPlace())
    return RUN_ALL_TESTS();
  auto communicator = createMpiCommunicator(test::options());
  if (!communicator.ok()) {
    std::fprintf(stderr, "%s\n", communicator.status().message().c_str());
    return 1;
  }
  test::mpiCommunicator() = communicator->get();
  int code = RUN_ALL_TESTS();
  if (Status status = (*communicator)->finish(); !status.ok()) {
    std::fprintf(stderr, "%s\n", status.message().c_str());
    return 1;
  }
  return code;
}

#include "test/runtime/comm/Ranks.h"

#include "runtime/comm/mpi/MpiCommunicator.h"
#include "test/runtime/comm/RankThreads.h"

#include <cstdio>
#include <gtest/gtest.h>

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
  runRankThreads(size, options(), body);
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

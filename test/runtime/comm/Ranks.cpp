#include "test/runtime/comm/Ranks.h"

#include "runtime/comm/mpi/MpiCommunicator.h"
#include "runtime/comm/process/SpawnRanks.h"
#include "runtime/comm/tcp/TcpCommunicator.h"
#include "test/runtime/comm/RankThreads.h"

#include <cstdio>
#include <cstdlib>
#include <gtest/gtest.h>

namespace switchyard::test {

Communicator *&jobCommunicator() {
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
  if (Communicator *communicator = jobCommunicator()) {
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
  auto finish = [](const Status &status) {
    if (!status.message().empty())
      std::fprintf(stderr, "%s\n", status.message().c_str());
    return static_cast<int>(status.code());
  };
  auto place = rankPlace();
  if (!place.ok())
    return finish(place.status());
  if (!*place && argc == 3 && std::string_view(argv[1]) == "--spawn")
    return finish(spawnRanks(std::atoi(argv[2])));
  if (!*place)
    return RUN_ALL_TESTS();
  auto communicator = (*place)->launcher == "mpirun"
                          ? createMpiCommunicator(test::options())
                          : createTcpCommunicator(**place, test::options());
  if (!communicator.ok())
    return finish(communicator.status());
  test::jobCommunicator() = communicator->get();
  int code = RUN_ALL_TESTS();
  if (Status status = (*communicator)->finish(); !status.ok())
    return finish(status);
  return code;
}

// The device conformance suite by NCCL: this process is one rank of a job, started by
// `nccl_test --spawn N`. Each rank takes a GPU; with NCCL 2.30 or newer, ranks may share one where
// NCCL_MULTI_RANK_GPU_ENABLE=1.
#include "runtime/comm/nccl/NcclGroups.h"
#include "runtime/comm/process/SpawnRanks.h"
#include "runtime/comm/tcp/TcpCommunicator.h"
#include "test/runtime/comm/Ranks.h"

#include <cstdio>
#include <cstdlib>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

namespace switchyard::test {

Communicator *&jobCommunicator() {
  static Communicator *communicator = nullptr;
  return communicator;
}

namespace {

Result<std::unique_ptr<Communicator>> join(const RankPlace &place, int gpus) {
  if (cudaError_t error = cudaSetDevice(place.rankOnHost % gpus); error != cudaSuccess)
    return Status::failed(cudaGetErrorString(error));
  CommunicatorOptions options;
  options.timeout = std::chrono::seconds(60);
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> communicator,
                      createTcpCommunicator(place, options));
  SY_ASSIGN_OR_RETURN(std::unique_ptr<DeviceGroups> devices, createNcclGroups());
  communicator->useDevices(std::move(devices));
  return communicator;
}

int say(const Status &status) {
  if (!status.message().empty())
    std::fprintf(stderr, "%s\n", status.message().c_str());
  return static_cast<int>(status.code());
}

} // namespace
} // namespace switchyard::test

int main(int argc, char **argv) {
  using namespace switchyard;
  testing::InitGoogleTest(&argc, argv);
  auto place = rankPlace();
  if (!place.ok())
    return test::say(place.status());
  if (!*place && argc == 3 && std::string_view(argv[1]) == "--spawn")
    return test::say(spawnRanks(std::atoi(argv[2])));
  int gpus = 0;
  if (!*place || cudaGetDeviceCount(&gpus) != cudaSuccess || gpus == 0)
    return RUN_ALL_TESTS(); // which skip
  auto communicator = test::join(**place, gpus);
  if (!communicator.ok())
    return test::say(communicator.status());
  test::jobCommunicator() = communicator->get();
  int code = RUN_ALL_TESTS();
  if (Status status = (*communicator)->finish(); !status.ok())
    return test::say(status);
  return code;
}

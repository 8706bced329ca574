// One job for Failure_test.cpp: ranks that reduce without end, one of which may misbehave.
//
//   comm_worker mpi|tcp|RANKS TIMEOUT_MS FOLDER [sleep|exit|fail|gpu RANK]
//
// With tcp it starts four processes of its own. Each rank leaves FOLDER/pid-RANK once it works.
// After some steps rank RANK sleeps for good, ends without a word, or fails with a message.
#include "runtime/comm/local/LocalCommunicator.h"
#include "runtime/comm/mpi/MpiCommunicator.h"
#include "runtime/comm/process/SpawnRanks.h"
#include "runtime/comm/tcp/TcpCommunicator.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <thread>
#include <unistd.h>

namespace switchyard {
namespace {

struct Job {
  CommunicatorOptions options;
  std::string misdeed;
  int culprit = -1;
};

void misbehave(const Job &job, Communicator &communicator) {
  communicator.setWhere({"optimizer_step", 3});
  if (job.misdeed == "sleep" || job.misdeed == "gpu")
    std::this_thread::sleep_for(std::chrono::hours(1));
  if (job.misdeed == "exit")
    _exit(0);
  communicator.fail(Status::failed("the disk is full"));
}

/// Two groups of two where there are four ranks: then the others wait for the lost one by way of
/// each other.
Status work(const Job &job, Communicator &communicator) {
  int rank = communicator.rank();
  std::vector<int> half;
  for (int r = 0; r < communicator.size(); ++r)
    if (r % 2 == rank % 2)
      half.push_back(r);
  SY_ASSIGN_OR_RETURN(Group * group, communicator.createGroup(half));
  std::vector<float> data(5000, 1.0F);
  for (int64_t step = 0;; ++step) {
    if (step == 20) {
      std::ofstream(job.options.failureFolder + "/pid-" + std::to_string(rank)) << getpid();
      if (rank == job.culprit) {
        misbehave(job, communicator);
        return Status::failed("misbehaved");
      }
      if (job.misdeed == "gpu") {
        communicator.setWhere({"micro_step", 6});
        Communicator::DeviceWait waiting(&communicator);
        std::this_thread::sleep_for(std::chrono::hours(1));
      }
    }
    for (Group *over : {group, &communicator.world()}) {
      Where where{"micro_step", step % 7};
      SY_RETURN_IF_ERROR(over->allReduce(where, Reduction::Max,
                                         {kernels::DType::F32, data.data(), data.data(), 5000}));
    }
  }
}

int finish(const Status &status) {
  std::fprintf(stderr, "%s\n", status.message().c_str());
  return static_cast<int>(status.code());
}

int runThreads(const Job &job, int ranks) {
  auto world = LocalWorld::create(ranks, job.options);
  if (!world.ok())
    return finish(world.status());
  std::vector<Status> results(ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      auto communicator = (*world)->join(rank);
      results[rank] = communicator.ok() ? work(job, **communicator) : communicator.status();
    });
  for (std::thread &thread : threads)
    thread.join();
  int code = 0;
  for (const Status &result : results)
    code = std::max(code, finish(result));
  return code;
}

int runProcess(const Job &job, bool isMpi) {
  auto place = rankPlace();
  if (!place.ok())
    return finish(place.status());
  if (!isMpi && !*place)
    return finish(spawnRanks(4));
  auto communicator =
      isMpi ? createMpiCommunicator(job.options) : createTcpCommunicator(**place, job.options);
  return finish(communicator.ok() ? work(job, **communicator) : communicator.status());
}

} // namespace
} // namespace switchyard

int main(int argc, char **argv) {
  using namespace switchyard;
  if (argc != 4 && argc != 6)
    return 2;
  Job job;
  job.options.timeout = std::chrono::milliseconds(std::stoi(argv[2]));
  job.options.failureFolder = argv[3];
  if (argc == 6) {
    job.misdeed = argv[4];
    job.culprit = std::stoi(argv[5]);
  }
  std::string backend = argv[1];
  if (backend == "mpi" || backend == "tcp")
    return runProcess(job, backend == "mpi");
  return runThreads(job, std::stoi(backend));
}

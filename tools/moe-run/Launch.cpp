#include "tools/moe-run/Launch.h"

#include "runtime/comm/local/LocalCommunicator.h"
#include "runtime/comm/mpi/MpiCommunicator.h"
#include "runtime/comm/nccl/NcclGroups.h"
#include "runtime/comm/process/SpawnRanks.h"
#include "runtime/comm/tcp/TcpCommunicator.h"
#include "runtime/device/cpu/CpuDevice.h"
#include "runtime/plan/PlanFile.h"
#include "tools/moe-run/CrashReport.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <unistd.h>

namespace switchyard {

namespace {

std::string rankCount(int64_t ranks) {
  return fmt::format("{} rank{}", ranks, ranks == 1 ? "" : "s");
}

/// Ends the communication of a rank whose work ended with `status`: a failure that the others do
/// not know of is told to them.
Status leave(Communicator &communicator, const Agreement &agreement, const Status &status) {
  if (status.ok())
    return communicator.finish();
  if (!agreement.hasFailed()) {
    communicator.fail(status);
    return status;
  }
  (void)communicator.finish(); // what all ranks failed for matters more
  return status;
}

Status checkMemory(const Plan &plan, int ranks) {
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Device> device, createCpuDevice(plan.target, 1));
  uint64_t memory = device->memoryBytes();
  if (plan.peakBytes <= memory / ranks)
    return {};
  return Status::doesNotFit(fmt::format(
      "{} ranks of {:.2f} GiB each do not fit into this machine's {:.2f} GiB; use fewer ranks, a "
      "plan for a smaller pass (--coalesce tokens=N), or several hosts with mpirun",
      ranks, static_cast<double>(plan.peakBytes) / (1 << 30),
      static_cast<double>(memory) / (1 << 30)));
}

/// The plan of rank 0, on every rank.
Result<Plan> sharePlan(Plan plan, Agreement &agreement) {
  std::vector<uint8_t> bytes;
  if (agreement.isLeader())
    bytes = serialize(plan);
  const int64_t mine[] = {static_cast<int64_t>(bytes.size())};
  SY_ASSIGN_OR_RETURN(std::span<const int64_t> sizes, agreement.gather(mine));
  bytes.resize(sizes[0]);
  SY_RETURN_IF_ERROR(agreement.communicator()->world().broadcast(
      {"between programs"}, std::as_writable_bytes(std::span(bytes)), 0));
  if (agreement.isLeader())
    return plan;
  return parse(bytes);
}

/// Makes the ranks of a plan for GPUs exchange what is there.
Status useGpus(const Plan &plan, Communicator &communicator) {
  if (plan.target.kind != kernels::Target::Kind::Cuda || communicator.size() == 1)
    return {};
  SY_ASSIGN_OR_RETURN(std::unique_ptr<DeviceGroups> devices, createNcclGroups());
  communicator.useDevices(std::move(devices));
  return {};
}

} // namespace

Result<Launch> Launch::create(int64_t ranks) {
  SY_ASSIGN_OR_RETURN(std::optional<RankPlace> place, rankPlace());
  if (!place) {
    int count = static_cast<int>(std::max<int64_t>(ranks, 1));
    return Launch(count == 1 ? Kind::Single : Kind::Threads, count);
  }
  if (ranks != 0 && ranks != place->size)
    return Status::usage(fmt::format("--ranks is {}, but {} started {}; leave --ranks out, or "
                                     "give both the same number",
                                     ranks, place->launcher, rankCount(place->size)));
  // MPI knows where its processes are.
  bool isMpi = place->launcher == "mpirun" && (hasMpi() || !place->meeting);
  return Launch(isMpi ? Kind::Mpi : Kind::Tcp, *place);
}

Status Launch::startRanks() const {
  return spawnRanks(ranks_);
}

std::string Launch::describe() const {
  switch (kind_) {
  case Kind::Single:
    return "";
  case Kind::Threads:
    return fmt::format("{} (threads)", rankCount(ranks_));
  case Kind::Mpi:
    return fmt::format("{} (mpi)", rankCount(ranks_));
  case Kind::Tcp:
    return fmt::format("{} ({})", rankCount(ranks_),
                       place_->launcher == "moe-run" ? "processes" : place_->launcher);
  }
  return "";
}

int Launch::threadsPerRank(int64_t threads) const {
  if (threads > 0)
    return static_cast<int>(threads);
  // mpirun may have bound this process to some of the host's cores, which it then has to itself or
  // shares with other ranks.
  int mine = static_cast<int>(std::thread::hardware_concurrency());
  int share = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)) / ranksHere_;
  return std::max(1, std::min(mine, share));
}

Status Launch::checkPlan(const Plan &plan) const {
  const int64_t expected = plan.mesh.numRanks();
  if (expected == ranks_)
    return {};
  std::string found = place_ && place_->launcher != "moe-run"
                          ? fmt::format("{} started {}", place_->launcher, rankCount(ranks_))
                          : fmt::format("this run has {}", rankCount(ranks_));
  std::string mesh = expected > 1 ? " (" + text(plan.mesh) + ")" : "";
  return Status::usage(fmt::format("the plan is for {}{}, but {}; start it with --ranks {} or "
                                   "mpirun -n {}, or compile a plan for {}",
                                   rankCount(expected), mesh, found, expected, expected,
                                   rankCount(ranks_)));
}

Status Launch::run(Plan plan, const CommunicatorOptions &options, const Tasks &tasks) const {
  if (place_)
    return runProcess(std::move(plan), options, tasks);
  SY_RETURN_IF_ERROR(tasks.load(plan));
  if (kind_ == Kind::Threads)
    return runThreads(plan, options, tasks);
  Agreement alone;
  return tasks.run(plan, alone);
}

Status Launch::runThreads(const Plan &plan, const CommunicatorOptions &options,
                          const Tasks &tasks) const {
  SY_RETURN_IF_ERROR(checkMemory(plan, ranks_));
  SY_ASSIGN_OR_RETURN(std::unique_ptr<LocalWorld> world, LocalWorld::create(ranks_, options));
  CrashReport crashes;
  std::vector<Status> results(ranks_);
  auto rankBody = [&](int rank) -> Status {
    CrashReport::nameThread(rank);
    SY_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> communicator, world->join(rank));
    Agreement agreement(communicator.get());
    return leave(*communicator, agreement, tasks.run(plan, agreement));
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks_; ++rank)
    threads.emplace_back([&, rank] { results[rank] = rankBody(rank); });
  for (std::thread &thread : threads)
    thread.join();
  // All have the same result, unless one failed alone: then the others have RankFailed.
  for (int rank = 0; rank < ranks_; ++rank)
    if (!results[rank].ok() && results[rank].code() != StatusCode::RankFailed)
      return rank == 0 || results[rank].message() == results[0].message()
                 ? results[rank]
                 : results[rank].within("rank " + std::to_string(rank));
  return results[0];
}

Status Launch::runProcess(Plan plan, const CommunicatorOptions &options, const Tasks &tasks) const {
  auto made =
      kind_ == Kind::Mpi ? createMpiCommunicator(options) : createTcpCommunicator(*place_, options);
  // Where rank 0 ended, it or the process that started it has said why.
  if (made.status().code() == StatusCode::RankFailed && place_->launcher == "moe-run" &&
      !isLeader())
    return {StatusCode::RankFailed, ""};
  SY_RETURN_IF_ERROR(made.status());
  std::unique_ptr<Communicator> communicator = std::move(*made);
  Agreement agreement(communicator.get());
  auto work = [&]() -> Status {
    SY_ASSIGN_OR_RETURN(plan, sharePlan(std::move(plan), agreement));
    SY_RETURN_IF_ERROR(agreement.agree(useGpus(plan, *communicator)));
    SY_RETURN_IF_ERROR(agreement.agree(tasks.load(plan)));
    return tasks.run(plan, agreement);
  };
  Status status = leave(*communicator, agreement, work());
  if (status.ok() || isLeader())
    return status;
  return agreement.hasFailed() ? Status(status.code(), "")
                               : status.within("rank " + std::to_string(agreement.rank()));
}

} // namespace switchyard

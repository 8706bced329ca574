#include "runtime/comm/mpi/MpiCommunicator.h"

#include "runtime/comm/process/ProcessCommunicator.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fmt/format.h>
#include <mpi.h>
#include <mutex>
#include <sched.h>

namespace switchyard {
namespace comm {
namespace {

/// MPI counts are int.
constexpr int64_t kMaxMessage = int64_t{1} << 30;
constexpr int kTag = 1;

/// What the groups of a process share. MPI is called under the mutex only.
struct MpiShared {
  std::mutex mutex;
  CommunicatorOptions options;
};

Status check(int code, std::string_view call) {
  if (code == MPI_SUCCESS)
    return {};
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  return Status::failed(fmt::format("{}: {}", call, text));
}

class MpiMessages final : public Messages {
public:
  MpiMessages(std::shared_ptr<MpiShared> shared, int members, MPI_Comm comm)
      : shared_(std::move(shared)), members_(static_cast<size_t>(members)), comm_(comm) {}

  Status send(int member, const void *data, int64_t bytes) override {
    return post(data, bytes, [&](const std::byte *piece, int length, MPI_Request *request) {
      return MPI_Isend(piece, length, MPI_BYTE, member, kTag, comm_, request);
    });
  }

  Status receive(int member, void *data, int64_t bytes) override {
    return post(data, bytes, [&](const std::byte *piece, int length, MPI_Request *request) {
      return MPI_Irecv(const_cast<std::byte *>(piece), length, MPI_BYTE, member, kTag, comm_,
                       request);
    });
  }

  /// Waits politely: ranks may be more than cores.
  Status wait() override {
    for (int64_t turn = 0;; ++turn) {
      int isDone = 0;
      int code = MPI_SUCCESS;
      {
        std::lock_guard lock(shared_->mutex);
        code = MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &isDone,
                           MPI_STATUSES_IGNORE);
      }
      if (code != MPI_SUCCESS || isDone) {
        requests_.clear();
        return afterTheWatch(check(code, "MPI_Testall"));
      }
      if (turn > 4000)
        sleepFor(std::min<int64_t>(20 + (turn - 4000) / 100, 200));
      else if (turn > 200)
        sched_yield();
    }
  }

  void reserve(int64_t messages) override {
    requests_.reserve(2 * static_cast<size_t>(messages) * members_);
  }

  /// On failure of MPI itself the communicator is left to the end of the process.
  void close() override {
    std::lock_guard lock(shared_->mutex);
    MPI_Comm_free(&comm_);
  }

  uint64_t memoryBytes() const override { return requests_.capacity() * sizeof(MPI_Request); }

private:
  static void sleepFor(int64_t microseconds) {
    timespec time{0, microseconds * 1000};
    nanosleep(&time, nullptr);
  }

  template <typename Start>
  Status post(const void *data, int64_t bytes, const Start &start) {
    for (int64_t begin = 0; begin < bytes; begin += kMaxMessage) {
      auto length = static_cast<int>(std::min(kMaxMessage, bytes - begin));
      MPI_Request request = MPI_REQUEST_NULL;
      int code = MPI_SUCCESS;
      {
        std::lock_guard lock(shared_->mutex);
        code = start(at(data, begin), length, &request);
      }
      SY_RETURN_IF_ERROR(afterTheWatch(check(code, "MPI_Isend or MPI_Irecv")));
      requests_.push_back(request);
    }
    return {};
  }

  std::shared_ptr<MpiShared> shared_;
  size_t members_;
  MPI_Comm comm_;
  std::vector<MPI_Request> requests_;
};

class MpiCommunicator final : public ProcessCommunicator {
public:
  MpiCommunicator(const CommunicatorOptions &options, int rank, int size)
      : ProcessCommunicator(rank, size, std::make_shared<RankTable>(size)),
        shared_(std::make_shared<MpiShared>()) {
    shared_->options = options;
  }

  Status start() {
    auto gather = [&](std::span<const std::byte> mine, std::span<std::byte> all) {
      auto bytes = static_cast<int>(mine.size());
      return check(
          MPI_Allgather(mine.data(), bytes, MPI_BYTE, all.data(), bytes, MPI_BYTE, MPI_COMM_WORLD),
          "MPI_Allgather");
    };
    SY_ASSIGN_OR_RETURN(watch_,
                        RankWatch::start(rank(), "mpi", sharedTable(), shared_->options, gather));
    return addWorld();
  }

  std::string_view backend() const override { return "mpi"; }

  Status finish() override {
    SY_RETURN_IF_ERROR(ProcessCommunicator::finish());
    std::lock_guard lock(shared_->mutex);
    return check(MPI_Finalize(), "MPI_Finalize");
  }

private:
  Result<std::unique_ptr<Group>> makeGroup(std::shared_ptr<const GroupMembers> members) override {
    MPI_Comm comm = MPI_COMM_NULL;
    {
      std::lock_guard lock(shared_->mutex);
      SY_RETURN_IF_ERROR(check(
          MPI_Comm_split(MPI_COMM_WORLD, members->ranks.front(), rank(), &comm), "MPI_Comm_split"));
      SY_RETURN_IF_ERROR(
          check(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler"));
    }
    auto messages =
        std::make_unique<MpiMessages>(shared_, static_cast<int>(members->ranks.size()), comm);
    return groupOf(std::move(members), std::move(messages), shared_->options.scratchBytes);
  }

  std::shared_ptr<MpiShared> shared_;
};

} // namespace
} // namespace comm

bool hasMpi() {
  return true;
}

Result<std::unique_ptr<Communicator>> createMpiCommunicator(const CommunicatorOptions &options) {
  int isInitialized = 0;
  MPI_Initialized(&isInitialized);
  if (isInitialized)
    return Status::failed("MPI is running already; one process has one MPI communicator");
  int level = MPI_THREAD_SINGLE;
  SY_RETURN_IF_ERROR(
      comm::check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &level), "MPI_Init"));
  if (level < MPI_THREAD_SERIALIZED)
    return Status::failed("this MPI library cannot be called from several threads, even one at a "
                          "time (MPI_THREAD_SERIALIZED); use one that can, such as Open MPI 4");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  SY_RETURN_IF_ERROR(checkOptions(options, size));
  comm::delayTermination();
  auto communicator = std::make_unique<comm::MpiCommunicator>(options, rank, size);
  SY_RETURN_IF_ERROR(communicator->start());
  return std::unique_ptr<Communicator>(std::move(communicator));
}

} // namespace switchyard

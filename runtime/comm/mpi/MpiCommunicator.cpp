#include "runtime/comm/mpi/MpiCommunicator.h"

#include "runtime/comm/Reduce.h"
#include "runtime/comm/mpi/RankWatch.h"

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

void sleepFor(int64_t microseconds) {
  timespec time{0, microseconds * 1000};
  nanosleep(&time, nullptr);
}

class MpiGroup final : public Group {
public:
  MpiGroup(std::shared_ptr<MpiShared> shared, std::shared_ptr<RankTable> table,
           const std::shared_ptr<const GroupMembers> &members, int worldRank, MPI_Comm comm)
      : Group(std::move(table), members, worldRank), shared_(std::move(shared)), comm_(comm),
        posted_(members->ranks.size()), sources_(members->ranks.size()) {
    size_t size = members->ranks.size();
    headerBytes_ = static_cast<int64_t>(sizeof(Header) + 2 * size * sizeof(int64_t));
    headers_.resize(size * static_cast<size_t>(headerBytes_));
    // A group of one reduces without scratch.
    if (size > 1)
      scratch_.resize(static_cast<size_t>(shared_->options.scratchBytes));
    requests_.reserve(2 * size + 16);
  }

  /// On failure of MPI itself the communicator is left to the end of the process.
  void release() {
    std::lock_guard lock(shared_->mutex);
    MPI_Comm_free(&comm_);
  }

  uint64_t memoryBytes() const {
    return sizeof(*this) + headers_.capacity() + scratch_.capacity() +
           requests_.capacity() * sizeof(MPI_Request) + posted_.capacity() * sizeof(Posted) +
           sources_.capacity() * sizeof(void *);
  }

private:
  Status run(const Call &call) override {
    SY_RETURN_IF_ERROR(exchangeHeaders(call));
    SY_RETURN_IF_ERROR(agree(posted_, ranks()));
    switch (call.op()) {
    case Op::AllGather:
      return allGatherTransfers(call);
    case Op::ReduceScatter:
      for (const Transfer &transfer : call.transfers)
        SY_RETURN_IF_ERROR(reduceScatterTransfer(call, transfer));
      return {};
    case Op::AllReduce:
      for (const Transfer &transfer : call.transfers)
        SY_RETURN_IF_ERROR(allReduceTransfer(call, transfer));
      return {};
    case Op::AllToAllV:
      return exchangeRows(call);
    case Op::ExchangeCounts:
      return exchangeCountsOf(call);
    case Op::Broadcast:
      return broadcastBytes(call);
    case Op::None:
    case Op::Barrier: // to have every rank's header is a barrier
      return {};
    }
    return {};
  }

  // Messages: posted by sendTo and receiveFrom, done after wait(). Two ranks' messages match in the
  // order in which they are posted.

  Status sendTo(int peer, const void *data, int64_t bytes) {
    return post(data, bytes, [&](const std::byte *piece, int length, MPI_Request *request) {
      return MPI_Isend(piece, length, MPI_BYTE, peer, kTag, comm_, request);
    });
  }

  Status receiveFrom(int peer, void *data, int64_t bytes) {
    return post(data, bytes, [&](const std::byte *piece, int length, MPI_Request *request) {
      return MPI_Irecv(const_cast<std::byte *>(piece), length, MPI_BYTE, peer, kTag, comm_,
                       request);
    });
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
      SY_RETURN_IF_ERROR(orLost(check(code, "MPI_Isend or MPI_Irecv")));
      requests_.push_back(request);
    }
    return {};
  }

  /// Waits politely: ranks may be more than cores.
  Status wait() {
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
        return orLost(check(code, "MPI_Testall"));
      }
      if (turn > 4000)
        sleepFor(std::min<int64_t>(20 + (turn - 4000) / 100, 200));
      else if (turn > 200)
        sched_yield();
    }
  }

  /// MPI fails because a rank is lost: the watch, which knows which one, is given the time to end
  /// the process.
  static Status orLost(Status status) {
    if (!status.ok())
      sleepFor(999'999);
    return status;
  }

  Status exchangeHeaders(const Call &call) {
    auto count = static_cast<size_t>(size());
    std::byte *mine = headerOf(rank());
    std::memset(mine, 0, static_cast<size_t>(headerBytes_));
    std::memcpy(mine, &call.header, sizeof(Header));
    bool withCounts = call.op() == Op::AllToAllV && !call.header.problem[0];
    if (withCounts) {
      std::memcpy(mine + sizeof(Header), call.sendRows.counts.data(), count * sizeof(int64_t));
      std::memcpy(mine + sizeof(Header) + count * sizeof(int64_t), call.receiveRows.counts.data(),
                  count * sizeof(int64_t));
    }
    for (int r = 0; r < size(); ++r)
      if (r != rank())
        SY_RETURN_IF_ERROR(receiveFrom(r, headerOf(r), headerBytes_));
    for (int r = 0; r < size(); ++r)
      if (r != rank())
        SY_RETURN_IF_ERROR(sendTo(r, mine, headerBytes_));
    SY_RETURN_IF_ERROR(wait());
    for (int r = 0; r < size(); ++r) {
      std::byte *header = headerOf(r);
      const auto *counts = reinterpret_cast<const int64_t *>(header + sizeof(Header));
      posted_[r] = {
          reinterpret_cast<const Header *>(header), {counts, count}, {counts + count, count}};
    }
    return {};
  }

  std::byte *headerOf(int peer) { return headers_.data() + peer * headerBytes_; }

  Status allGatherTransfers(const Call &call) {
    for (const Transfer &transfer : call.transfers) {
      int64_t bytes = transfer.count * kernels::byteSize(transfer.dtype);
      for (int r = 0; r < size(); ++r)
        if (r != rank())
          SY_RETURN_IF_ERROR(receiveFrom(r, at(transfer.receive, r * bytes), bytes));
    }
    for (const Transfer &transfer : call.transfers) {
      int64_t bytes = transfer.count * kernels::byteSize(transfer.dtype);
      copyBytes(at(transfer.receive, rank() * bytes), transfer.send, bytes);
      for (int r = 0; r < size(); ++r)
        if (r != rank())
          SY_RETURN_IF_ERROR(sendTo(r, transfer.send, bytes));
    }
    return wait();
  }

  /// A part of a buffer in elements.
  struct Slice {
    int64_t begin;
    int64_t count;
  };

  /// Reduces every rank's slice `sliceOf(r)` of all send buffers on rank r, into `to` of r. The
  /// slices differ by one element at most; they go in pieces that fit the scratch.
  template <typename SliceOf>
  Status reduceSlices(const Call &call, const Transfer &transfer, const SliceOf &sliceOf,
                      void *to) {
    int64_t element = kernels::byteSize(transfer.dtype);
    int64_t piece = static_cast<int64_t>(scratch_.size()) / size() / 64 * 64 / element;
    if (size() == 1)
      piece = transfer.count;
    int64_t longest = 0;
    for (int r = 0; r < size(); ++r)
      longest = std::max(longest, sliceOf(r).count);
    for (int64_t begin = 0; begin < longest; begin += piece) {
      auto lengthOf = [&](int r) {
        return std::clamp<int64_t>(sliceOf(r).count - begin, 0, piece);
      };
      for (int r = 0; r < size(); ++r) {
        if (r == rank()) {
          sources_[r] = at(transfer.send, (sliceOf(r).begin + begin) * element);
          continue;
        }
        sources_[r] = scratch_.data() + r * piece * element;
        SY_RETURN_IF_ERROR(
            receiveFrom(r, scratch_.data() + r * piece * element, lengthOf(rank()) * element));
        SY_RETURN_IF_ERROR(sendTo(r, at(transfer.send, (sliceOf(r).begin + begin) * element),
                                  lengthOf(r) * element));
      }
      SY_RETURN_IF_ERROR(wait());
      if (lengthOf(rank()) > 0)
        reduceInOrder(transfer.dtype, call.header.terms.reduction, sources_, lengthOf(rank()),
                      at(to, begin * element));
    }
    return {};
  }

  Status reduceScatterTransfer(const Call &call, const Transfer &transfer) {
    auto sliceOf = [&](int r) { return Slice{r * transfer.count, transfer.count}; };
    return reduceSlices(call, transfer, sliceOf, transfer.receive);
  }

  Status allReduceTransfer(const Call &call, const Transfer &transfer) {
    int64_t element = kernels::byteSize(transfer.dtype);
    auto sliceOf = [&](int r) {
      int64_t begin = transfer.count * r / size();
      return Slice{begin, transfer.count * (r + 1) / size() - begin};
    };
    SY_RETURN_IF_ERROR(reduceSlices(call, transfer, sliceOf,
                                    at(transfer.receive, sliceOf(rank()).begin * element)));
    Slice mine = sliceOf(rank());
    for (int r = 0; r < size(); ++r) {
      if (r == rank())
        continue;
      SY_RETURN_IF_ERROR(receiveFrom(r, at(transfer.receive, sliceOf(r).begin * element),
                                     sliceOf(r).count * element));
      SY_RETURN_IF_ERROR(
          sendTo(r, at(transfer.receive, mine.begin * element), mine.count * element));
    }
    return wait();
  }

  Status exchangeRows(const Call &call) {
    auto sent = [&](int r) {
      return at(call.send.data(), offsetOf(call.sendRows, r) * call.rowBytes);
    };
    auto received = [&](int r) {
      return at(call.receive.data(), offsetOf(call.receiveRows, r) * call.rowBytes);
    };
    for (int r = 0; r < size(); ++r)
      if (r != rank())
        SY_RETURN_IF_ERROR(receiveFrom(r, received(r), call.receiveRows.counts[r] * call.rowBytes));
    for (int r = 0; r < size(); ++r)
      if (r != rank())
        SY_RETURN_IF_ERROR(sendTo(r, sent(r), call.sendRows.counts[r] * call.rowBytes));
    copyBytes(received(rank()), sent(rank()), call.sendRows.counts[rank()] * call.rowBytes);
    return wait();
  }

  Status exchangeCountsOf(const Call &call) {
    auto bytes = static_cast<int64_t>(call.send.size()) / size();
    for (int r = 0; r < size(); ++r)
      if (r != rank())
        SY_RETURN_IF_ERROR(receiveFrom(r, at(call.receive.data(), r * bytes), bytes));
    for (int r = 0; r < size(); ++r)
      if (r != rank())
        SY_RETURN_IF_ERROR(sendTo(r, at(call.send.data(), r * bytes), bytes));
    copyBytes(at(call.receive.data(), rank() * bytes), at(call.send.data(), rank() * bytes), bytes);
    return wait();
  }

  Status broadcastBytes(const Call &call) {
    auto bytes = static_cast<int64_t>(call.receive.size());
    if (rank() != call.root()) {
      SY_RETURN_IF_ERROR(receiveFrom(call.root(), call.receive.data(), bytes));
      return wait();
    }
    for (int r = 0; r < size(); ++r)
      if (r != rank())
        SY_RETURN_IF_ERROR(sendTo(r, call.receive.data(), bytes));
    return wait();
  }

  std::shared_ptr<MpiShared> shared_;
  MPI_Comm comm_;
  int64_t headerBytes_ = 0;
  std::vector<std::byte> headers_; // by rank: a Header, the counts sent, the counts received
  std::vector<std::byte> scratch_;
  std::vector<MPI_Request> requests_;
  std::vector<Posted> posted_;
  std::vector<const void *> sources_;
};

class MpiCommunicator final : public Communicator {
public:
  MpiCommunicator(const CommunicatorOptions &options, int rank, int size)
      : Communicator(rank, size, std::make_shared<RankTable>(size)),
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
    SY_ASSIGN_OR_RETURN(watch_, RankWatch::start(rank(), sharedTable(), shared_->options, gather));
    return addWorld();
  }

  std::string_view backend() const override { return "mpi"; }

  uint64_t memoryBytes() const override {
    uint64_t bytes = 0;
    for (const MpiGroup *group : groups_)
      bytes += group->memoryBytes();
    return bytes;
  }

  Status finish() override {
    SY_RETURN_IF_ERROR(world().barrier({"finish"}));
    watch_->finish();
    for (MpiGroup *group : groups_)
      group->release();
    std::lock_guard lock(shared_->mutex);
    return check(MPI_Finalize(), "MPI_Finalize");
  }

  void fail(const Status &why) override { watch_->fail(why.message()); }

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
    auto group = std::make_unique<MpiGroup>(shared_, sharedTable(), members, rank(), comm);
    groups_.push_back(group.get());
    return std::unique_ptr<Group>(std::move(group));
  }

  std::shared_ptr<MpiShared> shared_;
  std::unique_ptr<RankWatch> watch_;
  std::vector<MpiGroup *> groups_; // those of Communicator
};

/// Gives the watch the time to write its record, then lets SIGTERM do what it does.
extern "C" void terminateLate(int signal) {
  timespec time{0, 700'000'000};
  nanosleep(&time, nullptr);
  struct sigaction action{};
  action.sa_handler = SIG_DFL;
  sigaction(signal, &action, nullptr);
  raise(signal);
}

void delayTermination() {
  struct sigaction action{};
  if (sigaction(SIGTERM, nullptr, &action) != 0 || (action.sa_flags & SA_SIGINFO) ||
      action.sa_handler != SIG_DFL)
    return;
  action.sa_handler = terminateLate;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, nullptr);
}

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

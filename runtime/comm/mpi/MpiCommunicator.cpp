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

/// A part of a piece of rows that goes in one message.
struct Chunk {
  int64_t piece = 0;
  int64_t begin = 0; // its first byte in the piece
  int64_t bytes = 0; // 0: there is none left

  /// Goes on to the next one, of at most `most` bytes; false if there is none.
  template <typename BytesOf>
  bool next(int64_t pieces, int64_t most, const BytesOf &bytesOf) {
    begin += bytes;
    bytes = 0;
    for (; piece < pieces; ++piece, begin = 0)
      if (begin < bytesOf(piece)) {
        bytes = std::min(most, bytesOf(piece) - begin);
        return true;
      }
    return false;
  }
};

class MpiGroup final : public Group {
public:
  MpiGroup(std::shared_ptr<MpiShared> shared, std::shared_ptr<RankTable> table,
           const std::shared_ptr<const GroupMembers> &members, int worldRank, MPI_Comm comm)
      : Group(std::move(table), members, worldRank), shared_(std::move(shared)), comm_(comm),
        posted_(members->ranks.size()), sources_(members->ranks.size()) {
    size_t size = members->ranks.size();
    headers_.resize(size);
    chunks_.resize(2 * size);
    // A group of one reduces without scratch.
    if (size > 1)
      scratch_.resize(static_cast<size_t>(shared_->options.scratchBytes));
    requests_.reserve(2 * size + 16);
  }

  void reserveRows(int64_t pieces) override {
    auto count = static_cast<size_t>(size());
    auto all = static_cast<size_t>(pieces) * count;
    if (counts_.size() < 2 * all * count)
      counts_.resize(2 * all * count);
    requests_.reserve(2 * all + 16);
  }

  /// On failure of MPI itself the communicator is left to the end of the process.
  void release() {
    std::lock_guard lock(shared_->mutex);
    MPI_Comm_free(&comm_);
  }

  uint64_t memoryBytes() const {
    return sizeof(*this) + headers_.capacity() * sizeof(Header) + scratch_.capacity() +
           counts_.capacity() * sizeof(int64_t) + chunks_.capacity() * sizeof(Chunk) +
           requests_.capacity() * sizeof(MPI_Request) + posted_.capacity() * sizeof(Posted) +
           sources_.capacity() * sizeof(void *);
  }

private:
  Status run(const Call &call) override {
    SY_RETURN_IF_ERROR(exchangeHeaders(call));
    SY_RETURN_IF_ERROR(agree(posted_, ranks()));
    if (call.op() == Op::AllToAllV) {
      SY_RETURN_IF_ERROR(exchangeRowCounts(call));
      SY_RETURN_IF_ERROR(agreeRows(posted_, ranks()));
    }
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
      return call.adds ? addRows(call) : exchangeRows(call);
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
    headers_[rank()] = call.header;
    SY_RETURN_IF_ERROR(shareAll(headers_.data(), sizeof(Header)));
    for (int r = 0; r < size(); ++r)
      posted_[r].header = &headers_[r];
    return {};
  }

  /// Every rank learns every rank's counts.
  Status exchangeRowCounts(const Call &call) {
    reserveRows(call.pieces());
    size_t count = call.sendRows.counts.size();
    auto countsOf = [&](int r) { return std::span(counts_).subspan(r * 2 * count, 2 * count); };
    std::ranges::copy(call.sendRows.counts, countsOf(rank()).begin());
    std::ranges::copy(call.receiveRows.counts, countsOf(rank()).subspan(count).begin());
    SY_RETURN_IF_ERROR(shareAll(counts_.data(), static_cast<int64_t>(2 * count * sizeof(int64_t))));
    for (int r = 0; r < size(); ++r) {
      posted_[r].sendCounts = countsOf(r).first(count);
      posted_[r].receiveCounts = countsOf(r).subspan(count);
    }
    return {};
  }

  /// Gathers `bytes` bytes of every rank, which lie in their place in `all` already.
  Status shareAll(void *all, int64_t bytes) {
    for (int r = 0; r < size(); ++r)
      if (r != rank())
        SY_RETURN_IF_ERROR(receiveFrom(r, at(all, r * bytes), bytes));
    for (int r = 0; r < size(); ++r)
      if (r != rank())
        SY_RETURN_IF_ERROR(sendTo(r, at(all, rank() * bytes), bytes));
    return wait();
  }

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
    for (int r = 0; r < size(); ++r)
      for (int64_t j = 0; j < call.pieces() && r != rank(); ++j)
        SY_RETURN_IF_ERROR(receiveFrom(r, received(call, r, j), bytesReceived(call, r, j)));
    for (int r = 0; r < size(); ++r)
      for (int64_t j = 0; j < call.pieces() && r != rank(); ++j)
        SY_RETURN_IF_ERROR(sendTo(r, sent(call, r, j), bytesSent(call, r, j)));
    receiveOwnRows(call);
    return wait();
  }

  /// What arrives goes through the scratch, in chunks that fit it, to be added.
  Status addRows(const Call &call) {
    receiveOwnRows(call);
    int64_t slot = static_cast<int64_t>(scratch_.size()) / size() / 64 * 64;
    std::ranges::fill(chunks_, Chunk());
    for (bool isDone = false; !isDone;) {
      isDone = true;
      for (int r = 0; r < size(); ++r) {
        if (r == rank())
          continue;
        Chunk &in = chunks_[r], &out = chunks_[size() + r];
        auto receivedBytes = [&](int64_t j) { return bytesReceived(call, r, j); };
        auto sentBytes = [&](int64_t j) { return bytesSent(call, r, j); };
        if (in.next(call.pieces(), slot, receivedBytes))
          SY_RETURN_IF_ERROR(receiveFrom(r, scratch_.data() + r * slot, in.bytes));
        if (out.next(call.pieces(), slot, sentBytes))
          SY_RETURN_IF_ERROR(sendTo(r, at(sent(call, r, out.piece), out.begin), out.bytes));
        isDone &= in.bytes == 0 && out.bytes == 0;
      }
      SY_RETURN_IF_ERROR(wait());
      for (int r = 0; r < size(); ++r)
        if (const Chunk &in = chunks_[r]; in.bytes > 0)
          receiveBytes(call, at(received(call, r, in.piece), in.begin), scratch_.data() + r * slot,
                       in.bytes);
    }
    return {};
  }

  void receiveOwnRows(const Call &call) {
    for (int64_t j = 0; j < call.pieces(); ++j)
      receiveBytes(call, received(call, rank(), j), sent(call, rank(), j),
                   bytesSent(call, rank(), j));
  }

  static const std::byte *sent(const Call &call, int r, int64_t j) {
    return at(call.send.data(), offsetOf(call.sendRows, r * call.pieces() + j) * call.rowBytes);
  }
  static std::byte *received(const Call &call, int r, int64_t j) {
    return at(call.receive.data(),
              offsetOf(call.receiveRows, r * call.pieces() + j) * call.rowBytes);
  }
  static int64_t bytesSent(const Call &call, int r, int64_t j) {
    return call.sendRows.counts[r * call.pieces() + j] * call.rowBytes;
  }
  static int64_t bytesReceived(const Call &call, int r, int64_t j) {
    return call.receiveRows.counts[r * call.pieces() + j] * call.rowBytes;
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
  std::vector<Header> headers_; // by rank
  std::vector<int64_t> counts_; // of an allToAllV by rank: the counts sent, the counts received
  std::vector<Chunk> chunks_;   // of addRows by rank: those received, those sent
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

#include "runtime/comm/local/LocalCommunicator.h"

#include "runtime/comm/FailureRecord.h"
#include "runtime/comm/Reduce.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <fmt/format.h>
#include <map>

namespace switchyard {
namespace comm {
namespace {

/// Turns of a rank that waits before it sleeps, as in kernels/cpu/ThreadPool.cpp.
constexpr int kSpins = 2000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// What the ranks of one group share: the calls that they are in, and a barrier.
struct Meeting {
  explicit Meeting(size_t size) : calls(size) {}

  std::vector<const Call *> calls; // by rank of the group; valid between two barriers
  alignas(64) std::atomic<int> arrived{0};
  alignas(64) std::atomic<uint64_t> epoch{0}; // of the barrier; changes under the mutex
  std::mutex mutex;
  std::condition_variable changed;
  bool abandoned = false; // under the mutex: a rank that had arrived went, its call is gone
};

} // namespace

struct LocalShared {
  LocalShared(int size, const CommunicatorOptions &options)
      : options(options), table(std::make_shared<RankTable>(size)), joined(size, false) {}

  CommunicatorOptions options;
  std::shared_ptr<RankTable> table;
  std::mutex mutex;
  std::vector<bool> joined;
  std::map<std::pair<int, int>, std::shared_ptr<Meeting>> meetings; // by group and lowest rank
  std::atomic<int> failedRank{-1};
  std::string failure; // before failedRank is set

  std::shared_ptr<Meeting> meetingOf(const GroupMembers &members) {
    std::lock_guard lock(mutex);
    std::shared_ptr<Meeting> &meeting = meetings[{members.id, members.ranks.front()}];
    if (!meeting)
      meeting = std::make_shared<Meeting>(members.ranks.size());
    return meeting;
  }

  void fail(int rank, const std::string &message) {
    std::lock_guard lock(mutex);
    if (failedRank.load(std::memory_order_relaxed) >= 0)
      return;
    failure = message;
    failedRank.store(rank, std::memory_order_release);
    for (auto &[key, meeting] : meetings) {
      std::lock_guard wake(meeting->mutex);
      meeting->changed.notify_all();
    }
  }

  /// Ends the process: `rank` has waited for too long in a call of group `group`.
  [[noreturn]] void endStalled(int rank, int group) {
    std::lock_guard lock(mutex); // for good: one rank writes for all
    Loss loss{table->awaitedBy(rank, group), Loss::Reason::Stalled,
              fmt::format("rank {} waited for {} ms", rank, options.timeout.count())};
    for (int survivor = 0; survivor < table->size(); ++survivor)
      if (survivor != loss.rank)
        reportLoss(loss, survivor, "local", *table, options.failureFolder);
    endProcess();
  }
};

namespace {

class LocalGroup final : public Group {
public:
  LocalGroup(std::shared_ptr<LocalShared> shared,
             const std::shared_ptr<const GroupMembers> &members, int worldRank)
      : Group(shared->table, members, worldRank), shared_(std::move(shared)),
        meeting_(shared_->meetingOf(*members)), posted_(members->ranks.size()),
        sources_(members->ranks.size()) {}

private:
  Status run(const Call &call) override {
    Meeting &meeting = *meeting_;
    meeting.calls[rank()] = &call;
    SY_RETURN_IF_ERROR(meet(true));
    for (int r = 0; r < size(); ++r) {
      const Call &other = *meeting.calls[r];
      posted_[r] = {&other.header, other.sendRows.counts, other.receiveRows.counts};
    }
    Status status = agree(posted_, ranks());
    if (status.ok() && call.op() == Op::AllToAllV)
      status = agreeRows(posted_, ranks());
    if (status.ok())
      move(call);
    // Every rank comes here: nobody waits in vain, and nobody may go while others read its memory.
    SY_RETURN_IF_ERROR(meet(false));
    return status;
  }

  /// A barrier. `mayFail`: a rank that failed will not come.
  Status meet(bool mayFail) {
    Meeting &meeting = *meeting_;
    uint64_t epoch = meeting.epoch.load(std::memory_order_acquire);
    if (meeting.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == size()) {
      meeting.arrived.store(0, std::memory_order_relaxed);
      {
        std::lock_guard lock(meeting.mutex);
        if (mayFail && meeting.abandoned)
          return failure();
        meeting.epoch.store(epoch + 1, std::memory_order_release);
      }
      meeting.changed.notify_all();
      return {};
    }
    auto passed = [&] { return meeting.epoch.load(std::memory_order_acquire) != epoch; };
    // Whoever failed, a job without it is over: calls of groups in which it is not end too.
    auto failed = [&] {
      return mayFail && shared_->failedRank.load(std::memory_order_acquire) >= 0;
    };
    for (int spin = 0; spin < kSpins && !passed(); ++spin)
      pause();
    if (passed())
      return {};
    std::unique_lock lock(meeting.mutex);
    if (!meeting.changed.wait_for(lock, shared_->options.timeout,
                                  [&] { return passed() || failed(); })) {
      lock.unlock();
      shared_->endStalled(worldRank(), members().id);
    }
    if (passed())
      return {};
    meeting.abandoned = true;
    return failure();
  }

  Status failure() const {
    int rank = shared_->failedRank.load(std::memory_order_acquire);
    return {StatusCode::RankFailed, fmt::format("rank {} failed: {}", rank, shared_->failure)};
  }

  void move(const Call &call) {
    switch (call.op()) {
    case Op::AllGather:
      return allGatherTransfers(call);
    case Op::ReduceScatter:
      return reduceScatterTransfers(call);
    case Op::AllReduce:
      return allReduceTransfers(call);
    case Op::AllToAllV:
      return receiveRows(call);
    case Op::ExchangeCounts:
      return receiveCounts(call);
    case Op::Broadcast:
      return copyBytes(call.receive.data(), other(call.root()).receive.data(),
                       static_cast<int64_t>(call.receive.size()));
    case Op::None:
    case Op::DeviceWait:
    case Op::Barrier:
      return;
    }
  }

  const Call &other(int rank) const { return *meeting_->calls[rank]; }

  void allGatherTransfers(const Call &call) {
    for (size_t i = 0; i < call.transfers.size(); ++i) {
      const Transfer &transfer = call.transfers[i];
      int64_t bytes = transfer.count * kernels::byteSize(transfer.dtype);
      for (int r = 0; r < size(); ++r)
        copyBytes(at(transfer.receive, r * bytes), other(r).transfers[i].send, bytes);
    }
  }

  /// Reduces [begin, begin + count) of every rank's send buffer `i` into `to`.
  void reduceInto(const Call &call, size_t i, int64_t begin, int64_t count, void *to) {
    const Transfer &transfer = call.transfers[i];
    for (int r = 0; r < size(); ++r)
      sources_[r] = at(other(r).transfers[i].send, begin * kernels::byteSize(transfer.dtype));
    if (count > 0)
      reduceInOrder(transfer.dtype, call.header.terms.reduction, sources_, count, to);
  }

  void reduceScatterTransfers(const Call &call) {
    // In place, a rank writes only that part of its own buffer which no other one reads.
    for (size_t i = 0; i < call.transfers.size(); ++i) {
      const Transfer &transfer = call.transfers[i];
      reduceInto(call, i, rank() * transfer.count, transfer.count, transfer.receive);
    }
  }

  void allReduceTransfers(const Call &call) {
    // Each rank reduces its slice, then takes those of the others.
    auto slice = [&](const Transfer &transfer, int r) { return transfer.count * r / size(); };
    for (size_t i = 0; i < call.transfers.size(); ++i) {
      const Transfer &transfer = call.transfers[i];
      int64_t begin = slice(transfer, rank());
      reduceInto(call, i, begin, slice(transfer, rank() + 1) - begin,
                 at(transfer.receive, begin * kernels::byteSize(transfer.dtype)));
    }
    static_cast<void>(meet(false));
    for (size_t i = 0; i < call.transfers.size(); ++i) {
      const Transfer &transfer = call.transfers[i];
      int64_t element = kernels::byteSize(transfer.dtype);
      for (int r = 0; r < size(); ++r)
        copyBytes(at(transfer.receive, slice(transfer, r) * element),
                  at(other(r).transfers[i].receive, slice(transfer, r) * element),
                  (slice(transfer, r + 1) - slice(transfer, r)) * element);
    }
  }

  void receiveRows(const Call &call) {
    for (int r = 0; r < size(); ++r)
      for (int64_t j = 0; j < call.pieces(); ++j) {
        int64_t mine = r * call.pieces() + j;
        int64_t theirs = rank() * call.pieces() + j;
        receiveBytes(call,
                     at(call.receive.data(), offsetOf(call.receiveRows, mine) * call.rowBytes),
                     at(other(r).send.data(), offsetOf(other(r).sendRows, theirs) * call.rowBytes),
                     call.receiveRows.counts[mine] * call.rowBytes);
      }
  }

  void receiveCounts(const Call &call) {
    auto bytes = static_cast<int64_t>(call.send.size()) / size();
    for (int r = 0; r < size(); ++r)
      copyBytes(at(call.receive.data(), r * bytes), at(other(r).send.data(), rank() * bytes),
                bytes);
  }

  std::shared_ptr<LocalShared> shared_;
  std::shared_ptr<Meeting> meeting_;
  std::vector<Posted> posted_;
  std::vector<const void *> sources_;
};

class LocalCommunicator final : public Communicator {
public:
  LocalCommunicator(std::shared_ptr<LocalShared> shared, int rank)
      : Communicator(rank, shared->table->size(), shared->table), shared_(std::move(shared)) {}

  ~LocalCommunicator() override {
    if (!finished_)
      shared_->fail(rank(), "it ended before the others");
  }

  Status start() { return addWorld(); }

  std::string_view backend() const override { return "local"; }

  uint64_t memoryBytes() const override { return memoryBytes_; }

  Status finish() override {
    SY_RETURN_IF_ERROR(world().barrier({"finish"}));
    finished_ = true;
    return {};
  }

  void fail(const Status &why) override { shared_->fail(rank(), why.message()); }

private:
  Result<std::unique_ptr<Group>> makeGroup(std::shared_ptr<const GroupMembers> members) override {
    memoryBytes_ += sizeof(LocalGroup) + sizeof(Meeting) +
                    members->ranks.size() * (sizeof(Posted) + 2 * sizeof(void *) + sizeof(int));
    return std::unique_ptr<Group>(std::make_unique<LocalGroup>(shared_, members, rank()));
  }

  std::shared_ptr<LocalShared> shared_;
  uint64_t memoryBytes_ = 0;
  bool finished_ = false;
};

} // namespace
} // namespace comm

LocalWorld::LocalWorld(std::shared_ptr<comm::LocalShared> shared) : shared_(std::move(shared)) {}
LocalWorld::~LocalWorld() = default;

Result<std::unique_ptr<LocalWorld>> LocalWorld::create(int size,
                                                       const CommunicatorOptions &options) {
  SY_RETURN_IF_ERROR(checkOptions(options, size));
  return std::unique_ptr<LocalWorld>(
      new LocalWorld(std::make_shared<comm::LocalShared>(size, options)));
}

Result<std::unique_ptr<Communicator>> LocalWorld::join(int rank) {
  {
    std::lock_guard lock(shared_->mutex);
    if (rank < 0 || rank >= shared_->table->size() || shared_->joined[rank])
      return Status::failed(
          fmt::format("rank {} cannot join a world of {} ranks: {}", rank, shared_->table->size(),
                      rank < 0 || rank >= shared_->table->size() ? "there is no such rank"
                                                                 : "it has joined already"));
    shared_->joined[rank] = true;
  }
  auto communicator = std::make_unique<comm::LocalCommunicator>(shared_, rank);
  SY_RETURN_IF_ERROR(communicator->start());
  return std::unique_ptr<Communicator>(std::move(communicator));
}

} // namespace switchyard

// What an executor needs of the other ranks: collectives over groups of ranks, and the certainty
// that a rank which is lost ends the job everywhere.
//
//   local/LocalCommunicator.h   ranks are threads of one process
//   mpi/MpiCommunicator.h       ranks are processes started by mpirun
//   tcp/TcpCommunicator.h       ranks are processes started by another launcher
//
// Pointers are the host's. A collective is called by every rank of its group, in the same order;
// it returns when its receive buffer is complete and its send buffer free. Every rank learns the
// same verdict: if one rank's arguments are wrong, or two ranks disagree about the call, every rank
// of the group gets the same failure and nothing is moved. Reductions are in rank order, so that
// all backends give the same bits. Collectives of one group come from one thread of a rank at a
// time; different groups may be used by different threads at once.
//
// A rank that dies, or keeps others waiting for longer than the timeout, ends the job: each
// survivor leaves a record (FailureRecord.h) and the process ends with exit code 5, by _exit.
#pragma once

#include "kernels/signatures/Signature.h"
#include "runtime/core/Status.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

namespace comm {
struct Call;
struct GroupMembers;
class RankTable;
} // namespace comm

class DeviceGroup;
class DeviceGroups;

/// Where a rank stands: a program of the plan and the index of an instruction, or -1.
struct Where {
  std::string_view program;
  int64_t instruction = -1;
};

enum class Reduction : uint8_t { Sum, Max };

/// One buffer pair of a collective; `count` elements of `dtype`. Send and receive may be the same
/// memory only as each collective says, and must not overlap otherwise. Both are aligned to the
/// dtype's size; a pointer may be null where its buffer has no elements.
struct Transfer {
  kernels::DType dtype = kernels::DType::F32;
  const void *send = nullptr;
  void *receive = nullptr;
  int64_t count = 0;
};

/// Rows in a buffer, in k >= 1 pieces to or from each rank of the group: piece j of rank r has
/// `counts[r * k + j]` rows, which start at row `offsets[r * k + j]`, or, with empty `offsets`,
/// behind those of the piece before.
struct Rows {
  std::span<const int64_t> counts;
  std::span<const int64_t> offsets = {};
};

/// A set of ranks. A group lives as long as the communicator that made it.
class Group {
public:
  virtual ~Group();
  Group(const Group &) = delete;
  Group &operator=(const Group &) = delete;

  /// This rank's number in the group, in [0, size()).
  int rank() const { return rank_; }
  int size() const;
  /// The members' numbers in the world, ascending.
  std::span<const int> ranks() const;

  /// For each transfer: receive[size() * count] = every rank's send[count], in rank order. In place
  /// if send is receive + rank() * count.
  Status allGather(Where where, std::span<const Transfer> transfers);

  /// For each transfer: receive[count] = the reduction of every rank's send[size() * count] at
  /// [rank() * count, ...). In place if receive is send + rank() * count. Receive may lie nowhere
  /// else in send.
  Status reduceScatter(Where where, Reduction reduction, std::span<const Transfer> transfers);

  /// For each transfer: receive[count] = the reduction of every rank's send[count]. In place if
  /// receive is send.
  ///
  /// The sum of bf16 is accumulated in f32 and rounded once; that of i32 wraps around. The maximum
  /// of a NaN and anything is NaN.
  Status allReduce(Where where, Reduction reduction, std::span<const Transfer> transfers);

  Status allGather(Where where, const Transfer &transfer) {
    return allGather(where, std::span(&transfer, 1));
  }
  Status reduceScatter(Where where, Reduction reduction, const Transfer &transfer) {
    return reduceScatter(where, reduction, std::span(&transfer, 1));
  }
  Status allReduce(Where where, Reduction reduction, const Transfer &transfer) {
    return allReduce(where, reduction, std::span(&transfer, 1));
  }

  /// Sends rows of `rowBytes` bytes to every rank, uneven, all in as many pieces per rank. Piece j
  /// of what rank s sends to rank r must be as many rows as piece j of what rank r receives from
  /// rank s. Rows that are received do not overlap and stand rank by rank or piece by piece; rows
  /// that are sent may overlap. Send and receive are different memory.
  ///
  /// With `added`, rows are elements of that dtype, and what is received is added to what is there,
  /// bf16 rounded once.
  Status allToAllV(Where where, int64_t rowBytes, std::span<const std::byte> send, Rows sendRows,
                   std::span<std::byte> receive, Rows receiveRows,
                   std::optional<kernels::DType> added = std::nullopt);

  /// Takes what allToAllV with up to `pieces` pieces per rank needs, which it else takes in the
  /// first such call. Communicates nothing.
  virtual void reserveRows(int64_t pieces) { static_cast<void>(pieces); }

  /// receive[s * k ...] = what rank s has in send[rank() * k ...], k = send.size() / size(): with
  /// k = 1 the counts for allToAllV, with more the counts by expert.
  Status exchangeCounts(Where where, std::span<const int64_t> send, std::span<int64_t> receive);

  /// `data` of every rank = that of rank `root` of the group.
  Status broadcast(Where where, std::span<std::byte> data, int root);

  /// Returns when every rank has called it.
  Status barrier(Where where);

  /// The same over memory of GPUs (DeviceGroup.h); null unless the communicator was given
  /// useDevices() before it made this group.
  DeviceGroup *onDevice() const { return onDevice_.get(); }

protected:
  Group(std::shared_ptr<comm::RankTable> table, std::shared_ptr<const comm::GroupMembers> members,
        int worldRank);

  comm::RankTable &table() const { return *table_; }
  const comm::GroupMembers &members() const { return *members_; }
  int worldRank() const { return worldRank_; }

private:
  friend class Communicator;
  Status execute(comm::Call &call);

  /// Agrees with the other ranks about the call, then does it.
  virtual Status run(const comm::Call &call) = 0;

  std::shared_ptr<comm::RankTable> table_;
  std::shared_ptr<const comm::GroupMembers> members_;
  int worldRank_;
  int rank_;
  std::unique_ptr<DeviceGroup> onDevice_;
};

struct CommunicatorOptions {
  /// How long ranks wait for another one that lives but does not come, at least 10 ms. A dead one
  /// is seen within seconds, whatever this is.
  std::chrono::milliseconds timeout{600'000};
  /// Where survivors leave their records (made if it is not there); empty: a line on standard error
  /// only.
  std::string failureFolder;
  /// Bytes of scratch that each group may take on each rank for sums, at least 4096 and 64 for each
  /// rank of the world.
  int64_t scratchBytes = int64_t{1} << 20;
};

class Communicator {
public:
  /// A communicator that goes without finish() is a rank that failed.
  virtual ~Communicator();
  Communicator(const Communicator &) = delete;
  Communicator &operator=(const Communicator &) = delete;

  static constexpr int kMaxRanks = 1024;
  static constexpr int kMaxGroups = 16;

  virtual std::string_view backend() const = 0; // "local", "mpi", "tcp"
  int rank() const { return rank_; }
  int size() const { return size_; }
  Group &world() { return *groups_.front(); }

  /// Makes a group of the world's ranks in `ranks` (ascending, this one among them). Called by
  /// every rank of the world, in the same order, each with the set that it is in: the sets are a
  /// partition of the world. At most kMaxGroups groups, the world counted. Not while another
  /// collective runs.
  Result<Group *> createGroup(std::span<const int> ranks);

  /// Groups that are made from now on also work on memory of GPUs. Called by all ranks.
  void useDevices(std::unique_ptr<DeviceGroups> devices);
  /// Null without useDevices().
  DeviceGroups *devices() const { return devices_.get(); }

  /// While it lives, this rank waits for its GPU to do what was put on its streams: a wait of
  /// longer than the timeout ends the job, as one in a collective does.
  class DeviceWait {
  public:
    /// `communicator` may be null: one rank.
    explicit DeviceWait(Communicator *communicator);
    DeviceWait(const DeviceWait &) = delete;
    ~DeviceWait();

  private:
    Communicator *communicator_;
  };

  /// Says where this rank stands; collectives say it themselves. A few tens of nanoseconds.
  void setWhere(Where where);

  /// Bytes of host memory that the groups hold on this rank.
  virtual uint64_t memoryBytes() const = 0;

  /// Ends the communication in good order, on all ranks. Nothing may be called afterwards. No graph
  /// that recorded calls of groups on GPUs may be left.
  virtual Status finish() = 0;

  /// Tells the others that this rank ends because of `why`. Thread ranks' calls then fail with
  /// RankFailed; other processes end with exit code 5. Nothing but the destructor may be called
  /// afterwards.
  virtual void fail(const Status &why) = 0;

protected:
  Communicator(int rank, int size, std::shared_ptr<comm::RankTable> table);

  comm::RankTable &table() const { return *table_; }
  const std::shared_ptr<comm::RankTable> &sharedTable() const { return table_; }
  /// The backend's part of createGroup(): a group that all ranks agreed about.
  virtual Result<std::unique_ptr<Group>>
  makeGroup(std::shared_ptr<const comm::GroupMembers> members) = 0;
  Status addWorld();
  /// Ends the groups' parts on GPUs; for finish().
  Status finishDevices();

private:
  int rank_;
  int size_;
  std::shared_ptr<comm::RankTable> table_;
  std::unique_ptr<DeviceGroups> devices_;
  std::vector<std::unique_ptr<Group>> groups_;
};

/// Refuses options out of their ranges and a world of no or too many ranks; makes the folder for
/// the records.
Status checkOptions(const CommunicatorOptions &options, int size);

} // namespace switchyard

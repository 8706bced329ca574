// How processes that know nothing of each other but where rank 0 is come to know each other: all
// connect to rank 0, which passes on what each has to say.
#pragma once

#include "runtime/comm/process/Connect.h"
#include "runtime/comm/process/RankPlace.h"

namespace switchyard::comm {

class Rendezvous {
public:
  /// Rank 0 listens at the meeting place; the others look for it there. Returns when all have met.
  /// Collective. RankFailed: a rank ended before, or did not come within `timeout`. Usage: two
  /// processes with the same rank, or of jobs of different sizes.
  static Result<Rendezvous> meet(int rank, int size, const MeetingPlace &place,
                                 std::chrono::milliseconds timeout);

  /// Gathers as many bytes of every rank, in rank order. Collective.
  Status gather(std::span<const std::byte> mine, std::span<std::byte> all);

private:
  Rendezvous(int rank, int size, Deadline deadline)
      : rank_(rank), size_(size), deadline_(deadline) {}

  Status receiveRanks(const MeetingPlace &place);
  Status findLeader(const MeetingPlace &place);
  Status checkAll();

  int rank_;
  int size_;
  Deadline deadline_;
  std::vector<Socket> sockets_; // rank 0: by rank; others: that to rank 0
};

} // namespace switchyard::comm

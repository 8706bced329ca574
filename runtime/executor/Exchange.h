// Which rows a rank sends and receives in a round of a token exchange, computed from the counts of
// all ranks. dialects/dist/ExchangeOps.td says what it must be: the rows for one rank have an
// order, by expert, then by the rank that sends them, and round i moves rows [i B, (i + 1) B) of
// it.
#pragma once

#include "runtime/comm/Communicator.h"

#include <cstdint>
#include <span>
#include <vector>

namespace switchyard {

/// The numbers of one exchange: n ranks of a group, E experts, k = E / n of them on each.
struct ExchangeSize {
  int64_t ranks = 1;
  int64_t experts = 1;
  int64_t rows = 0;   // that a rank has at most, to send
  int64_t buffer = 0; // B: that it receives at once
};

/// Refuses counts below 0, and ranks with more rows than they have room for. `counts` [n, E]. All
/// ranks have the same counts, so all come to the same verdict.
Status checkCounts(const ExchangeSize &size, std::span<const int32_t> counts);

/// How many rounds there are after round 0: max(0, ceil(the most rows that a rank gets / B) - 1).
/// The counts are checked; B may be 0 where nobody sends anything.
int64_t overflowRounds(const ExchangeSize &size, std::span<const int32_t> counts);

/// Rows of one round on one rank, in k pieces for each rank of the group. Allocates when it is made
/// and never again.
class ExchangeRows {
public:
  ExchangeRows(const ExchangeSize &size, int64_t rank);

  /// Computes round `round` of the exchange with the checked `counts` [n, E].
  void compute(std::span<const int32_t> counts, int64_t round);

  /// In the rows that this rank has: to the ranks of the experts.
  Rows sent() const { return {sentCounts_, sentOffsets_}; }
  /// In the buffer of B rows: from all ranks, expert by expert.
  Rows received() const { return {receivedCounts_, receivedOffsets_}; }
  /// [k]: the rows received for each expert of this rank.
  std::span<const int32_t> groupSizes() const { return groupSizes_; }
  int64_t rowsReceived() const { return rowsReceived_; }
  /// Those for or from other ranks.
  int64_t rowsSentAway() const { return away(sentCounts_); }
  int64_t rowsReceivedFromAway() const { return away(receivedCounts_); }

private:
  int64_t away(std::span<const int64_t> counts) const;

  ExchangeSize size_;
  int64_t rank_;
  int64_t local_; // k
  std::vector<int64_t> sentCounts_, sentOffsets_, receivedCounts_, receivedOffsets_;
  std::vector<int64_t> firstRow_; // [E]: where this rank's rows for an expert start
  std::vector<int32_t> groupSizes_;
  int64_t rowsReceived_ = 0;
};

} // namespace switchyard

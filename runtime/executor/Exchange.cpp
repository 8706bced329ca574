#include "runtime/executor/Exchange.h"

#include <algorithm>
#include <string>

namespace switchyard {

Status checkCounts(const ExchangeSize &size, std::span<const int32_t> counts) {
  for (int64_t rank = 0; rank < size.ranks; ++rank) {
    int64_t sum = 0;
    for (int64_t expert = 0; expert < size.experts; ++expert) {
      int32_t count = counts[rank * size.experts + expert];
      if (count < 0)
        return Status::failed("all_counts says that rank " + std::to_string(rank) +
                              " of the group has " + std::to_string(count) + " rows for expert " +
                              std::to_string(expert));
      sum += count;
    }
    if (sum > 0 && size.buffer == 0)
      return Status::failed("all_counts says that rank " + std::to_string(rank) +
                            " of the group has " + std::to_string(sum) +
                            " rows; this pass has no tokens");
    if (sum > size.rows)
      return Status::failed("all_counts says that rank " + std::to_string(rank) +
                            " of the group has " + std::to_string(sum) +
                            " rows; there is room for " + std::to_string(size.rows));
  }
  return {};
}

int64_t overflowRounds(const ExchangeSize &size, std::span<const int32_t> counts) {
  int64_t local = size.experts / size.ranks;
  int64_t most = 0;
  for (int64_t rank = 0; rank < size.ranks; ++rank) {
    int64_t sum = 0;
    for (int64_t sender = 0; sender < size.ranks; ++sender)
      for (int64_t expert = rank * local; expert < (rank + 1) * local; ++expert)
        sum += counts[sender * size.experts + expert];
    most = std::max(most, sum);
  }
  return size.buffer == 0 || most == 0 ? 0 : (most - 1) / size.buffer;
}

ExchangeRows::ExchangeRows(const ExchangeSize &size, int64_t rank)
    : size_(size), rank_(rank), local_(size.experts / size.ranks), sentCounts_(size.experts),
      sentOffsets_(size.experts), receivedCounts_(size.experts), receivedOffsets_(size.experts),
      firstRow_(size.experts), groupSizes_(local_) {}

void ExchangeRows::compute(std::span<const int32_t> counts, int64_t round) {
  int64_t row = 0;
  for (int64_t expert = 0; expert < size_.experts; ++expert) {
    firstRow_[expert] = row;
    row += counts[rank_ * size_.experts + expert];
  }
  int64_t begin = round * size_.buffer, end = begin + size_.buffer;
  rowsReceived_ = 0;
  for (int64_t rank = 0; rank < size_.ranks; ++rank) {
    int64_t place = 0; // in the order of the rows for this rank
    for (int64_t j = 0; j < local_; ++j) {
      int64_t expert = rank * local_ + j;
      int64_t groupSize = 0;
      for (int64_t sender = 0; sender < size_.ranks; ++sender) {
        int64_t next = place + counts[sender * size_.experts + expert];
        int64_t first = std::clamp(begin, place, next);
        int64_t count = std::clamp(end, place, next) - first;
        groupSize += count;
        if (sender == rank_) {
          sentCounts_[expert] = count;
          sentOffsets_[expert] = count > 0 ? firstRow_[expert] + first - place : 0;
        }
        if (rank == rank_) {
          receivedCounts_[sender * local_ + j] = count;
          receivedOffsets_[sender * local_ + j] = count > 0 ? first - begin : 0;
        }
        place = next;
      }
      if (rank != rank_)
        continue;
      groupSizes_[j] = static_cast<int32_t>(groupSize);
      rowsReceived_ += groupSize;
    }
  }
}

int64_t ExchangeRows::away(std::span<const int64_t> counts) const {
  int64_t sum = 0;
  for (int64_t i = 0; i < size_.experts; ++i)
    if (i / local_ != rank_)
      sum += counts[i];
  return sum;
}

} // namespace switchyard

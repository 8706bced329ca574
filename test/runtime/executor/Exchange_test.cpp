// Which rows move in which round, against a list of all rows.
#include "runtime/executor/Exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace switchyard {
namespace {

using testing::ElementsAre;

/// One row: who sends it, from which of its rows, to which expert.
struct Row {
  int64_t expert, sender, row;
};

/// The rows for the experts of `rank`, in their order.
std::vector<Row> rowsFor(const ExchangeSize &size, std::span<const int32_t> counts, int64_t rank) {
  std::vector<Row> rows;
  for (int64_t sender = 0; sender < size.ranks; ++sender) {
    int64_t row = 0;
    for (int64_t expert = 0; expert < size.experts; ++expert)
      for (int32_t i = 0; i < counts[sender * size.experts + expert]; ++i, ++row)
        if (expert / (size.experts / size.ranks) == rank)
          rows.push_back({expert, sender, row});
  }
  std::ranges::stable_sort(rows, {}, [](const Row &row) { return row.expert; });
  return rows;
}

void check(const ExchangeSize &size, std::span<const int32_t> counts) {
  int64_t local = size.experts / size.ranks;
  int64_t last = overflowRounds(size, counts);
  size_t most = 0;
  for (int64_t rank = 0; rank < size.ranks; ++rank)
    most = std::max(most, rowsFor(size, counts, rank).size());
  EXPECT_EQ(last, most == 0 ? 0 : (static_cast<int64_t>(most) + size.buffer - 1) / size.buffer - 1);
  for (int64_t round = 0; round <= last; ++round)
    for (int64_t rank = 0; rank < size.ranks; ++rank) {
      std::vector<Row> all = rowsFor(size, counts, rank);
      int64_t begin = std::min<int64_t>(round * size.buffer, all.size());
      int64_t end = std::min<int64_t>(begin + size.buffer, all.size());
      std::vector<Row> expected(all.begin() + begin, all.begin() + end);
      ExchangeRows mine(size, rank);
      mine.compute(counts, round);
      EXPECT_EQ(mine.rowsReceived(), end - begin);
      std::vector<Row> received(end - begin, Row{-1, -1, -1});
      for (int64_t sender = 0; sender < size.ranks; ++sender) {
        ExchangeRows theirs(size, sender);
        theirs.compute(counts, round);
        for (int64_t j = 0; j < local; ++j) {
          int64_t to = rank * local + j, from = sender * local + j;
          ASSERT_EQ(theirs.sent().counts[to], mine.received().counts[from]);
          for (int64_t i = 0; i < theirs.sent().counts[to]; ++i)
            received[mine.received().offsets[from] + i] = {to, sender,
                                                           theirs.sent().offsets[to] + i};
        }
      }
      std::vector<int32_t> sizes(local);
      for (size_t i = 0; i < expected.size(); ++i) {
        EXPECT_EQ(received[i].expert, expected[i].expert);
        EXPECT_EQ(received[i].sender, expected[i].sender);
        EXPECT_EQ(received[i].row, expected[i].row);
        ++sizes[expected[i].expert % local];
      }
      EXPECT_THAT(mine.groupSizes(), testing::ElementsAreArray(sizes));
    }
}

TEST(Exchange, MovesEachRowOnceInItsPlace) {
  std::mt19937 generator(7);
  for (int64_t ranks : {1, 2, 4})
    for (int64_t local : {1, 3})
      for (int64_t buffer : {1, 5, 100})
        for (int most : {0, 1, 9}) {
          ExchangeSize size{ranks, ranks * local, 1000, buffer};
          std::vector<int32_t> counts(ranks * size.experts);
          for (int32_t &count : counts)
            count = static_cast<int32_t>(generator() % (most + 1));
          check(size, counts);
        }
}

TEST(Exchange, CountsWhatGoesAway) {
  ExchangeSize size{2, 4, 10, 3};
  std::vector<int32_t> counts = {1, 2, 3, 0, /* rank 1: */ 2, 0, 1, 1};
  ExchangeRows rows(size, 0);
  rows.compute(counts, 0);
  // Rank 0 gets [0: a, b, b; 1: a, a], and B = 3; rank 1 gets [2: a, a, a, b; 3: b].
  EXPECT_THAT(rows.groupSizes(), ElementsAre(3, 0));
  EXPECT_EQ(rows.rowsSentAway(), 3);
  EXPECT_EQ(rows.rowsReceivedFromAway(), 2);
  EXPECT_EQ(overflowRounds(size, counts), 1);
  rows.compute(counts, 1);
  EXPECT_THAT(rows.groupSizes(), ElementsAre(0, 2));
  EXPECT_EQ(rows.rowsSentAway(), 0);
}

TEST(Exchange, RefusesCountsThatCannotBe) {
  ExchangeSize size{2, 2, 10, 3};
  std::vector<int32_t> counts = {5, 5, 3, -1};
  EXPECT_EQ(checkCounts(size, counts).message(),
            "all_counts says that rank 1 of the group has -1 rows for expert 1");
  counts = {5, 5, 8, 3};
  EXPECT_EQ(checkCounts(size, counts).message(),
            "all_counts says that rank 1 of the group has 11 rows; there is room for 10");
  counts = {0, 1, 0, 0};
  EXPECT_TRUE(checkCounts(size, counts).ok());
  size.buffer = 0;
  EXPECT_EQ(checkCounts(size, counts).message(),
            "all_counts says that rank 0 of the group has 1 rows; this pass has no tokens");
}

} // namespace
} // namespace switchyard

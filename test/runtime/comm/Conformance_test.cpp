// What every communication backend must do, bit for bit. Run once with threads, and under mpirun.
#include "test/runtime/comm/Ranks.h"

#include "kernels/cpu/BFloat16.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <numeric>
#include <random>
#include <thread>

namespace switchyard::test {
namespace {

using kernels::DType;
using kernels::cpu::BFloat16;
using testing::HasSubstr;

constexpr Where kWhere{"micro_step", 7};
constexpr int64_t kCounts[] = {0, 1, 2, 3, 5, 17, 1000, 5003};

class Conformance : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, Conformance, testing::Values(1, 2, 3, 4),
                         [](const auto &info) { return std::to_string(info.param); });

#define EXPECT_DONE(call)                                                                          \
  do {                                                                                             \
    Status expectedDone = (call);                                                                  \
    EXPECT_TRUE(expectedDone.ok()) << expectedDone.message();                                      \
  } while (false)

/// The bytes of an array of one dtype.
struct Array {
  Array(DType dtype, int64_t count)
      : dtype(dtype), count(count), bytes(count * kernels::byteSize(dtype)) {}

  /// Values of any sign and size, the same for one (seed, rank) everywhere.
  static Array random(DType dtype, int64_t count, int seed, int rank) {
    Array array(dtype, count);
    std::mt19937 generator(static_cast<uint32_t>(seed * 1000 + rank));
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < count; ++i) {
      if (dtype == DType::I32)
        array.at<uint32_t>(i) = generator();
      else if (dtype == DType::F32)
        array.at<float>(i) = normal(generator) * std::exp(4 * normal(generator));
      else
        array.at<BFloat16>(i) =
            kernels::cpu::fromFloat<BFloat16>(normal(generator) * std::exp(4 * normal(generator)));
    }
    return array;
  }

  template <typename T>
  T &at(int64_t i) {
    return reinterpret_cast<T *>(bytes.data())[i];
  }
  template <typename T>
  T at(int64_t i) const {
    return reinterpret_cast<const T *>(bytes.data())[i];
  }
  void *offset(int64_t i) { return bytes.data() + i * kernels::byteSize(dtype); }

  Array part(int64_t begin, int64_t length) const {
    Array result(dtype, length);
    int64_t element = kernels::byteSize(dtype);
    std::copy_n(bytes.begin() + begin * element, length * element, result.bytes.begin());
    return result;
  }

  DType dtype;
  int64_t count;
  std::vector<std::byte> bytes;
};

/// The reduction in rank order, element by element, as NUMERICS wants it.
Array reduced(const std::vector<Array> &arrays, Reduction reduction) {
  Array result = arrays[0];
  for (int64_t i = 0; i < result.count; ++i) {
    if (result.dtype == DType::I32) {
      int64_t value = arrays[0].at<int32_t>(i);
      for (size_t r = 1; r < arrays.size(); ++r)
        value = reduction == Reduction::Sum ? value + arrays[r].at<int32_t>(i)
                                            : std::max<int64_t>(value, arrays[r].at<int32_t>(i));
      result.at<uint32_t>(i) = static_cast<uint32_t>(value);
      continue;
    }
    bool isBf16 = result.dtype == DType::BF16;
    auto load = [&](const Array &array) {
      return isBf16 ? kernels::cpu::toFloat(array.at<BFloat16>(i)) : array.at<float>(i);
    };
    float value = load(arrays[0]);
    for (size_t r = 1; r < arrays.size(); ++r)
      value =
          reduction == Reduction::Sum ? value + load(arrays[r]) : std::max(value, load(arrays[r]));
    if (isBf16)
      result.at<BFloat16>(i) = kernels::cpu::fromFloat<BFloat16>(value);
    else
      result.at<float>(i) = value;
  }
  return result;
}

std::vector<Array> randomOfAll(DType dtype, int64_t count, int seed, int size) {
  std::vector<Array> arrays;
  for (int rank = 0; rank < size; ++rank)
    arrays.push_back(Array::random(dtype, count, seed, rank));
  return arrays;
}

void checkAllGather(Group &group, DType dtype, int64_t count, bool inPlace) {
  std::vector<Array> all = randomOfAll(dtype, count, 1, group.size());
  Array receive(dtype, count * group.size());
  void *send = all[group.rank()].bytes.data();
  if (inPlace) {
    send = receive.offset(group.rank() * count);
    copy(all[group.rank()].bytes.begin(), all[group.rank()].bytes.end(),
         static_cast<std::byte *>(send));
  }
  EXPECT_DONE(group.allGather(kWhere, {dtype, send, receive.bytes.data(), count}));
  for (int rank = 0; rank < group.size(); ++rank)
    EXPECT_EQ(receive.part(rank * count, count).bytes, all[rank].bytes) << count;
}

void checkReduceScatter(Group &group, DType dtype, Reduction reduction, int64_t count,
                        bool inPlace) {
  std::vector<Array> all = randomOfAll(dtype, count * group.size(), 2, group.size());
  Array expected = reduced(all, reduction).part(group.rank() * count, count);
  Array send = all[group.rank()];
  Array receive(dtype, count);
  void *to = inPlace ? send.offset(group.rank() * count) : receive.bytes.data();
  EXPECT_DONE(group.reduceScatter(kWhere, reduction, {dtype, send.bytes.data(), to, count}));
  if (inPlace)
    receive = send.part(group.rank() * count, count);
  else
    EXPECT_EQ(send.bytes, all[group.rank()].bytes);
  EXPECT_EQ(receive.bytes, expected.bytes) << count;
}

void checkAllReduce(Group &group, DType dtype, Reduction reduction, int64_t count, bool inPlace) {
  std::vector<Array> all = randomOfAll(dtype, count, 3, group.size());
  Array send = all[group.rank()];
  Array receive(dtype, count);
  void *to = inPlace ? send.bytes.data() : receive.bytes.data();
  EXPECT_DONE(group.allReduce(kWhere, reduction, {dtype, send.bytes.data(), to, count}));
  if (!inPlace) {
    EXPECT_EQ(send.bytes, all[group.rank()].bytes);
  }
  EXPECT_EQ((inPlace ? send : receive).bytes, reduced(all, reduction).bytes) << count;
}

void checkTransfers(Group &group) {
  for (DType dtype : {DType::F32, DType::BF16, DType::I32})
    for (int64_t count : kCounts)
      for (bool inPlace : {false, true}) {
        checkAllGather(group, dtype, count, inPlace);
        for (Reduction reduction : {Reduction::Sum, Reduction::Max}) {
          checkReduceScatter(group, dtype, reduction, count, inPlace);
          checkAllReduce(group, dtype, reduction, count, inPlace);
        }
      }
}

/// The rows that rank s sends to rank r: uneven, some none.
int64_t rowsBetween(int s, int r) {
  return (s * 5 + r * 3) % 4 == 0 ? 0 : (s * 7 + r * 11) % 13;
}

std::byte rowByte(int s, int r, int64_t i) {
  return static_cast<std::byte>((s * 31 + r * 17 + i) % 251);
}

void checkAllToAllV(Group &group, int64_t rowBytes, bool allToLast, bool withOffsets) {
  int size = group.size();
  int me = group.rank();
  auto rows = [&](int s, int r) { return !allToLast ? rowsBetween(s, r) : r == size - 1 ? 9 : 0; };
  int64_t gap = withOffsets ? 2 : 0; // rows that belong to nobody, between those of two ranks
  std::vector<int64_t> sendCounts(size), sendOffsets(size), receiveCounts(size),
      receiveOffsets(size);
  int64_t sendEnd = 0;
  int64_t receiveEnd = 0;
  for (int r = 0; r < size; ++r) {
    sendCounts[r] = rows(me, r);
    receiveCounts[r] = rows(r, me);
    sendOffsets[r] = std::exchange(sendEnd, sendEnd + sendCounts[r] + gap);
    receiveOffsets[r] = std::exchange(receiveEnd, receiveEnd + receiveCounts[r] + gap);
  }
  std::vector<std::byte> send(sendEnd * rowBytes);
  std::vector<std::byte> receive(receiveEnd * rowBytes, std::byte{255});
  std::vector<std::byte> expected = receive;
  for (int r = 0; r < size; ++r) {
    for (int64_t i = 0; i < sendCounts[r] * rowBytes; ++i)
      send[sendOffsets[r] * rowBytes + i] = rowByte(me, r, i);
    for (int64_t i = 0; i < receiveCounts[r] * rowBytes; ++i)
      expected[receiveOffsets[r] * rowBytes + i] = rowByte(r, me, i);
  }
  Rows sendRows{sendCounts, withOffsets ? std::span(sendOffsets) : std::span<int64_t>()};
  Rows receiveRows{receiveCounts, withOffsets ? std::span(receiveOffsets) : std::span<int64_t>()};
  EXPECT_DONE(group.allToAllV(kWhere, rowBytes, send, sendRows, receive, receiveRows));
  EXPECT_EQ(receive, expected);
}

/// Where pieces of rows lie, rank by rank or piece by piece, and how many rows there are.
struct Pieces {
  std::vector<int64_t> counts, offsets;
  int64_t rows = 0;

  template <typename RowsOf>
  Pieces(int size, int64_t pieces, bool byPiece, const RowsOf &rowsOf)
      : counts(size * pieces), offsets(size * pieces) {
    for (int64_t i = 0; i < size * pieces; ++i) {
      int64_t r = byPiece ? i % size : i / pieces;
      int64_t j = byPiece ? i / size : i % pieces;
      counts[r * pieces + j] = rowsOf(static_cast<int>(r), j);
      offsets[r * pieces + j] = std::exchange(rows, rows + counts[r * pieces + j]);
    }
  }
};

/// As tokens go to experts: sent rank by rank, received expert by expert, and back again, where
/// they are added, or not.
void checkPieces(Group &group, int64_t rowElements, int64_t pieces, DType dtype, bool adds) {
  int size = group.size();
  int me = group.rank();
  int64_t rowBytes = rowElements * kernels::byteSize(dtype);
  auto rows = [](int s, int r, int64_t j) { return rowsBetween(s + static_cast<int>(j), r); };
  auto value = [&](int s, int r, int64_t j) {
    return Array::random(dtype, rows(s, r, j) * rowElements, static_cast<int>(j * 64) + s, r);
  };
  Pieces sent(size, pieces, false, [&](int r, int64_t j) { return rows(me, r, j); });
  Pieces received(size, pieces, true, [&](int r, int64_t j) { return rows(r, me, j); });
  Array send(dtype, sent.rows * rowElements), there = Array::random(dtype, send.count, 9, me);
  Array receive(dtype, received.rows * rowElements), expected = receive, back = there, sum = there;
  for (int r = 0; r < size; ++r)
    for (int64_t j = 0; j < pieces; ++j) {
      Array out = value(me, r, j), in = value(r, me, j);
      copy(out.bytes.begin(), out.bytes.end(),
           send.bytes.begin() + sent.offsets[r * pieces + j] * rowBytes);
      copy(in.bytes.begin(), in.bytes.end(),
           expected.bytes.begin() + received.offsets[r * pieces + j] * rowBytes);
    }
  Rows sendRows{sent.counts, sent.offsets}, receiveRows{received.counts, received.offsets};
  group.reserveRows(pieces);
  EXPECT_DONE(group.allToAllV(kWhere, rowBytes, send.bytes, sendRows, receive.bytes, receiveRows));
  EXPECT_EQ(receive.bytes, expected.bytes);
  EXPECT_DONE(group.allToAllV(kWhere, rowBytes, receive.bytes, receiveRows, back.bytes, sendRows,
                              adds ? std::optional(dtype) : std::nullopt));
  sum = adds ? reduced({there, send}, Reduction::Sum) : send;
  EXPECT_EQ(back.bytes, sum.bytes);
}

void checkExchangeCounts(Group &group, int perRank) {
  auto value = [&](int s, int r, int i) { return int64_t{1} * s * 1000 + r * 10 + i; };
  std::vector<int64_t> send(group.size() * perRank), receive(send.size(), -1), expected(send);
  for (int r = 0; r < group.size(); ++r)
    for (int i = 0; i < perRank; ++i) {
      send[r * perRank + i] = value(group.rank(), r, i);
      expected[r * perRank + i] = value(r, group.rank(), i);
    }
  EXPECT_DONE(group.exchangeCounts(kWhere, send, receive));
  EXPECT_EQ(receive, expected);
}

void checkBroadcast(Group &group, int64_t bytes) {
  for (int root = 0; root < group.size(); ++root) {
    std::vector<std::byte> expected(bytes);
    for (int64_t i = 0; i < bytes; ++i)
      expected[i] = rowByte(root, 0, i);
    std::vector<std::byte> data(bytes);
    if (group.rank() == root)
      data = expected;
    EXPECT_DONE(group.broadcast(kWhere, data, root));
    EXPECT_EQ(data, expected);
  }
}

void checkAll(Group &group) {
  checkTransfers(group);
  for (int64_t rowBytes : {1, 3, 20, 4096})
    for (bool allToLast : {false, true})
      for (bool withOffsets : {false, true})
        checkAllToAllV(group, rowBytes, allToLast, withOffsets);
  for (int64_t pieces : {1, 2, 5})
    for (int64_t rowElements : {1, 7, 700})
      for (DType dtype : {DType::F32, DType::BF16})
        for (bool adds : {false, true})
          checkPieces(group, rowElements, pieces, dtype, adds);
  for (int perRank : {0, 1, 5})
    checkExchangeCounts(group, perRank);
  for (int64_t bytes : {0, 1, 100'001})
    checkBroadcast(group, bytes);
  EXPECT_DONE(group.barrier(kWhere));
}

/// The mesh's rows and columns: ranks of the same r / width, and of the same r % width.
std::vector<int> rowOf(int rank, int size, int width) {
  std::vector<int> ranks;
  for (int r = 0; r < size; ++r)
    if (r / width == rank / width)
      ranks.push_back(r);
  return ranks;
}
std::vector<int> columnOf(int rank, int size, int width) {
  std::vector<int> ranks;
  for (int r = 0; r < size; ++r)
    if (r % width == rank % width)
      ranks.push_back(r);
  return ranks;
}

TEST_P(Conformance, World) {
  runRanks(GetParam(), [](Communicator &communicator) {
    EXPECT_EQ(communicator.world().size(), communicator.size());
    EXPECT_EQ(communicator.world().rank(), communicator.rank());
    EXPECT_GT(communicator.memoryBytes(), 0u);
    checkAll(communicator.world());
  });
}

TEST_P(Conformance, GroupsOfAMeshAndOfOne) {
  runRanks(GetParam(), [](Communicator &communicator) {
    int me = communicator.rank();
    auto row = communicator.createGroup(rowOf(me, communicator.size(), 2));
    auto column = communicator.createGroup(columnOf(me, communicator.size(), 2));
    auto alone = communicator.createGroup(std::span(&me, 1));
    ASSERT_TRUE(row.ok() && column.ok() && alone.ok());
    EXPECT_EQ((*alone)->size(), 1);
    EXPECT_THAT((*row)->ranks(), testing::ElementsAreArray(rowOf(me, communicator.size(), 2)));
    checkAll(**row);
    checkAll(**column);
    checkAll(**alone);
  });
}

TEST_P(Conformance, ConcurrentGroups) {
  runRanks(GetParam(), [](Communicator &communicator) {
    auto row = communicator.createGroup(rowOf(communicator.rank(), communicator.size(), 2));
    auto column = communicator.createGroup(columnOf(communicator.rank(), communicator.size(), 2));
    ASSERT_TRUE(row.ok() && column.ok());
    std::vector<std::thread> threads;
    for (Group *group : {*row, *column, &communicator.world()})
      threads.emplace_back([group] {
        for (int i = 0; i < 30; ++i) {
          checkAllReduce(*group, DType::F32, Reduction::Sum, 2000 + i, i % 2);
          checkAllToAllV(*group, 12, false, true);
        }
      });
    for (std::thread &thread : threads)
      thread.join();
  });
}

TEST_P(Conformance, ListsOfBuffers) {
  runRanks(GetParam(), [](Communicator &communicator) {
    Group &group = communicator.world();
    std::vector<std::vector<Array>> all;
    std::vector<Array> gathered, summed;
    std::vector<Transfer> gathers, sums;
    for (int i = 0; i < 9; ++i) {
      DType dtype = i % 3 == 0 ? DType::BF16 : i % 3 == 1 ? DType::F32 : DType::I32;
      int64_t count = i == 4 ? 0 : i * 7 + 1;
      all.push_back(randomOfAll(dtype, count, i, group.size()));
      gathered.emplace_back(dtype, count * group.size());
      summed.emplace_back(dtype, count);
      const void *send = all.back()[group.rank()].bytes.data();
      gathers.push_back({dtype, send, gathered.back().bytes.data(), count});
      sums.push_back({dtype, send, summed.back().bytes.data(), count});
    }
    EXPECT_DONE(group.allGather(kWhere, gathers));
    EXPECT_DONE(group.allReduce(kWhere, Reduction::Sum, sums));
    EXPECT_DONE(group.allGather(kWhere, std::span<const Transfer>()));
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(summed[i].bytes, reduced(all[i], Reduction::Sum).bytes);
      for (int r = 0; r < group.size(); ++r)
        EXPECT_EQ(gathered[i].part(r * all[i][r].count, all[i][r].count).bytes, all[i][r].bytes);
    }
  });
}

// The sum in another order, or rounded at every step, would be another one.
TEST_P(Conformance, SumsInRankOrderAndRoundsOnce) {
  runRanks(GetParam(), [](Communicator &communicator) {
    Group &group = communicator.world();
    constexpr float kTerms[] = {1e8F, 1.0F, -1e8F, 1.0F};
    constexpr float kSums[] = {1e8F, 1e8F, 0.0F, 1.0F};
    float value = kTerms[group.rank()];
    EXPECT_DONE(group.allReduce(kWhere, Reduction::Sum, {DType::F32, &value, &value, 1}));
    EXPECT_EQ(value, kSums[group.size() - 1]);

    // 256 + 1 rounds to 256 in bf16; 256 + 1 + 1 is 258.
    constexpr float kSmallSums[] = {256, 256, 258, 260};
    auto small = kernels::cpu::fromFloat<BFloat16>(group.rank() == 0 ? 256.0F : 1.0F);
    EXPECT_DONE(group.allReduce(kWhere, Reduction::Sum, {DType::BF16, &small, &small, 1}));
    EXPECT_EQ(kernels::cpu::toFloat(small), kSmallSums[group.size() - 1]); // 259 rounds to 260
  });
}

TEST_P(Conformance, MaximumSeesNaN) {
  runRanks(GetParam(), [](Communicator &communicator) {
    Group &group = communicator.world();
    for (int bad = 0; bad < group.size(); ++bad) {
      float value = group.rank() == bad ? std::numeric_limits<float>::quiet_NaN() : 1.0F;
      float result = 0;
      EXPECT_DONE(group.allReduce(kWhere, Reduction::Max, {DType::F32, &value, &result, 1}));
      EXPECT_TRUE(std::isnan(result));
    }
  });
}

TEST_P(Conformance, RanksComeInEveryOrder) {
  runRanks(GetParam(), [](Communicator &communicator) {
    std::vector<int> order(communicator.size());
    std::iota(order.begin(), order.end(), 0);
    do {
      std::this_thread::sleep_for(std::chrono::milliseconds(order[communicator.rank()]));
      checkAllReduce(communicator.world(), DType::BF16, Reduction::Sum, 333, true);
      checkAllToAllV(communicator.world(), 5, false, false);
    } while (std::ranges::next_permutation(order).found);
  });
}

TEST_P(Conformance, AllRanksRefuseWrongArgumentsOfOne) {
  runRanks(GetParam(), [](Communicator &communicator) {
    Group &group = communicator.world();
    int last = group.size() - 1;
    bool isWrong = group.rank() == last;
    std::vector<float> data(64);
    auto expectRefused = [&](const Status &status, const std::string &text) {
      EXPECT_EQ(status.code(), StatusCode::Failed);
      EXPECT_THAT(status.message(), HasSubstr("micro_step, instruction 7: "));
      EXPECT_THAT(status.message(), HasSubstr("on rank " + std::to_string(last) + ", " + text));
      EXPECT_DONE(group.barrier(kWhere)); // the group goes on
    };
    auto reduce = [&](const Transfer &transfer) {
      return group.allReduce(kWhere, Reduction::Sum, transfer);
    };
    float *from = data.data();
    float *to = data.data() + 32;
    expectRefused(reduce({DType::F32, from, to, isWrong ? -1 : 4}), "the count is -1, not in");
    expectRefused(reduce({DType::F32, from, to, isWrong ? int64_t{1} << 60 : 4}),
                  "the count is 1152921504606846976, not in");
    expectRefused(reduce({DType::F32, isWrong ? nullptr : from, to, 4}),
                  "the send buffer of 4 elements is null");
    expectRefused(reduce({DType::F32, from, isWrong ? nullptr : to, 4}),
                  "the receive buffer of 4 elements is null");
    expectRefused(reduce({DType::F32, from, isWrong ? from + 1 : to, 4}),
                  "send and receive overlap by less than in place allows");
    expectRefused(
        reduce({DType::F32, reinterpret_cast<std::byte *>(from) + (isWrong ? 2 : 0), to, 4}),
        "the send buffer is not aligned to the 4 bytes of f32");
    std::byte byte{};
    expectRefused(group.broadcast(kWhere, std::span(&byte, 1), isWrong ? group.size() : 0),
                  "the root is rank " + std::to_string(group.size()));
    std::vector<int64_t> sent(group.size());
    std::vector<int64_t> received(isWrong ? group.size() + 1 : group.size());
    expectRefused(group.exchangeCounts(kWhere, sent, received),
                  "it sends " + std::to_string(group.size()) + " counts and receives " +
                      std::to_string(group.size() + 1));
  });
}

TEST_P(Conformance, AllRanksRefuseWrongRowsOfOne) {
  runRanks(GetParam(), [](Communicator &communicator) {
    Group &group = communicator.world();
    auto size = static_cast<size_t>(group.size());
    bool isWrong = group.rank() == 0;
    std::vector<std::byte> send(64), receive(64);
    std::vector<int64_t> good(size, 1);
    std::vector<int64_t> bad(size, 1);
    auto exchange = [&](int64_t rowBytes, Rows sendRows, Rows receiveRows,
                        const std::string &text) {
      Status status = group.allToAllV(kWhere, rowBytes, send, sendRows, receive, receiveRows);
      EXPECT_THAT(status.message(), HasSubstr(text));
      EXPECT_DONE(group.barrier(kWhere));
    };
    bad[0] = isWrong ? -1 : 1;
    exchange(4, {bad}, {good}, "on rank 0, it sends -1 rows at row 0 for rank 0 of the group");
    exchange(4, {good}, {bad}, "on rank 0, it receives -1 rows at row 0");
    bad[0] = isWrong ? std::numeric_limits<int64_t>::max() : 1;
    exchange(4, {bad}, {good}, "where the buffer holds 16");
    bad[0] = 1;
    exchange(isWrong ? 0 : 4, {good}, {good}, "a row has 0 bytes");
    exchange(4, {good}, {isWrong ? std::span<int64_t>() : std::span(good)},
             "it receives has 0 counts and 0 offsets for a group of " + std::to_string(size));
    std::vector<int64_t> two(2 * size, 1);
    exchange(4, {two}, {isWrong ? std::span(good) : std::span(two)},
             "it sends 2 pieces to each rank and receives 1, not the same number");
    two[1] = isWrong ? 99 : 1;
    exchange(4, {two}, {two}, "it sends 99 rows at row 1 for rank 0 of the group, piece 1, where");
    two[1] = isWrong ? 2 : 1;
    std::vector<int64_t> ones(2 * size, 1);
    exchange(4, {two}, {ones}, "rank 0 sends 2 rows in piece 1 to rank 0, which expects 1");
    Status status =
        group.allToAllV(kWhere, isWrong ? 6 : 4, send, {good}, receive, {good}, DType::F32);
    EXPECT_THAT(status.message(), HasSubstr("rows of 6 bytes that are added are not whole, "
                                            "aligned f32 elements"));
    std::vector<int64_t> offsets(size, isWrong ? 16 : 0);
    exchange(4, {good, offsets}, {good}, "it sends 1 rows at row 16");
    if (size < 2)
      return;
    offsets.assign(size, 0);
    exchange(4, {good}, {good, offsets},
             "it receives 1 rows at row 0 for rank 1 of the group, over those of the ranks before");
    bad[1] = isWrong ? 3 : 1;
    exchange(4, {bad}, {good}, "rank 0 sends 3 rows to rank 1, which expects 1");
  });
}

TEST_P(Conformance, AllRanksRefuseToDisagree) {
  runRanks(GetParam(), [](Communicator &communicator) {
    Group &group = communicator.world();
    if (group.size() < 2)
      return;
    bool differs = group.rank() == 1;
    std::vector<float> data(64);
    std::vector<float> result(256);
    auto expect = [&](const Status &status, const std::string &one, const std::string &two) {
      EXPECT_THAT(status.message(), HasSubstr("the ranks disagree: rank 0 calls " + one));
      EXPECT_THAT(status.message(), HasSubstr(", rank 1 calls " + two));
      EXPECT_DONE(group.barrier(kWhere));
    };
    Transfer four{DType::F32, data.data(), result.data(), 4};
    Transfer five{DType::F32, data.data(), result.data(), 5};
    Transfer integers{DType::I32, data.data(), result.data(), 4};
    expect(group.allGather(kWhere, differs ? five : four), "all_gather of 4 f32 at micro_step",
           "all_gather of 5 f32 at micro_step, instruction 7");
    expect(group.allGather(kWhere, differs ? integers : four), "all_gather of 4 f32",
           "all_gather of 4 i32");
    expect(differs ? group.allGather(kWhere, four) : group.allReduce(kWhere, Reduction::Sum, four),
           "all_reduce (sum) of 4 f32", "all_gather of 4 f32");
    expect(group.allReduce(kWhere, differs ? Reduction::Max : Reduction::Sum, four),
           "all_reduce (sum)", "all_reduce (max)");
    std::vector<Transfer> list{four, differs ? five : four};
    expect(group.allGather(kWhere, list), "all_gather of 4 f32 and others, 2 buffers",
           "all_gather of 4 f32 and others, 2 buffers");
    std::vector<int64_t> ones(group.size(), 1), twos(2 * group.size(), 1);
    auto exchange = [&](std::span<const int64_t> counts, std::optional<DType> added) {
      auto bytes = std::as_writable_bytes(std::span(result));
      return group.allToAllV(kWhere, 4, std::as_bytes(std::span(data)), {counts}, bytes, {counts},
                             added);
    };
    expect(exchange(differs ? twos : ones, {}), "all_to_all_v of rows of 4 bytes in 1 pieces per",
           "all_to_all_v of rows of 4 bytes in 2 pieces per rank");
    expect(exchange(ones, differs ? std::optional(DType::F32) : std::nullopt),
           "all_to_all_v of rows of 4 bytes in 1 pieces per rank at",
           "all_to_all_v of rows of 4 bytes in 1 pieces per rank, adding f32");
    expect(differs ? group.barrier({"evaluate", 3}) : group.allGather(kWhere, four), "all_gather",
           "barrier at evaluate, instruction 3");
  });
}

TEST_P(Conformance, GroupsArePartitions) {
  runRanks(GetParam(), [](Communicator &communicator) {
    int me = communicator.rank();
    std::vector<int> descending{1, 0};
    auto refused = communicator.createGroup(descending);
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(refused.status().message(), HasSubstr("rank 0 cannot make a group"));
    std::vector<int> beyond{me, communicator.size()};
    EXPECT_FALSE(communicator.createGroup(beyond).ok());
    EXPECT_FALSE(communicator.createGroup({}).ok());
    if (communicator.size() > 1) {
      // Rank 0 wants to be with rank 1, which wants to be alone.
      std::vector<int> pair{0, 1};
      auto torn = communicator.createGroup(me == 0 ? std::span<const int>(pair)
                                                   : std::span<const int>(&me, 1));
      ASSERT_FALSE(torn.ok());
      EXPECT_THAT(torn.status().message(), HasSubstr("rank 0 says that rank 1 is in its group"));
    }
    EXPECT_DONE(communicator.world().barrier(kWhere));
  });
}

} // namespace
} // namespace switchyard::test

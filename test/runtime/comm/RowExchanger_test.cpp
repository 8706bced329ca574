// Exchanges of rows by counts on the device, beside what the host computes from the same counts
// (runtime/executor/Exchange.h); round by round, and as a graph whose loop makes the rounds.
#include "kernels/cuda/Loop.h"
#include "runtime/executor/Exchange.h"
#include "test/runtime/comm/DeviceRanks.h"

#include <cstring>
#include <numeric>
#include <random>

namespace switchyard::test {
namespace {

constexpr int64_t kArenaBytes = int64_t{4} << 20;

class RowExchangerTest : public DeviceRanks {
protected:
  void SetUp() override {
    DeviceRanks::SetUp();
    if (IsSkipped())
      return;
    ASSERT_CUDA(cudaStreamCreateWithFlags(&body_, cudaStreamNonBlocking));
    // Ranks of one host reach each other wherever NCCL does.
    static std::unique_ptr<Buffer> arena;
    static std::unique_ptr<RowExchanger> exchanger;
    if (!exchanger) {
      arena = std::make_unique<Buffer>(DType::I32, kArenaBytes / 4);
      auto shared = group_->onDevice()->shareMemory(arena->span());
      ASSERT_TRUE(shared.ok()) << shared.status().message();
      exchanger = std::move(*shared);
    }
    ASSERT_TRUE(exchanger) << "the ranks' GPUs cannot reach each other";
    arena_ = arena.get();
    exchanger_ = exchanger.get();
  }

  void TearDown() override {
    if (body_)
      cudaStreamDestroy(body_);
    DeviceRanks::TearDown();
  }

  int64_t n() const { return group_->size(); }
  int64_t mine() const { return group_->rank(); }

  Buffer *arena_ = nullptr;
  RowExchanger *exchanger_ = nullptr;
  cudaStream_t body_ = nullptr; // of loops
};

struct Case {
  const char *name;
  int64_t expertsOfRank;
  int64_t columns;
  DType dtype;
  int64_t rows;   // that a rank has at most
  int64_t buffer; // B
};

/// Counts [n, E] of a way to route: at random, all of them to one expert, or of some ranks none.
std::vector<int32_t> countsOf(const Case &c, int64_t n, int way) {
  const int64_t experts = n * c.expertsOfRank;
  std::mt19937 generator(static_cast<uint32_t>(7 + way));
  std::vector<int32_t> counts(n * experts);
  for (int64_t rank = 0; rank < n; ++rank)
    for (int64_t row = 0; row < c.rows; ++row) {
      int64_t expert = static_cast<int64_t>(generator() % static_cast<uint32_t>(experts));
      if (way % 3 == 1)
        expert = experts - 1;
      if (way % 3 != 2 || (rank + way) % 2 == 0)
        ++counts[rank * experts + expert];
    }
  return counts;
}

float valueOf(int64_t rank, int64_t row, int64_t column) {
  return static_cast<float>((rank * 37 + row * 11 + column * 5) % 127 - 63);
}

std::vector<float> valuesOf(const Case &c, int64_t rank, int64_t rows) {
  std::vector<float> values;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < c.columns; ++column)
      values.push_back(valueOf(rank, row, column));
  return values;
}

/// What one case needs on the device.
struct Exchanged {
  Exchanged(const Case &c, int64_t n, std::byte *received)
      : allCounts(DType::I32, n * n * c.expertsOfRank), round(DType::I32, 1),
        from(c.dtype, c.rows * c.columns), returned(c.dtype, c.rows * c.columns),
        groupSizes(DType::I32, c.expertsOfRank), received(received),
        exchange{.allCounts = reinterpret_cast<int32_t *>(allCounts.at(0)),
                 .round = reinterpret_cast<int32_t *>(round.at(0)),
                 .experts = n * c.expertsOfRank,
                 .rows = c.rows,
                 .buffer = c.buffer,
                 .rowBytes = c.columns * kernels::byteSize(c.dtype)} {}

  void setCounts(const std::vector<int32_t> &counts) {
    allCounts.set({counts.begin(), counts.end()});
  }

  Buffer allCounts, round, from, returned, groupSizes;
  std::byte *received;
  RowExchange exchange;
};

constexpr Case kCases[] = {
    {"Wide", 2, 512, DType::BF16, 300, 400}, {"Odd", 3, 3, DType::BF16, 101, 37},
    {"Words", 1, 5, DType::F32, 64, 64},     {"ManyExperts", 40, 8, DType::F32, 500, 90},
    {"FewRows", 4, 64, DType::F32, 1, 1},    {"NoRows", 2, 16, DType::BF16, 0, 0}};

TEST_F(RowExchangerTest, EachRoundIsTheHosts) {
  for (const Case &c : kCases)
    for (int way = 0; way < 6; ++way) {
      SCOPED_TRACE(testing::Message() << c.name << ", way " << way);
      const int64_t local = c.expertsOfRank;
      const ExchangeSize size{n(), n() * local, c.rows, c.buffer};
      const std::vector<int32_t> counts = countsOf(c, n(), way);
      Exchanged it(c, n(), arena_->at(64));
      it.setCounts(counts);
      it.from.set(valuesOf(c, mine(), c.rows));
      it.returned.set(std::vector<float>(c.rows * c.columns, 5.0F));
      const int64_t last = overflowRounds(size, counts);
      for (int64_t round = 0; round <= last; ++round) {
        it.round.set({static_cast<float>(round)});
        EXPECT_DONE(exchanger_->exchange(it.exchange, it.from.at(0), it.received,
                                         reinterpret_cast<int32_t *>(it.groupSizes.at(0)),
                                         stream_));
        finishStream();
        ExchangeRows rows(size, mine());
        rows.compute(counts, round);
        std::vector<float> expected(c.buffer * c.columns, 0.0F), found(expected.size());
        for (int64_t sender = 0; sender < n(); ++sender) {
          ExchangeRows sent(size, sender);
          sent.compute(counts, round);
          for (int64_t j = 0; j < local; ++j) {
            const int64_t piece = sender * local + j, expert = mine() * local + j;
            for (int64_t i = 0; i < rows.received().counts[piece]; ++i)
              for (int64_t column = 0; column < c.columns; ++column)
                expected[(rows.received().offsets[piece] + i) * c.columns + column] =
                    valueOf(sender, sent.sent().offsets[expert] + i, column);
          }
        }
        Buffer copy(c.dtype, c.buffer * c.columns);
        ASSERT_CUDA(cudaMemcpy(copy.at(0), it.received, copy.bytes(), cudaMemcpyDeviceToDevice));
        ASSERT_CUDA(cudaDeviceSynchronize());
        EXPECT_EQ(copy.get(), expected) << "round " << round;
        std::vector<float> sizes(rows.groupSizes().begin(), rows.groupSizes().end());
        EXPECT_EQ(it.groupSizes.get(), sizes) << "round " << round;
        // Round 0 sets what it does not return to zero, the others add.
        auto added = round == 0 ? std::nullopt : std::optional(c.dtype);
        EXPECT_DONE(
            exchanger_->giveBack(it.exchange, it.received, it.returned.at(0), added, stream_));
        finishStream();
      }
      int64_t own = 0;
      for (int64_t e = 0; e < size.experts; ++e)
        own += counts[mine() * size.experts + e];
      std::vector<float> all = valuesOf(c, mine(), own);
      all.resize(c.rows * c.columns);
      EXPECT_EQ(it.returned.get(), all);
    }
}

// The counts change between replays, and with them how many rounds there are.
TEST_F(RowExchangerTest, AGraphsLoopMakesTheRounds) {
  for (const Case &c : {kCases[0], kCases[1], kCases[3]}) {
    SCOPED_TRACE(c.name);
    Exchanged it(c, n(), arena_->at(0));
    it.from.set(valuesOf(c, mine(), c.rows));
    auto *round = reinterpret_cast<int32_t *>(it.round.at(0));
    auto *groupSizes = reinterpret_cast<int32_t *>(it.groupSizes.at(0));
    RowExchange first = it.exchange;
    first.round = nullptr;
    ASSERT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    EXPECT_DONE(exchanger_->exchange(first, it.from.at(0), it.received, groupSizes, stream_));
    EXPECT_DONE(exchanger_->giveBack(first, it.received, it.returned.at(0), std::nullopt, stream_));
    EXPECT_DONE(exchanger_->countRounds(it.exchange, stream_));
    auto fault = kernels::cuda::recordLoop(
        stream_, body_, exchanger_->rounds(), round, [&]() -> kernels::cuda::Fault {
          EXPECT_DONE(
              exchanger_->exchange(it.exchange, it.from.at(0), it.received, groupSizes, body_));
          EXPECT_DONE(
              exchanger_->giveBack(it.exchange, it.received, it.returned.at(0), c.dtype, body_));
          return {};
        });
    EXPECT_FALSE(fault) << *fault;
    cudaGraph_t recorded = nullptr;
    cudaGraphExec_t graph = nullptr;
    ASSERT_CUDA(cudaStreamEndCapture(stream_, &recorded));
    ASSERT_CUDA(cudaGraphInstantiate(&graph, recorded, 0));
    ASSERT_CUDA(cudaGraphDestroy(recorded));
    for (int turn = 0; turn < 6; ++turn) {
      SCOPED_TRACE(testing::Message() << "turn " << turn);
      const ExchangeSize size{n(), n() * c.expertsOfRank, c.rows, c.buffer};
      const std::vector<int32_t> counts = countsOf(c, n(), turn);
      it.setCounts(counts);
      ExchangeTotals before, after;
      ASSERT_CUDA(cudaMemcpy(&before, exchanger_->totals(), sizeof before, cudaMemcpyDeviceToHost));
      ASSERT_CUDA(cudaGraphLaunch(graph, stream_));
      finishStream();
      ASSERT_CUDA(cudaMemcpy(&after, exchanger_->totals(), sizeof after, cudaMemcpyDeviceToHost));
      int64_t own = 0, sent = 0, back = 0;
      for (int64_t s = 0; s < n(); ++s)
        for (int64_t e = 0; e < size.experts; ++e) {
          const int64_t count = counts[s * size.experts + e], at = e / c.expertsOfRank;
          own += s == mine() ? count : 0;
          sent += s == mine() && at != mine() ? count : 0;
          back += s != mine() && at == mine() ? count : 0;
        }
      std::vector<float> all = valuesOf(c, mine(), own);
      all.resize(c.rows * c.columns);
      EXPECT_EQ(it.returned.get(), all);
      EXPECT_EQ(after.overflowRounds - before.overflowRounds, overflowRounds(size, counts));
      EXPECT_EQ(after.bytesSent - before.bytesSent, sent * it.exchange.rowBytes);
      EXPECT_EQ(after.bytesReturned - before.bytesReturned, back * it.exchange.rowBytes);
    }
    ASSERT_CUDA(cudaGraphExecDestroy(graph));
  }
}

TEST_F(RowExchangerTest, TakesWhatLiesInTheSharedMemory) {
  Buffer other(DType::F32, 4);
  EXPECT_TRUE(exchanger_->takes(8, arena_->span()));
  EXPECT_FALSE(exchanger_->takes(8, other.span()));
  EXPECT_FALSE(exchanger_->takes(1 << 20, arena_->span()));
}

} // namespace
} // namespace switchyard::test

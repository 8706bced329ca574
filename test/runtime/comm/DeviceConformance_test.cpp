// What a backend of collectives on GPUs must do. Each rank is a process: nccl_test --spawn 4.
#include "test/runtime/comm/DeviceRanks.h"

#include <cmath>
#include <gmock/gmock.h>
#include <random>

namespace switchyard::test {
namespace {

constexpr int64_t kCounts[] = {0, 1, 2, 3, 5, 17, 1000, 5003, 300'000};

class DeviceConformance : public DeviceRanks {
protected:
  /// The values of one rank, known to all; sums of them are exact where `isExact`.
  static std::vector<float> valuesOf(int rank, int64_t count, int seed, bool isExact = true) {
    std::mt19937 generator(static_cast<uint32_t>(1000 * seed + rank));
    std::vector<float> values(count);
    std::uniform_int_distribution<int> whole(-15, 15);
    std::normal_distribution<float> normal;
    for (float &value : values)
      value = isExact ? static_cast<float>(whole(generator))
                      : normal(generator) * std::exp(3 * normal(generator));
    return values;
  }

  std::vector<float> reduced(Group &group, int64_t count, int seed, Reduction reduction) {
    std::vector<float> result = valuesOf(group.ranks()[0], count, seed);
    for (int r = 1; r < group.size(); ++r) {
      std::vector<float> more = valuesOf(group.ranks()[r], count, seed);
      for (int64_t i = 0; i < count; ++i)
        result[i] =
            reduction == Reduction::Sum ? result[i] + more[i] : std::max(result[i], more[i]);
    }
    return result;
  }

  void checkTransfers(Group &group);
  void checkExchange(Group &group, std::optional<DType> added, int64_t columns);
};

std::vector<float> part(const std::vector<float> &values, int64_t begin, int64_t count) {
  return {values.begin() + begin, values.begin() + begin + count};
}

void DeviceConformance::checkTransfers(Group &group) {
  DeviceGroup &device = *group.onDevice();
  const int n = group.size();
  const int world = communicator_->rank();
  for (DType dtype : {DType::F32, DType::BF16, DType::I32})
    for (int64_t count : kCounts)
      for (bool inPlace : {false, true}) {
        SCOPED_TRACE(testing::Message() << kernels::name(dtype) << " " << count << " " << inPlace);
        Buffer all(dtype, n * count), mine(dtype, count);
        mine.set(valuesOf(world, count, 1));
        void *from = mine.at(0);
        if (inPlace) {
          from = all.at(group.rank() * count);
          ASSERT_CUDA(cudaMemcpy(from, mine.at(0), mine.bytes(), cudaMemcpyDeviceToDevice));
          ASSERT_CUDA(cudaDeviceSynchronize());
        }
        Transfer gather{dtype, from, all.at(0), count};
        EXPECT_DONE(device.allGather({&gather, 1}, stream_));
        finishStream();
        for (int r = 0; r < n; ++r)
          EXPECT_EQ(part(all.get(), r * count, count), valuesOf(group.ranks()[r], count, 1));
        for (Reduction reduction : {Reduction::Sum, Reduction::Max}) {
          all.set(valuesOf(world, n * count, 2));
          void *to = inPlace ? static_cast<void *>(all.at(group.rank() * count)) : mine.at(0);
          Transfer scatter{dtype, all.at(0), to, count};
          EXPECT_DONE(device.reduceScatter(reduction, {&scatter, 1}, stream_));
          finishStream();
          EXPECT_EQ(inPlace ? part(all.get(), group.rank() * count, count) : mine.get(),
                    part(reduced(group, n * count, 2, reduction), group.rank() * count, count));
          mine.set(valuesOf(world, count, 3));
          Buffer sum(dtype, count);
          Transfer reduce{dtype, mine.at(0), inPlace ? mine.at(0) : sum.at(0), count};
          EXPECT_DONE(device.allReduce(reduction, {&reduce, 1}, stream_));
          finishStream();
          EXPECT_EQ((inPlace ? mine : sum).get(), reduced(group, count, 3, reduction));
        }
      }
}

TEST_F(DeviceConformance, TransfersOfAllRanks) {
  checkTransfers(*group_);
}

TEST_F(DeviceConformance, TransfersOfHalves) {
  if (communicator_->size() < 4)
    GTEST_SKIP() << "too few ranks";
  std::vector<int> half;
  for (int rank = communicator_->rank() % 2; rank < communicator_->size(); rank += 2)
    half.push_back(rank);
  checkTransfers(*groupOf(half));
}

// A bucket is one call.
TEST_F(DeviceConformance, ListsOfTransfers) {
  std::vector<std::unique_ptr<Buffer>> in, out;
  std::vector<Transfer> transfers;
  for (int64_t count : kCounts) {
    in.push_back(std::make_unique<Buffer>(DType::F32, count));
    out.push_back(std::make_unique<Buffer>(DType::F32, count));
    in.back()->set(valuesOf(communicator_->rank(), count, 4));
    transfers.push_back({DType::F32, in.back()->at(0), out.back()->at(0), count});
  }
  EXPECT_DONE(group_->onDevice()->allReduce(Reduction::Sum, transfers, stream_));
  finishStream();
  for (size_t i = 0; i < out.size(); ++i)
    EXPECT_EQ(out[i]->get(), reduced(*group_, kCounts[i], 4, Reduction::Sum));
}

// Sums are rounded, but the same way every time, and close to the truth.
TEST_F(DeviceConformance, SumsAreTheSameBitsEveryTime) {
  constexpr int64_t kCount = 100'003;
  for (DType dtype : {DType::F32, DType::BF16}) {
    Buffer in(dtype, kCount), out(dtype, kCount);
    in.set(valuesOf(communicator_->rank(), kCount, 5, false));
    std::vector<double> exact(kCount), sizes(kCount);
    for (int r = 0; r < group_->size(); ++r) {
      std::vector<float> values = valuesOf(group_->ranks()[r], kCount, 5, false);
      for (int64_t i = 0; i < kCount; ++i) {
        float value = dtype == DType::F32
                          ? values[i]
                          : kernels::cpu::toFloat(kernels::cpu::fromFloat<BFloat16>(values[i]));
        exact[i] += value;
        sizes[i] += std::abs(value);
      }
    }
    Transfer transfer{dtype, in.at(0), out.at(0), kCount};
    std::vector<float> first;
    for (int turn = 0; turn < 3; ++turn) {
      EXPECT_DONE(group_->onDevice()->allReduce(Reduction::Sum, {&transfer, 1}, stream_));
      finishStream();
      std::vector<float> now = out.get();
      if (turn == 0)
        first = now;
      EXPECT_EQ(now, first);
    }
    double bound = (dtype == DType::F32 ? 0x1p-23 : 0x1p-8) * group_->size();
    for (int64_t i = 0; i < kCount; ++i)
      ASSERT_NEAR(first[i], exact[i], bound * sizes[i]) << kernels::name(dtype) << " " << i;
  }
}

/// The rows of piece j that rank s sends to rank r: uneven, some none.
int64_t rowsBetween(int s, int r, int64_t j) {
  return (s * 5 + r * 3 + j) % 4 == 0 ? 0 : (s * 7 + r * 11 + 5 * j) % 13;
}

float rowValue(int s, int r, int64_t j, int64_t row) {
  return static_cast<float>((s * 41 + r * 29 + j * 13 + row * 3) % 61 - 30);
}

void DeviceConformance::checkExchange(Group &group, std::optional<DType> added, int64_t columns) {
  constexpr int64_t kPieces = 3;
  const DType dtype = added.value_or(DType::F32);
  const int n = group.size(), mine = group.rank();
  // Sent rank by rank; received piece by piece, as experts are.
  std::vector<int64_t> sendCounts, receiveCounts(n * kPieces), receiveOffsets(n * kPieces);
  std::vector<float> sent, expected;
  for (int r = 0; r < n; ++r)
    for (int64_t j = 0; j < kPieces; ++j) {
      sendCounts.push_back(rowsBetween(mine, r, j));
      for (int64_t row = 0; row < sendCounts.back(); ++row)
        sent.insert(sent.end(), columns, rowValue(mine, r, j, row));
    }
  int64_t rows = 0;
  for (int64_t j = 0; j < kPieces; ++j)
    for (int s = 0; s < n; ++s) {
      int64_t count = rowsBetween(s, mine, j);
      receiveCounts[s * kPieces + j] = count;
      receiveOffsets[s * kPieces + j] = rows;
      rows += count;
      for (int64_t row = 0; row < count; ++row)
        expected.insert(expected.end(), columns, rowValue(s, mine, j, row) + (added ? 7.0F : 0.0F));
    }
  Buffer send(dtype, static_cast<int64_t>(sent.size())), receive(dtype, rows * columns);
  send.set(sent);
  if (added)
    receive.set(std::vector<float>(rows * columns, 7.0F));
  EXPECT_DONE(group.onDevice()->allToAllV(columns * kernels::byteSize(dtype), send.span(),
                                          {sendCounts}, receive.span(),
                                          {receiveCounts, receiveOffsets}, added, stream_));
  finishStream();
  EXPECT_EQ(receive.get(), expected) << columns;
}

TEST_F(DeviceConformance, Exchanges) {
  for (int64_t columns : {1, 7, 64, 20'000}) // the last does not fit the scratch
    for (auto added :
         {std::optional<DType>(), std::optional(DType::F32), std::optional(DType::BF16)})
      checkExchange(*group_, added, columns);
}

// Two graphs of different sizes, replayed in turn on changing values, with calls between.
TEST_F(DeviceConformance, GraphsReplay) {
  DeviceGroup &device = *group_->onDevice();
  constexpr int64_t kMost = 4099;
  const int n = group_->size();
  Buffer in(DType::F32, kMost), all(DType::F32, n * kMost), sum(DType::F32, kMost);
  std::vector<std::pair<int64_t, cudaGraphExec_t>> graphs;
  for (int64_t count : {kMost, int64_t{130}}) {
    Transfer gather{DType::F32, in.at(0), all.at(0), count};
    Transfer reduce{DType::F32, in.at(0), sum.at(0), count};
    cudaGraph_t recorded = nullptr;
    cudaGraphExec_t graph = nullptr;
    ASSERT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    EXPECT_DONE(device.allGather({&gather, 1}, stream_));
    EXPECT_DONE(device.allReduce(Reduction::Sum, {&reduce, 1}, stream_));
    ASSERT_CUDA(cudaStreamEndCapture(stream_, &recorded));
    ASSERT_CUDA(cudaGraphInstantiate(&graph, recorded, 0));
    ASSERT_CUDA(cudaGraphDestroy(recorded));
    graphs.emplace_back(count, graph);
  }
  for (int turn = 0; turn < 6; ++turn) {
    auto [count, graph] = graphs[turn % 2];
    in.set(valuesOf(communicator_->rank(), kMost, 10 + turn));
    if (turn == 3) {
      Transfer reduce{DType::F32, in.at(0), sum.at(0), kMost};
      EXPECT_DONE(device.allReduce(Reduction::Max, {&reduce, 1}, stream_));
    }
    ASSERT_CUDA(cudaGraphLaunch(graph, stream_));
    finishStream();
    for (int r = 0; r < n; ++r)
      EXPECT_EQ(part(all.get(), r * count, count),
                part(valuesOf(group_->ranks()[r], kMost, 10 + turn), 0, count));
    EXPECT_EQ(part(sum.get(), 0, count),
              part(reduced(*group_, kMost, 10 + turn, Reduction::Sum), 0, count));
  }
  for (auto &[count, graph] : graphs)
    ASSERT_CUDA(cudaGraphExecDestroy(graph));
}

TEST_F(DeviceConformance, MemoryIsCounted) {
  RecordProperty("memory_mib", static_cast<int>(communicator_->devices()->memoryBytes() >> 20));
  EXPECT_GT(communicator_->devices()->memoryBytes(), uint64_t{0});
}

} // namespace
} // namespace switchyard::test

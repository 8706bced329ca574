// What a backend of collectives on GPUs must do. Each rank is a process: nccl_test --spawn 4.
#include "runtime/comm/nccl/NcclGroups.h"
#include "test/runtime/comm/Ranks.h"

#include "kernels/cpu/BFloat16.h"

#include <algorithm>
#include <cmath>
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>

namespace switchyard::test {
namespace {

using kernels::DType;
using kernels::cpu::BFloat16;

constexpr int64_t kCounts[] = {0, 1, 2, 3, 5, 17, 1000, 5003, 300'000};

#define ASSERT_CUDA(call) ASSERT_EQ((call), cudaSuccess) << cudaGetErrorString(cudaGetLastError())
#define EXPECT_DONE(call)                                                                          \
  do {                                                                                             \
    Status expectedDone = (call);                                                                  \
    EXPECT_TRUE(expectedDone.ok()) << expectedDone.message();                                      \
  } while (false)

/// Values in the GPU's memory. Streams that block nobody do not wait for copies and fills without a
/// stream, which may still be on their way when the call returns: so these are waited for.
class Buffer {
public:
  Buffer(DType dtype, int64_t count) : dtype_(dtype), count_(count) {
    EXPECT_EQ(cudaMalloc(&data_, std::max<size_t>(bytes(), 1)), cudaSuccess);
    EXPECT_EQ(cudaMemset(data_, 0xA5, bytes()), cudaSuccess); // none of the results
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  Buffer(const Buffer &) = delete;
  ~Buffer() { cudaFree(data_); }

  void set(const std::vector<float> &values) {
    std::vector<std::byte> bits(bytes());
    for (int64_t i = 0; i < count_; ++i) {
      if (dtype_ == DType::F32)
        reinterpret_cast<float *>(bits.data())[i] = values[i];
      else if (dtype_ == DType::I32)
        reinterpret_cast<int32_t *>(bits.data())[i] = static_cast<int32_t>(values[i]);
      else
        reinterpret_cast<BFloat16 *>(bits.data())[i] = kernels::cpu::fromFloat<BFloat16>(values[i]);
    }
    EXPECT_EQ(cudaMemcpy(data_, bits.data(), bits.size(), cudaMemcpyHostToDevice), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  std::vector<float> get() const {
    std::vector<std::byte> bits(bytes());
    EXPECT_EQ(cudaMemcpy(bits.data(), data_, bits.size(), cudaMemcpyDeviceToHost), cudaSuccess);
    std::vector<float> values(count_);
    for (int64_t i = 0; i < count_; ++i)
      values[i] = dtype_ == DType::F32 ? reinterpret_cast<float *>(bits.data())[i]
                  : dtype_ == DType::I32
                      ? static_cast<float>(reinterpret_cast<int32_t *>(bits.data())[i])
                      : kernels::cpu::toFloat(reinterpret_cast<BFloat16 *>(bits.data())[i]);
    return values;
  }
  std::byte *at(int64_t i) const {
    return static_cast<std::byte *>(data_) + i * kernels::byteSize(dtype_);
  }
  size_t bytes() const { return static_cast<size_t>(count_ * kernels::byteSize(dtype_)); }
  std::span<std::byte> span() const { return {at(0), bytes()}; }

private:
  DType dtype_;
  int64_t count_;
  void *data_ = nullptr;
};

class DeviceConformance : public testing::Test {
protected:
  void SetUp() override {
    communicator_ = jobCommunicator();
    if (!communicator_ || !communicator_->devices())
      GTEST_SKIP() << "no job of ranks on GPUs";
    ASSERT_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    std::vector<int> everyone(communicator_->size());
    for (int rank = 0; rank < communicator_->size(); ++rank)
      everyone[rank] = rank;
    group_ = groupOf(everyone);
  }
  void TearDown() override {
    if (stream_)
      cudaStreamDestroy(stream_);
  }

  /// Groups live as long as the job, which may have a few only.
  Group *groupOf(const std::vector<int> &ranks) {
    static std::vector<std::pair<std::vector<int>, Group *>> known;
    for (auto &[members, group] : known)
      if (members == ranks)
        return group;
    auto group = communicator_->createGroup(ranks);
    EXPECT_TRUE(group.ok()) << group.status().message();
    if (!group.ok())
      std::exit(1); // the others cannot go on
    known.emplace_back(ranks, *group);
    return *group;
  }

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

  void finishStream() { ASSERT_CUDA(cudaStreamSynchronize(stream_)); }

  void checkTransfers(Group &group);
  void checkExchange(Group &group, std::optional<DType> added, int64_t columns);

  Communicator *communicator_ = nullptr;
  Group *group_ = nullptr;
  cudaStream_t stream_ = nullptr;
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

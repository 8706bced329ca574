// What tests of ranks on GPUs share: this process is one rank of a job (nccl_test --spawn N), and
// has values in its GPU's memory.
#pragma once

#include "runtime/comm/DeviceGroup.h"
#include "test/runtime/comm/Ranks.h"

#include "kernels/cpu/BFloat16.h"

#include <algorithm>
#include <cstdlib>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
#include <utility>
#include <vector>

namespace switchyard::test {

using kernels::DType;
using kernels::cpu::BFloat16;

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

/// Skips where there is no job.
class DeviceRanks : public testing::Test {
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

  void finishStream() { ASSERT_CUDA(cudaStreamSynchronize(stream_)); }

  Communicator *communicator_ = nullptr;
  Group *group_ = nullptr; // of all ranks
  cudaStream_t stream_ = nullptr;
};

} // namespace switchyard::test

// A GPU as a device: memory, copies, launches, refusals. Skips where there is no GPU.
#include "runtime/device/cuda/CudaDevice.h"

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>

namespace switchyard {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr kernels::Target kCuda{kernels::Target::Kind::Cuda, 1};

class CudaDeviceTest : public ::testing::Test {
protected:
  void SetUp() override {
    int devices = 0;
    cudaError_t error = cudaGetDeviceCount(&devices);
    if (error != cudaSuccess || devices == 0)
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(error);
    auto device = createCudaDevice(kCuda);
    ASSERT_TRUE(device.ok()) << device.status().message();
    device_ = std::move(*device);
  }
  DeviceMemory allocate(uint64_t bytes) {
    auto memory = device_->allocate(bytes);
    EXPECT_TRUE(memory.ok()) << memory.status().message();
    return memory.ok() ? std::move(*memory) : DeviceMemory();
  }

  std::unique_ptr<Device> device_;
};

TEST_F(CudaDeviceTest, MemoryIsZeroedAndAligned) {
  DeviceMemory memory = allocate(100003);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.data()) % 256, 0u);
  std::vector<uint8_t> bytes(100003, 1);
  ASSERT_TRUE(device_->copyOut(bytes.data(), memory.data(), bytes.size()).ok());
  EXPECT_THAT(bytes, ::testing::Each(0));
  EXPECT_GT(device_->memoryBytes(), uint64_t{1} << 30);
  EXPECT_EQ(allocate(0).data(), nullptr);
}

// Sizes around the pieces that staging copies in; the source may be overwritten right after copyIn.
TEST_F(CudaDeviceTest, CopiesOfAnySizeComeBack) {
  constexpr uint64_t kPiece = 8 << 20;
  for (uint64_t size :
       {uint64_t{0}, uint64_t{1}, kPiece - 1, kPiece, kPiece + 1, 2 * kPiece, 5 * kPiece + 12345}) {
    std::vector<uint32_t> values(size / 4 + 1);
    std::iota(values.begin(), values.end(), static_cast<uint32_t>(size));
    std::vector<uint32_t> sent = values, received(values.size());
    uint64_t bytes = values.size() * 4;
    DeviceMemory first = allocate(bytes), second = allocate(bytes);
    ASSERT_TRUE(device_->copyIn(first.data(), sent.data(), bytes).ok());
    std::fill(sent.begin(), sent.end(), 0);
    ASSERT_TRUE(device_->copy(second.data(), first.data(), bytes).ok());
    ASSERT_TRUE(device_->fillZero(first.data(), bytes).ok());
    ASSERT_TRUE(device_->copyOut(received.data(), second.data(), bytes).ok());
    EXPECT_EQ(received, values) << size;
    ASSERT_TRUE(device_->copyOut(received.data(), first.data(), bytes).ok());
    EXPECT_THAT(received, ::testing::Each(0u)) << size;
  }
}

// Allocations may stand one right behind the other; a copy of one must not reach into the next.
TEST_F(CudaDeviceTest, CopiesIntoNeighbouringAllocations) {
  constexpr size_t kCount = 128 << 10 >> 2, kAllocations = 6;
  std::vector<DeviceMemory> memory;
  for (size_t i = 0; i < kAllocations; ++i)
    memory.push_back(allocate(kCount * 4));
  for (size_t i = 0; i < kAllocations; ++i) {
    std::vector<uint32_t> sent(kCount, static_cast<uint32_t>(i));
    ASSERT_TRUE(device_->copyIn(memory[i].data(), sent.data(), kCount * 4).ok());
  }
  for (size_t i = 0; i < kAllocations; ++i) {
    std::vector<uint32_t> received(kCount, ~0u);
    ASSERT_TRUE(device_->copyOut(received.data(), memory[i].data(), kCount * 4).ok());
    EXPECT_THAT(received, ::testing::Each(static_cast<uint32_t>(i)));
  }
}

TEST_F(CudaDeviceTest, RunsWhatItPrepared) {
  DeviceMemory memory = allocate(3 * 256);
  std::vector<float> a = {1, 2, 3}, b = {10, 20, 30}, y(3);
  ASSERT_TRUE(device_->copyIn(memory.data(), a.data(), 12).ok());
  ASSERT_TRUE(device_->copyIn(memory.data() + 256, b.data(), 12).ok());
  std::vector<kernels::Tensor> operands;
  for (int i = 0; i < 3; ++i)
    operands.push_back({memory.data() + 256 * i, kernels::DType::F32, 1, {3}});
  auto launch = device_->prepare(*kernels::findSignature("add"), operands, {}, {});
  ASSERT_TRUE(launch.ok()) << launch.status().message();
  ASSERT_TRUE(device_->run(**launch).ok());
  ASSERT_TRUE(device_->synchronize().ok());
  ASSERT_TRUE(device_->copyOut(y.data(), memory.data() + 512, 12).ok());
  EXPECT_EQ(y, (std::vector<float>{11, 22, 33}));
}

TEST_F(CudaDeviceTest, StopwatchTimesTheDeviceAndNotTheHost) {
  auto stopwatch = device_->createStopwatch();
  ASSERT_TRUE(stopwatch.ok()) << stopwatch.status().message();
  DeviceMemory memory = allocate(uint64_t{512} << 20);
  auto time = [&](int fills) {
    EXPECT_TRUE(device_->synchronize().ok());
    EXPECT_TRUE((*stopwatch)->start().ok());
    for (int i = 0; i < fills; ++i)
      EXPECT_TRUE(device_->fillZero(memory.data(), memory.bytes()).ok());
    EXPECT_TRUE((*stopwatch)->stop().ok());
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    auto milliseconds = (*stopwatch)->milliseconds();
    EXPECT_TRUE(milliseconds.ok()) << milliseconds.status().message();
    return milliseconds.ok() ? *milliseconds : 0;
  };
  const double one = time(1), many = time(16);
  EXPECT_GT(one, 0.05); // 10 TB/s
  EXPECT_GT(many, 4 * one);
  EXPECT_LT(many, 90);
}

TEST_F(CudaDeviceTest, RefusesWhatItCannotDo) {
  auto memory = device_->allocate(uint64_t{1} << 50);
  EXPECT_EQ(memory.status().code(), StatusCode::DoesNotFit);
  EXPECT_THAT(memory.status().message(),
              StartsWith("cannot allocate 1125899906842624 bytes of GPU memory: "));
  EXPECT_TRUE(device_->synchronize().ok()); // the refusal is no fault of what comes after
  kernels::Signature unknown{"no_such_kernel", {}};
  EXPECT_EQ(device_->prepare(unknown, {}, {}, {}).status().message(),
            "CUDA has no kernel 'no_such_kernel'");
  EXPECT_THAT(createCudaDevice(kCuda, 1000).status().message(), HasSubstr("there is no GPU 1000"));
}

TEST_F(CudaDeviceTest, FaultsNameTheCall) {
  EXPECT_THAT(device_->copy(nullptr, nullptr, 16).message(),
              StartsWith("cudaMemcpyAsync on the device: "));
}

TEST(CudaDevice, SaysThatThereIsNoGpu) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0)
    GTEST_SKIP() << "there is one";
  Status status = createCudaDevice(kCuda).status();
  EXPECT_EQ(status.code(), StatusCode::Usage);
  EXPECT_THAT(status.message(), StartsWith("there is no GPU for this process: "));
  EXPECT_THAT(status.message(), HasSubstr("compile the plan with --target cpu"));
}

TEST(CudaDevice, RefusesAPlanForTheCpu) {
  EXPECT_EQ(createCudaDevice({}).status().message(),
            "the plan is for the CPU; compile it with --target cuda to run it on a GPU");
}

} // namespace
} // namespace switchyard

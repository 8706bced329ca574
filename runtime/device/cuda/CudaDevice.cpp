#include "runtime/device/cuda/CudaDevice.h"

#include "kernels/cuda/Gemm.h"
#include "kernels/cuda/Kernels.h"

#include <algorithm>
#include <cstring>

namespace switchyard {
namespace {

namespace cuda = kernels::cuda;

Status statusOf(cudaError_t error, const char *call) {
  if (auto fault = cuda::faultOf(error, call))
    return Status::failed(*fault);
  return {};
}

class CudaLaunch final : public PreparedLaunch {
public:
  CudaLaunch(const cuda::Kernel &kernel, std::vector<kernels::Tensor> operands,
             std::vector<kernels::AttributeValue> attributes, std::span<std::byte> workspace,
             cuda::Context &context)
      : kernel_(kernel), operands_(std::move(operands)), attributes_(std::move(attributes)),
        launch_{operands_, attributes_, workspace, &context} {}

  cuda::Fault prepare() const { return kernel_.prepare ? kernel_.prepare(launch_) : std::nullopt; }
  cuda::Fault run() const { return kernel_.run(launch_); }

private:
  const cuda::Kernel &kernel_;
  std::vector<kernels::Tensor> operands_;
  std::vector<kernels::AttributeValue> attributes_;
  kernels::Launch launch_;
};

/// Pinned memory in two halves: one is filled or emptied while the other is on its way.
class Staging {
public:
  static constexpr uint64_t kHalf = 8 << 20;

  ~Staging() {
    for (Half &half : halves_) {
      if (half.event)
        cudaEventDestroy(half.event);
      if (half.data)
        cudaFreeHost(half.data);
    }
  }

  Status create() {
    for (Half &half : halves_) {
      SY_RETURN_IF_ERROR(statusOf(cudaMallocHost(&half.data, kHalf), "cudaMallocHost"));
      SY_RETURN_IF_ERROR(statusOf(cudaEventCreateWithFlags(&half.event, cudaEventDisableTiming),
                                  "cudaEventCreateWithFlags"));
    }
    return {};
  }

  /// Returns once `from` was read.
  Status copyIn(void *to, const void *from, uint64_t bytes, cudaStream_t stream) {
    for (uint64_t done = 0; done < bytes; done += kHalf) {
      Half &half = takeHalf();
      uint64_t piece = std::min(kHalf, bytes - done);
      SY_RETURN_IF_ERROR(wait(half)); // for the copy that used it last
      std::memcpy(half.data, static_cast<const std::byte *>(from) + done, piece);
      SY_RETURN_IF_ERROR(statusOf(cudaMemcpyAsync(static_cast<std::byte *>(to) + done, half.data,
                                                  piece, cudaMemcpyHostToDevice, stream),
                                  "cudaMemcpyAsync to the device"));
      SY_RETURN_IF_ERROR(statusOf(cudaEventRecord(half.event, stream), "cudaEventRecord"));
    }
    return {};
  }

  /// Returns once `to` was written.
  Status copyOut(void *to, const void *from, uint64_t bytes, cudaStream_t stream) {
    Half *last = nullptr; // the piece before, still on its way
    for (uint64_t done = 0; done < bytes; done += kHalf) {
      Half &half = takeHalf();
      uint64_t piece = std::min(kHalf, bytes - done);
      SY_RETURN_IF_ERROR(wait(half));
      SY_RETURN_IF_ERROR(
          statusOf(cudaMemcpyAsync(half.data, static_cast<const std::byte *>(from) + done, piece,
                                   cudaMemcpyDeviceToHost, stream),
                   "cudaMemcpyAsync from the device"));
      SY_RETURN_IF_ERROR(statusOf(cudaEventRecord(half.event, stream), "cudaEventRecord"));
      if (last)
        SY_RETURN_IF_ERROR(empty(*last, static_cast<std::byte *>(to) + done - kHalf, kHalf));
      last = &half;
      if (done + piece == bytes)
        return empty(half, static_cast<std::byte *>(to) + done, piece);
    }
    return {};
  }

private:
  struct Half {
    void *data = nullptr;
    cudaEvent_t event = nullptr;
  };

  Half &takeHalf() { return halves_[next_++ % 2]; }
  static Status wait(const Half &half) {
    return statusOf(cudaEventSynchronize(half.event), "cudaEventSynchronize");
  }
  static Status empty(const Half &half, std::byte *to, uint64_t bytes) {
    SY_RETURN_IF_ERROR(wait(half));
    std::memcpy(to, half.data, bytes);
    return {};
  }

  Half halves_[2];
  unsigned next_ = 0;
};

class CudaDevice final : public Device {
public:
  ~CudaDevice() override {
    if (context_.stream)
      cudaStreamDestroy(context_.stream);
  }

  Status create(int ordinal) {
    int devices = 0;
    if (cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess)
      return Status::usage(std::string("there is no GPU for this process: ") +
                           cudaGetErrorString(error) + " (" + cudaGetErrorName(error) +
                           "); start it where one is, or compile the plan with --target cpu");
    if (ordinal < 0 || ordinal >= devices)
      return Status::usage("there is no GPU " + std::to_string(ordinal) + ": this process sees " +
                           std::to_string(devices) + " (CUDA_VISIBLE_DEVICES narrows them)");
    SY_RETURN_IF_ERROR(statusOf(cudaSetDevice(ordinal), "cudaSetDevice"));
    SY_RETURN_IF_ERROR(statusOf(cudaStreamCreateWithFlags(&context_.stream, cudaStreamNonBlocking),
                                "cudaStreamCreateWithFlags"));
    SY_RETURN_IF_ERROR(staging_.create());
    context_.gemms = &gemms_;
    size_t free = 0, total = 0;
    SY_RETURN_IF_ERROR(statusOf(cudaMemGetInfo(&free, &total), "cudaMemGetInfo"));
    memoryBytes_ = free;
    return {};
  }

  /// What was free at the start, after this process's own context.
  uint64_t memoryBytes() const override { return memoryBytes_; }

  Result<DeviceMemory> allocate(uint64_t bytes) override {
    if (bytes == 0)
      return DeviceMemory();
    void *data = nullptr;
    cudaError_t error = cudaMalloc(&data, bytes);
    if (error == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError(); // it is told here, and is no later launch's
      return Status::doesNotFit("cannot allocate " + std::to_string(bytes) +
                                " bytes of GPU memory: " + cudaGetErrorString(error));
    }
    SY_RETURN_IF_ERROR(statusOf(error, "cudaMalloc"));
    DeviceMemory memory(*this, data, bytes);
    SY_RETURN_IF_ERROR(fillZero(data, bytes));
    return memory;
  }

  Status copyIn(void *to, const void *from, uint64_t bytes) override {
    return staging_.copyIn(to, from, bytes, context_.stream);
  }
  Status copyOut(void *to, const void *from, uint64_t bytes) override {
    return staging_.copyOut(to, from, bytes, context_.stream);
  }
  Status copy(void *to, const void *from, uint64_t bytes) override {
    if (bytes == 0)
      return {};
    return statusOf(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, context_.stream),
                    "cudaMemcpyAsync on the device");
  }
  Status fillZero(void *to, uint64_t bytes) override {
    if (bytes == 0)
      return {};
    return statusOf(cudaMemsetAsync(to, 0, bytes, context_.stream), "cudaMemsetAsync");
  }

  Result<std::unique_ptr<PreparedLaunch>> prepare(const kernels::Signature &signature,
                                                  std::vector<kernels::Tensor> operands,
                                                  std::vector<kernels::AttributeValue> attributes,
                                                  std::span<std::byte> workspace) override {
    const cuda::Kernel *kernel = cuda::findKernel(signature.name);
    if (!kernel)
      return Status::failed("CUDA has no kernel '" + std::string(signature.name) + "'");
    auto launch = std::make_unique<CudaLaunch>(*kernel, std::move(operands), std::move(attributes),
                                               workspace, context_);
    if (auto fault = launch->prepare())
      return Status::failed(*fault);
    return std::unique_ptr<PreparedLaunch>(std::move(launch));
  }

  Status run(const PreparedLaunch &launch) override {
    if (auto fault = static_cast<const CudaLaunch &>(launch).run())
      return Status::failed(*fault);
    return {};
  }

  Status synchronize() override {
    return statusOf(cudaStreamSynchronize(context_.stream), "cudaStreamSynchronize");
  }

private:
  // cudaFree waits for the device, so nothing enqueued still uses it.
  void release(void *data, uint64_t) override { (void)cudaFree(data); }

  cuda::GemmCache gemms_;
  cuda::Context context_;
  Staging staging_;
  uint64_t memoryBytes_ = 0;
};

} // namespace

Result<std::unique_ptr<Device>> createCudaDevice(const kernels::Target &target, int ordinal) {
  if (target.kind != kernels::Target::Kind::Cuda)
    return Status::invalidInput(
        "the plan is for the CPU; compile it with --target cuda to run it on a GPU");
  auto device = std::make_unique<CudaDevice>();
  SY_RETURN_IF_ERROR(device->create(ordinal));
  return std::unique_ptr<Device>(std::move(device));
}

} // namespace switchyard

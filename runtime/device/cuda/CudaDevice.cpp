#include "runtime/device/cuda/CudaDevice.h"

#include "kernels/cuda/Gemm.h"
#include "kernels/cuda/Kernels.h"
#include "kernels/cuda/Loop.h"
#include "runtime/device/cuda/CudaProfiler.h"
#include "runtime/device/cuda/Staging.h"

#include <deque>
#include <set>
#include <utility>

namespace switchyard {
namespace {

namespace cuda = kernels::cuda;

class CudaLaunch final : public PreparedLaunch {
public:
  CudaLaunch(const cuda::Kernel &kernel, std::vector<kernels::Tensor> operands,
             std::vector<kernels::AttributeValue> attributes, std::span<std::byte> workspace,
             cuda::Context &context)
      : kernel_(kernel), operands_(std::move(operands)), attributes_(std::move(attributes)),
        launch_{operands_, attributes_, workspace, &context} {}

  cuda::Fault prepare() const { return kernel_.prepare ? kernel_.prepare(launch_) : std::nullopt; }
  cuda::Fault run() const { return kernel_.run(launch_); }

  mutable bool wasRun = false;

private:
  const cuda::Kernel &kernel_;
  std::vector<kernels::Tensor> operands_;
  std::vector<kernels::AttributeValue> attributes_;
  kernels::Launch launch_;
};

class CudaGraph final : public PreparedGraph {
public:
  explicit CudaGraph(cudaGraphExec_t graph) : graph_(graph) {}
  ~CudaGraph() override { cudaGraphExecDestroy(graph_); }
  cudaGraphExec_t get() const { return graph_; }

private:
  cudaGraphExec_t graph_;
};

/// Two events of one stream.
class CudaStopwatch final : public Stopwatch {
public:
  CudaStopwatch(Device &device, cudaStream_t stream) : device_(device), stream_(stream) {}
  ~CudaStopwatch() override {
    for (cudaEvent_t event : {begin_, end_})
      if (event)
        cudaEventDestroy(event);
  }
  Status create() {
    SY_RETURN_IF_ERROR(statusOf(cudaEventCreate(&begin_), "cudaEventCreate"));
    return statusOf(cudaEventCreate(&end_), "cudaEventCreate");
  }

  Status start() override { return record(begin_); }
  Status stop() override { return record(end_); }
  Result<double> milliseconds() override {
    SY_RETURN_IF_ERROR(statusOf(cudaEventSynchronize(end_), "cudaEventSynchronize"));
    float milliseconds = 0;
    SY_RETURN_IF_ERROR(
        statusOf(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime"));
    return double{milliseconds};
  }

private:
  Status record(cudaEvent_t event) {
    SY_RETURN_IF_ERROR(device_.flush());
    return statusOf(cudaEventRecord(event, stream_), "cudaEventRecord");
  }

  Device &device_;
  cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

class CudaDevice final : public Device {
public:
  ~CudaDevice() override {
    for (cudaEvent_t event : events_)
      cudaEventDestroy(event);
    for (const cuda::Context &context : contexts_)
      cudaStreamDestroy(context.stream);
    if (loopStream_)
      cudaStreamDestroy(loopStream_);
  }

  Status create(int ordinal) {
    SY_ASSIGN_OR_RETURN(int devices, countGpus());
    if (ordinal < 0 || ordinal >= devices)
      return Status::usage("there is no GPU " + std::to_string(ordinal) + ": this process sees " +
                           std::to_string(devices) + " (CUDA_VISIBLE_DEVICES narrows them)");
    SY_RETURN_IF_ERROR(statusOf(cudaSetDevice(ordinal), "cudaSetDevice"));
    cudaDeviceProp properties{};
    SY_RETURN_IF_ERROR(
        statusOf(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties"));
    name_ = properties.name;
    SY_RETURN_IF_ERROR(reserve(1, 0));
    SY_RETURN_IF_ERROR(statusOf(cudaStreamCreateWithFlags(&loopStream_, cudaStreamNonBlocking),
                                "cudaStreamCreateWithFlags"));
    SY_RETURN_IF_ERROR(staging_.create());
    SY_ASSIGN_OR_RETURN(use_.context, usedBytes());
    SY_RETURN_IF_ERROR(uploads_.create());
    use_.staging = Uploads::kDeviceBytes;
    size_t free = 0, total = 0;
    SY_RETURN_IF_ERROR(statusOf(cudaMemGetInfo(&free, &total), "cudaMemGetInfo"));
    memoryBytes_ = free;
    return {};
  }

  std::string name() const override { return name_; }

  bool runsAhead() const override { return true; }

  /// What was free at the start, after this process's own context.
  uint64_t memoryBytes() const override { return memoryBytes_; }

  Result<std::optional<MemoryUse>> memoryUse() override {
    SY_ASSIGN_OR_RETURN(use_.counted, usedBytes());
    return std::optional<MemoryUse>(use_);
  }

  Result<DeviceMemory> allocate(uint64_t bytes) override {
    if (bytes == 0)
      return DeviceMemory();
    void *data = nullptr;
    SY_ASSIGN_OR_RETURN(const uint64_t usedBefore, usedBytes());
    cudaError_t error = cudaMalloc(&data, bytes);
    if (error == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError(); // it is told here, and is no later launch's
      return Status::doesNotFit("cannot allocate " + std::to_string(bytes) +
                                " bytes of GPU memory: " + cudaGetErrorString(error));
    }
    SY_RETURN_IF_ERROR(statusOf(error, "cudaMalloc"));
    SY_ASSIGN_OR_RETURN(const uint64_t usedAfter, usedBytes());
    allocations_.insert(data);
    use_.allocated += bytes;
    use_.rounding += usedAfter > usedBefore + bytes ? usedAfter - usedBefore - bytes : 0;
    DeviceMemory memory(*this, data, bytes);
    SY_RETURN_IF_ERROR(fillZero(data, bytes, 0));
    return memory;
  }

  Status copyIn(void *to, const void *from, uint64_t bytes) override {
    if (bytes <= Uploads::kBlockBytes)
      return uploads_.add(to, from, bytes, allocations_.contains(to), stream(0));
    SY_RETURN_IF_ERROR(flush());
    return staging_.copyIn(to, from, bytes, stream(0));
  }
  Status copyOut(void *to, const void *from, uint64_t bytes) override {
    SY_RETURN_IF_ERROR(flush());
    return staging_.copyOut(to, from, bytes, stream(0));
  }
  Status copy(void *to, const void *from, uint64_t bytes, uint32_t onStream) override {
    SY_RETURN_IF_ERROR(flush());
    return statusOf(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream(onStream)),
                    "cudaMemcpyAsync on the device");
  }
  Status fillZero(void *to, uint64_t bytes, uint32_t onStream) override {
    SY_RETURN_IF_ERROR(flush());
    return statusOf(cudaMemsetAsync(to, 0, bytes, stream(onStream)), "cudaMemsetAsync");
  }

  Result<std::unique_ptr<Readback>> createReadback(uint64_t bytes) override {
    auto readback = std::make_unique<CudaReadback>(stream(0));
    SY_RETURN_IF_ERROR(readback->create(bytes));
    return std::unique_ptr<Readback>(std::move(readback));
  }

  Result<std::unique_ptr<Stopwatch>> createStopwatch() override {
    auto stopwatch = std::make_unique<CudaStopwatch>(*this, stream(0));
    SY_RETURN_IF_ERROR(stopwatch->create());
    return std::unique_ptr<Stopwatch>(std::move(stopwatch));
  }

  Status reserve(uint32_t streams, uint32_t events) override {
    while (contexts_.size() < streams) {
      cuda::Context context;
      context.gemms = &gemms_;
      SY_RETURN_IF_ERROR(statusOf(cudaStreamCreateWithFlags(&context.stream, cudaStreamNonBlocking),
                                  "cudaStreamCreateWithFlags"));
      contexts_.push_back(context);
    }
    while (events_.size() < events) {
      cudaEvent_t event = nullptr;
      SY_RETURN_IF_ERROR(statusOf(cudaEventCreateWithFlags(&event, cudaEventDisableTiming),
                                  "cudaEventCreateWithFlags"));
      events_.push_back(event);
    }
    return {};
  }
  Status record(uint32_t event, uint32_t onStream) override {
    SY_RETURN_IF_ERROR(flush());
    return statusOf(cudaEventRecord(events_[event], stream(onStream)), "cudaEventRecord");
  }
  Status wait(uint32_t event, uint32_t onStream) override {
    return statusOf(cudaStreamWaitEvent(stream(onStream), events_[event]), "cudaStreamWaitEvent");
  }
  void *nativeStream(uint32_t number) override { return stream(number); }

  Result<std::unique_ptr<PreparedLaunch>> prepare(const kernels::Signature &signature,
                                                  std::vector<kernels::Tensor> operands,
                                                  std::vector<kernels::AttributeValue> attributes,
                                                  std::span<std::byte> workspace,
                                                  uint32_t onStream) override {
    const cuda::Kernel *kernel = cuda::findKernel(signature.name);
    if (!kernel)
      return Status::failed("CUDA has no kernel '" + std::string(signature.name) + "'");
    SY_RETURN_IF_ERROR(reserve(onStream + 1, 0));
    auto launch = std::make_unique<CudaLaunch>(*kernel, std::move(operands), std::move(attributes),
                                               workspace, contexts_[onStream]);
    SY_RETURN_IF_ERROR(counting(use_.libraries, [&]() -> Status {
      auto fault = launch->prepare();
      return fault ? Status::failed(*fault) : Status();
    }));
    return std::unique_ptr<PreparedLaunch>(std::move(launch));
  }

  Status run(const PreparedLaunch &launch) override {
    SY_RETURN_IF_ERROR(flush());
    const auto &cudaLaunch = static_cast<const CudaLaunch &>(launch);
    auto run = [&]() -> Status {
      auto fault = cudaLaunch.run();
      return fault ? Status::failed(*fault) : Status();
    };
    // The first time the driver loads the kernel's code.
    return std::exchange(cudaLaunch.wasRun, true) ? run() : counting(use_.libraries, run);
  }

  Result<std::unique_ptr<PreparedGraph>> capture(const std::function<Status()> &work) override {
    SY_RETURN_IF_ERROR(flush());
    std::unique_ptr<PreparedGraph> prepared;
    SY_RETURN_IF_ERROR(counting(use_.graphs, [&]() -> Status {
      SY_ASSIGN_OR_RETURN(prepared, record(work));
      return {};
    }));
    return prepared;
  }
  /// What the body puts on stream 0 goes to the stream that records bodies meanwhile.
  Status recordLoop(const int32_t *trips, int32_t *turn,
                    const std::function<Status()> &body) override {
    Status worked;
    auto fault = cuda::recordLoop(stream(0), loopStream_, trips, turn, [&] {
      std::swap(contexts_[0].stream, loopStream_);
      worked = body();
      std::swap(contexts_[0].stream, loopStream_);
      return worked.ok() ? cuda::Fault() : cuda::Fault(worked.message());
    });
    if (!worked.ok())
      return worked;
    return fault ? Status::failed(*fault) : Status();
  }

  Status run(const PreparedGraph &graph) override {
    SY_RETURN_IF_ERROR(flush());
    return statusOf(cudaGraphLaunch(static_cast<const CudaGraph &>(graph).get(), stream(0)),
                    "cudaGraphLaunch");
  }

  Result<std::unique_ptr<Profiler>> createProfiler() override { return createCudaProfiler(); }

  /// What was copied in so far comes before what is put on streams from now on.
  Status flush() override { return uploads_.isEmpty() ? Status() : uploads_.flush(stream(0)); }

  Status synchronize() override {
    SY_RETURN_IF_ERROR(flush());
    for (const cuda::Context &context : contexts_)
      SY_RETURN_IF_ERROR(statusOf(cudaStreamSynchronize(context.stream), "cudaStreamSynchronize"));
    return {};
  }

private:
  // cudaFree waits for the device, so nothing enqueued still uses it.
  void release(void *data, uint64_t bytes) override {
    (void)cudaFree(data);
    allocations_.erase(data);
    use_.allocated -= bytes;
  }

  static Result<uint64_t> usedBytes() {
    size_t free = 0, total = 0;
    SY_RETURN_IF_ERROR(statusOf(cudaMemGetInfo(&free, &total), "cudaMemGetInfo"));
    return uint64_t{total - free};
  }
  /// Does `work` and adds what the driver took for it to `bytes`.
  template <typename Work>
  static Status counting(uint64_t &bytes, const Work &work) {
    SY_ASSIGN_OR_RETURN(const uint64_t before, usedBytes());
    SY_RETURN_IF_ERROR(work());
    SY_ASSIGN_OR_RETURN(const uint64_t after, usedBytes());
    bytes += after > before ? after - before : 0;
    return {};
  }

  Result<std::unique_ptr<PreparedGraph>> record(const std::function<Status()> &work) {
    // Other threads of the process may go on calling CUDA.
    SY_RETURN_IF_ERROR(statusOf(cudaStreamBeginCapture(stream(0), cudaStreamCaptureModeThreadLocal),
                                "cudaStreamBeginCapture"));
    Status worked = work();
    cudaGraph_t recorded = nullptr;
    Status ended = statusOf(cudaStreamEndCapture(stream(0), &recorded), "cudaStreamEndCapture");
    cudaGraphExec_t graph = nullptr;
    Status made = worked.ok() ? ended : worked;
    if (made.ok())
      made = statusOf(cudaGraphInstantiate(&graph, recorded, 0), "cudaGraphInstantiate");
    if (recorded)
      cudaGraphDestroy(recorded);
    SY_RETURN_IF_ERROR(made);
    std::unique_ptr<PreparedGraph> prepared = std::make_unique<CudaGraph>(graph);
    // What a replay needs on the device is taken now.
    SY_RETURN_IF_ERROR(statusOf(cudaGraphUpload(graph, stream(0)), "cudaGraphUpload"));
    return prepared;
  }

  cudaStream_t stream(uint32_t number) const { return contexts_[number].stream; }

  cuda::GemmCache gemms_;
  std::deque<cuda::Context> contexts_; // by stream; launches point to them
  cudaStream_t loopStream_ = nullptr;  // records the bodies of loops
  std::vector<cudaEvent_t> events_;
  Staging staging_;
  Uploads uploads_;
  std::string name_;
  uint64_t memoryBytes_ = 0;
  MemoryUse use_;
  std::set<const void *> allocations_;
};

} // namespace

Result<int> countGpus() {
  int devices = 0;
  cudaError_t error = cudaGetDeviceCount(&devices);
  if (error == cudaSuccess && devices == 0)
    error = cudaErrorNoDevice;
  if (error != cudaSuccess)
    return Status::usage(std::string("there is no GPU for this process: ") +
                         cudaGetErrorString(error) + " (" + cudaGetErrorName(error) +
                         "); start it where one is, or compile the plan with --target cpu");
  return devices;
}

Result<std::unique_ptr<Device>> createCudaDevice(const kernels::Target &target, int ordinal) {
  if (target.kind != kernels::Target::Kind::Cuda)
    return Status::invalidInput(
        "the plan is for the CPU; compile it with --target cuda to run it on a GPU");
  auto device = std::make_unique<CudaDevice>();
  SY_RETURN_IF_ERROR(device->create(ordinal));
  return std::unique_ptr<Device>(std::move(device));
}

} // namespace switchyard

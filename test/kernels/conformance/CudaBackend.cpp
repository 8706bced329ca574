// The first CUDA device under the conformance suite. A launch is captured as a graph, which refuses
// what allocates device memory or waits for the device, and the graph is then run: what training
// does with every launch. Where there is no device, every test skips and says why.
#include "kernels/cuda/Gemm.h"
#include "kernels/cuda/Kernels.h"
#include "test/kernels/conformance/Backend.h"

#include <atomic>
#include <cstdlib>
#include <gtest/gtest.h>
#include <new>

namespace {
std::atomic<int64_t> allocations{0};
}

void *operator new(size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void *memory = std::malloc(bytes > 0 ? bytes : 1))
    return memory;
  throw std::bad_alloc();
}
void operator delete(void *memory) noexcept {
  std::free(memory);
}
void operator delete(void *memory, size_t) noexcept {
  std::free(memory);
}

namespace switchyard::kernels::conformance {
namespace {

void expectOk(cudaError_t error, const char *call) {
  if (auto fault = cuda::faultOf(error, call))
    ADD_FAILURE() << *fault;
}

class CudaBackend final : public Backend {
public:
  CudaBackend() {
    expectOk(cudaStreamCreateWithFlags(&context_.stream, cudaStreamNonBlocking),
             "cudaStreamCreateWithFlags");
    context_.gemms = &gemms_;
  }
  ~CudaBackend() override { expectOk(cudaStreamDestroy(context_.stream), "cudaStreamDestroy"); }

  std::string_view name() const override { return "CUDA"; }
  Target target() const override { return {Target::Kind::Cuda, 1}; }

  void *allocate(int64_t bytes) override {
    void *memory = nullptr;
    expectOk(cudaMalloc(&memory, static_cast<size_t>(bytes)), "cudaMalloc");
    return memory;
  }
  void release(void *memory) override { expectOk(cudaFree(memory), "cudaFree"); }
  void upload(void *device, const void *host, int64_t bytes) override {
    copy(device, host, bytes, cudaMemcpyHostToDevice);
  }
  void download(void *host, const void *device, int64_t bytes) override {
    copy(host, device, bytes, cudaMemcpyDeviceToHost);
  }

  std::optional<std::string> prepare(std::string_view kernel, const Launch &launch) override {
    const cuda::Kernel *found = cuda::findKernel(kernel);
    if (!found)
      return "CUDA has no kernel '" + std::string(kernel) + "'";
    Launch copy = launch;
    copy.context = &context_;
    return found->prepare ? found->prepare(copy) : std::nullopt;
  }

  void run(std::string_view kernel, const Launch &launch) override {
    const cuda::Kernel *found = cuda::findKernel(kernel);
    if (!found)
      return; // prepare has told
    Launch copy = launch;
    copy.context = &context_;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    expectOk(cudaStreamBeginCapture(context_.stream, cudaStreamCaptureModeGlobal),
             "cudaStreamBeginCapture");
    int64_t before = allocations.load(std::memory_order_relaxed);
    if (auto fault = found->run(copy))
      ADD_FAILURE() << *fault;
    allocationsOfLastRun_ = allocations.load(std::memory_order_relaxed) - before;
    expectOk(cudaStreamEndCapture(context_.stream, &graph), "cudaStreamEndCapture");
    expectOk(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
    expectOk(cudaGraphLaunch(executable, context_.stream), "cudaGraphLaunch");
    expectOk(cudaStreamSynchronize(context_.stream), "cudaStreamSynchronize");
    expectOk(cudaGraphExecDestroy(executable), "cudaGraphExecDestroy");
    expectOk(cudaGraphDestroy(graph), "cudaGraphDestroy");
  }
  int64_t allocationsOfLastRun() const override { return allocationsOfLastRun_; }

private:
  // On the kernels' stream: cudaMemcpy may return before what it sends has arrived.
  void copy(void *to, const void *from, int64_t bytes, cudaMemcpyKind kind) {
    expectOk(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind, context_.stream),
             "cudaMemcpyAsync");
    expectOk(cudaStreamSynchronize(context_.stream), "cudaStreamSynchronize");
  }

  cuda::GemmCache gemms_;
  cuda::Context context_;
  int64_t allocationsOfLastRun_ = 0;
};

/// Skips all tests where there is no device.
class NeedsDevice final : public ::testing::Environment {
public:
  void SetUp() override {
    int devices = 0;
    cudaError_t error = cudaGetDeviceCount(&devices);
    if (error != cudaSuccess || devices == 0)
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(error);
  }
};

const ::testing::Environment *const kNeedsDevice =
    ::testing::AddGlobalTestEnvironment(new NeedsDevice);

} // namespace

std::unique_ptr<Backend> makeBackend(int) {
  return std::make_unique<CudaBackend>();
}

TEST(CudaKernels, EverySignatureHasAKernel) {
  for (const Signature *signature : allSignatures()) {
    const cuda::Kernel *kernel = cuda::findKernel(signature->name);
    ASSERT_NE(kernel, nullptr) << signature->name;
    EXPECT_EQ(kernel->name, signature->name);
    EXPECT_NE(kernel->run, nullptr) << signature->name;
  }
  EXPECT_EQ(cuda::findKernel("no_such_kernel"), nullptr);
}

} // namespace switchyard::kernels::conformance

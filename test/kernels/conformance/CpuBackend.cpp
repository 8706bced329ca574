// The CPU under the conformance suite.
#include "kernels/cpu/Gemm.h"
#include "kernels/cpu/Kernels.h"
#include "test/kernels/conformance/Backend.h"
#include "test/kernels/conformance/HeapCounter.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace switchyard::kernels::conformance {
namespace {

class CpuBackend final : public Backend {
public:
  explicit CpuBackend(int threads) : pool_(threads), gemms_(threads), context_{&pool_, &gemms_} {}

  std::string_view name() const override { return "CPU"; }
  Target target() const override { return {Target::Kind::Cpu, pool_.threads()}; }

  void *allocate(int64_t bytes) override {
    return std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  }
  void release(void *memory) override { std::free(memory); }
  void upload(void *device, const void *host, int64_t bytes) override {
    if (bytes > 0)
      std::memcpy(device, host, bytes);
  }
  void download(void *host, const void *device, int64_t bytes) override {
    if (bytes > 0)
      std::memcpy(host, device, bytes);
  }

  std::optional<std::string> prepare(std::string_view kernel, const Launch &launch) override {
    const cpu::Kernel *found = cpu::findKernel(kernel);
    if (!found)
      return "the CPU has no kernel '" + std::string(kernel) + "'";
    Launch copy = launch;
    copy.context = &context_;
    return found->prepare ? found->prepare(copy) : std::nullopt;
  }
  void run(std::string_view kernel, const Launch &launch) override {
    const cpu::Kernel *found = cpu::findKernel(kernel);
    if (!found)
      return; // prepare has told
    Launch copy = launch;
    copy.context = &context_;
    int64_t before = testing::heapAllocations();
    found->run(copy);
    allocationsOfLastRun_ =
        libraryAllocates(kernel, launch) ? 0 : testing::heapAllocations() - before;
  }
  int64_t allocationsOfLastRun() const override { return allocationsOfLastRun_; }

private:
  /// Whether oneDNN does, in the products that the kernel is made of.
  static bool libraryAllocates(std::string_view kernel, const Launch &launch) {
    auto allocates = [](const Tensor &tensor) { return cpu::allocatesInProducts(tensor.dtype); };
    return (kernel.starts_with("linear") || kernel.starts_with("grouped_gemm")) &&
           std::any_of(launch.operands.begin(), launch.operands.end(), allocates);
  }

  cpu::ThreadPool pool_;
  cpu::GemmCache gemms_;
  cpu::Context context_;
  int64_t allocationsOfLastRun_ = 0;
};

} // namespace

std::unique_ptr<Backend> makeBackend(int threads) {
  return std::make_unique<CpuBackend>(threads);
}

} // namespace switchyard::kernels::conformance

#include "runtime/device/cpu/CpuDevice.h"

#include "kernels/cpu/Gemm.h"
#include "kernels/cpu/Kernels.h"
#include "kernels/cpu/ThreadPool.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

namespace switchyard {
namespace {

namespace cpu = kernels::cpu;

/// The memory that the container lets this process have, or the largest number.
uint64_t containerMemoryBytes() {
  for (const char *path :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream file(path);
    uint64_t bytes = 0;
    if (file >> bytes && bytes > 0)
      return bytes;
  }
  return UINT64_MAX;
}

class CpuLaunch final : public PreparedLaunch {
public:
  CpuLaunch(const cpu::Kernel &kernel, std::vector<kernels::Tensor> operands,
            std::vector<kernels::AttributeValue> attributes, std::span<std::byte> workspace,
            cpu::Context &context)
      : kernel_(kernel), operands_(std::move(operands)), attributes_(std::move(attributes)),
        launch_{operands_, attributes_, workspace, &context} {}

  std::optional<std::string> prepare() const {
    return kernel_.prepare ? kernel_.prepare(launch_) : std::nullopt;
  }
  void run() const { kernel_.run(launch_); }

private:
  const cpu::Kernel &kernel_;
  std::vector<kernels::Tensor> operands_;
  std::vector<kernels::AttributeValue> attributes_;
  kernels::Launch launch_;
};

/// Nothing is ever on its way: all calls are done when they return.
class CpuReadback final : public Readback {
public:
  explicit CpuReadback(uint64_t bytes) : bytes_(bytes) {}

  Status begin(std::span<const Piece> pieces) override {
    for (const Piece &piece : pieces)
      if (piece.bytes > 0)
        std::memcpy(bytes_.data() + piece.at, piece.from, piece.bytes);
    return {};
  }
  Status wait() override { return {}; }
  std::span<const std::byte> bytes() const override { return bytes_; }

private:
  std::vector<std::byte> bytes_;
};

/// The host's clock is the device's.
class CpuStopwatch final : public Stopwatch {
public:
  Status start() override {
    begin_ = Clock::now();
    return {};
  }
  Status stop() override {
    end_ = Clock::now();
    return {};
  }
  Result<double> milliseconds() override {
    return std::chrono::duration<double, std::milli>(end_ - begin_).count();
  }

private:
  using Clock = std::chrono::steady_clock;

  Clock::time_point begin_, end_;
};

/// What is done between two marks is one activity, which has no name of its own.
class CpuProfiler final : public Profiler {
public:
  Status begin() override {
    activities_.clear();
    return {};
  }
  Status mark(uint64_t label) override {
    close();
    DeviceActivity &activity = activities_.emplace_back();
    activity.label = label;
    activity.begin = now();
    return {};
  }
  Result<std::vector<DeviceActivity>> end() override {
    close();
    return std::exchange(activities_, {});
  }

private:
  static uint64_t now() {
    return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                     std::chrono::steady_clock::now().time_since_epoch())
                                     .count());
  }
  void close() {
    if (!activities_.empty() && activities_.back().end == 0)
      activities_.back().end = now();
  }

  std::vector<DeviceActivity> activities_;
};

class CpuDevice final : public Device {
public:
  explicit CpuDevice(int threads) : pool_(threads), gemms_(threads), context_{&pool_, &gemms_} {}

  std::string name() const override { return "CPU"; }

  uint64_t memoryBytes() const override {
    auto physical = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                    static_cast<uint64_t>(sysconf(_SC_PAGE_SIZE));
    return std::min(physical, containerMemoryBytes());
  }

  Result<DeviceMemory> allocate(uint64_t bytes) override {
    if (bytes == 0)
      return DeviceMemory();
    void *data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
      return Status::doesNotFit("cannot allocate " + std::to_string(bytes) +
                                " bytes: " + std::strerror(errno));
    // Large pages, where the system has them; without them it works as well.
    (void)madvise(data, bytes, MADV_HUGEPAGE);
    return DeviceMemory(*this, data, bytes);
  }

  Status copyIn(void *to, const void *from, uint64_t bytes) override {
    return copy(to, from, bytes);
  }
  Status copyOut(void *to, const void *from, uint64_t bytes) override {
    return copy(to, from, bytes);
  }
  Status copy(void *to, const void *from, uint64_t bytes, uint32_t = 0) override {
    if (bytes > 0)
      std::memcpy(to, from, bytes);
    return {};
  }
  Status fillZero(void *to, uint64_t bytes, uint32_t) override {
    if (bytes > 0)
      std::memset(to, 0, bytes);
    return {};
  }

  Result<std::unique_ptr<PreparedLaunch>> prepare(const kernels::Signature &signature,
                                                  std::vector<kernels::Tensor> operands,
                                                  std::vector<kernels::AttributeValue> attributes,
                                                  std::span<std::byte> workspace,
                                                  uint32_t) override {
    const cpu::Kernel *kernel = cpu::findKernel(signature.name);
    if (!kernel)
      return Status::failed("the CPU has no kernel '" + std::string(signature.name) + "'");
    auto launch = std::make_unique<CpuLaunch>(*kernel, std::move(operands), std::move(attributes),
                                              workspace, context_);
    if (auto fault = launch->prepare())
      return Status::failed(*fault);
    return std::unique_ptr<PreparedLaunch>(std::move(launch));
  }

  Result<std::unique_ptr<Readback>> createReadback(uint64_t bytes) override {
    return std::unique_ptr<Readback>(std::make_unique<CpuReadback>(bytes));
  }
  Result<std::unique_ptr<Stopwatch>> createStopwatch() override {
    return std::unique_ptr<Stopwatch>(std::make_unique<CpuStopwatch>());
  }

  Status run(const PreparedLaunch &launch) override {
    static_cast<const CpuLaunch &>(launch).run();
    return {};
  }
  Result<std::unique_ptr<Profiler>> createProfiler() override {
    return std::unique_ptr<Profiler>(std::make_unique<CpuProfiler>());
  }
  Status synchronize() override { return {}; }

private:
  void release(void *data, uint64_t bytes) override { munmap(data, bytes); }

  cpu::ThreadPool pool_;
  cpu::GemmCache gemms_;
  cpu::Context context_;
};

} // namespace

Result<std::unique_ptr<Device>> createCpuDevice(const kernels::Target &target, int threads) {
  if (target.kind != kernels::Target::Kind::Cpu)
    return Status::invalidInput(
        "the plan is for CUDA devices; compile it with --target cpu to run it on this machine");
  if (threads < 0)
    return Status::usage("the number of threads is " + std::to_string(threads) +
                         "; expected 1 or more");
  return std::unique_ptr<Device>(std::make_unique<CpuDevice>(
      threads == 0 ? target.threads : std::min(threads, target.threads)));
}

} // namespace switchyard

#include "runtime/device/cuda/CudaProfiler.h"

#ifdef SWITCHYARD_HAS_CUPTI
#include "runtime/device/cuda/Staging.h"

#include <cupti.h>
#include <cxxabi.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <unordered_map>
#endif

namespace switchyard {

#ifndef SWITCHYARD_HAS_CUPTI

Result<std::unique_ptr<Profiler>> createCudaProfiler() {
  return Status::usage("this program was built without CUPTI, which profiles GPUs; build it where "
                       "the CUDA toolkit has cupti.h");
}

#else

namespace {

#define SWITCHYARD_TEXT_OF(value) #value
#define SWITCHYARD_TEXT(value) SWITCHYARD_TEXT_OF(value)
constexpr const char *kLibraries[] = {"libcupti.so." SWITCHYARD_TEXT(SWITCHYARD_CUPTI_MAJOR),
                                      "libcupti.so", "/usr/local/cuda/lib64/libcupti.so",
                                      "/usr/local/cuda/extras/CUPTI/lib64/libcupti.so"};

/// The library's functions that are used.
struct Cupti {
  decltype(&cuptiActivityRegisterCallbacks) registerCallbacks = nullptr;
  decltype(&cuptiActivityEnable) enable = nullptr;
  decltype(&cuptiActivityDisable) disable = nullptr;
  decltype(&cuptiActivityFlushAll) flushAll = nullptr;
  decltype(&cuptiActivityGetNextRecord) nextRecord = nullptr;
  decltype(&cuptiActivityPushExternalCorrelationId) push = nullptr;
  decltype(&cuptiActivityPopExternalCorrelationId) pop = nullptr;
  decltype(&cuptiGetResultString) resultString = nullptr;

  Status load() {
    void *library = nullptr;
    for (const char *name : kLibraries)
      if ((library = dlopen(name, RTLD_NOW | RTLD_LOCAL)))
        break;
    if (!library)
      return Status::usage(std::string("no ") + kLibraries[0] +
                           " was found, which profiles GPUs; it comes with the CUDA toolkit and "
                           "with the Python package nvidia-cuda-cupti: add its folder to "
                           "LD_LIBRARY_PATH");
    auto find = [&](auto &function, const char *name) {
      function =
          reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      return function != nullptr;
    };
    if (find(registerCallbacks, "cuptiActivityRegisterCallbacks") &&
        find(enable, "cuptiActivityEnable") && find(disable, "cuptiActivityDisable") &&
        find(flushAll, "cuptiActivityFlushAll") && find(nextRecord, "cuptiActivityGetNextRecord") &&
        find(push, "cuptiActivityPushExternalCorrelationId") &&
        find(pop, "cuptiActivityPopExternalCorrelationId") &&
        find(resultString, "cuptiGetResultString"))
      return {};
    return Status::failed(std::string(kLibraries[0]) + ": " + dlerror());
  }

  Status statusOf(CUptiResult result, const char *call) const {
    if (result == CUPTI_SUCCESS)
      return {};
    const char *text = nullptr;
    resultString(result, &text);
    return Status::failed(std::string(call) + ": " + (text ? text : "unknown error"));
  }
};

std::string demangled(const char *name) {
  if (!name)
    return "kernel";
  int status = 0;
  char *text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string result = status == 0 && text ? text : name;
  std::free(text);
  return result;
}

std::string copyName(uint8_t kind) {
  switch (kind) {
  case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD:
    return "copy, host to device";
  case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH:
    return "copy, device to host";
  default:
    return "copy";
  }
}

constexpr size_t kBufferBytes = 8 << 20;
constexpr CUpti_ActivityKind kKinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                         CUPTI_ACTIVITY_KIND_MEMCPY,
                                         CUPTI_ACTIVITY_KIND_MEMSET,
                                         CUPTI_ACTIVITY_KIND_DRIVER,
                                         CUPTI_ACTIVITY_KIND_RUNTIME,
                                         CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION};

/// CUPTI hands filled buffers to a function without an argument of ours, on threads of its own.
class CudaProfiler final : public Profiler {
public:
  ~CudaProfiler() override {
    if (isOn_)
      stop();
    std::lock_guard lock(activeMutex_);
    if (active_ == this)
      active_ = nullptr;
  }

  Status create() {
    SY_RETURN_IF_ERROR(cupti_.load());
    std::lock_guard lock(activeMutex_);
    if (active_)
      return Status::failed("there is a profiler already; expected one at a time");
    SY_RETURN_IF_ERROR(cupti_.statusOf(cupti_.registerCallbacks(giveBuffer, takeBuffer),
                                       "cuptiActivityRegisterCallbacks"));
    active_ = this;
    return {};
  }

  Status begin() override {
    activities_.clear();
    labels_.clear();
    isOn_ = true;
    for (CUpti_ActivityKind kind : kKinds)
      SY_RETURN_IF_ERROR(cupti_.statusOf(cupti_.enable(kind), "cuptiActivityEnable"));
    return {};
  }

  Status mark(uint64_t label) override {
    SY_RETURN_IF_ERROR(unmark());
    isMarked_ = true;
    return cupti_.statusOf(cupti_.push(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, label),
                           "cuptiActivityPushExternalCorrelationId");
  }

  Result<std::vector<DeviceActivity>> end() override {
    SY_RETURN_IF_ERROR(statusOf(cudaDeviceSynchronize(), "cudaDeviceSynchronize"));
    stop();
    std::lock_guard lock(mutex_);
    std::vector<DeviceActivity> result;
    for (Noted &noted : activities_) {
      auto label = labels_.find(noted.correlation);
      noted.activity.label = label == labels_.end() ? 0 : label->second;
      result.push_back(std::move(noted.activity));
    }
    activities_.clear();
    std::ranges::stable_sort(result, {}, &DeviceActivity::begin);
    return result;
  }

private:
  struct Noted {
    DeviceActivity activity;
    uint32_t correlation = 0; // of the call on the host
  };

  Status unmark() {
    if (!isMarked_)
      return {};
    isMarked_ = false;
    uint64_t last = 0;
    return cupti_.statusOf(cupti_.pop(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, &last),
                           "cuptiActivityPopExternalCorrelationId");
  }

  void stop() {
    (void)unmark();
    for (CUpti_ActivityKind kind : kKinds)
      (void)cupti_.disable(kind);
    (void)cupti_.flushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    isOn_ = false;
  }

  /// What stands in a loop of a graph that was not gone through has no time.
  template <typename Record>
  void add(const Record &record, DeviceActivity::Kind kind, std::string name) {
    if (record.start == 0 || record.end == 0)
      return;
    activities_.push_back({{kind, std::move(name), record.streamId, record.start, record.end, 0,
                            record.graphNodeId != 0},
                           record.correlationId});
  }

  void note(const CUpti_Activity &record) {
    switch (record.kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
      const auto &kernel = reinterpret_cast<const CUpti_ActivityKernel9 &>(record);
      return add(kernel, DeviceActivity::Kind::Kernel, demangled(kernel.name));
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY: {
      const auto &copy = reinterpret_cast<const CUpti_ActivityMemcpy5 &>(record);
      return add(copy, DeviceActivity::Kind::Copy, copyName(copy.copyKind));
    }
    case CUPTI_ACTIVITY_KIND_MEMSET:
      return add(reinterpret_cast<const CUpti_ActivityMemset4 &>(record),
                 DeviceActivity::Kind::Fill, "fill");
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: {
      const auto &external = reinterpret_cast<const CUpti_ActivityExternalCorrelation &>(record);
      labels_[external.correlationId] = external.externalId;
      return;
    }
    default:
      return;
    }
  }

  static void giveBuffer(uint8_t **buffer, size_t *bytes, size_t *maxRecords) {
    *buffer = static_cast<uint8_t *>(std::aligned_alloc(8, kBufferBytes));
    *bytes = *buffer ? kBufferBytes : 0;
    *maxRecords = 0;
  }

  static void takeBuffer(CUcontext, uint32_t, uint8_t *buffer, size_t, size_t validBytes) {
    std::lock_guard lock(activeMutex_);
    if (active_) {
      std::lock_guard noteLock(active_->mutex_);
      CUpti_Activity *record = nullptr;
      while (active_->cupti_.nextRecord(buffer, validBytes, &record) == CUPTI_SUCCESS)
        active_->note(*record);
    }
    std::free(buffer);
  }

  static inline std::mutex activeMutex_;
  static inline CudaProfiler *active_ = nullptr;

  Cupti cupti_;
  bool isOn_ = false;
  bool isMarked_ = false;
  std::mutex mutex_;
  std::vector<Noted> activities_;
  std::unordered_map<uint32_t, uint64_t> labels_; // by the correlation of the call on the host
};

} // namespace

Result<std::unique_ptr<Profiler>> createCudaProfiler() {
  auto profiler = std::make_unique<CudaProfiler>();
  SY_RETURN_IF_ERROR(profiler->create());
  return std::unique_ptr<Profiler>(std::move(profiler));
}

#endif

} // namespace switchyard

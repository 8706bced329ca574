#include "tools/moe-bench/LayerBenchmark.h"

#include "runtime/device/CreateDevice.h"
#include "runtime/training/ModelFlops.h"
#include "tools/moe-bench/DeviceState.h"
#include "tools/moe-bench/MoeLayer.h"
#include "tools/moe-bench/Report.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <thread>

namespace switchyard::bench {

namespace {

/// More than any GPU's cache has.
constexpr uint64_t kCacheBytes = uint64_t{256} << 20;

class LayerTimer {
public:
  LayerTimer(Device &device, const LayerArguments &arguments)
      : device_(device), arguments_(arguments) {}

  /// Memory to overwrite the cache with.
  Status create() {
    if (arguments_.target == "cpu")
      return {};
    SY_ASSIGN_OR_RETURN(cache_, device_.allocate(kCacheBytes));
    return {};
  }

  /// Milliseconds of `work`, after the warm-up.
  Result<std::vector<double>> time(const std::function<Status()> &work) {
    using Clock = std::chrono::steady_clock;
    std::vector<double> times;
    for (int64_t i = 0; i < arguments_.warmup + arguments_.runs; ++i) {
      SY_RETURN_IF_ERROR(device_.fillZero(cache_.data(), cache_.bytes()));
      SY_RETURN_IF_ERROR(device_.synchronize());
      const Clock::time_point begin = Clock::now();
      SY_RETURN_IF_ERROR(work());
      SY_RETURN_IF_ERROR(device_.synchronize());
      if (i >= arguments_.warmup)
        times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
    }
    return times;
  }

private:
  Device &device_;
  const LayerArguments &arguments_;
  DeviceMemory cache_;
};

Status timeShape(Device &device, const kernels::Target &target, const LayerArguments &arguments,
                 const std::string &text, const std::string &deviceName) {
  SY_ASSIGN_OR_RETURN(const LayerShape shape, parseLayerShape(text));
  const auto dtype = arguments.precision == "f32" ? kernels::DType::F32 : kernels::DType::BF16;
  SY_ASSIGN_OR_RETURN(std::unique_ptr<MoeLayer> layer,
                      MoeLayer::create(device, target, shape, dtype));
  LayerTimer timer(device, arguments);
  SY_RETURN_IF_ERROR(timer.create());
  SY_ASSIGN_OR_RETURN(std::vector<double> forward, timer.time([&] { return layer->forward(); }));
  SY_ASSIGN_OR_RETURN(std::vector<double> both, timer.time([&]() -> Status {
    SY_RETURN_IF_ERROR(layer->forward());
    return layer->backward();
  }));

  const double flops = 6.0 * static_cast<double>(shape.tokens * shape.topK) *
                       static_cast<double>(shape.width * shape.expertSize);
  auto print = [&](const char *part, const std::vector<double> &times, double tokens, double work,
                   bool isForward) {
    Measurement measurement;
    measurement.name = "layer " + text + " " + part;
    measurement.device = deviceName;
    measurement.maxFlops = peakFlops(deviceName);
    for (double time : times)
      measurement.runs.push_back({time, tokens, work});
    if (isForward)
      measurement.bytes.emplace_back("kept_bytes", layer->keptBytes());
    return report(measurement, arguments.json);
  };
  const auto tokens = static_cast<double>(shape.tokens);
  SY_RETURN_IF_ERROR(print("forward", forward, tokens, flops, true));
  SY_RETURN_IF_ERROR(print("forward+backward", both, tokens, 3 * flops, false));
  return print("backward", {median(both) - median(forward)}, 0, 2 * flops, false);
}

} // namespace

Status runLayerBenchmark(const LayerArguments &arguments) {
  for (const std::string &shape : arguments.shapes)
    SY_RETURN_IF_ERROR(parseLayerShape(shape).status());
  kernels::Target target;
  if (arguments.target == "cuda")
    target.kind = kernels::Target::Kind::Cuda;
  else
    target.threads = static_cast<int32_t>(arguments.threads > 0
                                              ? arguments.threads
                                              : std::max(1U, std::thread::hardware_concurrency()));
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Device> device, createDevice(target));
  SY_ASSIGN_OR_RETURN(const DeviceState state, deviceState(target.kind));
  for (const std::string &shape : arguments.shapes)
    SY_RETURN_IF_ERROR(timeShape(*device, target, arguments, shape, state.name));
  return {};
}

} // namespace switchyard::bench

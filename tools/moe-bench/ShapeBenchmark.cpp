#include "tools/moe-bench/ShapeBenchmark.h"

#include "runtime/device/CreateDevice.h"
#include "runtime/training/ModelFlops.h"
#include "tools/moe-bench/MoeLayer.h"
#include "tools/moe-bench/Report.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <random>
#include <thread>

namespace switchyard::bench {

namespace {

/// More than any GPU's cache has.
constexpr uint64_t kCacheBytes = uint64_t{256} << 20;

/// The device that shapes are timed on.
class ShapeTimer {
public:
  explicit ShapeTimer(const ShapeArguments &arguments) : arguments_(arguments) {}

  Status create() {
    const bool isCuda = arguments_.target == "cuda";
    if (isCuda)
      target_.kind = kernels::Target::Kind::Cuda;
    else
      target_.threads = static_cast<int32_t>(
          arguments_.threads > 0 ? arguments_.threads
                                 : std::max(1U, std::thread::hardware_concurrency()));
    SY_ASSIGN_OR_RETURN(device_, createDevice(target_));
    if (isCuda) {
      SY_ASSIGN_OR_RETURN(cache_, device_->allocate(kCacheBytes));
    }
    return {};
  }

  Device &device() { return *device_; }
  const kernels::Target &target() const { return target_; }
  LayerKernels layerKernels() const {
    if (!arguments_.fuse)
      return LayerKernels::Single;
    return arguments_.gather ? LayerKernels::Gathered : LayerKernels::Fused;
  }
  kernels::DType dtype() const {
    return arguments_.precision == "f32" ? kernels::DType::F32 : kernels::DType::BF16;
  }

  /// Milliseconds of `work`, after the warm-up.
  Result<std::vector<double>> time(const std::function<Status()> &work) {
    using Clock = std::chrono::steady_clock;
    std::vector<double> times;
    for (int64_t i = 0; i < arguments_.warmup + arguments_.runs; ++i) {
      SY_RETURN_IF_ERROR(device_->fillZero(cache_.data(), cache_.bytes()));
      SY_RETURN_IF_ERROR(device_->synchronize());
      const Clock::time_point begin = Clock::now();
      SY_RETURN_IF_ERROR(work());
      SY_RETURN_IF_ERROR(device_->synchronize());
      if (i >= arguments_.warmup)
        times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
    }
    return times;
  }

  Status print(const std::string &name, const std::vector<double> &times, Run work,
               uint64_t keptBytes = 0) {
    Measurement measurement;
    measurement.name = name;
    measurement.device = device_->name();
    measurement.maxFlops = peakFlops(measurement.device);
    for (double time : times)
      measurement.runs.push_back({time, work.tokens, work.flops});
    if (keptBytes > 0)
      measurement.bytes.emplace_back("kept_bytes", keptBytes);
    return report(measurement, arguments_.json);
  }

private:
  const ShapeArguments &arguments_;
  kernels::Target target_;
  std::unique_ptr<Device> device_;
  DeviceMemory cache_; // goes before its device
};

Status timeLayer(ShapeTimer &timer, const std::string &text, const LayerShape &shape) {
  SY_ASSIGN_OR_RETURN(
      std::unique_ptr<MoeLayer> layer,
      MoeLayer::create(timer.device(), timer.target(), shape, timer.dtype(), timer.layerKernels()));
  SY_ASSIGN_OR_RETURN(std::vector<double> forward, timer.time([&] { return layer->forward(); }));
  SY_ASSIGN_OR_RETURN(std::vector<double> both, timer.time([&]() -> Status {
    SY_RETURN_IF_ERROR(layer->forward());
    return layer->backward();
  }));
  const double flops = 6.0 * static_cast<double>(shape.tokens * shape.topK) *
                       static_cast<double>(shape.width * shape.expertSize);
  const auto tokens = static_cast<double>(shape.tokens);
  const std::string name = "layer " + text;
  SY_RETURN_IF_ERROR(
      timer.print(name + " forward", forward, {0, tokens, flops}, layer->keptBytes()));
  SY_RETURN_IF_ERROR(timer.print(name + " forward+backward", both, {0, tokens, 3 * flops}));
  return timer.print(name + " backward", {median(both) - median(forward)}, {0, 0, 2 * flops});
}

/// Rows of each expert where every token chooses topK different ones at random.
std::vector<int32_t> randomGroupSizes(const LayerShape &shape) {
  std::mt19937_64 random(1);
  std::vector<int32_t> sizes(shape.experts), order(shape.experts);
  for (int64_t i = 0; i < shape.experts; ++i)
    order[i] = static_cast<int32_t>(i);
  for (int64_t token = 0; token < shape.tokens; ++token)
    for (int64_t j = 0; j < shape.topK; ++j) {
      const uint64_t left = static_cast<uint64_t>(shape.experts - j);
      std::swap(order[j], order[j + static_cast<int64_t>(random() % left)]);
      ++sizes[order[j]];
    }
  return sizes;
}

/// Times the products of [T k, k] rows with the experts' [n, k] matrices: gate_up, D to 2 F, or
/// down, F to D.
Status timeGroupedGemm(ShapeTimer &timer, const std::string &name, const LayerShape &shape,
                       bool isGateUp) {
  const int64_t rows = shape.tokens * shape.topK;
  const int64_t n = isGateUp ? 2 * shape.expertSize : shape.width;
  const int64_t k = isGateUp ? shape.width : shape.expertSize;
  DeviceTensors tensors(timer.device(), timer.target());
  struct Matrix {
    const char *name;
    std::vector<int64_t> dims;
  };
  const int64_t ffn = shape.expertSize;
  const Matrix matrices[] = {{"x", {rows, k}},
                             {"w", {shape.experts, n, k}},
                             {"dy", {rows, n}},
                             {"y", {rows, n}},
                             {"dx", {rows, k}},
                             {"dw", {shape.experts, n, k}},
                             {"hidden", {rows, 2 * ffn}},
                             {"dhidden", {rows, 2 * ffn}},
                             {"activated", {rows, ffn}}};
  for (const Matrix &matrix : matrices)
    SY_RETURN_IF_ERROR(tensors.allocate(matrix.name, timer.dtype(), matrix.dims));
  for (const char *input : {"x", "w", "dy", "hidden"})
    SY_RETURN_IF_ERROR(tensors.fill(input, 1));
  SY_RETURN_IF_ERROR(tensors.allocate("group_sizes", kernels::DType::I32, {shape.experts}));
  SY_RETURN_IF_ERROR(tensors.write("group_sizes", randomGroupSizes(shape)));

  struct Case {
    const char *name, *kernel;
    std::vector<std::string> operands;
    std::vector<int64_t> attributes = {};
  };
  std::vector<Case> cases = {{"forward", "grouped_gemm", {"x", "w", "group_sizes", "y"}},
                             {"dgrad", "grouped_gemm_dgrad", {"dy", "w", "group_sizes", "dx"}},
                             {"wgrad", "grouped_gemm_wgrad", {"dy", "x", "group_sizes", "dw"}}};
  if (isGateUp)
    cases.push_back(
        {"gated", "grouped_gemm_gated", {"x", "w", "group_sizes", "hidden", "activated"}, {0}});
  else
    cases.push_back({"dgrad_gated",
                     "grouped_gemm_dgrad_gated",
                     {"dy", "w", "group_sizes", "hidden", "dhidden", "activated"},
                     {0}});
  const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(n * k);
  for (const Case &one : cases) {
    SY_ASSIGN_OR_RETURN(std::unique_ptr<PreparedLaunch> launch,
                        tensors.prepare(one.kernel, one.operands, one.attributes));
    SY_ASSIGN_OR_RETURN(std::vector<double> times,
                        timer.time([&] { return timer.device().run(*launch); }));
    SY_RETURN_IF_ERROR(timer.print(name + " " + one.name, times, {0, 0, flops}));
  }
  return {};
}

using TimeShape =
    std::function<Status(ShapeTimer &, const std::string &text, const LayerShape &shape)>;

Status runShapes(const ShapeArguments &arguments, const TimeShape &timeShape) {
  std::vector<LayerShape> shapes;
  for (const std::string &text : arguments.shapes) {
    SY_ASSIGN_OR_RETURN(LayerShape shape, parseLayerShape(text));
    shapes.push_back(shape);
  }
  ShapeTimer timer(arguments);
  SY_RETURN_IF_ERROR(timer.create());
  for (size_t i = 0; i < shapes.size(); ++i)
    SY_RETURN_IF_ERROR(timeShape(timer, arguments.shapes[i], shapes[i]));
  return {};
}

} // namespace

Status runLayerBenchmark(const ShapeArguments &arguments) {
  return runShapes(arguments, timeLayer);
}

Status runGroupedGemmBenchmark(const ShapeArguments &arguments) {
  return runShapes(
      arguments, [](ShapeTimer &timer, const std::string &text, const LayerShape &shape) -> Status {
        const std::string name = "grouped_gemm " + text;
        SY_RETURN_IF_ERROR(timeGroupedGemm(timer, name + " gate_up", shape, true));
        return timeGroupedGemm(timer, name + " down", shape, false);
      });
}

} // namespace switchyard::bench

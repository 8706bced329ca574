#include "tools/moe-bench/ShapeTimer.h"

#include "runtime/device/CreateDevice.h"
#include "runtime/training/ModelFlops.h"

#include <algorithm>
#include <thread>

namespace switchyard::bench {

/// More than any GPU's cache has.
static constexpr int64_t kCacheBytes = int64_t{256} << 20;

Result<std::vector<NamedShape>> namedShapes(const ShapeArguments &arguments) {
  if (arguments.shapes.empty() && arguments.models.empty())
    return Status::usage("a shape is missing: --shape T,D,F,E,K or --model NAME");
  std::vector<NamedShape> shapes;
  for (const std::string &text : arguments.shapes) {
    SY_ASSIGN_OR_RETURN(LayerShape shape, parseLayerShape(text));
    shapes.push_back({text, shape});
  }
  for (const std::string &model : arguments.models)
    for (int64_t tokens : arguments.tokens)
      shapes.push_back({model + "," + std::to_string(tokens), modelShape(model, tokens)});
  return shapes;
}

Status ShapeTimer::create() {
  const bool isCuda = arguments_.target == "cuda";
  if (isCuda)
    target_.kind = kernels::Target::Kind::Cuda;
  else
    target_.threads = static_cast<int32_t>(arguments_.threads > 0
                                               ? arguments_.threads
                                               : std::max(1U, std::thread::hardware_concurrency()));
  SY_ASSIGN_OR_RETURN(device_, createDevice(target_));
  SY_ASSIGN_OR_RETURN(stopwatch_, device_->createStopwatch());
  if (isCuda) {
    cache_ = std::make_unique<DeviceTensors>(*device_, target_);
    SY_RETURN_IF_ERROR(cache_->allocate("cache", kernels::DType::F32, {kCacheBytes / 4}));
    SY_RETURN_IF_ERROR(cache_->allocate("squares", kernels::DType::F32, {}));
    SY_ASSIGN_OR_RETURN(readCache_, cache_->prepare("sum_of_squares", {"cache", "squares"}));
  }
  return {};
}

Result<std::vector<std::vector<double>>> ShapeTimer::timeInTurn(std::span<const Work> works) {
  std::vector<std::vector<double>> times(works.size());
  for (int64_t i = 0; i < arguments_.warmup + arguments_.runs; ++i)
    for (size_t j = 0; j < works.size(); ++j) {
      // Fills the cache with what was only read: what had been written would have to be written
      // back while the work is timed. Meanwhile the host puts the work behind it.
      if (readCache_)
        SY_RETURN_IF_ERROR(device_->run(*readCache_));
      SY_RETURN_IF_ERROR(stopwatch_->start());
      SY_RETURN_IF_ERROR(works[j]());
      SY_RETURN_IF_ERROR(stopwatch_->stop());
      SY_ASSIGN_OR_RETURN(const double milliseconds, stopwatch_->milliseconds());
      if (i >= arguments_.warmup)
        times[j].push_back(milliseconds);
    }
  return times;
}

Result<std::vector<double>> ShapeTimer::time(const Work &work) {
  SY_ASSIGN_OR_RETURN(std::vector<std::vector<double>> times, timeInTurn({&work, 1}));
  return std::move(times.front());
}

Status ShapeTimer::print(const std::string &name, const std::vector<double> &times, Run work,
                         Measurement more) {
  more.name = name;
  more.device = device_->name();
  more.maxFlops = peakFlops(more.device);
  for (double time : times) {
    work.milliseconds = time;
    more.runs.push_back(work);
  }
  return report(more, arguments_.json);
}

} // namespace switchyard::bench

// What moe-bench layer and moe-bench grouped-gemm share: shapes, the device, timing, printing.
#pragma once

#include "runtime/device/Device.h"
#include "tools/moe-bench/DeviceTensors.h"
#include "tools/moe-bench/LayerShape.h"
#include "tools/moe-bench/Report.h"

#include <functional>

namespace switchyard::bench {

struct ShapeArguments {
  std::vector<std::string> shapes;                         // T,D,F,E,K
  std::vector<std::string> models;                         // names of LayerShape.h
  std::vector<int64_t> tokens = {512, 4096, 16384, 32768}; // of each model
  std::string target = "cuda";                             // cpu, cuda
  std::string precision = "bf16";                          // f32, bf16
  int64_t runs = 30;                                       // that are timed
  int64_t warmup = 10;                                     // before these
  int64_t threads = 0;                                     // of the CPU; 0: as many as it has cores
  std::string json; // the file that the figures are appended to; empty: none
};

struct NamedShape {
  std::string name; // "16384,4096,14336,8,2", "mixtral-8x7b,16384"
  LayerShape shape;
};

/// Those of `shapes`, then each model's with each number of tokens. Usage: none, or one that is no
/// shape.
Result<std::vector<NamedShape>> namedShapes(const ShapeArguments &arguments);

/// The device that shapes are timed on.
class ShapeTimer {
public:
  explicit ShapeTimer(const ShapeArguments &arguments) : arguments_(arguments) {}

  Status create();

  Device &device() { return *device_; }
  const kernels::Target &target() const { return target_; }
  bool isCuda() const { return target_.kind == kernels::Target::Kind::Cuda; }
  kernels::DType dtype() const {
    return arguments_.precision == "f32" ? kernels::DType::F32 : kernels::DType::BF16;
  }

  using Work = std::function<Status()>;
  /// Milliseconds of each work's runs after the warm-up. A run of one is followed by a run of the
  /// next, so that all meet the same clocks.
  Result<std::vector<std::vector<double>>> timeInTurn(std::span<const Work> works);
  Result<std::vector<double>> time(const Work &work);

  /// Prints what runs that took `times` came to, each of which did `work`; `more` has what else is
  /// known.
  Status print(const std::string &name, const std::vector<double> &times, Run work,
               Measurement more = {});

private:
  const ShapeArguments &arguments_;
  kernels::Target target_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stopwatch> stopwatch_; // go before their device
  std::unique_ptr<DeviceTensors> cache_;
  std::unique_ptr<PreparedLaunch> readCache_;
};

} // namespace switchyard::bench

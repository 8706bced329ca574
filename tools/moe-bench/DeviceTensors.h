// Tensors on a device by name, and launches of kernels over them: what a benchmark of kernels is
// made of.
#pragma once

#include "runtime/device/Device.h"

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace switchyard::bench {

/// After this many numbers those of fill() come again. A multiple of 128 by a prime: rows of a
/// matrix, and matrices of experts, differ.
inline constexpr int64_t kFillPeriod = int64_t{128} * 8209;

class DeviceTensors {
public:
  /// The device outlives this object and what it prepares.
  DeviceTensors(Device &device, const kernels::Target &target) : device_(device), target_(target) {}

  /// A zeroed tensor. DoesNotFit: the device has not the memory.
  Status allocate(const std::string &name, kernels::DType dtype, const std::vector<int64_t> &dims);

  /// Random numbers around 0 with standard deviation `deviation`, the same for the same name.
  Status fill(const std::string &name, float deviation);
  Status write(const std::string &name, std::span<const int32_t> values);
  Status write(const std::string &name, std::span<const float> values); // of an F32 tensor
  /// Elements [begin, begin + count) of an F32 or BF16 tensor.
  Result<std::vector<float>> read(const std::string &name, int64_t begin, int64_t count);

  const kernels::Tensor &operator[](const std::string &name) const { return tensors_.at(name); }

  /// A launch of `kernel` over tensors, in the order of its signature, and integer attributes; its
  /// workspace is allocated. Failed, naming the kernel, if they do not match the signature.
  Result<std::unique_ptr<PreparedLaunch>> prepare(const std::string &kernel,
                                                  const std::vector<std::string> &operands,
                                                  const std::vector<int64_t> &attributes = {});

private:
  Device &device_;
  kernels::Target target_;
  std::vector<DeviceMemory> memory_;
  std::map<std::string, kernels::Tensor> tensors_;
};

} // namespace switchyard::bench

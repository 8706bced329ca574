#include "tools/moe-bench/DeviceTensors.h"

#include "tools/moe-bench/RandomValues.h"

#include <algorithm>

namespace switchyard::bench {

/// Bytes of random numbers that pass through host memory at once.
static constexpr uint64_t kStagingBytes = uint64_t{64} << 20;

Status DeviceTensors::allocate(const std::string &name, kernels::DType dtype,
                               const std::vector<int64_t> &dims) {
  kernels::Tensor &tensor = tensors_[name];
  tensor.dtype = dtype;
  tensor.rank = static_cast<int>(dims.size());
  std::ranges::copy(dims, tensor.dims);
  SY_ASSIGN_OR_RETURN(DeviceMemory memory, device_.allocate(tensor.bytes()));
  tensor.data = memory.data();
  memory_.push_back(std::move(memory));
  return {};
}

Status DeviceTensors::fill(const std::string &name, float deviation) {
  const kernels::Tensor &tensor = tensors_.at(name);
  const auto bytes = static_cast<uint64_t>(tensor.bytes());
  uint64_t seed = 0;
  for (char c : name)
    seed = randomBits(seed + static_cast<unsigned char>(c));
  std::vector<std::byte> staging;
  for (uint64_t at = 0; at < bytes; at += kStagingBytes) {
    staging.resize(std::min(kStagingBytes, bytes - at));
    fillUniform(seed, static_cast<int64_t>(at) / kernels::byteSize(tensor.dtype), deviation,
                tensor.dtype, staging);
    SY_RETURN_IF_ERROR(device_.copyIn(tensor.as<std::byte>() + at, staging.data(), staging.size()));
  }
  return {};
}

Status DeviceTensors::write(const std::string &name, std::span<const int32_t> values) {
  const kernels::Tensor &tensor = tensors_.at(name);
  return device_.copyIn(tensor.data, values.data(), tensor.bytes());
}

Result<std::unique_ptr<PreparedLaunch>>
DeviceTensors::prepare(const std::string &kernel, const std::vector<std::string> &operands,
                       const std::vector<int64_t> &attributes) {
  const kernels::Signature &signature = *kernels::findSignature(kernel);
  std::vector<kernels::Tensor> tensors;
  std::vector<kernels::OperandType> types;
  for (const std::string &operand : operands) {
    const kernels::Tensor &tensor = tensors.emplace_back(tensors_.at(operand));
    kernels::OperandType &type = types.emplace_back();
    type.dtype = tensor.dtype;
    for (int i = 0; i < tensor.rank; ++i)
      type.shape.push_back({0, -1, tensor.dims[i]});
  }
  std::vector<kernels::AttributeValue> values;
  for (int64_t attribute : attributes)
    values.push_back({attribute, 0});
  if (auto fault = kernels::matchLaunch(signature, types, values))
    return Status::failed(kernel + ": " + *fault);
  SY_ASSIGN_OR_RETURN(DeviceMemory workspace, device_.allocate(kernels::workspaceBytes(
                                                  signature, types, values, {}, target_)));
  memory_.push_back(std::move(workspace));
  return device_.prepare(signature, std::move(tensors), std::move(values),
                         {memory_.back().data(), memory_.back().bytes()});
}

} // namespace switchyard::bench

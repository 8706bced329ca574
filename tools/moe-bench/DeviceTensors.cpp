#include "tools/moe-bench/DeviceTensors.h"

#include "runtime/core/Floats.h"
#include "tools/moe-bench/RandomValues.h"

#include <algorithm>

namespace switchyard::bench {

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
  const int64_t width = kernels::byteSize(tensor.dtype);
  std::vector<std::byte> period(std::min<uint64_t>(kFillPeriod * width, bytes));
  fillUniform(seed, 0, deviation, tensor.dtype, period);
  SY_RETURN_IF_ERROR(device_.copyIn(tensor.data, period.data(), period.size()));
  for (uint64_t done = period.size(); done < bytes;) {
    const uint64_t more = std::min(done, bytes - done);
    SY_RETURN_IF_ERROR(device_.copy(tensor.as<std::byte>() + done, tensor.data, more));
    done += more;
  }
  return {};
}

Status DeviceTensors::write(const std::string &name, std::span<const int32_t> values) {
  const kernels::Tensor &tensor = tensors_.at(name);
  return device_.copyIn(tensor.data, values.data(), tensor.bytes());
}

Status DeviceTensors::write(const std::string &name, std::span<const float> values) {
  const kernels::Tensor &tensor = tensors_.at(name);
  return device_.copyIn(tensor.data, values.data(), tensor.bytes());
}

Result<std::vector<float>> DeviceTensors::read(const std::string &name, int64_t begin,
                                               int64_t count) {
  const kernels::Tensor &tensor = tensors_.at(name);
  const int64_t width = kernels::byteSize(tensor.dtype);
  std::vector<std::byte> bytes(count * width);
  SY_RETURN_IF_ERROR(
      device_.copyOut(bytes.data(), tensor.as<std::byte>() + begin * width, bytes.size()));
  std::vector<float> values(count);
  convertFloats(tensor.dtype == kernels::DType::BF16 ? FloatFormat::BF16 : FloatFormat::F32, bytes,
                FloatFormat::F32, std::as_writable_bytes(std::span(values)));
  return values;
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

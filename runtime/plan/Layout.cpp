#include "runtime/plan/Layout.h"

namespace switchyard {

std::string_view name(Arena arena) {
  constexpr std::string_view kNames[kNumArenas] = {"state", "io", "comm", "transient"};
  return kNames[static_cast<size_t>(arena)];
}

std::string_view name(StateKind kind) {
  constexpr std::string_view kNames[] = {"parameter", "master", "gradient", "moment"};
  return kNames[static_cast<size_t>(kind)];
}

std::vector<int64_t> symbolBounds(const Plan &plan) {
  std::vector<int64_t> bounds;
  for (const Symbol &symbol : plan.symbols)
    bounds.push_back(symbol.bound);
  return bounds;
}

uint64_t bytesOf(const Buffer &buffer, std::span<const int64_t> values) {
  auto bytes = static_cast<uint64_t>(kernels::byteSize(buffer.dtype));
  for (const Extent &extent : buffer.shape)
    bytes *= static_cast<uint64_t>(valueOf(extent, values));
  return bytes;
}

uint64_t bytesOf(const State &state) {
  auto bytes = static_cast<uint64_t>(kernels::byteSize(state.dtype));
  for (int64_t extent : state.shape)
    bytes *= static_cast<uint64_t>(extent);
  return bytes;
}

std::optional<uint64_t> checkedBytes(DType dtype, std::span<const int64_t> shape) {
  auto bytes = static_cast<uint64_t>(kernels::byteSize(dtype));
  for (int64_t extent : shape)
    if (extent < 1 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(extent), &bytes) ||
        bytes > kMaxBytes)
      return std::nullopt;
  return bytes;
}

std::string typeText(const Plan &plan, DType dtype, std::span<const Extent> shape) {
  std::string text(kernels::name(dtype));
  text += '[';
  for (const Extent &extent : shape) {
    if (&extent != shape.data())
      text += ", ";
    if (extent.symbol >= 0) {
      if (extent.scale != 1)
        text += std::to_string(extent.scale) + "*";
      text += static_cast<size_t>(extent.symbol) < plan.symbols.size()
                  ? plan.symbols[extent.symbol].name
                  : "#" + std::to_string(extent.symbol);
      if (extent.offset != 0)
        text += "+" + std::to_string(extent.offset);
    } else {
      text += std::to_string(extent.offset);
    }
  }
  return text + ']';
}

std::string typeText(DType dtype, std::span<const int64_t> shape) {
  std::vector<Extent> extents;
  for (int64_t extent : shape)
    extents.push_back({0, -1, extent});
  return typeText(Plan(), dtype, extents);
}

std::vector<Access> accessesOf(const Instruction &instruction) {
  using kernels::Role;
  if (const auto *copy = std::get_if<CopyInstruction>(&instruction))
    return {{copy->from, Role::In, "from"}, {copy->to, Role::Out, "to"}};
  const auto &launch = std::get<LaunchInstruction>(instruction);
  const kernels::Signature &signature = *kernels::findSignature(launch.kernel);
  std::vector<Access> accesses;
  int count = static_cast<int>(launch.operands.size());
  for (int i = 0; i < count; ++i) {
    Role role = signature.operands[kernels::specOfOperand(signature, i, count)].role;
    accesses.push_back({launch.operands[i], role, kernels::operandName(signature, i, count)});
  }
  if (launch.workspace >= 0)
    accesses.push_back({static_cast<uint32_t>(launch.workspace), Role::Out, "workspace", true});
  return accesses;
}

std::string_view nameOf(const Instruction &instruction) {
  const auto *launch = std::get_if<LaunchInstruction>(&instruction);
  return launch ? std::string_view(launch->kernel) : "copy";
}

} // namespace switchyard

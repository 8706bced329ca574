#include "runtime/plan/Layout.h"

#include <algorithm>
#include <cmath>

namespace switchyard {

std::string_view name(Arena arena) {
  constexpr std::string_view kNames[kNumArenas] = {"state", "io", "comm", "transient"};
  return kNames[static_cast<size_t>(arena)];
}

std::string_view name(StateKind kind) {
  constexpr std::string_view kNames[] = {"parameter", "master", "gradient", "moment"};
  return kNames[static_cast<size_t>(kind)];
}

std::string_view name(CollectiveKind kind) {
  constexpr std::string_view kNames[] = {"all_gather", "reduce_scatter", "all_reduce",
                                         "token_exchange", "token_return"};
  return kNames[static_cast<size_t>(kind)];
}

std::optional<FloatFormat> floatFormat(DType dtype) {
  switch (dtype) {
  case DType::F32:
    return FloatFormat::F32;
  case DType::BF16:
    return FloatFormat::BF16;
  case DType::I32:
    break;
  }
  return std::nullopt;
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

namespace {

uint64_t bytesOf(DType dtype, std::span<const int64_t> shape) {
  auto bytes = static_cast<uint64_t>(kernels::byteSize(dtype));
  for (int64_t extent : shape)
    bytes *= static_cast<uint64_t>(extent);
  return bytes;
}

uint64_t reservedBytes(DType dtype, int64_t elements) {
  return static_cast<uint64_t>(elements) * static_cast<uint64_t>(kernels::byteSize(dtype));
}

} // namespace

uint64_t capacityOf(const Buffer &buffer, std::span<const int64_t> values) {
  return std::max(bytesOf(buffer, values), reservedBytes(buffer.dtype, buffer.reserve));
}

uint64_t bytesOf(const State &state) {
  return bytesOf(state.dtype, state.shape);
}

uint64_t localBytesOf(const State &state, const Mesh &mesh) {
  return bytesOf(state.dtype, localShape(state.shape, state.sharding, mesh));
}

uint64_t capacityOf(const State &state, const Mesh &mesh) {
  return std::max(localBytesOf(state, mesh), reservedBytes(state.dtype, state.reserve));
}

int64_t valueFor(const Symbol &symbol, int64_t tokens) {
  if (symbol.name == "T")
    return tokens;
  if (symbol.rowsPerToken == 0)
    return symbol.bound;
  double rows = std::ceil(symbol.rowsPerToken * static_cast<double>(tokens));
  return rows < static_cast<double>(symbol.bound) ? static_cast<int64_t>(rows) : symbol.bound;
}

int32_t findSymbol(const Plan &plan, std::string_view name) {
  for (size_t i = 0; i < plan.symbols.size(); ++i)
    if (plan.symbols[i].name == name)
      return static_cast<int32_t>(i);
  return -1;
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

namespace {

using kernels::Role;

std::vector<Access> accesses(const LaunchInstruction &launch) {
  const kernels::Signature &signature = *kernels::findSignature(launch.kernel);
  std::vector<Access> result;
  int count = static_cast<int>(launch.operands.size());
  for (int i = 0; i < count; ++i) {
    Role role = signature.operands[kernels::specOfOperand(signature, i, count)].role;
    result.push_back({launch.operands[i], role, kernels::operandName(signature, i, count)});
  }
  if (launch.workspace >= 0)
    result.push_back({static_cast<uint32_t>(launch.workspace), Role::Out, "workspace", true});
  return result;
}

std::vector<Access> accesses(const CopyInstruction &copy) {
  return {{copy.from, Role::In, "from"}, {copy.to, Role::Out, "to"}};
}

std::vector<Access> accesses(const CollectiveInstruction &collective) {
  std::vector<Access> result;
  auto add = [&](Role role, std::string name) {
    result.push_back({collective.operands[result.size()], role, std::move(name)});
  };
  bool isExchange = collective.kind == CollectiveKind::TokenExchange;
  if (!isExchange && collective.kind != CollectiveKind::TokenReturn) {
    for (size_t i = 0; i < collective.operands.size(); ++i)
      add(i % 2 == 0 ? Role::In : Role::Out,
          (i % 2 == 0 ? "in[" : "out[") + std::to_string(i / 2) + "]");
    return result;
  }
  add(Role::In, "rows");
  add(Role::In, "all_counts");
  if (isExchange) {
    add(Role::Out, "received");
    add(Role::Out, "group_sizes");
  } else {
    add(collective.adds ? Role::Update : Role::Out, "returned");
  }
  if (result.size() < collective.operands.size())
    add(Role::In, "round");
  return result;
}

std::vector<Access> accesses(const RepeatInstruction &repeat) {
  return {{repeat.allCounts, Role::In, "all_counts"}, {repeat.round, Role::Out, "round"}};
}

std::vector<Access> accesses(const RecordInstruction &) {
  return {};
}

std::vector<Access> accesses(const WaitInstruction &) {
  return {};
}

} // namespace

std::vector<Access> accessesOf(const Instruction &instruction) {
  return std::visit([](const auto &alternative) { return accesses(alternative); }, instruction);
}

uint32_t streamOf(const Instruction &instruction) {
  return std::visit([](const auto &alternative) { return alternative.stream; }, instruction);
}

std::string_view nameOf(const Instruction &instruction) {
  if (const auto *launch = std::get_if<LaunchInstruction>(&instruction))
    return launch->kernel;
  if (const auto *collective = std::get_if<CollectiveInstruction>(&instruction))
    return name(collective->kind);
  constexpr std::string_view kNames[] = {"", "copy", "", "repeat", "record", "wait"};
  return kNames[instruction.index()];
}

std::string instructionText(const Program &program, size_t index) {
  return "program " + program.name + ", instruction " + std::to_string(index) + " (" +
         std::string(nameOf(program.instructions[index])) + ")";
}

} // namespace switchyard

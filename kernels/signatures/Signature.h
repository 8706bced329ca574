// What a kernel takes: operands, dtypes, shapes in symbols, ties, attributes with ranges,
// workspace.
//
// One constexpr Signature per kernel, in kernels/signatures/<op>.h, gathered by Table.h. The
// compiler (bufferization, memory) and the plan loader (verification) read the same table; a
// backend binds the names to functions. Only the standard library is used here.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>

namespace switchyard::kernels {

enum class DType : uint8_t { F32, BF16, I32 };

constexpr int64_t byteSize(DType dtype) {
  return dtype == DType::BF16 ? 2 : 4;
}
constexpr std::string_view name(DType dtype) {
  return dtype == DType::F32 ? "f32" : dtype == DType::BF16 ? "bf16" : "i32";
}

/// The dtype an operand must have. A, B and C are variables over {f32, bf16}: all operands of one
/// launch that name the same variable have the same dtype. F32OrA is f32 or what A is: a sum, or
/// its rounding.
enum class DTypeRule : uint8_t { F32, I32, A, B, C, F32OrA };

/// In: read. Update: read and overwritten in place (the op's operand and its tied result). Out:
/// written.
enum class Role : uint8_t { In, Update, Out };

/// Where a plan runs. `threads` bounds the worker threads of one rank (CPU); workspaces are sized
/// by it.
struct Target {
  enum class Kind : uint8_t { Cpu, Cuda } kind = Kind::Cpu;
  int32_t threads = 1;
};

/// One operand. `shape` lists the extents, separated by commas; an extent is a sum of products of
/// integers, symbols and names of integer attributes ("T, num_heads*head_dim +
/// 2*num_kv_heads*head_dim"). A symbol has one value per launch. "" is a scalar, "..." any shape
/// (the same for all operands that say "...").
struct OperandSpec {
  std::string_view name;
  Role role = Role::In;
  DTypeRule dtype = DTypeRule::F32;
  std::string_view shape;
  /// The index of an In operand whose memory this Out operand may take over (element i of it is
  /// read before element i of the result is written, and nothing is read after), or -1.
  int overlay = -1;
  /// Stands for one or more operands of this shape, one after the other; the symbol L is their
  /// number. At most one operand of a signature repeats.
  bool repeated = false;
};

constexpr OperandSpec in(std::string_view name, DTypeRule dtype, std::string_view shape) {
  return {name, Role::In, dtype, shape, -1, false};
}
constexpr OperandSpec repeatedIn(std::string_view name, DTypeRule dtype, std::string_view shape) {
  return {name, Role::In, dtype, shape, -1, true};
}
constexpr OperandSpec update(std::string_view name, DTypeRule dtype, std::string_view shape) {
  return {name, Role::Update, dtype, shape, -1, false};
}
constexpr OperandSpec out(std::string_view name, DTypeRule dtype, std::string_view shape,
                          int overlay = -1) {
  return {name, Role::Out, dtype, shape, overlay, false};
}

/// One attribute: an integer or a float in [low, high], or one of `choices` (its index is the
/// value).
struct AttributeSpec {
  enum class Kind : uint8_t { Integer, Float, Choice } kind = Kind::Integer;
  std::string_view name;
  double low = 0;
  double high = 0;
  std::span<const std::string_view> choices = {};
};

constexpr double kMaxExtent = 1099511627776.0; // 2^40: no extent or size attribute is larger

constexpr AttributeSpec integer(std::string_view name, double low, double high = kMaxExtent) {
  return {AttributeSpec::Kind::Integer, name, low, high, {}};
}
constexpr AttributeSpec flag(std::string_view name) {
  return integer(name, 0, 1);
}
constexpr AttributeSpec real(std::string_view name, double low, double high) {
  return {AttributeSpec::Kind::Float, name, low, high, {}};
}
constexpr AttributeSpec choice(std::string_view name, std::span<const std::string_view> choices) {
  return {AttributeSpec::Kind::Choice, name, 0, static_cast<double>(choices.size()) - 1, choices};
}

/// The values of a launch's symbols and integer attributes, each at its bound.
class Dims {
public:
  virtual ~Dims() = default;
  virtual int64_t operator[](std::string_view symbol) const = 0;
  /// Bytes of one element of the first operand of dtype variable A (B, C, F32OrA).
  virtual int64_t elementBytes(DTypeRule variable) const = 0;
};

/// Bytes of scratch a launch may use, for the extents in `dims`.
using WorkspaceBound = int64_t (*)(const Dims &dims, Target target);

constexpr int64_t noWorkspace(const Dims &, Target) {
  return 0;
}

struct Signature {
  std::string_view name;
  /// The op's operands in order, then those results that are tied to no operand. The op's first
  /// results are its Update operands', in order.
  std::span<const OperandSpec> operands;
  std::span<const AttributeSpec> attributes = {};
  WorkspaceBound workspace = noWorkspace;
};

} // namespace switchyard::kernels

#include "passes/KernelTypes.h"

#include "mlir/IR/Builders.h"

#include <cmath>

using namespace mlir;

namespace switchyard::passes {

SymbolBounds::SymbolBounds(ModuleOp module) : ops_(module.getOps<moe::SymbolOp>()) {
  for (moe::SymbolOp op : ops_)
    bounds_.push_back(op.getBound());
}

int32_t SymbolBounds::indexOf(StringRef name) const {
  const auto *found =
      llvm::find_if(ops_, [&](moe::SymbolOp op) { return op.getSymName() == name; });
  return found == ops_.end() ? -1 : static_cast<int32_t>(found - ops_.begin());
}

void SymbolBounds::setBound(size_t index, int64_t bound) {
  bounds_[index] = bound;
  moe::SymbolOp changed = ops_[index];
  if (changed.getSymName() != kTokensSymbol)
    return;
  for (auto [op, other] : llvm::zip_equal(ops_, bounds_)) {
    moe::SymbolOp symbol = op;
    if (std::optional<APFloat> rows = symbol.getRowsPerToken())
      other = static_cast<int64_t>(std::ceil(rows->convertToDouble() * static_cast<double>(bound)));
  }
}

static FailureOr<kernels::DType> dtypeOf(Type type, Operation *op) {
  if (type.isF32())
    return kernels::DType::F32;
  if (type.isBF16())
    return kernels::DType::BF16;
  if (type.isInteger(32))
    return kernels::DType::I32;
  return op->emitOpError("has the element type ") << type << "; kernels take f32, bf16 and i32";
}

FailureOr<kernels::OperandType> operandType(RankedTensorType type, const SymbolBounds &symbols,
                                            Operation *op) {
  FailureOr<kernels::DType> dtype = dtypeOf(type.getElementType(), op);
  if (failed(dtype))
    return failure();
  kernels::OperandType result{*dtype, {}};
  for (auto [dim, size] : llvm::enumerate(type.getShape())) {
    if (!ShapedType::isDynamic(size)) {
      result.shape.push_back({0, -1, size});
      continue;
    }
    auto rows = dyn_cast_if_present<moe::RowsAttr>(type.getEncoding());
    if (dim != 0 || !rows)
      return op->emitOpError("has the type ")
             << type << "; a dynamic extent must be the first, with a #moe.rows encoding";
    int32_t symbol = symbols.indexOf(rows.getSymbol());
    if (symbol < 0)
      return op->emitOpError("uses the symbol \"")
             << rows.getSymbol() << "\", which no moe.symbol declares";
    result.shape.push_back({rows.getScale(), symbol, rows.getOffset()});
  }
  return result;
}

std::optional<int64_t> byteSize(const kernels::OperandType &type, ArrayRef<int64_t> bounds) {
  constexpr int64_t kLimit = int64_t(1) << 62;
  int64_t bytes = kernels::byteSize(type.dtype);
  for (const kernels::Extent &extent : type.shape) {
    int64_t count = extent.offset;
    if (extent.symbol >= 0) {
      int64_t rows;
      if (__builtin_mul_overflow(extent.scale, bounds[extent.symbol], &rows) ||
          __builtin_add_overflow(rows, count, &count))
        return std::nullopt;
    }
    if (count < 0 || __builtin_mul_overflow(bytes, count, &bytes) || bytes > kLimit)
      return std::nullopt;
  }
  return bytes;
}

static std::optional<kernels::AttributeValue> attributeValue(const kernels::AttributeSpec &spec,
                                                             Attribute attribute) {
  using Kind = kernels::AttributeSpec::Kind;
  kernels::AttributeValue value;
  if (auto flag = dyn_cast_if_present<BoolAttr>(attribute); flag && spec.kind == Kind::Integer) {
    value.integer = flag.getValue();
    return value;
  }
  if (auto integer = dyn_cast_if_present<IntegerAttr>(attribute);
      integer && spec.kind == Kind::Integer && integer.getType().isInteger(64)) {
    value.integer = integer.getInt();
    return value;
  }
  if (auto real = dyn_cast_if_present<FloatAttr>(attribute);
      real && spec.kind == Kind::Float && real.getType().isF64()) {
    value.real = real.getValueAsDouble();
    return value;
  }
  if (auto string = dyn_cast_if_present<StringAttr>(attribute); string && spec.kind == Kind::Choice)
    for (auto [index, choice] : llvm::enumerate(spec.choices))
      if (string.getValue() == StringRef(choice)) {
        value.integer = static_cast<int64_t>(index);
        return value;
      }
  return std::nullopt;
}

FailureOr<SmallVector<kernels::AttributeValue>>
attributeValues(const kernels::Signature &signature, DictionaryAttr attributes, Operation *op) {
  SmallVector<kernels::AttributeValue> values;
  for (const kernels::AttributeSpec &spec : signature.attributes) {
    Attribute attribute = attributes.get(StringRef(spec.name));
    std::optional<kernels::AttributeValue> value = attributeValue(spec, attribute);
    if (!value) {
      InFlightDiagnostic diagnostic = op->emitOpError("needs the attribute \"")
                                      << StringRef(spec.name) << "\" of kernel \""
                                      << StringRef(signature.name) << "\" and has ";
      return attribute ? diagnostic << attribute : diagnostic << "none";
    }
    values.push_back(*value);
  }
  return values;
}

/// A flag is an integer in [0, 1].
static bool isFlag(const kernels::AttributeSpec &spec) {
  return spec.kind == kernels::AttributeSpec::Kind::Integer && spec.low == 0 && spec.high == 1;
}

Attribute toAttribute(const kernels::AttributeSpec &spec, const kernels::AttributeValue &value,
                      MLIRContext *context) {
  Builder builder(context);
  switch (spec.kind) {
  case kernels::AttributeSpec::Kind::Float:
    return builder.getF64FloatAttr(value.real);
  case kernels::AttributeSpec::Kind::Choice:
    return builder.getStringAttr(StringRef(spec.choices[value.integer]));
  case kernels::AttributeSpec::Kind::Integer:
    break;
  }
  if (isFlag(spec))
    return builder.getBoolAttr(value.integer);
  return builder.getI64IntegerAttr(value.integer);
}

FailureOr<LaunchOperands> resolveLaunch(plan::LaunchOp launch, const SymbolBounds &symbols) {
  LaunchOperands resolved;
  std::string_view kernel(launch.getKernel().data(), launch.getKernel().size());
  resolved.signature = kernels::findSignature(kernel);
  if (!resolved.signature)
    return launch.emitOpError("names no kernel that has a signature: \"")
           << launch.getKernel() << "\"";

  OperandRange ins = launch.getIns(), updates = launch.getUpdates(), outs = launch.getOuts();
  int count = static_cast<int>(ins.size() + updates.size() + outs.size());
  for (int index = 0; index < count; ++index) {
    int spec = kernels::specOfOperand(*resolved.signature, index, count);
    if (spec < 0)
      return launch.emitOpError("has ")
             << count << " operands, which kernel \"" << launch.getKernel() << "\" does not take";
    kernels::Role role = resolved.signature->operands[spec].role;
    OperandRange &list = role == kernels::Role::In       ? ins
                         : role == kernels::Role::Update ? updates
                                                         : outs;
    if (list.empty())
      return launch.emitOpError("lacks the operand \"")
             << StringRef(resolved.signature->operands[spec].name) << "\" of kernel \""
             << launch.getKernel() << "\"";
    Value value = list.front();
    list = list.drop_front();
    auto type = cast<plan::BufferType>(value.getType()).getTensor();
    FailureOr<kernels::OperandType> operand = operandType(type, symbols, launch);
    if (failed(operand))
      return failure();
    resolved.values.push_back(value);
    resolved.types.push_back(std::move(*operand));
  }

  FailureOr<SmallVector<kernels::AttributeValue>> attributes =
      attributeValues(*resolved.signature, launch.getKernelAttributes(), launch);
  if (failed(attributes))
    return failure();
  resolved.attributes = std::move(*attributes);
  if (std::optional<std::string> fault =
          kernels::matchLaunch(*resolved.signature, resolved.types, resolved.attributes))
    return launch.emitOpError() << *fault;
  return resolved;
}

std::optional<kernels::Target::Kind> targetKind(StringRef name) {
  for (auto kind : {kernels::Target::Kind::Cpu, kernels::Target::Kind::Cuda})
    if (name == targetName(kind))
      return kind;
  return std::nullopt;
}

StringRef targetName(kernels::Target::Kind kind) {
  return kind == kernels::Target::Kind::Cuda ? "cuda" : "cpu";
}

std::optional<kernels::Target> targetOf(ModuleOp module) {
  auto dictionary = module->getAttrOfType<DictionaryAttr>(plan::kTargetAttr);
  if (!dictionary)
    return kernels::Target();
  auto name = dictionary.getAs<StringAttr>("kind");
  auto threads = dictionary.getAs<IntegerAttr>("threads");
  std::optional<kernels::Target::Kind> kind = name ? targetKind(name) : std::nullopt;
  if (!kind || !threads || !threads.getType().isInteger(64) || threads.getInt() < 1 ||
      threads.getInt() > kernels::kMaxThreads)
    return std::nullopt;
  return kernels::Target{*kind, static_cast<int32_t>(threads.getInt())};
}

void setTarget(ModuleOp module, kernels::Target target) {
  Builder builder(module.getContext());
  module->setAttr(
      plan::kTargetAttr,
      builder.getDictionaryAttr(
          {builder.getNamedAttr("kind", builder.getStringAttr(targetName(target.kind))),
           builder.getNamedAttr("threads", builder.getI64IntegerAttr(target.threads))}));
}

} // namespace switchyard::passes

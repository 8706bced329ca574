// Between MLIR's types and attributes and those of kernels/signatures.
#pragma once

#include "dialects/plan/Plan.h"
#include "kernels/signatures/Table.h"

#include "mlir/IR/BuiltinOps.h"

namespace switchyard::passes {

/// The symbol of a pass's tokens, which symbols with `rows_per_token` follow.
inline constexpr llvm::StringLiteral kTokensSymbol = "T";

/// The module's symbols (moe.symbol), in order; an Extent's `symbol` is an index here.
class SymbolBounds {
public:
  explicit SymbolBounds(mlir::ModuleOp module);

  /// The index of the symbol called `name`, or -1.
  int32_t indexOf(llvm::StringRef name) const;
  llvm::ArrayRef<moe::SymbolOp> ops() const { return ops_; }
  llvm::ArrayRef<int64_t> bounds() const { return bounds_; }
  /// Sets the bound of symbol `index`, and those of the symbols that follow it if it is T.
  void setBound(size_t index, int64_t bound);

private:
  llvm::SmallVector<moe::SymbolOp> ops_;
  llvm::SmallVector<int64_t> bounds_;
};

/// Fails, with a diagnostic at `op`, on an element type no kernel takes and on a symbol the module
/// does not declare.
mlir::FailureOr<kernels::OperandType> operandType(mlir::RankedTensorType type,
                                                  const SymbolBounds &symbols, mlir::Operation *op);

/// Bytes of a tensor of this type with every symbol at its bound, or nothing where that is more
/// than 2^62.
std::optional<int64_t> byteSize(const kernels::OperandType &type, llvm::ArrayRef<int64_t> bounds);

/// The values of a signature's attributes in its order, looked up by name in `attributes`. Fails,
/// with a diagnostic at `op`, where one is missing or not of its kind.
mlir::FailureOr<llvm::SmallVector<kernels::AttributeValue>>
attributeValues(const kernels::Signature &signature, mlir::DictionaryAttr attributes,
                mlir::Operation *op);

/// The MLIR attribute that holds `value`, the reverse of attributeValues.
mlir::Attribute toAttribute(const kernels::AttributeSpec &spec,
                            const kernels::AttributeValue &value, mlir::MLIRContext *context);

/// A launch's signature and its operands in the signature's order (the workspace left out).
struct LaunchOperands {
  const kernels::Signature *signature = nullptr;
  llvm::SmallVector<mlir::Value> values;
  llvm::SmallVector<kernels::OperandType> types;
  llvm::SmallVector<kernels::AttributeValue> attributes;
};

/// Looks the kernel up and checks the launch against its signature. Fails with a diagnostic at
/// `launch`.
mlir::FailureOr<LaunchOperands> resolveLaunch(plan::LaunchOp launch, const SymbolBounds &symbols);

/// The kind of target called `name`, "cpu" or "cuda", or nothing; and the reverse.
std::optional<kernels::Target::Kind> targetKind(llvm::StringRef name);
llvm::StringRef targetName(kernels::Target::Kind kind);

/// The target that `to-plan` left on the module, or nothing where what is there is none.
std::optional<kernels::Target> targetOf(mlir::ModuleOp module);

/// Leaves the target on the module.
void setTarget(mlir::ModuleOp module, kernels::Target target);

} // namespace switchyard::passes

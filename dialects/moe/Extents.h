// Extents of tensors as values: compared, multiplied, made into types. The first extent of a tensor
// may be scale * symbol + offset (#moe.rows); inference and verifiers treat it like any other.
#pragma once

#include "dialects/moe/MoE.h"

namespace switchyard::moe {

/// An extent: scale * symbol + offset, or just offset where there is no symbol. A default one is
/// invalid, as is one that exceeds kMaxExtent or is not of this form; nothing equals it, and what
/// is computed from it is invalid.
class Extent {
public:
  Extent() = default;
  /// A static extent.
  explicit Extent(int64_t size);
  explicit Extent(RowsAttr rows);
  /// Extent `dim` of the ranked tensor `type`; invalid if there is none.
  static Extent of(mlir::Type type, unsigned dim);
  static Extent of(mlir::Value value, unsigned dim) { return of(value.getType(), dim); }

  bool isValid() const { return valid_; }
  bool isStatic() const { return valid_ && symbol_.empty(); }
  bool operator==(const Extent &other) const;
  bool operator!=(const Extent &other) const { return !(*this == other); }
  /// One of the two factors has to be static.
  Extent operator*(const Extent &other) const;
  /// Both terms have to be static.
  Extent operator+(const Extent &other) const;

  /// The static extent, kDynamic where there is a symbol.
  int64_t size() const;
  /// The encoding of a tensor whose first extent this is; null for a static one.
  RowsAttr rows(mlir::MLIRContext *context) const;

private:
  bool valid_ = false;
  int64_t scale_ = 0;
  llvm::StringRef symbol_; // of a RowsAttr, so it lives as long as the context
  int64_t offset_ = 0;

  friend llvm::raw_ostream &operator<<(llvm::raw_ostream &stream, const Extent &extent);
};

/// "64", "2 * "T" + 1".
llvm::raw_ostream &operator<<(llvm::raw_ostream &stream, const Extent &extent);

/// The tensor type with these extents; null if one is invalid, one but the first is not static, or
/// `element` is null.
mlir::RankedTensorType tensorType(llvm::ArrayRef<Extent> extents, mlir::Type element);

/// The element type of a ranked tensor, else null.
mlir::Type elementOf(mlir::Value value);

/// Adds to `types` the type of a result that is inferred. Fails, with a diagnostic at `location`,
/// where operands of the wrong form make none.
mlir::LogicalResult inferTensor(std::optional<mlir::Location> location,
                                llvm::SmallVectorImpl<mlir::Type> &types,
                                llvm::ArrayRef<Extent> extents, mlir::Type element);

/// Checks that the elements of `sum`, a result of `op`, are float32 or those of `operand`.
mlir::LogicalResult verifySumElement(mlir::Operation *op, mlir::Value sum, mlir::Value operand);

/// Matches the shapes of an op's operands and results against extents by name, as descriptions
/// write them: x [T, K], w [N, K]. The first extent of a name defines it.
class ShapeMatcher {
public:
  explicit ShapeMatcher(mlir::Operation *op) : op_(op) {}

  /// What a dimension has to be: the extent called `name`, or an extent that is known.
  struct Expected {
    Expected(const char *name) : name(name) {}
    Expected(Extent extent) : extent(extent) {}
    llvm::StringRef name;
    Extent extent;
  };

  /// Fails, with a diagnostic at the op, at the first extent that differs. `what` is the operand's
  /// name.
  mlir::LogicalResult match(llvm::StringRef what, mlir::Value value, llvm::ArrayRef<Expected> dims);

  /// The extent called `name`; invalid if no shape with it was matched.
  Extent operator[](llvm::StringRef name) const;

private:
  struct Binding {
    llvm::StringRef name;
    Extent extent;
    std::string where;
  };
  mlir::Operation *op_;
  llvm::SmallVector<Binding> bindings_;
};

} // namespace switchyard::moe

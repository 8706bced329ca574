// The moe dialect: a mixture-of-experts language model and its training on one device. Ops, their
// formulas and their constraints are described in the .td files beside this one, their rationale in
// README.md.
#pragma once

#include "dialects/interfaces/DifferentiableOpInterface.h"
#include "dialects/interfaces/LinearOpInterface.h"
#include "dialects/interfaces/RecomputableOpInterface.h"
#include "dialects/interfaces/ShardingAttrInterface.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/IR/TensorEncoding.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include <optional>

namespace switchyard::moe {

/// The attribute that names an argument or a result of a program.
inline constexpr llvm::StringLiteral kNameAttr = "moe.name";
/// The module's dictionary of what the runtime wants to know of the model.
inline constexpr llvm::StringLiteral kModelAttr = "moe.model";

/// No extent, scale or offset is larger: 2^40, as in kernels/signatures.
inline constexpr int64_t kMaxExtent = int64_t{1} << 40;
/// No tensor has more dimensions.
inline constexpr int kMaxRank = 4;

/// Element types, as a set.
enum Elements : unsigned { kF32 = 1, kBF16 = 2, kI32 = 4 };

/// Whether `type` is a ranked tensor of `rank` dimensions (-1: up to kMaxRank) with one of the
/// element types `elements`, all extents static and at most kMaxExtent but for a first one that
/// #moe.rows gives.
bool isTensor(mlir::Type type, unsigned elements, int rank);

/// isTensor, and all extents are static.
bool isStaticTensor(mlir::Type type, unsigned elements, int rank);

/// The tensor type `type`, rows included, with elements of type `element`; `type` itself if it is
/// no ranked tensor.
mlir::Type withElement(mlir::Type type, mlir::Type element);

} // namespace switchyard::moe

#include "dialects/moe/Dialect.h.inc"
#include "dialects/moe/Enums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/moe/Attrs.h.inc"
#define GET_OP_CLASSES
#include "dialects/moe/Ops.h.inc"

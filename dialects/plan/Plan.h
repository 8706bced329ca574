// The plan dialect: programs of kernel launches over buffers at fixed addresses.
#pragma once

#include "dialects/dist/Dist.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/RegionKindInterface.h"
#include "mlir/IR/SymbolTable.h"

#include "dialects/plan/Dialect.h.inc"
#include "dialects/plan/Enums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/plan/Attributes.h.inc"
#define GET_TYPEDEF_CLASSES
#include "dialects/plan/Types.h.inc"
#define GET_OP_CLASSES
#include "dialects/plan/Ops.h.inc"

namespace switchyard::plan {

/// Names of the module's attributes: the target (a dictionary {kind, threads}), the arenas' sizes,
/// their sum.
inline constexpr llvm::StringLiteral kTargetAttr = "plan.target";
inline constexpr llvm::StringLiteral kArenasAttr = "plan.arenas";
inline constexpr llvm::StringLiteral kPeakAttr = "plan.peak";

/// The buffers that an instruction writes; of a repeat, not those that its body does.
llvm::SmallVector<mlir::Value> writtenBuffers(mlir::Operation *instruction);

/// Checks that no buffer in `updates` and `outs` is another operand of `op`.
mlir::LogicalResult verifyWritesApart(mlir::Operation *op, mlir::ValueRange updates,
                                      mlir::ValueRange outs);

} // namespace switchyard::plan

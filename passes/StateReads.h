// The reads of states in programs, for passes that divide states among ranks.
#pragma once

#include "dialects/moe/MoE.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/MapVector.h"

namespace switchyard::passes {

/// The reads of a state in a program, in order.
using Reads = llvm::SmallVector<moe::ReadOp>;

/// The reads in `function`, by the state that they name; states come in the order of their first
/// read.
llvm::MapVector<moe::StateOp, Reads> collectReads(mlir::func::FuncOp function,
                                                  const mlir::SymbolTable &symbols);

/// Replaces the reads of one state by one, of the state's local type, right before the first use of
/// any of them; reads without a use are dropped. `makeWhole` builds what the uses see from what is
/// read.
void replaceReads(moe::StateOp state, const Reads &reads,
                  llvm::function_ref<mlir::Value(mlir::OpBuilder &, mlir::Value)> makeWhole);

/// Checks that no state is derived from a parameter yet: it would keep the parameter's old
/// division. Fails with a diagnostic that names `pass`.
mlir::LogicalResult checkNothingDerived(mlir::ModuleOp module, llvm::StringRef pass);

} // namespace switchyard::passes

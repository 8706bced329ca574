// What the passes that reorder a plan.program's instructions have in common: which buffers an
// instruction reads and writes, whose layer a collective belongs to, and putting a new order into
// effect.
#pragma once

#include "dialects/plan/Plan.h"

#include "mlir/IR/BuiltinOps.h"

namespace switchyard::passes {

/// The buffers that an instruction touches; an update is in both lists. A repeat touches what its
/// body does.
struct Accesses {
  llvm::SmallVector<mlir::Value, 4> reads;
  llvm::SmallVector<mlir::Value, 4> writes;
};
Accesses accessesOf(mlir::Operation *instruction);

/// Whether the module has a mesh, that is, whether there is anything to schedule.
bool hasMesh(mlir::ModuleOp module);

/// The instructions of a program in order, buffers left out.
llvm::SmallVector<mlir::Operation *> instructionsOf(plan::ProgramOp program);

/// Gives the program's instructions the order `order`; its buffers stand before all of them.
void reorder(plan::ProgramOp program, llvm::ArrayRef<mlir::Operation *> order);

/// Refuses, with a diagnostic at the program, one that has addresses or events already: `pass`
/// moves instructions, which would undo both.
mlir::LogicalResult checkMovable(plan::ProgramOp program, llvm::StringRef pass);

/// Whether `value` is a state's memory.
bool isState(mlir::Value value);
/// Whether `value` holds one element.
bool isScalar(mlir::Value value);
/// Whether `op` is an all_gather whose inputs are states' memory: its inputs are there from the
/// start of the program, so it can be issued early.
bool isStateGather(mlir::Operation *op);
/// Whether `op` is a reduce_scatter or an all_reduce.
bool isReduction(mlir::Operation *op);

/// Bytes of the whole tensors that a collective gathers or reduces.
int64_t wholeBytes(plan::CollectiveOp op);

/// The layers of the module's states.
class StateLayers {
public:
  explicit StateLayers(mlir::ModuleOp module);

  /// The layer of a state's buffer; kNoLayer for a state without one.
  int64_t layerOf(mlir::Value stateBuffer) const;
  /// The layer of the state that a collective's first input is, or that what it yields ends up in,
  /// through other reductions and one launch; nothing where there is none.
  std::optional<int64_t> layerOf(plan::CollectiveOp op) const;

  static constexpr int64_t kNoLayer = -1;

private:
  llvm::DenseMap<mlir::StringAttr, int64_t> layers_;
};

} // namespace switchyard::passes

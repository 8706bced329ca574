// recompute: what is cheap to compute is computed again for the backward direction, not kept.
//
// The forward direction ends where the first gradient does (moe.gradient, or the write of a
// gradient's state). One walk against the order of the list: when an op is reached, the ops that
// take its result have been copied where they will be, so their copies count as uses.

#include "passes/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_RECOMPUTE
#include "passes/Passes.h.inc"

namespace {

/// The first op at which a gradient is done, or null.
Operation *firstGradient(func::FuncOp function, const SymbolTable &symbols) {
  for (Operation &op : function.getBody().front()) {
    if (isa<moe::GradientOp>(op))
      return &op;
    auto write = dyn_cast<moe::WriteOp>(op);
    auto state = write ? symbols.lookup<moe::StateOp>(write.getState()) : moe::StateOp();
    if (state && state.getKind() == moe::StateKind::Gradient)
      return &op;
  }
  return nullptr;
}

/// The op of the function's own block that uses `use`'s value, perhaps in a region.
Operation *userOf(OpOperand &use, Block &block) {
  return block.findAncestorOpInBlock(*use.getOwner());
}

/// Whether `value` is there at `place` whether or not it is used there: it is no result of an op
/// (or a state's), or something uses it there or later.
bool isKeptUntil(Value value, Operation *place) {
  Operation *definer = value.getDefiningOp();
  return !definer || isa<moe::ReadOp>(definer) ||
         llvm::any_of(value.getUses(), [&](OpOperand &use) {
           return !userOf(use, *place->getBlock())->isBeforeInBlock(place);
         });
}

/// Computes `op`'s result again before its first use behind `turn`, if it is used on both sides and
/// its operands are there anyway.
void recompute(Operation *op, Operation *turn) {
  Block &block = *turn->getBlock();
  Operation *first = nullptr;
  bool isUsedForward = false;
  for (OpOperand &use : op->getUses()) {
    Operation *user = userOf(use, block);
    if (user->isBeforeInBlock(turn))
      isUsedForward = true;
    else if (!first || user->isBeforeInBlock(first))
      first = user;
  }
  if (!first || !isUsedForward ||
      !llvm::all_of(op->getOperands(), [&](Value value) { return isKeptUntil(value, first); }))
    return;
  OpBuilder builder(first);
  Operation *again = builder.clone(*op);
  op->getResult(0).replaceUsesWithIf(again->getResult(0), [&](OpOperand &use) {
    return !userOf(use, block)->isBeforeInBlock(turn);
  });
}

struct Recompute : impl::RecomputeBase<Recompute> {
  using RecomputeBase::RecomputeBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (what != "none" && what != "cheap") {
      module.emitError("recompute: what is \"") << what << "\"; expected none or cheap";
      return signalPassFailure();
    }
    if (what == "none")
      return markAllAnalysesPreserved();
    SymbolTable symbols(module);
    for (func::FuncOp function : module.getOps<func::FuncOp>()) {
      if (!function.getBody().hasOneBlock())
        continue;
      Operation *turn = firstGradient(function, symbols);
      SmallVector<Operation *> ops;
      for (Operation &op : function.getBody().front())
        if (isa<RecomputableOpInterface>(op) && turn && op.isBeforeInBlock(turn))
          ops.push_back(&op);
      for (Operation *op : llvm::reverse(ops))
        recompute(op, turn);
    }
  }
};

} // namespace
} // namespace switchyard::passes

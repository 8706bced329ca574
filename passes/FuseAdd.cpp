// fuse-add: the kernels that sum a token's rows also add what the sum is added to.

#include "passes/Passes.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_FUSEADD
#include "passes/Passes.h.inc"

namespace {

/// Whether all that is done with the sum of rows in `operand` is to add it here.
bool isOwnSum(OpOperand &operand) {
  Operation *sum = operand.get().getDefiningOp();
  return isa_and_present<moe::UnpermuteOp, moe::PermuteGradOp>(sum) && sum->hasOneUse() &&
         sum->getBlock() == operand.getOwner()->getBlock();
}

/// The operand of `add` whose op is to be fused; null where none is. Of two it is the later one:
/// rows are kept until they are summed.
OpOperand *sumOf(moe::AddOp add) {
  OpOperand *found = nullptr;
  for (OpOperand &operand : add->getOpOperands())
    if (isOwnSum(operand) &&
        (!found || found->get().getDefiningOp()->isBeforeInBlock(operand.get().getDefiningOp())))
      found = &operand;
  return found;
}

void fuse(moe::AddOp add, OpOperand &operand) {
  Operation *sum = operand.get().getDefiningOp();
  Value x = add->getOperand(1 - operand.getOperandNumber());
  OpBuilder builder(add);
  Operation *fused = nullptr;
  if (auto unpermute = dyn_cast<moe::UnpermuteOp>(sum)) {
    fused = moe::UnpermuteAddOp::create(builder, add.getLoc(), unpermute.getRows(),
                                        unpermute.getWeights(), unpermute.getRowOfSlot(), x);
  } else {
    auto gradient = cast<moe::PermuteGradOp>(sum);
    fused = moe::PermuteGradAddOp::create(builder, add.getLoc(), gradient.getDrows(),
                                          gradient.getRowOfSlot(), x);
  }
  add->replaceAllUsesWith(fused);
  add.erase();
  sum->erase();
}

struct FuseAdd : impl::FuseAddBase<FuseAdd> {
  using FuseAddBase::FuseAddBase;

  void runOnOperation() override {
    if (!enable)
      return markAllAnalysesPreserved();
    // Only a program's own: a sum that a dist.rounds carries has to stay one.
    for (auto program : getOperation().getOps<func::FuncOp>())
      for (auto add : llvm::make_early_inc_range(program.getOps<moe::AddOp>()))
        if (OpOperand *operand = sumOf(add))
          fuse(add, *operand);
  }
};

} // namespace
} // namespace switchyard::passes

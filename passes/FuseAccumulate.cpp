// fuse-accumulate: a weight's gradient of a grouped GEMM is added to its accumulator as it is made.

#include "passes/Passes.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_FUSEACCUMULATE
#include "passes/Passes.h.inc"

namespace {

/// The gradient that is added, if that is all that is done with it, and the sum would be the same.
moe::GroupedGemmWgradOp gradientOf(moe::AccumulateOp sum) {
  auto gradient = sum.getValue().getDefiningOp<moe::GroupedGemmWgradOp>();
  if (!gradient || !gradient->hasOneUse() || gradient->getBlock() != sum->getBlock())
    return {};
  Type added = getElementTypeOrSelf(gradient.getDw());
  Type to = getElementTypeOrSelf(sum.getAccumulator());
  bool isSum = added.isF32() && (to.isF32() || to == getElementTypeOrSelf(gradient.getDy()));
  return isSum ? gradient : moe::GroupedGemmWgradOp();
}

struct FuseAccumulate : impl::FuseAccumulateBase<FuseAccumulate> {
  using FuseAccumulateBase::FuseAccumulateBase;

  void runOnOperation() override {
    if (!enable)
      return markAllAnalysesPreserved();
    SmallVector<moe::AccumulateOp> sums;
    for (auto program : getOperation().getOps<func::FuncOp>())
      llvm::append_range(sums, program.getOps<moe::AccumulateOp>());
    for (moe::AccumulateOp sum : sums) {
      moe::GroupedGemmWgradOp gradient = gradientOf(sum);
      if (!gradient)
        continue;
      OpBuilder builder(sum);
      auto fused = moe::GroupedGemmWgradAccumulateOp::create(
          builder, gradient.getLoc(), sum.getResult().getType(), gradient.getDy(), gradient.getX(),
          gradient.getGroupSizes(), sum.getAccumulator());
      sum.getResult().replaceAllUsesWith(fused.getResult());
      sum.erase();
      gradient.erase();
    }
  }
};

} // namespace
} // namespace switchyard::passes

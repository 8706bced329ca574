// fuse-accumulate: a weight's gradient of a grouped GEMM is added to its accumulator as it is made,
// and so are those of overflow rounds, to the same accumulator.

#include "passes/Passes.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_FUSEACCUMULATE
#include "passes/Passes.h.inc"

namespace {

/// The gradient that `value` is, if `sum` alone uses it, and its product can add it itself.
moe::GroupedGemmWgradOp gradientOf(Value value, moe::AccumulateOp sum) {
  auto gradient = value.getDefiningOp<moe::GroupedGemmWgradOp>();
  if (!gradient || !gradient->hasOneUse() || gradient->getBlock() != sum->getBlock())
    return {};
  Type added = getElementTypeOrSelf(gradient.getDw());
  Type to = getElementTypeOrSelf(sum.getAccumulator());
  bool isSum = added.isF32() && (to.isF32() || to == getElementTypeOrSelf(gradient.getDy()));
  return isSum ? gradient : moe::GroupedGemmWgradOp();
}

/// Makes `gradient`'s product, before `where`, add it to `accumulator`; the gradient is to be
/// erased.
Value addTo(Value accumulator, moe::GroupedGemmWgradOp gradient, Operation *where) {
  OpBuilder builder(where);
  return moe::GroupedGemmWgradAccumulateOp::create(
      builder, gradient.getLoc(), accumulator.getType(), gradient.getDy(), gradient.getX(),
      gradient.getGroupSizes(), accumulator);
}

/// Fuses a gradient that is added right away; false if there is none.
bool fuse(moe::AccumulateOp sum) {
  moe::GroupedGemmWgradOp gradient = gradientOf(sum.getValue(), sum);
  if (!gradient)
    return false;
  sum.replaceAllUsesWith(addTo(sum.getAccumulator(), gradient, sum));
  sum.erase();
  gradient.erase();
  return true;
}

/// The only product of a round that adds to carried value `index`, if it may add to another type.
moe::GroupedGemmWgradAccumulateOp productOfRound(dist::RoundsOp loop, unsigned index, Type to) {
  BlockArgument carried = loop.getCarriedArguments()[index];
  auto product = dyn_cast<moe::GroupedGemmWgradAccumulateOp>(*carried.user_begin());
  bool isOnly = product && *product->user_begin() == loop.getYield();
  Type element = getElementTypeOrSelf(to);
  bool fits = isOnly && (element.isF32() || element == getElementTypeOrSelf(product.getDy()));
  return fits ? product : moe::GroupedGemmWgradAccumulateOp();
}

/// Fuses a sum of a gradient of round 0 and those of overflow rounds: all are added to the
/// accumulator, which is what the rounds carry then.
void fuseRounds(moe::AccumulateOp sum) {
  auto loop = sum.getValue().getDefiningOp<dist::RoundsOp>();
  if (!loop || !sum.getValue().hasOneUse() || loop->getBlock() != sum->getBlock())
    return;
  unsigned index = cast<OpResult>(sum.getValue()).getResultNumber();
  OpOperand &start = loop.getCarriedMutable()[index];
  Type to = sum.getAccumulator().getType();
  moe::GroupedGemmWgradOp first = gradientOf(start.get(), sum);
  moe::GroupedGemmWgradAccumulateOp product = productOfRound(loop, index, to);
  // A read gives what the state was before the program, wherever it stands.
  auto read = sum.getAccumulator().getDefiningOp<moe::ReadOp>();
  if (!first || !product || !read)
    return;
  if (first->isBeforeInBlock(read))
    read->moveBefore(first);
  start.set(addTo(read, first, first));
  first.erase();
  loop.getCarriedArguments()[index].setType(to);
  product->getResult(0).setType(to);
  loop.getResult(index).setType(to);
  sum.replaceAllUsesWith(loop.getResult(index));
  sum.erase();
}

struct FuseAccumulate : impl::FuseAccumulateBase<FuseAccumulate> {
  using FuseAccumulateBase::FuseAccumulateBase;

  void runOnOperation() override {
    if (!enable)
      return markAllAnalysesPreserved();
    SmallVector<moe::AccumulateOp> sums;
    getOperation().walk([&](moe::AccumulateOp sum) { sums.push_back(sum); });
    // Ops of a round come before what uses the loop.
    for (moe::AccumulateOp sum : sums)
      if (!fuse(sum))
        fuseRounds(sum);
  }
};

} // namespace
} // namespace switchyard::passes

// fuse-accumulate: a weight's gradient of a grouped GEMM is added to its accumulator as it is made,
// and so are those of overflow rounds, to the same accumulator.

#include "passes/Passes.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_FUSEACCUMULATE
#include "passes/Passes.h.inc"

namespace {

/// Whether a product of `dy` can add to `accumulator`: in float32, or of its own element type.
bool canAddTo(Type accumulator, Value dy) {
  Type element = getElementTypeOrSelf(accumulator);
  return element.isF32() || element == getElementTypeOrSelf(dy);
}

/// The gradient that makes `value`, if `sum` alone uses it, and its product can add it itself.
Operation *gradientOf(Value value, moe::AccumulateOp sum) {
  Operation *gradient = value.getDefiningOp();
  if (!isa_and_nonnull<moe::GroupedGemmWgradOp, moe::GroupedGemmWgradGatherXOp,
                       moe::GroupedGemmWgradGatherDyOp>(gradient) ||
      !gradient->hasOneUse() || gradient->getBlock() != sum->getBlock() ||
      !getElementTypeOrSelf(value).isF32())
    return nullptr;
  Value dy = gradient->getOperand(0);
  return canAddTo(sum.getAccumulator().getType(), dy) ? gradient : nullptr;
}

template <typename Fused>
Value createFused(OpBuilder &builder, Operation *gradient, Value accumulator) {
  SmallVector<Value> operands(gradient->getOperands());
  operands.push_back(accumulator);
  return Fused::create(builder, gradient->getLoc(), TypeRange(accumulator.getType()), operands)
      .getResult();
}

/// Makes `gradient`'s product, before `where`, add it to `accumulator`; the gradient is to be
/// erased.
Value addTo(Value accumulator, Operation *gradient, Operation *where) {
  OpBuilder builder(where);
  return TypeSwitch<Operation *, Value>(gradient)
      .Case([&](moe::GroupedGemmWgradOp) {
        return createFused<moe::GroupedGemmWgradAccumulateOp>(builder, gradient, accumulator);
      })
      .Case([&](moe::GroupedGemmWgradGatherXOp) {
        return createFused<moe::GroupedGemmWgradGatherXAccumulateOp>(builder, gradient,
                                                                     accumulator);
      })
      .Case([&](moe::GroupedGemmWgradGatherDyOp) {
        return createFused<moe::GroupedGemmWgradGatherDyAccumulateOp>(builder, gradient,
                                                                      accumulator);
      });
}

/// Fuses a gradient that is added right away; false if there is none.
bool fuse(moe::AccumulateOp sum) {
  Operation *gradient = gradientOf(sum.getValue(), sum);
  if (!gradient)
    return false;
  sum.replaceAllUsesWith(addTo(sum.getAccumulator(), gradient, sum));
  sum.erase();
  gradient->erase();
  return true;
}

/// The only product of a round that adds to carried value `index`, if it may add to another type.
moe::GroupedGemmWgradAccumulateOp productOfRound(dist::RoundsOp loop, unsigned index, Type to) {
  BlockArgument carried = loop.getCarriedArguments()[index];
  auto product = dyn_cast<moe::GroupedGemmWgradAccumulateOp>(*carried.user_begin());
  bool isOnly = product && *product->user_begin() == loop.getYield();
  return isOnly && canAddTo(to, product.getDy()) ? product : moe::GroupedGemmWgradAccumulateOp();
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
  Operation *first = gradientOf(start.get(), sum);
  moe::GroupedGemmWgradAccumulateOp product = productOfRound(loop, index, to);
  // A read gives what the state was before the program, wherever it stands.
  auto read = sum.getAccumulator().getDefiningOp<moe::ReadOp>();
  if (!first || !product || !read)
    return;
  if (first->isBeforeInBlock(read))
    read->moveBefore(first);
  start.set(addTo(read, first, first));
  first->erase();
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

// fuse: a kernel that only takes what another has just made becomes part of that other one.
//
// Gradients first: the gradient of a gated product makes the activated rows again, so that what
// took them behind it takes these, and an activation that nothing else wants goes.

#include "passes/Passes.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_FUSE
#include "passes/Passes.h.inc"

namespace {

/// The earlier of two ops of a block; either may be null.
Operation *earlier(Operation *a, Operation *b) {
  return !a || (b && b->isBeforeInBlock(a)) ? b : a;
}

/// The op of `block` that uses `use`'s value, perhaps in a region; null where none does.
Operation *userIn(Block &block, OpOperand &use) {
  return block.findAncestorOpInBlock(*use.getOwner());
}

/// The first op of `block` that uses `value`.
Operation *firstUser(Value value, Block &block) {
  Operation *first = nullptr;
  for (OpOperand &use : value.getUses())
    first = earlier(first, userIn(block, use));
  return first;
}

/// Whether `value` is there before `place`, an op of its block or of one inside.
bool isThereAt(Value value, Operation *place) {
  Operation *definer = value.getDefiningOp();
  return !definer || definer->getBlock() != place->getBlock() || definer->isBeforeInBlock(place);
}

/// The gated activations of `gateUp` in `block`.
SmallVector<moe::GatedActivationOp> activationsOf(Value gateUp, Block &block) {
  SmallVector<moe::GatedActivationOp> activations;
  for (Operation *user : gateUp.getUsers())
    if (auto activation = dyn_cast<moe::GatedActivationOp>(user))
      if (activation->getBlock() == &block)
        activations.push_back(activation);
  return activations;
}

/// grouped_gemm_dgrad and the gradient of the activation that takes what it makes.
void fuseGradient(moe::GatedActivationGradOp gradient) {
  auto product = gradient.getDy().getDefiningOp<moe::GroupedGemmDgradOp>();
  Block &block = *gradient->getBlock();
  if (!product || !product->hasOneUse() || product->getBlock() != &block)
    return;
  // Before all that takes the activated rows once what the op needs is there.
  auto isBefore = [&](Operation *place) {
    return llvm::all_of(product->getOperands(), [&](Value v) { return isThereAt(v, place); }) &&
           isThereAt(gradient.getGateUp(), place);
  };
  SmallVector<moe::GatedActivationOp> activations = activationsOf(gradient.getGateUp(), block);
  Operation *place = gradient;
  for (moe::GatedActivationOp activation : activations)
    for (OpOperand &use : activation->getUses())
      if (Operation *user = userIn(block, use); user && isBefore(user))
        place = earlier(place, user);
  place = isBefore(product) ? earlier(place, product) : gradient;
  OpBuilder builder(place);
  auto fused = moe::GroupedGemmDgradGatedOp::create(
      builder, gradient.getLoc(), product.getDy(), product.getW(), product.getGroupSizes(),
      gradient.getGateUp(), gradient.getActivationAttr());
  for (moe::GatedActivationOp activation : activations) {
    activation.getY().replaceUsesWithIf(fused.getY(), [&](OpOperand &use) {
      Operation *user = userIn(block, use);
      return user && fused->isBeforeInBlock(user);
    });
    if (activation->use_empty())
      activation.erase();
  }
  gradient.getDgateUp().replaceAllUsesWith(fused.getDgateUp());
  gradient.erase();
  product.erase();
}

/// grouped_gemm and the activation that is the first to take what it makes.
void fuseActivation(moe::GatedActivationOp activation) {
  auto product = activation.getGateUp().getDefiningOp<moe::GroupedGemmOp>();
  if (!product || firstUser(product.getY(), *product->getBlock()) != activation)
    return;
  OpBuilder builder(product);
  auto fused =
      moe::GroupedGemmGatedOp::create(builder, activation.getLoc(), product.getX(), product.getW(),
                                      product.getGroupSizes(), activation.getActivationAttr());
  activation.getY().replaceAllUsesWith(fused.getY());
  activation.erase();
  product.getY().replaceAllUsesWith(fused.getGateUp());
  product.erase();
}

struct Fuse : impl::FuseBase<Fuse> {
  using FuseBase::FuseBase;

  void runOnOperation() override {
    if (!enable)
      return markAllAnalysesPreserved();
    // Collected before: to fuse one erases others.
    SmallVector<moe::GatedActivationGradOp> gradients;
    getOperation().walk([&](moe::GatedActivationGradOp op) { gradients.push_back(op); });
    for (moe::GatedActivationGradOp gradient : gradients)
      fuseGradient(gradient);
    SmallVector<moe::GatedActivationOp> activations;
    getOperation().walk([&](moe::GatedActivationOp op) { activations.push_back(op); });
    for (moe::GatedActivationOp activation : activations)
      fuseActivation(activation);
  }
};

} // namespace
} // namespace switchyard::passes

// Vector-Jacobian products: what each differentiable op becomes in reverse. The formulas are in the
// descriptions of the gradient ops.

#include "dialects/moe/MoE.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

namespace switchyard::moe {

/// `cotangent`, or zeros of the type of `primal` where it is null.
static Value orZero(OpBuilder &builder, Value cotangent, Value primal) {
  if (cotangent)
    return cotangent;
  return ConstantOp::create(builder, primal.getLoc(), primal.getType(), 0.0);
}

SmallVector<Value> AddOp::buildVjp(OpBuilder &, ValueRange cotangents) {
  return {cotangents[0], cotangents[0]};
}

SmallVector<Value> ScaleOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  return {ScaleOp::create(builder, getLoc(), cotangents[0], getFactorAttr())};
}

SmallVector<Value> CastOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  return {CastOp::create(builder, getLoc(), getX().getType(), cotangents[0])};
}

SmallVector<Value> ConstantOp::buildVjp(OpBuilder &, ValueRange) {
  return {};
}

SmallVector<Value> SumOp::buildVjp(OpBuilder &, ValueRange cotangents) {
  return SmallVector<Value>(getTerms().size(), cotangents[0]);
}

SmallVector<Value> BoundaryOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  return {BoundaryOp::create(builder, getLoc(), cotangents[0], getLayerAttr())};
}

SmallVector<Value> EmbeddingOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  int64_t rows = getTable().getType().getDimSize(0);
  return {EmbeddingGradOp::create(builder, getLoc(), cotangents[0], getIds(), rows), Value()};
}

SmallVector<Value> LinearOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  Value dy = cotangents[0];
  // By weight first: what it takes is then dead before dx is made.
  Value dw = LinearWgradOp::create(builder, getLoc(), dy, getX());
  return {LinearDgradOp::create(builder, getLoc(), dy, getW()), dw};
}

SmallVector<Value> RmsNormOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  auto grad = RmsNormGradOp::create(builder, getLoc(), cotangents[0], getX(), getW(), getEpsAttr());
  return {grad.getDx(), grad.getDw()};
}

SmallVector<Value> QkNormOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  auto grad =
      QkNormGradOp::create(builder, getLoc(), cotangents[0], getQkv(), getQWeight(), getKWeight(),
                           getNumHeadsAttr(), getNumKvHeadsAttr(), getHeadDimAttr(), getEpsAttr());
  return {grad.getDqkv(), grad.getDqWeight(), grad.getDkWeight()};
}

SmallVector<Value> RotaryOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  Value back = RotaryOp::create(builder, getLoc(), cotangents[0], getPositionIds(),
                                getNumHeadsAttr(), getNumKvHeadsAttr(), getHeadDimAttr(),
                                getThetaAttr(), builder.getBoolAttr(!getInverse()));
  return {back, Value()};
}

SmallVector<Value> AttentionOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  if (cotangents[1]) {
    emitOpError("has no derivative by lse, which only attention_grad may use, but the loss "
                "depends on it");
    return {};
  }
  Value dqkv = AttentionGradOp::create(builder, getLoc(), cotangents[0], getQkv(), getY(), getLse(),
                                       getCuSeqlens(), getNumHeadsAttr(), getNumKvHeadsAttr(),
                                       getHeadDimAttr(), getScaleAttr(), getWindowAttr());
  return {dqkv, Value()};
}

SmallVector<Value> LinearCrossEntropyOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  auto grad = LinearCrossEntropyGradOp::create(builder, getLoc(), getX(), getW(), getLabels(),
                                               getLossWeights(), cotangents[0], getChunkRowsAttr());
  return {grad.getDx(), grad.getDw(), Value(), Value()};
}

SmallVector<Value> RouterOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  // Renormalized weights say all about their gradient, and the logits need not be kept.
  if (getRenormalize() && !cotangents[2])
    return {RouterGradRenormalizedOp::create(builder, getLoc(), getLogits().getType(),
                                             cotangents[0], getWeights(), getExperts(),
                                             getLogits().getType().getDimSize(1)),
            Value()};
  Value dlogits = RouterGradOp::create(
      builder, getLoc(), orZero(builder, cotangents[0], getWeights()),
      orZero(builder, cotangents[2], getStatistics()), getLogits(), getExperts(),
      getMicroBatchIds(), getTopKAttr(), getScoreAttr(), getRenormalizeAttr());
  return {dlogits, Value()};
}

SmallVector<Value> LoadBalanceLossOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  SmallVector<Value> results(getNumOperands());
  // Nothing flows through expert_counts: they are integers.
  if (!cotangents[0])
    return results;
  Value dstatistics = LoadBalanceLossGradOp::create(
      builder, getLoc(), cotangents[0], getAuxWeights(), getStatistics(), getTopKAttr());
  std::fill(results.begin() + 1, results.end(), dstatistics);
  return results;
}

SmallVector<Value> PermuteOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  return {PermuteGradOp::create(builder, getLoc(), cotangents[0], getRowOfSlot()), Value()};
}

SmallVector<Value> UnpermuteOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  auto grad = UnpermuteGradOp::create(builder, getLoc(), cotangents[0], getRows(), getWeights(),
                                      getRowOfSlot());
  return {grad.getDrows(), grad.getDweights(), Value()};
}

SmallVector<Value> GroupedGemmOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  Value dy = cotangents[0];
  Value dw = GroupedGemmWgradOp::create(builder, getLoc(), dy, getX(), getGroupSizes());
  return {GroupedGemmDgradOp::create(builder, getLoc(), dy, getW(), getGroupSizes()), dw, Value()};
}

SmallVector<Value> GatedActivationOp::buildVjp(OpBuilder &builder, ValueRange cotangents) {
  return {GatedActivationGradOp::create(builder, getLoc(), cotangents[0], getGateUp(),
                                        getActivationAttr())};
}

} // namespace switchyard::moe

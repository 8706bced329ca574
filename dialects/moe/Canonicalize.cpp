// Folders and canonicalization patterns.

#include "dialects/moe/Extents.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/PatternMatch.h"

#include <cmath>

using namespace mlir;

namespace switchyard::moe {

/// The largest magnitude of a factor or a constant.
static constexpr double kMaxFactor = 1e30;

/// `value` as an attribute; null where no op may hold it.
static FloatAttr realAttr(MLIRContext *context, double value) {
  return std::abs(value) <= kMaxFactor ? Builder(context).getF64FloatAttr(value) : FloatAttr();
}

static bool isZero(Attribute constant) {
  auto real = dyn_cast_if_present<FloatAttr>(constant);
  return real && real.getValue().isZero();
}

OpFoldResult ConstantOp::fold(FoldAdaptor) {
  return getValueAttr();
}

OpFoldResult AddOp::fold(FoldAdaptor constants) {
  if (isZero(constants.getB()))
    return getA();
  if (isZero(constants.getA()))
    return getB();
  auto a = dyn_cast_if_present<FloatAttr>(constants.getA());
  auto b = dyn_cast_if_present<FloatAttr>(constants.getB());
  return a && b ? realAttr(getContext(), a.getValueAsDouble() + b.getValueAsDouble()) : FloatAttr();
}

OpFoldResult ScaleOp::fold(FoldAdaptor constants) {
  if (getFactor() == 1.0)
    return getX();
  if (auto x = dyn_cast_if_present<FloatAttr>(constants.getX()))
    return realAttr(getContext(), x.getValueAsDouble() * getFactor());
  auto inner = getX().getDefiningOp<ScaleOp>();
  FloatAttr product = inner ? realAttr(getContext(), inner.getFactor() * getFactor()) : FloatAttr();
  if (!product)
    return {};
  setFactorAttr(product);
  getXMutable().assign(inner.getX());
  return getResult();
}

OpFoldResult CastOp::fold(FoldAdaptor) {
  return getX().getType() == getY().getType() ? OpFoldResult(getX()) : OpFoldResult();
}

OpFoldResult SumOp::fold(FoldAdaptor) {
  return getTerms().size() == 1 ? OpFoldResult(getTerms().front()) : OpFoldResult();
}

OpFoldResult AccumulateOp::fold(FoldAdaptor constants) {
  return isZero(constants.getValue()) ? OpFoldResult(getAccumulator()) : OpFoldResult();
}

OpFoldResult BoundaryOp::fold(FoldAdaptor) {
  auto inner = getOperand().getDefiningOp<BoundaryOp>();
  return inner && inner.getLayer() == getLayer() ? OpFoldResult(getOperand()) : OpFoldResult();
}

/// A sum that is only rounded to the elements of its operands is rounded where it is made.
template <typename WgradOp>
struct RoundSum : OpRewritePattern<WgradOp> {
  using OpRewritePattern<WgradOp>::OpRewritePattern;

  LogicalResult matchAndRewrite(WgradOp op, PatternRewriter &rewriter) const override {
    auto cast = op->hasOneUse() ? dyn_cast<CastOp>(*op->user_begin()) : CastOp();
    if (!cast || elementOf(cast.getY()) != elementOf(op.getDy()) ||
        cast.getX().getType() == cast.getY().getType())
      return failure();
    rewriter.modifyOpInPlace(op, [&] { op.getDw().setType(cast.getType()); });
    rewriter.replaceOp(cast, op.getDw());
    return success();
  }
};

void LinearWgradOp::getCanonicalizationPatterns(RewritePatternSet &patterns, MLIRContext *context) {
  patterns.add<RoundSum<LinearWgradOp>>(context);
}

void GroupedGemmWgradOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                                     MLIRContext *context) {
  patterns.add<RoundSum<GroupedGemmWgradOp>>(context);
}

/// Whether the grad op computes, beside its gradients, just what the forward op does.
static bool computesLossOf(LinearCrossEntropyGradOp grad, LinearCrossEntropyOp forward) {
  return grad->getBlock() == forward->getBlock() && grad.getX() == forward.getX() &&
         grad.getW() == forward.getW() && grad.getLabels() == forward.getLabels() &&
         grad.getLossWeights() == forward.getLossWeights() &&
         grad.getChunkRows() == forward.getChunkRows();
}

/// Adds to `ops` those ops after `place`, in its block, that `value` is computed from, operands
/// first. Fails if they cannot stand before `place`: one has effects, or needs its result.
static LogicalResult collectComputation(Value value, Operation *place,
                                        llvm::SetVector<Operation *> &ops) {
  SmallVector<Value> worklist{value};
  llvm::SmallDenseSet<Operation *> seen;
  while (!worklist.empty()) {
    Operation *op = worklist.pop_back_val().getDefiningOp();
    if (op == place)
      return failure();
    if (!op || op->getBlock() != place->getBlock() || op->isBeforeInBlock(place) ||
        !seen.insert(op).second)
      continue;
    if (!isPure(op))
      return failure();
    llvm::append_range(worklist, op->getOperands());
  }
  SmallVector<Operation *> ordered(seen.begin(), seen.end());
  llvm::sort(ordered, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });
  ops.insert_range(ordered);
  return success();
}

/// The gradient of the cross entropy yields its loss too: it takes the forward op's place, and the
/// logits are computed once. What its cotangent is computed from moves along.
struct MergeLossIntoGradient : OpRewritePattern<LinearCrossEntropyOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(LinearCrossEntropyOp forward,
                                PatternRewriter &rewriter) const override {
    for (Operation *user : forward.getX().getUsers()) {
      auto grad = dyn_cast<LinearCrossEntropyGradOp>(user);
      if (!grad || !computesLossOf(grad, forward))
        continue;
      llvm::SetVector<Operation *> moved;
      if (forward->isBeforeInBlock(grad)) {
        if (failed(collectComputation(grad.getDloss(), forward, moved)))
          continue;
        moved.insert(grad);
      }
      for (Operation *op : moved)
        rewriter.moveOpBefore(op, forward);
      rewriter.replaceOp(forward, grad.getLoss());
      return success();
    }
    return failure();
  }
};

void LinearCrossEntropyOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                                       MLIRContext *context) {
  patterns.add<MergeLossIntoGradient>(context);
}

} // namespace switchyard::moe

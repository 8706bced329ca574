// gather-rows: the experts' products take tokens where they stand, so that neither the tokens in
// the order of the experts nor the experts' results are kept for the backward direction. Those of
// the backward direction take tokens that are permuted again, where experts are wide.

#include "kernels/signatures/grouped_gemm_gather.h"
#include "passes/Passes.h"

#include "mlir/IR/Dominance.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_GATHERROWS
#include "passes/Passes.h.inc"

namespace {

/// What goes by the rows of one sort_by_expert.
struct Layer {
  SmallVector<moe::PermuteOp> permutes;
  Value weights;
  moe::UnpermuteGradOp gradient; // null where there is no backward direction
  moe::GroupedGemmDgradGatedOp byData;
};

/// Whether the rows go to products and to the gradients of those by weight alone.
bool isGathered(moe::PermuteOp permute) {
  Value rows = permute.getRows();
  return llvm::all_of(rows.getUsers(), [&](Operation *user) {
    auto byWeight = dyn_cast<moe::GroupedGemmWgradOp>(user);
    return isa<moe::GroupedGemmGatedOp>(user) || (byWeight && byWeight.getDy() != rows);
  });
}

/// The gradient by data that takes `gradient`'s rows, if nothing else does but the gradient by
/// weight of what it makes again, and if it is made before the weights' gradient is used.
moe::GroupedGemmDgradGatedOp byDataOf(moe::UnpermuteGradOp gradient,
                                      const DominanceInfo &dominance) {
  Value drows = gradient.getDrows();
  moe::GroupedGemmDgradGatedOp byData;
  for (Operation *user : drows.getUsers())
    if (auto op = dyn_cast<moe::GroupedGemmDgradGatedOp>(user)) {
      if (byData || op.getGateUp() == drows)
        return {};
      byData = op;
    }
  if (!byData)
    return {};
  auto isOfWeight = [&](Operation *user) {
    auto byWeight = dyn_cast<moe::GroupedGemmWgradOp>(user);
    return byWeight && byWeight.getDy() == drows && byWeight.getX() == byData.getY();
  };
  bool isAll = llvm::all_of(drows.getUsers(),
                            [&](Operation *user) { return user == byData || isOfWeight(user); }) &&
               llvm::all_of(byData.getY().getUsers(), isOfWeight) &&
               llvm::all_of(gradient.getDweights().getUsers(), [&](Operation *user) {
                 return dominance.properlyDominates(byData, user);
               });
  return isAll ? byData : moe::GroupedGemmDgradGatedOp();
}

/// Whether the results that were summed are those of the product that `byData` is the gradient of.
bool isOfOneProduct(moe::UnpermuteGradOp gradient, moe::GroupedGemmDgradGatedOp byData) {
  auto results = gradient.getRows().getDefiningOp<moe::GroupedGemmOp>();
  auto product =
      results ? results.getX().getDefiningOp<moe::GroupedGemmGatedOp>() : moe::GroupedGemmGatedOp();
  return product && results.getX() == product.getY() && results.getW() == byData.getW() &&
         results.getGroupSizes() == byData.getGroupSizes() &&
         product.getGateUp() == byData.getGateUp() &&
         product.getActivation() == byData.getActivation();
}

/// The layer of `sort`, if all of it is as `fuse` leaves it.
std::optional<Layer> match(moe::SortByExpertOp sort, const DominanceInfo &dominance) {
  Layer layer;
  auto haveWeights = [&](Value weights) {
    layer.weights = layer.weights ? layer.weights : weights;
    return layer.weights == weights;
  };
  for (Operation *user : sort.getRowOfSlot().getUsers()) {
    if (auto permute = dyn_cast<moe::PermuteOp>(user)) {
      layer.permutes.push_back(permute);
      if (!isGathered(permute))
        return std::nullopt;
    } else if (auto unpermute = dyn_cast<moe::UnpermuteOp>(user)) {
      if (!haveWeights(unpermute.getWeights()))
        return std::nullopt;
    } else if (auto gradient = dyn_cast<moe::UnpermuteGradOp>(user)) {
      layer.byData = byDataOf(gradient, dominance);
      if (layer.gradient || !layer.byData || !isOfOneProduct(gradient, layer.byData) ||
          !haveWeights(gradient.getWeights()))
        return std::nullopt;
      layer.gradient = gradient;
    } else if (!isa<moe::PermuteGradOp>(user)) {
      return std::nullopt;
    }
  }
  if (layer.permutes.empty() || !layer.weights || !dominance.properlyDominates(layer.weights, sort))
    return std::nullopt;
  return layer;
}

void replace(Operation *op, Operation *by) {
  op->replaceAllUsesWith(by);
  op->erase();
}

/// Whether products of the backward direction gather; `gateUp` is gate_up [R, 2 F], or its
/// gradient.
bool isGatheredBackward(TypedValue<RankedTensorType> gateUp) {
  return gateUp.getType().getDimSize(1) <= 2 * kernels::kWidestGatheredExpert;
}

/// The rows' users take the tokens; a gradient by weight of wide experts takes rows of its own.
void gatherX(moe::PermuteOp permute, Value tokenOfRow) {
  Value x = permute.getX();
  for (Operation *user : llvm::make_early_inc_range(permute.getRows().getUsers())) {
    OpBuilder builder(user);
    if (auto product = dyn_cast<moe::GroupedGemmGatedOp>(user)) {
      replace(user, moe::GroupedGemmGatedGatherOp::create(builder, user->getLoc(), x, tokenOfRow,
                                                          product.getW(), product.getGroupSizes(),
                                                          product.getActivationAttr()));
      continue;
    }
    auto byWeight = cast<moe::GroupedGemmWgradOp>(user);
    if (!isGatheredBackward(byWeight.getDy())) {
      byWeight.getXMutable().assign(
          moe::PermuteOp::create(builder, permute.getLoc(), x, permute.getRowOfSlot()));
      continue;
    }
    replace(user, moe::GroupedGemmWgradGatherXOp::create(
                      builder, user->getLoc(), byWeight.getDw().getType(), byWeight.getDy(), x,
                      tokenOfRow, byWeight.getGroupSizes()));
  }
  permute.erase();
}

/// The users of unpermute_grad's rows take the tokens' gradient.
void gatherDy(const Layer &layer, moe::RowsOfTokensOp rows) {
  moe::UnpermuteGradOp gradient = layer.gradient;
  moe::GroupedGemmDgradGatedOp byData = layer.byData;
  OpBuilder builder(byData);
  auto gathered = moe::GroupedGemmDgradGatedGatherOp::create(
      builder, byData.getLoc(), gradient.getDy(), rows.getTokenOfRow(), rows.getWeightOfRow(),
      gradient.getRowOfSlot(), byData.getW(), byData.getGroupSizes(), byData.getGateUp(),
      byData.getActivationAttr());
  for (Operation *user : llvm::make_early_inc_range(byData.getY().getUsers())) {
    auto byWeight = cast<moe::GroupedGemmWgradOp>(user);
    builder.setInsertionPoint(user);
    replace(user, moe::GroupedGemmWgradGatherDyOp::create(
                      builder, user->getLoc(), byWeight.getDw().getType(), gradient.getDy(),
                      rows.getTokenOfRow(), gathered.getY(), byWeight.getGroupSizes()));
  }
  byData.getDgateUp().replaceAllUsesWith(gathered.getDgateUp());
  byData.erase();
  gradient.getDweights().replaceAllUsesWith(gathered.getDweights());
  gradient.erase();
}

/// They take rows of it that are not weighted.
void permuteDy(const Layer &layer, moe::RowsOfTokensOp rows) {
  moe::UnpermuteGradOp gradient = layer.gradient;
  moe::GroupedGemmDgradGatedOp byData = layer.byData;
  OpBuilder builder(byData);
  Value dy =
      moe::PermuteOp::create(builder, gradient.getLoc(), gradient.getDy(), gradient.getRowOfSlot());
  auto weighted = moe::GroupedGemmDgradGatedWeightedOp::create(
      builder, byData.getLoc(), dy, rows.getWeightOfRow(), gradient.getRowOfSlot(), byData.getW(),
      byData.getGroupSizes(), byData.getGateUp(), byData.getActivationAttr());
  byData.getDgateUp().replaceAllUsesWith(weighted.getDgateUp());
  byData.getY().replaceAllUsesWith(weighted.getY());
  byData.erase();
  gradient.getDrows().replaceAllUsesWith(dy);
  gradient.getDweights().replaceAllUsesWith(weighted.getDweights());
  gradient.erase();
}

struct GatherRows : impl::GatherRowsBase<GatherRows> {
  using GatherRowsBase::GatherRowsBase;

  void runOnOperation() override {
    if (!enable)
      return markAllAnalysesPreserved();
    const auto &dominance = getAnalysis<DominanceInfo>();
    // Collected before: a layer's rewriting erases other ops.
    SmallVector<moe::SortByExpertOp> sorts;
    getOperation().walk([&](moe::SortByExpertOp op) { sorts.push_back(op); });
    for (moe::SortByExpertOp sort : sorts) {
      std::optional<Layer> layer = match(sort, dominance);
      if (!layer)
        continue;
      OpBuilder builder(sort->getContext());
      builder.setInsertionPointAfter(sort);
      auto rows =
          moe::RowsOfTokensOp::create(builder, sort.getLoc(), sort.getRowOfSlot(), layer->weights);
      for (moe::PermuteOp permute : layer->permutes)
        gatherX(permute, rows.getTokenOfRow());
      if (layer->gradient)
        (isGatheredBackward(layer->byData.getGateUp()) ? gatherDy : permuteDy)(*layer, rows);
    }
  }
};

} // namespace
} // namespace switchyard::passes

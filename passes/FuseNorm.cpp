// fuse-norm: a weight's gradient of a grouped GEMM comes with its part of the norm.

#include "passes/Passes.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_FUSENORM
#include "passes/Passes.h.inc"

namespace {

/// The one sum_of_squares of the gradient in its block; null where there are none or several.
moe::SumOfSquaresOp squaresOf(moe::GroupedGemmWgradOp product) {
  moe::SumOfSquaresOp squares;
  for (Operation *user : product.getDw().getUsers())
    if (auto op = dyn_cast<moe::SumOfSquaresOp>(user);
        op && op->getBlock() == product->getBlock()) {
      if (squares)
        return {};
      squares = op;
    }
  return squares;
}

struct FuseNorm : impl::FuseNormBase<FuseNorm> {
  using FuseNormBase::FuseNormBase;

  void runOnOperation() override {
    if (!enable)
      return markAllAnalysesPreserved();
    // Collected before: to fuse one erases what stands behind it.
    SmallVector<moe::GroupedGemmWgradOp> products;
    getOperation().walk([&](moe::GroupedGemmWgradOp op) { products.push_back(op); });
    for (moe::GroupedGemmWgradOp product : products) {
      moe::SumOfSquaresOp squares = squaresOf(product);
      if (!squares)
        continue;
      OpBuilder builder(product);
      auto fused = moe::GroupedGemmWgradSquaredOp::create(
          builder, product.getLoc(), product.getDw().getType(), squares.getY().getType(),
          product.getDy(), product.getX(), product.getGroupSizes());
      squares.getY().replaceAllUsesWith(fused.getSquares());
      squares.erase();
      product.getDw().replaceAllUsesWith(fused.getDw());
      product.erase();
    }
  }
};

} // namespace
} // namespace switchyard::passes

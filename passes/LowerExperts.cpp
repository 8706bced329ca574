#include "passes/GroupedExperts.h"
#include "passes/Passes.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_LOWEREXPERTS
#include "passes/Passes.h.inc"

namespace {

void lower(moe::ExpertsOp op) {
  OpBuilder builder(op);
  Location loc = op.getLoc();
  int64_t numExperts = cast<RankedTensorType>(op.getGateUp().getType()).getDimSize(0);
  auto sorted = moe::SortByExpertOp::create(builder, loc, op.getExperts(), numExperts);
  Value rows = moe::PermuteOp::create(builder, loc, op.getX(), sorted.getRowOfSlot());
  Value down = buildGroupedExperts(builder, loc, rows, {op.getGateUp(), op.getDown()},
                                   sorted.getGroupSizes(), op.getActivation());
  Value y = moe::UnpermuteOp::create(builder, loc, down, op.getWeights(), sorted.getRowOfSlot());
  op.getResult().replaceAllUsesWith(y);
  op.erase();
}

struct LowerExperts : impl::LowerExpertsBase<LowerExperts> {
  void runOnOperation() override {
    getOperation().walk([](moe::ExpertsOp op) { lower(op); });
  }
};

} // namespace
} // namespace switchyard::passes

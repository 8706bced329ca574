#include "passes/Passes.h"
#include "passes/Policy.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_ACCUMULATE
#include "passes/Passes.h.inc"

namespace {

struct Accumulate : impl::AccumulateBase<Accumulate> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<Policy> policy = Policy::of(module);
    auto microStep = module.lookupSymbol<func::FuncOp>(kMicroStep);
    if (failed(policy))
      return signalPassFailure();
    if (!microStep) {
      module.emitError("accumulate: the module has no @micro_step; run differentiate first");
      return signalPassFailure();
    }
    DerivedStates states(module);
    for (auto op : llvm::make_early_inc_range(microStep.getOps<moe::GradientOp>()))
      if (failed(accumulate(op, *policy, states)))
        return signalPassFailure();
  }

  LogicalResult accumulate(moe::GradientOp op, const Policy &policy, DerivedStates &states) {
    auto parameter = states.lookup(op.getParameter());
    FailureOr<moe::StateOp> state =
        states.declare(parameter, ".grad", moe::StateKind::Gradient, policy.gradient);
    if (failed(state))
      return failure();
    OpBuilder builder(op);
    Value sum = moe::ReadOp::create(builder, op.getLoc(), *state);
    Value updated = moe::AccumulateOp::create(builder, op.getLoc(), sum, op.getValue());
    moe::WriteOp::create(builder, op.getLoc(), state->getSymName(), updated);
    op.erase();
    return success();
  }
};

} // namespace
} // namespace switchyard::passes

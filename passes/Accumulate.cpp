#include "passes/Passes.h"
#include "passes/Policy.h"

#include "mlir/IR/TypeUtilities.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_ACCUMULATE
#include "passes/Passes.h.inc"

namespace {

/// The collectives that reduce a gradient, in their order, and what goes in.
struct Reduction {
  SmallVector<Operation *> chain;
  Value own;
};

/// Follows `value` back through the collectives that do nothing but lead to it.
Reduction findReduction(Value value) {
  Reduction reduction{{}, value};
  for (Operation *op = value.getDefiningOp();
       isa_and_present<dist::ReduceScatterOp, dist::AllReduceOp>(op) && op->hasOneUse();
       op = reduction.own.getDefiningOp()) {
    reduction.chain.push_back(op);
    reduction.own = op->getOperand(0);
  }
  std::reverse(reduction.chain.begin(), reduction.chain.end());
  return reduction;
}

/// How a rank's own gradient is divided, which `reduction` turns into one that is divided like its
/// parameter, by `sharding` (null for not at all).
dist::ShardingAttr shardingBefore(const Reduction &reduction, dist::ShardingAttr sharding) {
  for (Operation *op : llvm::reverse(reduction.chain)) {
    auto scatter = dyn_cast<dist::ReduceScatterOp>(op);
    if (!scatter || !sharding)
      continue;
    const bool isFlat = sharding.getFlat() == scatter.getAxesAttr();
    if (!isFlat && (sharding.getFlat() || sharding.getDim0() != scatter.getAxesAttr()))
      continue;
    dist::AxesAttr dim0 = isFlat ? sharding.getDim0() : dist::AxesAttr();
    sharding = dim0 ? dist::ShardingAttr::get(op->getContext(), dim0, dist::AxesAttr())
                    : dist::ShardingAttr();
  }
  return sharding;
}

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
    head_ = {};
    DerivedStates states(module);
    for (auto op : llvm::make_early_inc_range(microStep.getOps<moe::GradientOp>()))
      if (policy->fused)
        round(op, policy->gradient);
      else if (failed(accumulate(op, *policy, states)))
        return signalPassFailure();
  }

  /// Leaves the gradient of a step that is one pass, in elements of type `element`: the same bits
  /// that an accumulator has which starts at zero.
  void round(moe::GradientOp op, Type element) {
    reduceInElements(findReduction(op.getValue()), element);
    Value value = op.getValue();
    if (getElementTypeOrSelf(value) == element)
      return;
    OpBuilder builder(op);
    builder.setInsertionPointAfterValue(value);
    Value narrow = moe::CastOp::create(builder, op.getLoc(),
                                       moe::withElement(value.getType(), element), value);
    op.getValueMutable().assign(narrow);
  }

  LogicalResult accumulate(moe::GradientOp op, const Policy &policy, DerivedStates &states) {
    auto parameter = states.lookup(op.getParameter());
    FailureOr<moe::StateOp> state =
        states.declare(parameter, ".grad", moe::StateKind::Gradient, policy.gradient);
    if (failed(state))
      return failure();
    Reduction reduction = findReduction(op.getValue());
    const bool isPutOff = !policy.syncEachBatch && !reduction.chain.empty();
    if (isPutOff && failed(reduceOnce(op, reduction, *state)))
      return failure();
    if (!isPutOff)
      reduceInElements(reduction, policy.gradient);
    OpBuilder builder(op);
    Value sum = moe::ReadOp::create(builder, op.getLoc(), *state);
    Value updated = moe::AccumulateOp::create(builder, op.getLoc(), sum,
                                              isPutOff ? reduction.own : op.getValue());
    moe::WriteOp::create(builder, op.getLoc(), state->getSymName(), updated);
    op.erase();
    if (isPutOff)
      for (Operation *collective : llvm::reverse(reduction.chain))
        collective->erase();
    return success();
  }

  /// Reduces elements of the accumulators' type.
  void reduceInElements(const Reduction &reduction, Type element) {
    if (reduction.chain.empty() || getElementTypeOrSelf(reduction.own) == element)
      return;
    Operation *first = reduction.chain.front();
    OpBuilder builder(first);
    Value narrow =
        moe::CastOp::create(builder, first->getLoc(),
                            moe::withElement(reduction.own.getType(), element), reduction.own);
    first->setOperand(0, narrow);
    for (Operation *collective : reduction.chain)
      collective->getResult(0).setType(
          moe::withElement(collective->getResult(0).getType(), element));
  }

  /// Puts the reduction of what accumulates in `state` at the head of @optimizer_step.
  LogicalResult reduceOnce(moe::GradientOp op, const Reduction &reduction, moe::StateOp state) {
    auto sharding = dyn_cast_if_present<dist::ShardingAttr>(state.getShardingAttr());
    if (dist::ShardingAttr own = shardingBefore(reduction, sharding))
      state.setShardingAttr(own);
    else
      state.removeShardingAttr();
    FailureOr<RankedTensorType> type = state.localType();
    if (failed(type))
      return failure();
    if (type->getShape() != cast<RankedTensorType>(reduction.own.getType()).getShape())
      return op.emitOpError("is reduced from ")
             << reduction.own.getType() << ", which is no way to divide the state "
             << state.getType() << "; it cannot be put off, use sync_each_batch = true";
    if (!head_ && failed(createHead()))
      return failure();
    OpBuilder builder(head_.getBody().front().getTerminator());
    Value sum = moe::ReadOp::create(builder, op.getLoc(), state);
    for (Operation *collective : reduction.chain) {
      Type result = moe::withElement(collective->getResult(0).getType(), type->getElementType());
      Operation *again = builder.clone(*collective);
      again->setOperand(0, sum);
      again->getResult(0).setType(result);
      sum = again->getResult(0);
    }
    moe::GradientOp::create(builder, op.getLoc(), op.getParameterAttr(), sum);
    return success();
  }

  LogicalResult createHead() {
    ModuleOp module = getOperation();
    if (Operation *other = module.lookupSymbol(kOptimizerStep))
      return other->emitError("accumulate: @optimizer_step is there already");
    OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
    head_ = func::FuncOp::create(builder, module.getLoc(), kOptimizerStep,
                                 builder.getFunctionType({}, {}));
    builder.setInsertionPointToStart(head_.addEntryBlock());
    func::ReturnOp::create(builder, module.getLoc());
    return success();
  }

  func::FuncOp head_; // @optimizer_step, where something is reduced in it
};

} // namespace
} // namespace switchyard::passes

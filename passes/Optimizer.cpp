#include "passes/Passes.h"
#include "passes/Policy.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_OPTIMIZER
#include "passes/Passes.h.inc"

namespace {

/// What a user tunes, as inputs of @optimizer_step.
enum Input { LearningRate, Beta1, Beta2, Epsilon, WeightDecay, MaxGradNorm, Step };
constexpr llvm::StringLiteral kInputs[] = {"learning_rate", "beta1",         "beta2", "epsilon",
                                           "weight_decay",  "max_grad_norm", "step"};

class OptimizerBuilder {
public:
  OptimizerBuilder(ModuleOp module, Policy policy)
      : module_(module), policy_(policy), builder_(module.getContext()) {}

  LogicalResult build() {
    collect();
    if (parameters_.empty())
      return module_.emitError(
          "optimizer: no parameter has a gradient state; run accumulate first");
    Operation *other = module_.lookupSymbol(kOptimizerStep);
    auto head = dyn_cast_if_present<func::FuncOp>(other);
    if (other && !isHead(head))
      return other->emitError("optimizer: @optimizer_step is there already");
    if (failed(declareStates()))
      return failure();
    createFunction();
    if (head)
      takeOver(head);

    Location loc = module_.getLoc();
    clip_ = moe::ClipOp::create(builder_, loc, sumOfSquares(), input(MaxGradNorm));
    for (Parameter &parameter : parameters_)
      update(parameter);
    func::ReturnOp::create(builder_, loc, ValueRange{clip_.getGradNorm(), clip_.getApply()});
    return success();
  }

private:
  struct Parameter {
    moe::StateOp state, gradient, expAvg, expAvgSq, master;
  };

  void collect() {
    llvm::DenseMap<StringAttr, moe::StateOp> gradients;
    for (auto state : module_.getOps<moe::StateOp>())
      if (state.getKind() == moe::StateKind::Gradient)
        gradients[state.getOfAttr().getAttr()] = state;
    for (auto state : module_.getOps<moe::StateOp>())
      if (moe::StateOp gradient = gradients.lookup(state.getSymNameAttr()))
        parameters_.push_back({state, gradient, {}, {}, {}});
  }

  LogicalResult declareStates() {
    DerivedStates states(module_);
    for (Parameter &parameter : parameters_) {
      auto declare = [&](moe::StateOp &derived, StringRef suffix, moe::StateKind kind, Type type) {
        FailureOr<moe::StateOp> state = states.declare(parameter.state, suffix, kind, type);
        if (succeeded(state))
          derived = *state;
        return LogicalResult(state);
      };
      if (failed(declare(parameter.expAvg, ".exp_avg", moe::StateKind::Moment, policy_.moment)) ||
          failed(
              declare(parameter.expAvgSq, ".exp_avg_sq", moe::StateKind::Moment, policy_.moment)))
        return failure();
      if (!policy_.master)
        continue;
      if (failed(
              declare(parameter.master, ".master", moe::StateKind::Master, builder_.getF32Type())))
        return failure();
    }
    return success();
  }

  void createFunction() {
    auto scalar = RankedTensorType::get({}, builder_.getF32Type());
    auto flag = RankedTensorType::get({}, builder_.getI32Type());
    SmallVector<Type> inputs(std::size(kInputs), scalar);
    builder_.setInsertionPointToEnd(module_.getBody());
    auto function = func::FuncOp::create(builder_, module_.getLoc(), kOptimizerStep,
                                         builder_.getFunctionType(inputs, {scalar, flag}));
    for (auto [i, name] : llvm::enumerate(kInputs))
      function.setArgAttr(i, kNameAttr, builder_.getStringAttr(name));
    function.setResultAttr(0, kNameAttr, builder_.getStringAttr("grad_norm"));
    function.setResultAttr(1, kNameAttr, builder_.getStringAttr("apply"));
    block_ = function.addEntryBlock();
    builder_.setInsertionPointToStart(block_);
  }

  /// Whether `function` is what accumulate leaves: reductions of gradients and nothing else.
  static bool isHead(func::FuncOp function) {
    return function && function.getNumArguments() == 0 && function.getNumResults() == 0 &&
           function.getBody().hasOneBlock() && !function.getOps<moe::GradientOp>().empty();
  }

  /// Moves the body of `head` here; its gradients are those of their parameters.
  void takeOver(func::FuncOp head) {
    Block &body = head.getBody().front();
    for (auto gradient : llvm::make_early_inc_range(body.getOps<moe::GradientOp>())) {
      reduced_[gradient.getParameterAttr().getAttr()] = gradient.getValue();
      gradient.erase();
    }
    body.getTerminator()->erase();
    block_->getOperations().splice(block_->end(), body.getOperations());
    head.erase();
    builder_.setInsertionPointToEnd(block_);
  }

  /// The gradient of a parameter, summed over all ranks' tokens.
  Value gradientOf(Parameter &parameter) {
    if (Value reduced = reduced_.lookup(parameter.state.getSymNameAttr()))
      return reduced;
    return read(parameter.gradient);
  }

  /// The axes over which a parameter, and so its gradient, is divided; null for none.
  static dist::AxesAttr divisionOf(moe::StateOp state) {
    auto sharding = dyn_cast_if_present<dist::ShardingAttr>(state.getShardingAttr());
    if (!sharding || !sharding.getDim0() || !sharding.getFlat())
      return sharding ? (sharding.getDim0() ? sharding.getDim0() : sharding.getFlat())
                      : dist::AxesAttr();
    SmallVector<dist::Axis> axes(sharding.getDim0().getAxes());
    llvm::append_range(axes, sharding.getFlat().getAxes());
    llvm::sort(axes);
    return dist::AxesAttr::get(state.getContext(), axes);
  }

  /// The squares of all gradients' elements. Those that are divided alike are added up on each rank
  /// before they are summed over ranks.
  Value sumOfSquares() {
    llvm::MapVector<dist::AxesAttr, SmallVector<Value>> squares;
    for (Parameter &parameter : parameters_)
      squares[divisionOf(parameter.state)].push_back(
          moe::SumOfSquaresOp::create(builder_, parameter.state.getLoc(), gradientOf(parameter)));
    Location loc = module_.getLoc();
    auto kind = dist::ReductionAttr::get(module_.getContext(), dist::Reduction::Sum);
    SmallVector<Value> sums;
    for (auto &[axes, terms] : squares) {
      Value sum = moe::SumOp::create(builder_, loc, terms);
      sums.push_back(axes ? dist::AllReduceOp::create(builder_, loc, sum, axes, kind) : sum);
    }
    return sums.size() == 1 ? sums.front() : moe::SumOp::create(builder_, loc, sums);
  }

  void update(Parameter &parameter) {
    Location loc = parameter.state.getLoc();
    SmallVector<moe::StateOp> updated = {parameter.state, parameter.expAvg, parameter.expAvgSq};
    if (parameter.master)
      updated.push_back(parameter.master);
    SmallVector<Value> operands;
    for (moe::StateOp state : updated)
      operands.push_back(read(state));
    SmallVector<Type> types(ValueRange(operands).getTypes());
    operands.push_back(gradientOf(parameter));
    operands.append({clip_.getCoefficient(), clip_.getApply(), input(LearningRate), input(Beta1),
                     input(Beta2), input(Epsilon), input(WeightDecay), input(Step)});
    NamedAttribute decay =
        builder_.getNamedAttr("decay", builder_.getBoolAttr(parameter.state.getDecay()));
    Operation *op =
        parameter.master
            ? moe::AdamwMasterOp::create(builder_, loc, types, operands, decay)
            : moe::AdamwOp::create(builder_, loc, types, operands, decay).getOperation();
    for (auto [state, value] : llvm::zip_equal(updated, op->getResults()))
      moe::WriteOp::create(builder_, loc, state.getSymName(), value);
  }

  Value read(moe::StateOp state) { return moe::ReadOp::create(builder_, state.getLoc(), state); }
  Value input(Input index) { return block_->getArgument(index); }

  ModuleOp module_;
  Policy policy_;
  OpBuilder builder_;
  SmallVector<Parameter> parameters_;
  llvm::DenseMap<StringAttr, Value>
      reduced_; // gradients that @optimizer_step reduces, by parameter
  Block *block_ = nullptr;
  moe::ClipOp clip_;
};

struct Optimizer : impl::OptimizerBase<Optimizer> {
  void runOnOperation() override {
    FailureOr<Policy> policy = Policy::of(getOperation());
    if (failed(policy) || failed(OptimizerBuilder(getOperation(), *policy).build()))
      signalPassFailure();
  }
};

} // namespace
} // namespace switchyard::passes

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

  LogicalResult build() { return policy_.fused ? buildFused() : buildSplit(); }

private:
  struct Parameter {
    moe::StateOp state, gradient, expAvg, expAvgSq, master;
  };

  /// @optimizer_step.
  LogicalResult buildSplit() {
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
    builder_.setInsertionPointToEnd(module_.getBody());
    function_ = func::FuncOp::create(builder_, module_.getLoc(), kOptimizerStep,
                                     builder_.getFunctionType({}, {}));
    builder_.setInsertionPointToStart(function_.addEntryBlock());
    func::ReturnOp::create(builder_, module_.getLoc());
    addInputs();
    if (head)
      takeOver(head);
    builder_.setInsertionPoint(function_.getBody().front().getTerminator());
    buildUpdate();
    return success();
  }

  /// @train_step, out of @micro_step.
  LogicalResult buildFused() {
    function_ = module_.lookupSymbol<func::FuncOp>(kMicroStep);
    if (!function_ || !function_.getBody().hasOneBlock() ||
        function_.getOps<moe::GradientOp>().empty())
      return module_.emitError("optimizer: there is no @micro_step with gradients; run "
                               "differentiate and accumulate first");
    for (StringRef name : {StringRef(kTrainStep), StringRef(kOptimizerStep)})
      if (Operation *other = module_.lookupSymbol(name))
        return other->emitError("optimizer: @") << name << " is there already";
    function_.setSymName(kTrainStep);
    for (auto gradient : function_.getOps<moe::GradientOp>())
      gradients_[gradient.getParameterAttr().getAttr()] = gradient.getValue();
    for (auto state : module_.getOps<moe::StateOp>())
      if (gradients_.contains(state.getSymNameAttr()))
        parameters_.push_back({state, {}, {}, {}, {}});
    if (failed(declareStates()))
      return failure();
    addInputs();
    builder_.setInsertionPoint(function_.getBody().front().getTerminator());
    buildUpdate();
    return success();
  }

  /// Norm, clip and AdamW at the end of the function, and what they yield.
  void buildUpdate() {
    Location loc = module_.getLoc();
    clip_ = moe::ClipOp::create(builder_, loc, sumOfSquares(), input(MaxGradNorm));
    for (Parameter &parameter : parameters_)
      update(parameter);
    addResult("grad_norm", clip_.getGradNorm());
    addResult("apply", clip_.getApply());
  }

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

  /// Adds what a user tunes to the function's arguments, the same on all ranks.
  void addInputs() {
    auto scalar = RankedTensorType::get({}, builder_.getF32Type());
    dist::MeshOp mesh = dist::lookupMesh(module_);
    firstInput_ = function_.getNumArguments();
    for (auto [i, name] : llvm::enumerate(kInputs)) {
      SmallVector<NamedAttribute> attributes = {
          builder_.getNamedAttr(kNameAttr, builder_.getStringAttr(name))};
      if (mesh && policy_.fused)
        attributes.push_back(builder_.getNamedAttr(
            dist::kReplicatedAttr,
            dist::AxesAttr::get(module_.getContext(), mesh.getMesh().getAxes())));
      // Never fails: a func.func takes any argument.
      (void)function_.insertArgument(firstInput_ + i, scalar,
                                     builder_.getDictionaryAttr(attributes), module_.getLoc());
    }
  }

  void addResult(StringRef name, Value value) {
    auto attributes =
        builder_.getDictionaryAttr(builder_.getNamedAttr(kNameAttr, builder_.getStringAttr(name)));
    (void)function_.insertResult(function_.getNumResults(), value.getType(), attributes);
    Operation *terminator = function_.getBody().front().getTerminator();
    terminator->insertOperands(terminator->getNumOperands(), value);
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
      gradients_[gradient.getParameterAttr().getAttr()] = gradient.getValue();
      gradient.erase();
    }
    body.getTerminator()->erase();
    Block &block = function_.getBody().front();
    block.getOperations().splice(block.begin(), body.getOperations());
    head.erase();
  }

  /// The gradient of a parameter, summed over all ranks' tokens.
  Value gradientOf(Parameter &parameter) {
    if (Value gradient = gradients_.lookup(parameter.state.getSymNameAttr()))
      return gradient;
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
      squares[divisionOf(parameter.state)].push_back(square(parameter));
    Location loc = module_.getLoc();
    auto kind = dist::ReductionAttr::get(module_.getContext(), dist::Reduction::Sum);
    SmallVector<Value> sums;
    for (auto &[axes, terms] : squares) {
      Value sum = moe::SumOp::create(builder_, loc, terms);
      sums.push_back(axes ? dist::AllReduceOp::create(builder_, loc, sum, axes, kind) : sum);
    }
    return sums.size() == 1 ? sums.front() : moe::SumOp::create(builder_, loc, sums);
  }

  /// That of one gradient, where it is made.
  Value square(Parameter &parameter) {
    OpBuilder::InsertionGuard guard(builder_);
    Value gradient = gradientOf(parameter);
    if (policy_.fused)
      for (Operation *user : gradient.getUsers())
        if (isa<moe::GradientOp>(user))
          builder_.setInsertionPointAfter(user);
    return moe::SumOfSquaresOp::create(builder_, parameter.state.getLoc(), gradient);
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
  Value input(Input index) { return function_.getArgument(firstInput_ + index); }

  ModuleOp module_;
  Policy policy_;
  OpBuilder builder_;
  SmallVector<Parameter> parameters_;
  /// By parameter: those of @train_step, or that @optimizer_step reduces.
  llvm::DenseMap<StringAttr, Value> gradients_;
  func::FuncOp function_;
  unsigned firstInput_ = 0;
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

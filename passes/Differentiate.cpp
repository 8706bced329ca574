#include "dialects/interfaces/DifferentiableOpInterface.h"
#include "passes/Passes.h"
#include "passes/Policy.h"

#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_DIFFERENTIATE
#include "passes/Passes.h.inc"

namespace {

/// Reverse mode over one block. Cotangents are summed as they arrive, so that an op's are complete
/// when the walk reaches it: all its users stand behind it. A parameter's gradient is complete once
/// the first op that uses it is through.
class ReverseWalk {
public:
  ReverseWalk(func::FuncOp function)
      : function_(function), builder_(function.getBody().front().getTerminator()) {}

  /// Differentiates by every parameter that the function reads, from `loss` back.
  LogicalResult run(Value loss) {
    collectParameters();
    SmallVector<Operation *> ops;
    for (Operation &op : function_.getBody().front().without_terminator())
      ops.push_back(&op);
    auto scalar = cast<RankedTensorType>(loss.getType());
    cotangents_[loss] = moe::ConstantOp::create(builder_, loss.getLoc(), scalar, 1.0);
    for (Operation *op : llvm::reverse(ops)) {
      if (failed(visit(op)))
        return failure();
      for (const Parameter &parameter : parameters_)
        if (parameter.firstUser == op)
          emitGradient(parameter);
    }
    return success();
  }

private:
  struct Parameter {
    moe::StateOp state;
    SmallVector<moe::ReadOp> reads;
    Operation *firstUser = nullptr;
  };

  void collectParameters() {
    SymbolTable symbols(function_->getParentOfType<ModuleOp>());
    llvm::MapVector<Operation *, Parameter> byState;
    for (auto read : function_.getOps<moe::ReadOp>()) {
      auto state = symbols.lookup<moe::StateOp>(read.getState());
      if (!state || state.getKind() != moe::StateKind::Parameter)
        continue;
      Parameter &parameter = byState[state];
      parameter.state = state;
      parameter.reads.push_back(read);
      for (Operation *user : read->getUsers())
        if (!parameter.firstUser || user->isBeforeInBlock(parameter.firstUser))
          parameter.firstUser = user;
    }
    for (auto &[state, parameter] : byState)
      parameters_.push_back(std::move(parameter));
  }

  LogicalResult visit(Operation *op) {
    SmallVector<Value> cotangents;
    for (Value result : op->getResults())
      cotangents.push_back(cotangents_.lookup(result));
    // Nothing flows through an op that no cotangent reaches, nor past a read or a constant.
    if (op->getNumOperands() == 0 || llvm::none_of(cotangents, [](Value v) { return !!v; }))
      return success();
    auto differentiable = dyn_cast<DifferentiableOpInterface>(op);
    if (!differentiable)
      return op->emitOpError("is on the way from the loss to the parameters, but has no "
                             "vector-Jacobian product; it can't be trained through");
    SmallVector<Value> products = differentiable.buildVjp(builder_, cotangents);
    if (products.size() != op->getNumOperands())
      return op->emitOpError("gives ") << products.size() << " vector-Jacobian products for "
                                       << op->getNumOperands() << " operands";
    for (auto [operand, product] : llvm::zip_equal(op->getOperands(), products))
      if (product)
        cotangents_[operand] = sum(op->getLoc(), cotangents_.lookup(operand), product);
    return success();
  }

  /// Reads of one parameter are one value: their cotangents are summed.
  void emitGradient(const Parameter &parameter) {
    Value gradient;
    Location loc = parameter.firstUser->getLoc();
    for (moe::ReadOp read : llvm::reverse(parameter.reads))
      if (Value cotangent = cotangents_.lookup(read.getResult()))
        gradient = sum(loc, gradient, cotangent);
    moe::StateOp state = parameter.state;
    if (gradient)
      moe::GradientOp::create(builder_, loc, state.getSymName(), gradient);
  }

  /// `sum` may be null, for nothing yet.
  Value sum(Location loc, Value sum, Value term) {
    return sum ? moe::AddOp::create(builder_, loc, sum, term) : term;
  }

  func::FuncOp function_;
  OpBuilder builder_;
  SmallVector<Parameter, 0> parameters_;
  DenseMap<Value, Value> cotangents_;
};

/// The operand of `function`'s return that is the result named "loss", or null after a diagnostic.
Value findLoss(func::FuncOp function) {
  auto scalar = RankedTensorType::get({}, Float32Type::get(function.getContext()));
  Operation *terminator = function.getBody().front().getTerminator();
  for (unsigned i = 0; i < function.getNumResults(); ++i) {
    auto name = function.getResultAttrOfType<StringAttr>(i, kNameAttr);
    if (!name || name != "loss")
      continue;
    if (function.getResultTypes()[i] == scalar)
      return terminator->getOperand(i);
    function.emitError("differentiate: the result named \"loss\" is of type ")
        << function.getResultTypes()[i] << ", expected " << scalar;
    return {};
  }
  function.emitError("differentiate: no result of @evaluate is named \"loss\" (moe.name)");
  return {};
}

struct Differentiate : impl::DifferentiateBase<Differentiate> {
  void runOnOperation() override {
    if (failed(differentiate(getOperation())))
      signalPassFailure();
  }

  LogicalResult differentiate(ModuleOp module) {
    auto evaluate = module.lookupSymbol<func::FuncOp>(kEvaluate);
    if (!evaluate || !evaluate.getBody().hasOneBlock())
      return module.emitError("differentiate: the module has no @evaluate with one block");
    if (Operation *other = module.lookupSymbol(kMicroStep))
      return other->emitError("differentiate: @micro_step is there already");
    OpBuilder builder(evaluate.getContext());
    builder.setInsertionPointAfter(evaluate);
    auto microStep = cast<func::FuncOp>(builder.clone(*evaluate));
    microStep.setSymName(kMicroStep);
    Value loss = findLoss(microStep);
    if (!loss || failed(ReverseWalk(microStep).run(loss)))
      return failure();

    llvm::DenseSet<StringAttr> reached;
    for (auto gradient : microStep.getOps<moe::GradientOp>())
      reached.insert(gradient.getParameterAttr().getAttr());
    for (auto state : module.getOps<moe::StateOp>())
      if (state.getKind() == moe::StateKind::Parameter && !reached.contains(state.getSymNameAttr()))
        return state.emitOpError("is a parameter that the loss does not depend on, so that it has "
                                 "no gradient; remove it or use it in @evaluate");
    return success();
  }
};

} // namespace
} // namespace switchyard::passes

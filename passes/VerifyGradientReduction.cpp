// verify-gradient-reduction: proves that many ranks train what one would.
//
// What is proven, axis by axis of the mesh, with the lattice of AxisKinds.h and the rules of
// AxisFlow.h, over @evaluate, and over @micro_step and @optimizer_step in this order or
// @train_step:
//
//     1. Tokens, parts of states and copies of states meet only where that has a meaning.
//     2. The loss of a rank, and what else it yields of tokens, is a term of the sum over all ranks
//        that is trained: its own, or 1/n of what n ranks have alike.
//     3. @micro_step adds to a gradient's state, along the axes that divide it, the part of a sum,
//        and along the others a total; or its own terms, of which @optimizer_step, before anything
//        else, makes the sum. A sum is made of terms only, and gives a total: it is made once.
//     4. Whatever @optimizer_step writes to a state is the part that the state's sharding says, and
//        the same for all of its copies.
//     5. In @train_step, 2 holds of what is computed of tokens. Each state's gradient is marked by
//        moe.gradient, and is the part of a sum along the axes that divide the state, along the
//        others a total; for what is computed from there on, 4 holds.
//
// Induction over programs: states are as their shardings say when they are loaded (that is the
// loader's contract), each program that finds them so leaves them so. Of a gradient's state the
// content is what @micro_step wrote, over accumulators that start at zero: it is found by running
// the rules with zero, and confirmed by running them with what was found.
//
// Taken for granted: that ops are functions of their operands, and that what `differentiate` built
// is the derivative by a rank's copy (dialects/dist/README.md). Each op is visited at most twice.

#include "passes/AxisFlow.h"
#include "passes/Passes.h"
#include "passes/Policy.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_VERIFYGRADIENTREDUCTION
#include "passes/Passes.h.inc"

namespace {

class Proof {
public:
  Proof(ModuleOp module, dist::MeshAttr mesh) : module_(module), symbols_(module), mesh_(mesh) {}

  LogicalResult run() {
    auto evaluate = symbols_.lookup<func::FuncOp>(kEvaluate);
    auto microStep = symbols_.lookup<func::FuncOp>(kMicroStep);
    auto optimizerStep = symbols_.lookup<func::FuncOp>(kOptimizerStep);
    if (evaluate && failed(runTokens(evaluate)))
      return failure();
    if (auto trainStep = symbols_.lookup<func::FuncOp>(kTrainStep);
        trainStep && (failed(runTokens(trainStep)) || failed(checkMarks(trainStep))))
      return failure();
    if (microStep) {
      if (failed(runTokens(microStep)) || failed(runTokens(microStep)) ||
          failed(checkPending(optimizerStep)))
        return failure();
    }
    return failure(optimizerStep && failed(runUpdate(optimizerStep)));
  }

private:
  struct Gradient {
    AxisKinds content;
    moe::WriteOp write;
  };

  InFlightDiagnostic refuse(Operation *op, moe::StateOp state, dist::Axis axis) {
    return op->emitOpError("for ")
           << parameterName(state) << " over \"" << dist::stringifyAxis(axis) << "\": ";
  }

  InFlightDiagnostic refuse(func::FuncOp program, unsigned result, dist::Axis axis) {
    auto name = program.getResultAttrOfType<StringAttr>(result, kNameAttr);
    return program.emitOpError("for the result \"")
           << (name ? name.str() : std::to_string(result)) << "\" over \""
           << dist::stringifyAxis(axis) << "\": ";
  }

  AxisKinds read(moe::ReadOp op) {
    auto state = symbols_.lookup<moe::StateOp>(op.getState());
    AxisKinds kinds = kindsOfState(state, AxisKind::Held);
    if (state.getKind() != moe::StateKind::Gradient)
      return kinds;
    auto gradient = gradients_.find(state);
    AxisKinds content = gradient == gradients_.end() ? AxisKinds() : gradient->second.content;
    for (dist::Axis axis : mesh_.getAxes())
      if (!isPart(kinds[axis]) && !isAlike(content[axis]))
        kinds[axis] = content[axis];
    return kinds;
  }

  /// A program over tokens: its inputs are each rank's own.
  LogicalResult runTokens(func::FuncOp program) {
    return run(program, AxisKind::Own, /*accumulates=*/program.getSymName() != kTrainStep);
  }

  /// A program over states: its inputs are the host's numbers, the same for all ranks.
  LogicalResult runUpdate(func::FuncOp program) {
    return run(program, AxisKind::Same, /*accumulates=*/false);
  }

  /// A result that is computed of tokens.
  LogicalResult checkTerm(func::FuncOp program, unsigned index, dist::Axis axis,
                          const AxisKinds &kinds) {
    AxisKind kind = kinds[axis];
    if (kinds.isChosen(axis))
      return refuse(program, index, axis)
             << "it is made of what was gathered, or is the maximum over ranks, but terms of a "
                "sum over ranks are expected; use dist.all_reduce with a sum";
    if (kind != AxisKind::Zero && !isTerm(kind))
      return refuse(program, index, axis)
             << "it is " << describe(kind)
             << ", but what ranks yield is summed over them, which counts it "
             << *mesh_.sizeOf(axis) << " times; weight it by 1/n for the n ranks (moe.scale)";
    return success();
  }

  /// A result of an update.
  LogicalResult checkAgreed(func::FuncOp program, unsigned index, dist::Axis axis,
                            const AxisKinds &kinds) {
    AxisKind kind = kinds[axis];
    if (kinds.isChosen(axis))
      return refuse(program, index, axis)
             << "it is made of what was gathered, or is the maximum over ranks, for a sum over "
                "ranks; use dist.all_reduce with a sum";
    if (kind != AxisKind::Zero && !isAlike(kind))
      return refuse(program, index, axis)
             << "it is " << describe(kind)
             << ", but ranks have to agree on it; sum what it is computed from over "
             << axesText(axis) << " (dist.all_reduce)";
    return success();
  }

  /// Whatever @train_step updates has its gradient marked, which run() has checked, before it is
  /// used.
  LogicalResult checkMarks(func::FuncOp trainStep) {
    llvm::DenseSet<StringAttr> marked;
    for (auto gradient : trainStep.getOps<moe::GradientOp>()) {
      marked.insert(gradient.getParameterAttr().getAttr());
      for (Operation *user : gradient.getValue().getUsers())
        if (user->isBeforeInBlock(gradient))
          return user->emitOpError("uses the gradient of @")
                 << gradient.getParameter()
                 << " before moe.gradient marks it; put it behind, or it is not seen as a part of "
                    "the update";
    }
    for (auto write : trainStep.getOps<moe::WriteOp>()) {
      auto state = symbols_.lookup<moe::StateOp>(write.getState());
      StringAttr parameter =
          state.getOfAttr() ? state.getOfAttr().getAttr() : state.getSymNameAttr();
      if (!marked.contains(parameter))
        return write.emitOpError("updates @")
               << state.getSymName() << " in @train_step, which has no gradient of @"
               << parameter.getValue() << "; mark it (moe.gradient), or nothing proves that it is "
               << "summed over ranks";
    }
    return success();
  }

  /// Runs the rules over a program whose inputs are of the kind `inputs`; checks what it writes,
  /// and each result along each axis.
  LogicalResult run(func::FuncOp program, AxisKind inputs, bool accumulates) {
    auto readKinds = [&](moe::ReadOp op) { return read(op); };
    auto checkValue = [&](Operation *op, const AxisKinds &kinds) {
      return checkSink(op, kinds, accumulates);
    };
    AxisFlow flow(mesh_, readKinds, checkValue);
    if (failed(flow.run(program, inputs)))
      return failure();
    for (auto [index, value] :
         llvm::enumerate(program.getBody().front().getTerminator()->getOperands()))
      for (dist::Axis axis : mesh_.getAxes()) {
        const AxisKinds kinds = flow.kindsOf(value);
        if (failed(isAlike(inputs) || flow.isOfUpdate(value)
                       ? checkAgreed(program, index, axis, kinds)
                       : checkTerm(program, index, axis, kinds)))
          return failure();
      }
    return success();
  }

  /// A value reaches a state, or a gradient its end. Gradients accumulate ranks' own terms where
  /// the program `accumulates`.
  LogicalResult checkSink(Operation *op, const AxisKinds &kinds, bool accumulates) {
    auto write = dyn_cast<moe::WriteOp>(op);
    auto state = symbols_.lookup<moe::StateOp>(write ? write.getState()
                                                     : cast<moe::GradientOp>(op).getParameter());
    accumulates &= write && state.getKind() == moe::StateKind::Gradient;
    AxisKinds expected = kindsOfState(state, AxisKind::Same);
    for (dist::Axis axis : mesh_.getAxes())
      if (failed(checkSinkOver(axis, op, state, kinds, expected[axis], accumulates)))
        return failure();
    return accumulates ? record(state, {kinds, write}) : success();
  }

  LogicalResult record(moe::StateOp state, Gradient gradient) {
    auto [place, first] = gradients_.insert({state, gradient});
    for (dist::Axis axis : mesh_.getAxes()) {
      AxisKind before = place->second.content[axis], now = gradient.content[axis];
      if (!first && before != now && !(isAlike(before) && isAlike(now)))
        return refuse(gradient.write, state, axis)
               << "does not only add to @" << state.getSymName()
               << ": over a state that is zero it "
               << "stores what is " << describe(before) << ", then what is " << describe(now)
               << "; add gradients by moe.accumulate";
    }
    return success();
  }

  LogicalResult checkSinkOver(dist::Axis axis, Operation *op, moe::StateOp state,
                              const AxisKinds &kinds, AxisKind expected, bool accumulates) {
    AxisKind kind = kinds[axis];
    if (kinds.isChosen(axis))
      return refuse(op, state, axis)
             << "takes what was gathered, or is the maximum over ranks, for a sum over ranks; use "
                "dist.all_reduce with a sum, or dist.reduce_scatter";
    if (kind == expected || kind == AxisKind::Zero || (isAlike(kind) && isAlike(expected)) ||
        (kind == AxisKind::Own && accumulates && !isPart(expected)))
      return success();
    InFlightDiagnostic diagnostic = refuse(op, state, axis);
    if (isPart(expected) && isPart(kind))
      return diagnostic << "stores what is " << describe(kind) << " in @" << state.getSymName()
                        << ", which is " << describe(expected) << "; divide both alike";
    if (isPart(expected) && isAlike(kind))
      return diagnostic << "stores what is the same on all ranks in @" << state.getSymName()
                        << ", of which each rank holds another part; scatter it "
                           "(dist.reduce_scatter)";
    if (isPart(kind))
      return diagnostic << "stores a part in @" << state.getSymName()
                        << ", of which the ranks hold copies; gather it (dist.all_gather), or "
                           "divide the state";
    if (kind == AxisKind::Share)
      return diagnostic << "stores a share that waits to be summed in @" << state.getSymName()
                        << "; sum it first (dist.all_reduce)";
    if (isPart(expected))
      return diagnostic << "stores each rank's own value in @" << state.getSymName()
                        << ", of which each rank holds a part: the sum over " << axesText(axis)
                        << " is missing; make it (dist.reduce_scatter)";
    if (isa<moe::GradientOp>(op))
      return diagnostic << "the gradient is each rank's own: its sum over " << axesText(axis)
                        << " is missing; make it (dist.all_reduce)";
    return diagnostic << "stores each rank's own value in @" << state.getSymName()
                      << ", of which the ranks hold copies: these would differ; sum it over "
                      << axesText(axis) << " first (dist.all_reduce)";
  }

  /// Whether all that `value` goes into are sums over `axis`, perhaps behind other sums or
  /// additions.
  bool isSummedFirst(Value value, dist::Axis axis) {
    return llvm::all_of(value.getUsers(), [&](Operation *user) {
      auto collective = dyn_cast<dist::CollectiveOpInterface>(user);
      auto reduce = dyn_cast<dist::AllReduceOp>(user);
      bool sums = isa<dist::ReduceScatterOp>(user) ||
                  (reduce && reduce.getReduction() == dist::Reduction::Sum);
      if (sums && collective.getAxes().contains(axis))
        return true;
      return (sums || isa<LinearOpInterface>(user)) && user->getNumResults() == 1 &&
             isSummedFirst(user->getResult(0), axis);
    });
  }

  /// Each gradient of which @micro_step leaves ranks' own terms is summed by @optimizer_step.
  LogicalResult checkPending(func::FuncOp optimizerStep) {
    llvm::DenseMap<Operation *, SmallVector<moe::ReadOp>> reads;
    if (optimizerStep)
      for (auto read : optimizerStep.getOps<moe::ReadOp>())
        reads[symbols_.lookup(read.getState())].push_back(read);
    for (auto &[state, gradient] : gradients_)
      for (dist::Axis axis : mesh_.getAxes()) {
        ArrayRef<moe::ReadOp> found = reads[state];
        if (gradient.content[axis] != AxisKind::Own ||
            (!found.empty() && llvm::all_of(found, [&](moe::ReadOp read) {
              return isSummedFirst(read.getResult(), axis);
            })))
          continue;
        return refuse(gradient.write, cast<moe::StateOp>(state), axis)
               << "the gradient added to @" << gradient.write.getState()
               << " is each rank's own, and its sum over " << axesText(axis)
               << " is missing, here and at the head of @optimizer_step; make it "
                  "(dist.all_reduce, dist.reduce_scatter)";
      }
    return success();
  }

  ModuleOp module_;
  SymbolTable symbols_;
  dist::MeshAttr mesh_;
  llvm::MapVector<Operation *, Gradient> gradients_; // by state, once @micro_step wrote it
};

struct VerifyGradientReduction : impl::VerifyGradientReductionBase<VerifyGradientReduction> {
  void runOnOperation() override {
    markAllAnalysesPreserved();
    dist::MeshOp mesh = dist::lookupMesh(getOperation());
    if (mesh && failed(Proof(getOperation(), mesh.getMesh()).run()))
      signalPassFailure();
  }
};

} // namespace
} // namespace switchyard::passes

// reshard-after-forward: what is gathered from a state is gathered again for a later use, so that
// it does not live from the forward to the backward direction.
//
// One walk over the list. A count of the gathers of other layers since the last use of a gathered
// tensor says whether that layer has been left; the count includes the gathers that this pass adds,
// for the backward direction has no others.

#include "passes/Passes.h"
#include "passes/PlanInstructions.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_RESHARDAFTERFORWARD
#include "passes/Passes.h.inc"

namespace {

class Resharder {
public:
  Resharder(plan::ProgramOp program, const StateLayers &layers)
      : program_(program), layers_(layers) {}

  void run();

private:
  /// A tensor that is gathered from a state, or from another that is.
  struct Gathered {
    plan::CollectiveOp gather;
    Value from;    // as in `gather`
    Value current; // the buffer that holds it now
    StringAttr state;
    int64_t layer = 0;
    int64_t othersAtLastUse = -1; // -1: not used yet
  };

  void countWriters();
  void note(plan::CollectiveOp gather);
  Value use(Value value, Operation *user);
  int64_t othersOf(int64_t layer) { return total_ - ofLayer_[layer]; }

  plan::ProgramOp program_;
  const StateLayers &layers_;
  llvm::DenseMap<Value, int> writers_;
  llvm::DenseSet<StringAttr> writtenStates_; // so far
  llvm::DenseMap<Value, Gathered> gathered_;
  llvm::DenseMap<int64_t, int64_t> ofLayer_; // gathers so far, by layer
  int64_t total_ = 0;
};

void Resharder::countWriters() {
  for (Operation *op : instructionsOf(program_))
    for (Value value : accessesOf(op).writes)
      ++writers_[value];
}

static StringAttr stateOf(Value buffer) {
  return buffer.getDefiningOp<plan::BufferOp>().getStateAttr().getAttr();
}

/// Enters the outputs of `gather` that can be gathered again: scratch that nothing else writes.
void Resharder::note(plan::CollectiveOp gather) {
  if (gather.getKind() != plan::CollectiveKind::AllGather)
    return;
  for (auto [from, to] : llvm::zip_equal(gather.getIns(), gather.getOuts())) {
    auto source = gathered_.find(from);
    if (!isState(from) && source == gathered_.end())
      continue;
    auto buffer = to.getDefiningOp<plan::BufferOp>();
    if (buffer.getArena() != plan::Arena::Transient || writers_[to] != 1)
      continue;
    int64_t layer = isState(from) ? layers_.layerOf(from) : source->second.layer;
    StringAttr state = isState(from) ? stateOf(from) : source->second.state;
    ++total_;
    ++ofLayer_[layer];
    gathered_.insert({to, Gathered{gather, from, to, state, layer, -1}});
  }
}

/// The buffer in which `user` finds `value`, gathered again before it where it has to be; never
/// from a state that has been written since.
Value Resharder::use(Value value, Operation *user) {
  auto found = gathered_.find(value);
  if (found == gathered_.end())
    return value;
  Gathered &entry = found->second;
  if (entry.othersAtLastUse >= 0 && othersOf(entry.layer) > entry.othersAtLastUse &&
      !writtenStates_.contains(entry.state)) {
    Value from = use(entry.from, user);
    OpBuilder builder(user);
    auto first = value.getDefiningOp<plan::BufferOp>();
    auto fresh = plan::BufferOp::create(builder, first.getLoc(), first.getTensorType());
    fresh.setReserveAttr(first.getReserveAttr());
    plan::CollectiveOp::create(builder, entry.gather.getLoc(), entry.gather.getKind(),
                               entry.gather.getAxes(), dist::Reduction::Sum, from, ValueRange(),
                               fresh.getBuffer());
    ++total_;
    ++ofLayer_[entry.layer];
    entry.current = fresh.getBuffer();
  }
  entry.othersAtLastUse = othersOf(entry.layer);
  return entry.current;
}

void Resharder::run() {
  countWriters();
  for (Operation *op : instructionsOf(program_)) {
    op->walk([&](Operation *inner) {
      for (OpOperand &operand : inner->getOpOperands())
        operand.set(use(operand.get(), op));
    });
    if (auto gather = dyn_cast<plan::CollectiveOp>(op))
      note(gather);
    for (Value value : accessesOf(op).writes)
      if (isState(value))
        writtenStates_.insert(stateOf(value));
  }
}

struct ReshardAfterForward : impl::ReshardAfterForwardBase<ReshardAfterForward> {
  using ReshardAfterForwardBase::ReshardAfterForwardBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (!enable || !hasMesh(module))
      return markAllAnalysesPreserved();
    StateLayers layers(module);
    for (plan::ProgramOp program : module.getOps<plan::ProgramOp>()) {
      if (failed(checkMovable(program, getArgument())))
        return signalPassFailure();
      Resharder(program, layers).run();
    }
  }
};

} // namespace
} // namespace switchyard::passes

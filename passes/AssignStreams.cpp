// assign-streams: says which queue each instruction is on.

#include "passes/Passes.h"
#include "passes/PlanInstructions.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_ASSIGNSTREAMS
#include "passes/Passes.h.inc"

namespace {

constexpr int32_t kCompute = 0;
constexpr int32_t kGathers = 1;
constexpr int32_t kReductions = 2;

/// The stream of each buffer's contents is that of the instruction that wrote it last.
class StreamAssigner {
public:
  void assign(Operation *op);

private:
  int32_t streamOf(Operation *op, const Accesses &accesses);

  llvm::DenseMap<Value, int32_t> writtenOn_;
};

int32_t StreamAssigner::streamOf(Operation *op, const Accesses &accesses) {
  if (isStateGather(op))
    return kGathers;
  if (isReduction(op))
    return kReductions;
  // What adds a reduced gradient to its state, or squares it: on the stream that computes it would
  // wait for the reduction at once.
  auto isReduced = [&](Value value) { return writtenOn_.lookup(value) == kReductions; };
  auto isSmall = [](Value value) { return isState(value) || isScalar(value); };
  if (isa<plan::LaunchOp, plan::CopyOp>(op) && llvm::all_of(accesses.writes, isSmall) &&
      llvm::any_of(accesses.reads, isReduced) &&
      llvm::all_of(accesses.reads, [&](Value value) { return isState(value) || isReduced(value); }))
    return kReductions;
  return kCompute;
}

void StreamAssigner::assign(Operation *op) {
  Accesses accesses = accessesOf(op);
  int32_t stream = streamOf(op, accesses);
  for (Value value : accesses.writes)
    writtenOn_[value] = stream;
  op->walk([&](Operation *inner) { // a repeat's body is on the repeat's stream
    llvm::TypeSwitch<Operation *>(inner)
        .Case<plan::LaunchOp, plan::CopyOp, plan::CollectiveOp, plan::RepeatOp>(
            [&](auto instruction) { instruction.setStream(stream); });
  });
}

struct AssignStreams : impl::AssignStreamsBase<AssignStreams> {
  using AssignStreamsBase::AssignStreamsBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (!hasMesh(module))
      return markAllAnalysesPreserved();
    for (plan::ProgramOp program : module.getOps<plan::ProgramOp>()) {
      if (failed(checkMovable(program, getArgument())))
        return signalPassFailure();
      StreamAssigner assigner;
      for (Operation *op : instructionsOf(program))
        assigner.assign(op);
    }
  }
};

} // namespace
} // namespace switchyard::passes

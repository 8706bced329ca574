#include "passes/PlanInstructions.h"

using namespace mlir;

namespace switchyard::passes {

Accesses accessesOf(Operation *instruction) {
  Accesses accesses;
  auto reads = [&](ValueRange values) { llvm::append_range(accesses.reads, values); };
  auto writes = [&](ValueRange values) { llvm::append_range(accesses.writes, values); };
  if (auto launch = dyn_cast<plan::LaunchOp>(instruction)) {
    reads(launch.getIns());
    reads(launch.getUpdates());
    writes(launch.getUpdates());
    writes(launch.getOuts());
    if (launch.getWorkspace())
      writes(launch.getWorkspace());
  } else if (auto copy = dyn_cast<plan::CopyOp>(instruction)) {
    reads(copy.getFrom());
    writes(copy.getTo());
  } else if (auto collective = dyn_cast<plan::CollectiveOp>(instruction)) {
    reads(collective.getIns());
    reads(collective.getUpdates());
    writes(collective.getUpdates());
    writes(collective.getOuts());
  } else if (auto repeat = dyn_cast<plan::RepeatOp>(instruction)) {
    reads(repeat.getAllCounts());
    writes(repeat.getRound());
    for (Operation &op : repeat.getBody().front()) {
      Accesses body = accessesOf(&op);
      reads(body.reads);
      writes(body.writes);
    }
  }
  return accesses;
}

bool hasMesh(ModuleOp module) {
  return dist::lookupMesh(module) != nullptr;
}

SmallVector<Operation *> instructionsOf(plan::ProgramOp program) {
  SmallVector<Operation *> instructions;
  for (Operation &op : program.getBody().front())
    if (!isa<plan::BufferOp>(op))
      instructions.push_back(&op);
  return instructions;
}

void reorder(plan::ProgramOp program, ArrayRef<Operation *> order) {
  Block &block = program.getBody().front();
  for (Operation *op : order)
    op->moveBefore(&block, block.end());
}

LogicalResult checkMovable(plan::ProgramOp program, StringRef pass) {
  for (Operation &op : program.getBody().front()) {
    if (isa<plan::RecordOp, plan::WaitOp>(op))
      return program.emitOpError("@") << program.getSymName() << " has events already; run " << pass
                                      << " before insert-waits";
    auto buffer = dyn_cast<plan::BufferOp>(op);
    if (buffer && buffer.getOffset())
      return program.emitOpError("@") << program.getSymName() << " has addresses already; run "
                                      << pass << " before assign-addresses";
  }
  return success();
}

bool isState(Value value) {
  return value.getDefiningOp<plan::BufferOp>().getArena() == plan::Arena::State;
}

bool isScalar(Value value) {
  return cast<plan::BufferType>(value.getType()).getTensor().getRank() == 0;
}

bool isStateGather(Operation *op) {
  auto collective = dyn_cast<plan::CollectiveOp>(op);
  return collective && collective.getKind() == plan::CollectiveKind::AllGather &&
         llvm::all_of(collective.getIns(), isState);
}

bool isReduction(Operation *op) {
  auto collective = dyn_cast<plan::CollectiveOp>(op);
  return collective && (collective.getKind() == plan::CollectiveKind::ReduceScatter ||
                        collective.getKind() == plan::CollectiveKind::AllReduce);
}

int64_t wholeBytes(plan::CollectiveOp op) {
  bool gathers = op.getKind() == plan::CollectiveKind::AllGather;
  int64_t bytes = 0;
  for (Value value : gathers ? op.getOuts() : op.getIns()) {
    RankedTensorType type = cast<plan::BufferType>(value.getType()).getTensor();
    bytes += dist::elementCount(type).value_or(0) * (type.getElementTypeBitWidth() / 8);
  }
  return bytes;
}

StateLayers::StateLayers(ModuleOp module) {
  for (moe::StateOp state : module.getOps<moe::StateOp>())
    layers_[state.getSymNameAttr()] = state.getLayer() ? *state.getLayer() : kNoLayer;
}

int64_t StateLayers::layerOf(Value stateBuffer) const {
  return layers_.lookup(stateBuffer.getDefiningOp<plan::BufferOp>().getStateAttr().getAttr());
}

std::optional<int64_t> StateLayers::layerOf(plan::CollectiveOp op) const {
  // A gradient's way is short: reduce_scatter, all_reduce, accumulate.
  constexpr int kSteps = 4;
  if (!op.getIns().empty() && isState(op.getIns().front()))
    return layerOf(op.getIns().front());
  if (op.getOuts().empty())
    return std::nullopt;
  Value value = op.getOuts().front();
  for (int step = 0; step < kSteps; ++step) {
    if (isState(value))
      return layerOf(value);
    Value next;
    for (OpOperand &use : value.getUses()) {
      Operation *user = use.getOwner();
      Accesses accesses = accessesOf(user);
      if (!llvm::is_contained(accesses.reads, value))
        continue;
      if (isReduction(user)) {
        auto reduction = cast<plan::CollectiveOp>(user);
        next =
            reduction.getOuts()[llvm::find(reduction.getIns(), value) - reduction.getIns().begin()];
        continue;
      }
      for (Value written : accesses.writes)
        if (isState(written))
          return layerOf(written);
    }
    if (!next)
      return std::nullopt;
    value = next;
  }
  return std::nullopt;
}

} // namespace switchyard::passes

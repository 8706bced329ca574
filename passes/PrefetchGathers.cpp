// prefetch-gathers: gathers of states are issued some layers ahead of their first use.
//
// Gathers of one layer that follow each other are a unit. A unit moves up behind the first use of
// the unit `depth` before it, never past something that it depends on; units stay in their order.

#include "passes/Passes.h"
#include "passes/PlanInstructions.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_PREFETCHGATHERS
#include "passes/Passes.h.inc"

namespace {

class Prefetcher {
public:
  Prefetcher(const StateLayers &layers, int64_t depth) : layers_(layers), depth_(depth) {}

  SmallVector<Operation *> run(ArrayRef<Operation *> instructions);

private:
  /// Positions count instructions from 0.
  struct Gather {
    Operation *op;
    size_t unit;
    int position;
    int after; // the last instruction that it depends on, -1 for none
  };
  void scan(ArrayRef<Operation *> instructions);

  const StateLayers &layers_;
  int64_t depth_;
  std::vector<Gather> gathers_;
  std::vector<int> firstUse_; // by unit; -1: none yet
};

/// Finds the units, the first use of each, and what each gather depends on.
void Prefetcher::scan(ArrayRef<Operation *> instructions) {
  llvm::DenseMap<Value, int> lastWrite, lastAccess; // positions from 1
  llvm::DenseMap<Value, size_t> unitOf;             // of what a buffer holds
  std::optional<int64_t> layer;
  for (auto [index, op] : llvm::enumerate(instructions)) {
    int position = static_cast<int>(index);
    Accesses accesses = accessesOf(op);
    if (isStateGather(op)) {
      auto gather = cast<plan::CollectiveOp>(op);
      std::optional<int64_t> own = layers_.layerOf(gather);
      if (firstUse_.empty() || own != layer)
        firstUse_.push_back(-1);
      layer = own;
      int after = 0;
      for (Value value : gather.getIns())
        after = std::max(after, lastWrite.lookup(value));
      for (Value value : gather.getOuts()) {
        after = std::max(after, lastAccess.lookup(value));
        unitOf[value] = firstUse_.size() - 1;
      }
      gathers_.push_back({op, firstUse_.size() - 1, position, after - 1});
    } else {
      for (Value value : accesses.reads)
        if (auto unit = unitOf.find(value); unit != unitOf.end() && firstUse_[unit->second] < 0)
          firstUse_[unit->second] = position;
    }
    for (Value value : accesses.reads)
      lastAccess[value] = position + 1;
    for (Value value : accesses.writes)
      lastAccess[value] = lastWrite[value] = position + 1;
  }
}

SmallVector<Operation *> Prefetcher::run(ArrayRef<Operation *> instructions) {
  scan(instructions);
  std::vector<SmallVector<Operation *, 1>> behind(instructions.size() + 1); // [0]: at the start
  llvm::DenseSet<Operation *> moved;
  int last = -1;
  for (const Gather &gather : gathers_) {
    auto depth = static_cast<size_t>(depth_);
    // The first units have none before them: they follow each other.
    int target = gather.unit >= depth ? firstUse_[gather.unit - depth] : -1;
    target = std::max({target, gather.after, last});
    if (depth == 0 || target >= gather.position - 1 ||
        (gather.unit >= depth && firstUse_[gather.unit - depth] < 0)) {
      last = gather.position;
      continue;
    }
    last = target;
    behind[target + 1].push_back(gather.op);
    moved.insert(gather.op);
  }
  SmallVector<Operation *> order(behind[0].begin(), behind[0].end());
  for (auto [index, op] : llvm::enumerate(instructions)) {
    if (!moved.contains(op))
      order.push_back(op);
    llvm::append_range(order, behind[index + 1]);
  }
  return order;
}

struct PrefetchGathers : impl::PrefetchGathersBase<PrefetchGathers> {
  using PrefetchGathersBase::PrefetchGathersBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (depth < 0) {
      module.emitError("prefetch-gathers: depth is ")
          << depth.getValue()
          << "; expected a number of layers, or 0 to leave gathers where they are";
      return signalPassFailure();
    }
    if (depth == 0 || !hasMesh(module))
      return markAllAnalysesPreserved();
    StateLayers layers(module);
    for (plan::ProgramOp program : module.getOps<plan::ProgramOp>()) {
      if (failed(checkMovable(program, getArgument())))
        return signalPassFailure();
      reorder(program, Prefetcher(layers, depth).run(instructionsOf(program)));
    }
  }
};

} // namespace
} // namespace switchyard::passes

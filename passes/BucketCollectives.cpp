// bucket-collectives: collectives of one layer become one grouped call.
//
// Two walks over the list. Gathers join the first of their bucket, so they move up. Reductions are
// held back, with the launches that add their results to states, until something needs what is held
// back, a reduction of another layer comes, or there is too much of it; what was held back then
// stands where its last member stood, each dependence a level below the one it depends on.

#include "passes/Passes.h"
#include "passes/PlanInstructions.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_BUCKETCOLLECTIVES
#include "passes/Passes.h.inc"

namespace {

/// One op with the operands of all `members`, in place of the first.
plan::CollectiveOp merge(ArrayRef<plan::CollectiveOp> members) {
  plan::CollectiveOp first = members.front();
  if (members.size() == 1)
    return first;
  SmallVector<Value> ins, outs;
  for (plan::CollectiveOp member : members) {
    llvm::append_range(ins, member.getIns());
    llvm::append_range(outs, member.getOuts());
  }
  OpBuilder builder(first);
  auto merged =
      plan::CollectiveOp::create(builder, first.getLoc(), first.getKind(), first.getAxes(),
                                 first.getReduction(), ins, ValueRange(), outs, first.getStream());
  for (plan::CollectiveOp member : members)
    member.erase();
  return merged;
}

/// Joins gathers of states; see the pass's description.
class GatherBuckets {
public:
  GatherBuckets(const StateLayers &layers, int64_t limit) : layers_(layers), limit_(limit) {}

  SmallVector<Operation *> run(ArrayRef<Operation *> instructions);

private:
  struct Bucket {
    SmallVector<plan::CollectiveOp> members;
    int position = 0; // of its first
    int64_t bytes = 0;
  };

  bool joins(plan::CollectiveOp gather, const Bucket &bucket);

  const StateLayers &layers_;
  int64_t limit_;
  llvm::DenseMap<Value, int> lastWrite_, lastAccess_; // positions from 1
};

/// Whether `gather` can stand at the bucket's place: its inputs are there already, nothing in
/// between touches its outputs, and it is not too much.
bool GatherBuckets::joins(plan::CollectiveOp gather, const Bucket &bucket) {
  auto isBefore = [&](const llvm::DenseMap<Value, int> &last, ValueRange values) {
    return llvm::all_of(values, [&](Value value) { return last.lookup(value) < bucket.position; });
  };
  return isBefore(lastWrite_, gather.getIns()) && isBefore(lastAccess_, gather.getOuts()) &&
         bucket.bytes + wholeBytes(gather) <= limit_;
}

SmallVector<Operation *> GatherBuckets::run(ArrayRef<Operation *> instructions) {
  std::vector<Bucket> buckets;
  llvm::DenseMap<dist::AxesAttr, size_t> open; // those of the layer that is being gathered
  std::optional<int64_t> openLayer;
  SmallVector<std::pair<Operation *, size_t>> places; // an instruction, or null and a bucket
  int position = 0;
  for (Operation *op : instructions) {
    ++position;
    if (isStateGather(op)) {
      auto gather = cast<plan::CollectiveOp>(op);
      std::optional<int64_t> layer = layers_.layerOf(gather);
      if (layer != openLayer)
        open.clear();
      openLayer = layer;
      auto bucket = open.find(gather.getAxes());
      if (bucket == open.end() || !joins(gather, buckets[bucket->second])) {
        open[gather.getAxes()] = buckets.size();
        places.emplace_back(nullptr, buckets.size());
        buckets.push_back({{}, position, 0});
        bucket = open.find(gather.getAxes());
      }
      buckets[bucket->second].members.push_back(gather);
      buckets[bucket->second].bytes += wholeBytes(gather);
    } else {
      places.emplace_back(op, 0);
    }
    Accesses accesses = accessesOf(op);
    for (Value value : accesses.reads)
      lastAccess_[value] = position;
    for (Value value : accesses.writes)
      lastAccess_[value] = lastWrite_[value] = position;
  }
  SmallVector<Operation *> order;
  for (auto [op, bucket] : places)
    order.push_back(op ? op : merge(buckets[bucket].members).getOperation());
  return order;
}

/// Holds reductions back and joins them; see the pass's description.
class ReductionBuckets {
public:
  ReductionBuckets(const StateLayers &layers, int64_t limit) : layers_(layers), limit_(limit) {}

  SmallVector<Operation *> run(ArrayRef<Operation *> instructions);

private:
  int levelAfter(const Accesses &accesses);
  bool follows(Operation *op, const Accesses &accesses);
  void holdBack(Operation *op, const Accesses &accesses, int level);
  void release();

  const StateLayers &layers_;
  int64_t limit_;
  SmallVector<Operation *> order_;
  SmallVector<std::pair<int, Operation *>> held_; // with their levels
  size_t place_ = 0;                              // in `order_`, behind what the last one followed
  llvm::DenseMap<Value, int> readLevel_, writeLevel_; // of what is held back, from 1
  std::optional<int64_t> layer_;
  int64_t bytes_ = 0;
};

/// The lowest level at which an instruction is behind all that it depends on; 0 if nothing of that
/// is held back.
int ReductionBuckets::levelAfter(const Accesses &accesses) {
  int level = 0;
  for (Value value : accesses.reads)
    level = std::max(level, writeLevel_.lookup(value));
  for (Value value : accesses.writes)
    level = std::max({level, writeLevel_.lookup(value), readLevel_.lookup(value)});
  return level;
}

/// Whether `op`, which depends on what is held back, is held back too: it adds to states, or makes
/// scalars of nothing else.
bool ReductionBuckets::follows(Operation *op, const Accesses &accesses) {
  if (!isa<plan::LaunchOp, plan::CopyOp>(op))
    return false;
  if (llvm::all_of(accesses.writes, isState))
    return true;
  return llvm::all_of(accesses.writes, isScalar) &&
         llvm::all_of(accesses.reads, [&](Value value) { return writeLevel_.contains(value); });
}

void ReductionBuckets::holdBack(Operation *op, const Accesses &accesses, int level) {
  held_.emplace_back(level, op);
  place_ = order_.size();
  for (Value value : accesses.reads)
    readLevel_[value] = std::max(readLevel_.lookup(value), level);
  for (Value value : accesses.writes)
    writeLevel_[value] = std::max(writeLevel_.lookup(value), level);
}

/// Puts what is held back where the last of it stood, level by level.
void ReductionBuckets::release() {
  llvm::stable_sort(held_, llvm::less_first());
  SmallVector<Operation *> released;
  for (size_t begin = 0, end = 0; begin < held_.size(); begin = end) {
    llvm::MapVector<std::tuple<int, dist::AxesAttr, int>, SmallVector<plan::CollectiveOp>> buckets;
    SmallVector<Operation *> launches;
    for (; end < held_.size() && held_[end].first == held_[begin].first; ++end) {
      auto reduction = dyn_cast<plan::CollectiveOp>(held_[end].second);
      if (reduction)
        buckets[{static_cast<int>(reduction.getKind()), reduction.getAxes(),
                 static_cast<int>(reduction.getReduction())}]
            .push_back(reduction);
      else
        launches.push_back(held_[end].second);
    }
    for (auto &[key, members] : buckets)
      released.push_back(merge(members));
    llvm::append_range(released, launches);
  }
  order_.insert(order_.begin() + place_, released.begin(), released.end());
  held_.clear();
  readLevel_.clear();
  writeLevel_.clear();
  layer_.reset();
  bytes_ = 0;
}

SmallVector<Operation *> ReductionBuckets::run(ArrayRef<Operation *> instructions) {
  for (Operation *op : instructions) {
    Accesses accesses = accessesOf(op);
    int level = levelAfter(accesses);
    if (isReduction(op)) {
      auto reduction = cast<plan::CollectiveOp>(op);
      std::optional<int64_t> layer = layers_.layerOf(reduction);
      // What continues a reduction that is held back belongs to it and costs no memory of its own.
      int64_t bytes = level > 0 ? 0 : wholeBytes(reduction);
      bool isOtherLayer = layer_ && layer && *layer != *layer_;
      if (!held_.empty() && (isOtherLayer || (bytes > 0 && bytes_ + bytes > limit_))) {
        release();
        level = 0;
      }
      layer_ = layer ? layer : layer_;
      bytes_ += bytes;
      holdBack(op, accesses, level + 1);
    } else if (level > 0 && follows(op, accesses)) {
      holdBack(op, accesses, level + 1);
    } else {
      if (level > 0)
        release();
      order_.push_back(op);
    }
  }
  release();
  return std::move(order_);
}

struct BucketCollectives : impl::BucketCollectivesBase<BucketCollectives> {
  using BucketCollectivesBase::BucketCollectivesBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (bucketBytes < 0) {
      module.emitError("bucket-collectives: bucket-bytes is ")
          << bucketBytes.getValue()
          << "; expected a number of bytes, or 0 to leave every collective alone";
      return signalPassFailure();
    }
    if (bucketBytes == 0 || !hasMesh(module))
      return markAllAnalysesPreserved();
    StateLayers layers(module);
    for (plan::ProgramOp program : module.getOps<plan::ProgramOp>()) {
      if (failed(checkMovable(program, getArgument())))
        return signalPassFailure();
      SmallVector<Operation *> order = instructionsOf(program);
      order = GatherBuckets(layers, bucketBytes).run(order);
      order = ReductionBuckets(layers, bucketBytes).run(order);
      reorder(program, order);
    }
  }
};

} // namespace
} // namespace switchyard::passes

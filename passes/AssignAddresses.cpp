// assign-addresses: gives every state and buffer its offset, every launch its workspace, and
// certifies the peak.
//
// States lie one after the other. A port has the same address in all programs that have one of its
// name and type; those that vary come last, so that a pass below the bound reaches less far.
// Transient buffers are packed by when they live (MemoryPacking.h), in the order of the list: those
// of instructions on other streams too, for insert-waits orders whatever shares memory. Sizes
// follow the symbols' bounds and nothing else, so the largest token bound that fits a memory is
// found by packing again.

#include "passes/KernelTypes.h"
#include "passes/MemoryPacking.h"
#include "passes/Passes.h"

#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/Support/MathExtras.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_ASSIGNADDRESSES
#include "passes/Passes.h.inc"

namespace {

/// Token bounds are multiples of this, as the buckets that the runtime rounds up to.
constexpr int64_t kBucketRows = 64;

/// No memory is larger, so that sums of two do not overflow.
constexpr int64_t kMostBytes = int64_t(1) << 62;

/// Buffers that share a span of a program's transient arena.
struct Item {
  SmallVector<Value> buffers;
  kernels::OperandType type; // the same for all
  int64_t reserve = 0;       // the largest of theirs, in elements
};

/// The launch that needs a span as its workspace.
struct Workspace {
  plan::LaunchOp launch;
  LaunchOperands operands;
};

/// The first and the last instruction that need a buffer.
struct Life {
  int begin, end;
};

/// When the transient buffers of a program live. Instructions are numbered as the list has them,
/// those of a repeat's body behind it, and with a number of its own for the body's end.
class Lives {
public:
  explicit Lives(plan::ProgramOp program) { visit(program.getBody().front()); }

  const Life *find(Value buffer) const {
    auto life = lives_.find(buffer);
    return life == lives_.end() ? nullptr : &life->second;
  }
  const llvm::MapVector<Value, Life> &all() const { return lives_; }
  ArrayRef<std::pair<int, Operation *>> instructions() const { return instructions_; }

private:
  void visit(Block &block);
  void touch(Value buffer, int position);
  void widen(plan::RepeatOp repeat, int begin, int end);

  int next_ = 0;
  llvm::MapVector<Value, Life> lives_;
  SmallVector<std::pair<int, Operation *>> instructions_;
};

bool isTransient(Value value) {
  auto buffer = value.getDefiningOp<plan::BufferOp>();
  return buffer && buffer.getArena() == plan::Arena::Transient;
}

void Lives::touch(Value buffer, int position) {
  if (!isTransient(buffer))
    return;
  Life &life = lives_.insert({buffer, {position, position}}).first->second;
  life.end = position;
}

void Lives::visit(Block &block) {
  for (Operation &op : block) {
    if (isa<plan::BufferOp>(op))
      continue;
    int begin = next_++;
    instructions_.emplace_back(begin, &op);
    for (Value operand : op.getOperands())
      touch(operand, begin);
    if (auto repeat = dyn_cast<plan::RepeatOp>(op)) {
      visit(repeat.getBody().front());
      widen(repeat, begin, next_++);
    }
  }
}

/// Whether the instruction writes all of `buffer`, without reading it.
bool overwrites(Operation *instruction, Value buffer) {
  if (auto launch = dyn_cast<plan::LaunchOp>(instruction))
    return llvm::is_contained(launch.getOuts(), buffer);
  if (auto collective = dyn_cast<plan::CollectiveOp>(instruction))
    return llvm::is_contained(collective.getOuts(), buffer);
  auto copy = dyn_cast<plan::CopyOp>(instruction);
  return copy && copy.getTo() == buffer;
}

/// What a repeat names lives for all of its rounds, from `begin` to `end`, but for scratch: a
/// buffer that nothing else names and that each round overwrites first.
void Lives::widen(plan::RepeatOp repeat, int begin, int end) {
  llvm::DenseSet<Value> seen;
  auto visit = [&](Value buffer, Operation *first) {
    if (!isTransient(buffer) || !seen.insert(buffer).second)
      return;
    bool isInner = llvm::all_of(buffer.getUsers(), [&](Operation *user) {
      return user->getParentOp() == repeat.getOperation();
    });
    if (isInner && overwrites(first, buffer))
      return;
    Life &life = lives_.find(buffer)->second;
    life.begin = std::min(life.begin, begin);
    life.end = end;
  };
  for (Value buffer : repeat->getOperands())
    visit(buffer, repeat);
  for (Operation &op : repeat.getBody().front())
    for (Value buffer : op.getOperands())
      visit(buffer, &op);
}

/// One program's transient memory.
class ProgramMemory {
public:
  static FailureOr<ProgramMemory> analyze(plan::ProgramOp program, const SymbolBounds &symbols);

  /// Sizes at `bounds`, then offsets: the best there are or, if `isProbe`, any within `limit`.
  /// Returns the arena's bytes, or nothing where a size overflows or a probe finds no offsets.
  std::optional<int64_t> assign(ArrayRef<int64_t> bounds, kernels::Target target, int64_t limit,
                                bool isProbe);

  /// Writes offsets into the IR and adds the workspaces.
  void commit();

private:
  bool measure(ArrayRef<int64_t> bounds, kernels::Target target);

  std::vector<Item> items_;
  std::vector<Workspace> workspaces_;
  std::vector<MemorySpan> spans_; // of the items, then of the workspaces
};

/// Calls visit(operand, result) for each result that may take over an operand's memory.
template <typename Visit>
void forEachOverlay(plan::LaunchOp launch, const LaunchOperands &operands, Visit &&visit) {
  int count = static_cast<int>(operands.values.size());
  for (int index = 0; index < count; ++index) {
    int spec = kernels::specOfOperand(*operands.signature, index, count);
    int overlay = operands.signature->operands[spec].overlay;
    if (overlay >= 0)
      visit(operands.values[overlay], operands.values[index]);
  }
}

MemorySpan spanOf(Life life, bool varies) {
  MemorySpan span;
  span.begin = life.begin;
  span.end = life.end;
  span.varies = varies;
  return span;
}

FailureOr<ProgramMemory> ProgramMemory::analyze(plan::ProgramOp program,
                                                const SymbolBounds &symbols) {
  ProgramMemory memory;
  Lives lives(program);
  SmallVector<int> workspacePositions;
  // A result takes over an operand's memory where it may and the operand is dead afterwards.
  llvm::EquivalenceClasses<Value> shared;
  for (auto &[value, life] : lives.all())
    shared.insert(value);
  for (auto [position, op] : lives.instructions()) {
    auto overlay = [&, at = position, op = op](Value operand, Value result) {
      const Life *before = lives.find(operand), *after = lives.find(result);
      if (before && after && before->end == at && after->begin == at &&
          operand.getType() == result.getType() && llvm::count(op->getOperands(), operand) == 1)
        shared.unionSets(operand, result);
    };
    if (auto launch = dyn_cast<plan::LaunchOp>(op)) {
      FailureOr<LaunchOperands> operands = resolveLaunch(launch, symbols);
      if (failed(operands))
        return failure();
      forEachOverlay(launch, *operands, overlay);
      workspacePositions.push_back(position);
      memory.workspaces_.push_back({launch, std::move(*operands)});
    } else if (auto collective = dyn_cast<plan::CollectiveOp>(op);
               collective && collective.getKind() == plan::CollectiveKind::AllReduce) {
      for (auto [in, out] : llvm::zip_equal(collective.getIns(), collective.getOuts()))
        overlay(in, out);
    }
  }

  llvm::DenseMap<Value, size_t> itemOf;
  for (auto buffer : program.getBody().front().getOps<plan::BufferOp>()) {
    const Life *life = lives.find(buffer.getBuffer());
    if (!life)
      continue;
    auto [slot, isNew] =
        itemOf.try_emplace(shared.getLeaderValue(buffer.getBuffer()), memory.items_.size());
    if (isNew) {
      FailureOr<kernels::OperandType> type = operandType(buffer.getTensorType(), symbols, buffer);
      if (failed(type))
        return failure();
      memory.items_.push_back({{}, *type});
      memory.spans_.push_back(spanOf(*life, !buffer.getTensorType().hasStaticShape()));
    }
    Item &item = memory.items_[slot->second];
    item.buffers.push_back(buffer.getBuffer());
    item.reserve = std::max(item.reserve, static_cast<int64_t>(buffer.getReserve().value_or(0)));
    MemorySpan &span = memory.spans_[slot->second];
    span.begin = std::min(span.begin, life->begin);
    span.end = std::max(span.end, life->end);
  }
  for (int position : workspacePositions)
    memory.spans_.push_back(spanOf({position, position}, /*varies=*/false));
  return memory;
}

/// Bytes of a tensor with room for `reserve` elements, or nothing where that is more than
/// kMostBytes.
std::optional<int64_t> bytesWithReserve(const kernels::OperandType &type, int64_t reserve,
                                        ArrayRef<int64_t> bounds) {
  std::optional<int64_t> bytes = byteSize(type, bounds);
  int64_t room;
  if (!bytes || __builtin_mul_overflow(reserve, kernels::byteSize(type.dtype), &room) ||
      room > kMostBytes)
    return std::nullopt;
  return std::max(*bytes, room);
}

/// The bytes of all spans; false where they are too many.
bool ProgramMemory::measure(ArrayRef<int64_t> bounds, kernels::Target target) {
  int64_t all = 0;
  auto set = [&](MemorySpan &span, std::optional<int64_t> bytes) {
    span.bytes = bytes.value_or(0);
    return bytes && !__builtin_add_overflow(all, *bytes, &all) && all <= kMostBytes;
  };
  MutableArrayRef<MemorySpan> spans(spans_);
  for (auto [item, span] : llvm::zip(items_, spans))
    if (!set(span, bytesWithReserve(item.type, item.reserve, bounds)))
      return false;
  std::span<const int64_t> symbols(bounds.data(), bounds.size());
  for (auto [workspace, span] : llvm::zip_equal(workspaces_, spans.drop_front(items_.size()))) {
    const LaunchOperands &operands = workspace.operands;
    if (!set(span, kernels::workspaceBytes(*operands.signature, operands.types, operands.attributes,
                                           symbols, target)))
      return false;
  }
  return true;
}

std::optional<int64_t> ProgramMemory::assign(ArrayRef<int64_t> bounds, kernels::Target target,
                                             int64_t limit, bool isProbe) {
  if (!measure(bounds, target))
    return std::nullopt;
  return isProbe ? packWithin(spans_, limit) : packBest(spans_, limit);
}

void ProgramMemory::commit() {
  for (auto [item, span] : llvm::zip(items_, spans_))
    for (Value buffer : item.buffers)
      buffer.getDefiningOp<plan::BufferOp>().setOffset(span.offset);
  ArrayRef<MemorySpan> spans(spans_);
  for (auto [workspace, span] : llvm::zip_equal(workspaces_, spans.drop_front(items_.size()))) {
    if (span.bytes == 0)
      continue;
    plan::LaunchOp launch = workspace.launch;
    auto repeat = dyn_cast<plan::RepeatOp>(launch->getParentOp());
    OpBuilder builder(repeat ? repeat.getOperation() : launch.getOperation());
    auto type = RankedTensorType::get({static_cast<int64_t>(llvm::divideCeil(span.bytes, 4))},
                                      builder.getI32Type());
    auto buffer = plan::BufferOp::create(builder, launch.getLoc(), type);
    buffer.setOffset(span.offset);
    launch.getWorkspaceMutable().assign(buffer.getBuffer());
  }
}

/// Lays `bytes` behind what is there and returns where it starts, or nothing on overflow.
std::optional<int64_t> append(int64_t &used, std::optional<int64_t> bytes) {
  int64_t offset = static_cast<int64_t>(llvm::alignTo(used, kAlignment));
  if (!bytes || __builtin_add_overflow(offset, *bytes, &used))
    return std::nullopt;
  return offset;
}

/// All the memory of a module at given bounds.
class ModuleMemory {
public:
  LogicalResult analyze(ModuleOp module);

  /// Gives the best offsets at the symbols' bounds, within `limit` bytes in all if there are such;
  /// false where a size overflows.
  bool assign(int64_t limit);
  /// Whether there are offsets within `limit`.
  bool fits(int64_t limit);
  void commit();

  SymbolBounds &symbols() { return *symbols_; }

private:
  struct State {
    moe::StateOp op;
    kernels::OperandType type; // a rank's part
    int64_t reserve = 0;       // the largest of its buffers', in elements
    int64_t offset = 0;
  };
  LogicalResult addStates();
  LogicalResult addBuffers(plan::ProgramOp program);
  bool assignFixed();
  bool assignTransient(int64_t limit, bool isProbe);

  ModuleOp module_;
  kernels::Target target_;
  std::optional<SymbolBounds> symbols_;
  llvm::MapVector<StringAttr, State> states_;
  llvm::MapVector<std::pair<StringAttr, Type>, kernels::OperandType> ports_;
  SmallVector<int64_t> portOffsets_;
  std::vector<ProgramMemory> programs_;
  int64_t arenas_[4] = {};
};

LogicalResult ModuleMemory::addStates() {
  SymbolTableCollection tables;
  for (moe::StateOp state : module_.getOps<moe::StateOp>()) {
    FailureOr<RankedTensorType> local = state.localType(&tables);
    if (failed(local))
      return failure();
    FailureOr<kernels::OperandType> type = operandType(*local, *symbols_, state);
    if (failed(type))
      return failure();
    states_.insert({state.getSymNameAttr(), State{state, *type}});
  }
  return success();
}

LogicalResult ModuleMemory::addBuffers(plan::ProgramOp program) {
  for (auto buffer : program.getBody().front().getOps<plan::BufferOp>()) {
    if (buffer.getArena() == plan::Arena::State) {
      State &state = states_.find(buffer.getStateAttr().getAttr())->second;
      state.reserve =
          std::max(state.reserve, static_cast<int64_t>(buffer.getReserve().value_or(0)));
    } else if (buffer.getArena() == plan::Arena::Io) {
      FailureOr<kernels::OperandType> type = operandType(buffer.getTensorType(), *symbols_, buffer);
      if (failed(type))
        return failure();
      ports_.insert({{buffer.getPortNameAttr(), buffer.getTensorType()}, *type});
    }
  }
  return success();
}

LogicalResult ModuleMemory::analyze(ModuleOp module) {
  module_ = module;
  symbols_.emplace(module);
  std::optional<kernels::Target> target = targetOf(module);
  if (!target)
    return module.emitError("assign-addresses: plan.target is ")
           << module->getAttr(plan::kTargetAttr)
           << "; expected as to-plan leaves it, {kind = \"cpu\" or \"cuda\", threads = N : i64}";
  target_ = *target;
  if (failed(addStates()))
    return failure();
  for (plan::ProgramOp program : module.getOps<plan::ProgramOp>()) {
    if (failed(addBuffers(program)))
      return failure();
    FailureOr<ProgramMemory> memory = ProgramMemory::analyze(program, *symbols_);
    if (failed(memory))
      return failure();
    programs_.push_back(std::move(*memory));
  }
  auto ports = ports_.takeVector();
  auto key = [&](const auto &port) {
    bool varies = !cast<RankedTensorType>(port.first.second).hasStaticShape();
    return std::pair(varies, byteSize(port.second, symbols_->bounds()));
  };
  llvm::stable_sort(ports, [&](const auto &a, const auto &b) { return key(a) < key(b); });
  for (auto &port : ports)
    ports_.insert(port);
  return success();
}

/// The arenas of states and ports; false on overflow.
bool ModuleMemory::assignFixed() {
  ArrayRef<int64_t> bounds = symbols_->bounds();
  int64_t used = 0, io = 0;
  portOffsets_.clear();
  for (auto &[name, state] : states_) {
    std::optional<int64_t> offset =
        append(used, bytesWithReserve(state.type, state.reserve, bounds));
    if (!offset)
      return false;
    state.offset = *offset;
  }
  for (auto &[port, type] : ports_) {
    std::optional<int64_t> offset = append(io, byteSize(type, bounds));
    if (!offset)
      return false;
    portOffsets_.push_back(*offset);
  }
  arenas_[0] = static_cast<int64_t>(llvm::alignTo(used, kAlignment));
  arenas_[1] = static_cast<int64_t>(llvm::alignTo(io, kAlignment));
  return true;
}

/// The arena over which programs lie; false on overflow, and where a probe finds no offsets.
bool ModuleMemory::assignTransient(int64_t limit, bool isProbe) {
  arenas_[3] = 0;
  for (ProgramMemory &program : programs_) {
    std::optional<int64_t> bytes = program.assign(symbols_->bounds(), target_, limit, isProbe);
    if (!bytes)
      return false;
    arenas_[3] = std::max(arenas_[3], *bytes);
  }
  return true;
}

bool ModuleMemory::assign(int64_t limit) {
  return assignFixed() && assignTransient(limit - arenas_[0] - arenas_[1], /*isProbe=*/false);
}

bool ModuleMemory::fits(int64_t limit) {
  return assignFixed() && assignTransient(limit - arenas_[0] - arenas_[1], /*isProbe=*/true);
}

void ModuleMemory::commit() {
  Builder builder(module_.getContext());
  for (auto [op, bound] : llvm::zip_equal(symbols_->ops(), symbols_->bounds())) {
    moe::SymbolOp symbol = op;
    symbol.setBound(bound);
    symbol.removeMinimumAttr();
  }
  for (auto &[name, state] : states_)
    state.op.setOffset(state.offset);
  llvm::DenseMap<std::pair<StringAttr, Type>, int64_t> portOffset;
  for (auto [entry, offset] : llvm::zip_equal(ports_, portOffsets_))
    portOffset[entry.first] = offset;
  for (plan::ProgramOp program : module_.getOps<plan::ProgramOp>())
    for (auto buffer : program.getBody().front().getOps<plan::BufferOp>())
      if (buffer.getArena() == plan::Arena::Io)
        buffer.setOffset(portOffset[{buffer.getPortNameAttr(), buffer.getTensorType()}]);
      else if (buffer.getArena() == plan::Arena::State)
        if (int64_t reserve = states_.find(buffer.getStateAttr().getAttr())->second.reserve)
          buffer.setReserve(reserve);
  for (ProgramMemory &program : programs_)
    program.commit();

  SmallVector<NamedAttribute> sizes;
  for (uint32_t arena = 0; arena < 4; ++arena)
    sizes.emplace_back(builder.getStringAttr(plan::stringifyArena(static_cast<plan::Arena>(arena))),
                       builder.getI64IntegerAttr(arenas_[arena]));
  module_->setAttr(plan::kArenasAttr, builder.getDictionaryAttr(sizes));
  module_->setAttr(plan::kPeakAttr, builder.getI64IntegerAttr(std::accumulate(
                                        std::begin(arenas_), std::end(arenas_), int64_t(0))));
}

struct AssignAddresses : impl::AssignAddressesBase<AssignAddresses> {
  using AssignAddressesBase::AssignAddressesBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    ModuleMemory moduleMemory;
    if (failed(moduleMemory.analyze(module)))
      return signalPassFailure();
    if (memory > 0)
      lowerBounds(moduleMemory);
    if (!moduleMemory.assign(memory > 0 ? memory : kMostBytes)) {
      module.emitError(
          "assign-addresses: a buffer is larger than 2^62 bytes at the symbols' bounds");
      return signalPassFailure();
    }
    moduleMemory.commit();
  }

private:
  /// Lowers the bound of each symbol that has a minimum to the largest at which the peak is within
  /// `memory`; to the minimum if there is none, which verify-memory will refuse.
  void lowerBounds(ModuleMemory &moduleMemory) {
    SymbolBounds &symbols = moduleMemory.symbols();
    for (size_t index = 0; index < symbols.ops().size(); ++index) {
      moe::SymbolOp symbol = symbols.ops()[index];
      if (!symbol.getMinimum())
        continue;
      auto fits = [&](int64_t candidate) {
        symbols.setBound(index, candidate);
        return moduleMemory.fits(memory);
      };
      int64_t high = symbols.bounds()[index], low = static_cast<int64_t>(*symbol.getMinimum());
      if (fits(high))
        continue;
      while (high - low > kBucketRows) { // `high` does not fit, `low` does or is the minimum
        int64_t middle = (low + (high - low) / 2) / kBucketRows * kBucketRows;
        if (middle <= low)
          break;
        (fits(middle) ? low : high) = middle;
      }
      symbols.setBound(index, low);
    }
  }
};

} // namespace
} // namespace switchyard::passes

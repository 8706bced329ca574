// assign-addresses: gives every state and buffer its offset, every launch its workspace, and
// certifies the peak.
//
// States lie one after the other. A port has the same address in all programs that have one of its
// name and type; those that vary come last, so that a pass below the bound reaches less far.
// Transient buffers are packed by when they live: largest first, each at the lowest offset where
// nothing that lives at the same time lies (Pisarchyk & Lee 2020, "greedy by size"); other orders
// are tried and the smallest result is kept. Sizes follow the symbols' bounds and nothing else, so
// the largest token bound that fits a memory is found by packing again.

#include "passes/KernelTypes.h"
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

constexpr int64_t kAlignment = 256;
/// Token bounds are multiples of this, as the buckets that the runtime rounds up to.
constexpr int64_t kBucketRows = 64;

/// Memory of a program's transient arena and the instructions between which it must not be touched.
/// A launch's workspace is one too.
struct Item {
  SmallVector<Value> buffers; // those that share it
  plan::LaunchOp launch;      // or the launch it is the workspace of
  int begin = std::numeric_limits<int>::max();
  int end = -1;
  bool varies = false; // its size follows a symbol
  int64_t bytes = 0;
  int64_t offset = 0;
};

/// Offsets for `items`, visited in `order`. Returns the bytes used.
int64_t pack(MutableArrayRef<Item> items, ArrayRef<int> order) {
  int64_t used = 0;
  SmallVector<int> placed; // by offset
  for (int index : order) {
    Item &item = items[index];
    int64_t offset = 0;
    for (int other : placed) {
      const Item &fixed = items[other];
      bool apart = fixed.end < item.begin || item.end < fixed.begin || fixed.bytes == 0;
      if (apart)
        continue;
      if (offset + item.bytes <= fixed.offset)
        break;
      offset = std::max(
          offset, static_cast<int64_t>(llvm::alignTo(fixed.offset + fixed.bytes, kAlignment)));
    }
    item.offset = offset;
    used = std::max(used, offset + item.bytes);
    placed.insert(
        llvm::upper_bound(placed, offset,
                          [&](int64_t value, int other) { return value < items[other].offset; }),
        index);
  }
  return static_cast<int64_t>(llvm::alignTo(used, kAlignment));
}

/// Whether the arena's last byte belongs to an item that varies, so that a smaller pass reaches
/// less far.
bool endsVarying(ArrayRef<Item> items) {
  const Item *last = nullptr;
  for (const Item &item : items)
    if (item.bytes > 0 && (!last || item.offset + item.bytes > last->offset + last->bytes))
      last = &item;
  return !last || last->varies;
}

/// The best of six orders: three, each also with the items of fixed size first, hence lowest. A
/// last byte that varies is worth one percent.
int64_t packBest(std::vector<Item> &items) {
  auto life = [&](int i) { return int64_t(items[i].end) - items[i].begin + 1; };
  const std::function<bool(int, int)> orders[] = {
      [&](int a, int b) { return items[a].bytes > items[b].bytes; },
      [&](int a, int b) { return items[a].bytes * life(a) > items[b].bytes * life(b); },
      [&](int a, int b) { return items[a].begin < items[b].begin; },
  };
  std::vector<Item> best;
  int64_t bestBytes = 0;
  double bestCost = std::numeric_limits<double>::infinity();
  for (const auto &before : orders) {
    for (bool fixedFirst : {true, false}) {
      SmallVector<int> order(items.size());
      std::iota(order.begin(), order.end(), 0);
      llvm::stable_sort(order, before);
      if (fixedFirst)
        llvm::stable_sort(order, [&](int a, int b) { return items[a].varies < items[b].varies; });
      int64_t bytes = pack(items, order);
      double cost = static_cast<double>(bytes) * (endsVarying(items) ? 1.0 : 1.01);
      if (cost >= bestCost)
        continue;
      bestCost = cost;
      bestBytes = bytes;
      best = items;
    }
  }
  items = std::move(best);
  return bestBytes;
}

/// One program's transient memory.
class ProgramMemory {
public:
  static FailureOr<ProgramMemory> analyze(plan::ProgramOp program, const SymbolBounds &symbols);

  /// Sizes at `bounds`, then offsets. Returns the arena's bytes, or nothing on overflow.
  std::optional<int64_t> assign(ArrayRef<int64_t> bounds, kernels::Target target);

  /// Writes offsets into the IR and adds the workspaces.
  void commit();

private:
  struct Workspace {
    size_t item;
    LaunchOperands operands;
  };
  std::vector<Item> items_;
  std::vector<kernels::OperandType> types_; // of items with buffers: the same for all that share it
  std::vector<Workspace> workspaces_;
};

bool isTransient(Value value) {
  return value.getDefiningOp<plan::BufferOp>().getArena() == plan::Arena::Transient;
}

FailureOr<ProgramMemory> ProgramMemory::analyze(plan::ProgramOp program,
                                                const SymbolBounds &symbols) {
  ProgramMemory memory;
  llvm::DenseMap<Value, std::pair<int, int>> lives;
  SmallVector<std::pair<int, plan::LaunchOp>> launches;
  std::vector<LaunchOperands> resolved;
  int position = 0;
  for (Operation &op : program.getBody().front()) {
    if (isa<plan::BufferOp>(op))
      continue;
    for (Value value : op.getOperands())
      if (isTransient(value)) {
        auto [life, isNew] = lives.try_emplace(value, position, position);
        life->second.second = position;
      }
    if (auto launch = dyn_cast<plan::LaunchOp>(op)) {
      FailureOr<LaunchOperands> operands = resolveLaunch(launch, symbols);
      if (failed(operands))
        return failure();
      launches.emplace_back(position, launch);
      resolved.push_back(std::move(*operands));
    }
    ++position;
  }

  // A result takes over an operand's memory where the signature allows it and the operand is dead
  // after the launch.
  llvm::EquivalenceClasses<Value> shared;
  for (auto &[value, life] : lives)
    shared.insert(value);
  for (auto [at, operands] : llvm::zip_equal(launches, resolved)) {
    int count = static_cast<int>(operands.values.size());
    for (int index = 0; index < count; ++index) {
      int overlay =
          operands.signature->operands[kernels::specOfOperand(*operands.signature, index, count)]
              .overlay;
      if (overlay < 0)
        continue;
      Value result = operands.values[index], operand = operands.values[overlay];
      if (isTransient(result) && isTransient(operand) && result.getType() == operand.getType() &&
          lives[result].first == at.first && lives[operand].second == at.first &&
          llvm::count(operands.values, operand) == 1)
        shared.unionSets(operand, result);
    }
  }

  llvm::DenseMap<Value, size_t> itemOf;
  for (auto buffer : program.getBody().front().getOps<plan::BufferOp>()) {
    auto life = lives.find(buffer.getBuffer());
    if (life == lives.end())
      continue;
    auto [slot, isNew] =
        itemOf.try_emplace(shared.getLeaderValue(buffer.getBuffer()), memory.items_.size());
    if (isNew) {
      memory.items_.emplace_back();
      FailureOr<kernels::OperandType> type = operandType(buffer.getTensorType(), symbols, buffer);
      if (failed(type))
        return failure();
      memory.items_.back().varies = !buffer.getTensorType().hasStaticShape();
      memory.types_.push_back(*type);
    }
    Item &item = memory.items_[slot->second];
    item.buffers.push_back(buffer.getBuffer());
    item.begin = std::min(item.begin, life->second.first);
    item.end = std::max(item.end, life->second.second);
  }
  for (auto [at, operands] : llvm::zip_equal(launches, resolved)) {
    Item item;
    item.launch = at.second;
    item.begin = item.end = at.first;
    memory.workspaces_.push_back({memory.items_.size(), std::move(operands)});
    memory.items_.push_back(std::move(item));
  }
  return memory;
}

std::optional<int64_t> ProgramMemory::assign(ArrayRef<int64_t> bounds, kernels::Target target) {
  for (auto [item, type] : llvm::zip(items_, types_)) {
    std::optional<int64_t> bytes = byteSize(type, bounds);
    if (!bytes)
      return std::nullopt;
    item.bytes = *bytes;
  }
  for (Workspace &workspace : workspaces_)
    items_[workspace.item].bytes = kernels::workspaceBytes(
        *workspace.operands.signature, workspace.operands.types, workspace.operands.attributes,
        std::span<const int64_t>(bounds.data(), bounds.size()), target);
  return packBest(items_);
}

void ProgramMemory::commit() {
  for (Item &item : items_) {
    for (Value buffer : item.buffers)
      buffer.getDefiningOp<plan::BufferOp>().setOffset(item.offset);
    if (!item.launch || item.bytes == 0)
      continue;
    OpBuilder builder(item.launch);
    auto type = RankedTensorType::get({static_cast<int64_t>(llvm::divideCeil(item.bytes, 4))},
                                      builder.getI32Type());
    auto buffer = plan::BufferOp::create(builder, item.launch.getLoc(), type);
    buffer.setOffset(item.offset);
    item.launch.getWorkspaceMutable().assign(buffer.getBuffer());
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

  /// The peak in bytes at the symbols' bounds, or nothing where a size overflows.
  std::optional<int64_t> assign();
  void commit();

  SymbolBounds &symbols() { return *symbols_; }

private:
  ModuleOp module_;
  std::optional<SymbolBounds> symbols_;
  std::vector<std::pair<moe::StateOp, kernels::OperandType>> states_;
  SmallVector<int64_t> stateOffsets_;
  llvm::MapVector<std::pair<StringAttr, Type>, kernels::OperandType> ports_;
  SmallVector<int64_t> portOffsets_;
  std::vector<ProgramMemory> programs_;
  int64_t arenas_[4] = {};
};

LogicalResult ModuleMemory::analyze(ModuleOp module) {
  module_ = module;
  symbols_.emplace(module);
  for (moe::StateOp state : module.getOps<moe::StateOp>()) {
    FailureOr<kernels::OperandType> type =
        operandType(cast<RankedTensorType>(state.getType()), *symbols_, state);
    if (failed(type))
      return failure();
    states_.emplace_back(state, *type);
  }
  for (plan::ProgramOp program : module.getOps<plan::ProgramOp>()) {
    for (auto buffer : program.getBody().front().getOps<plan::BufferOp>()) {
      if (buffer.getArena() != plan::Arena::Io)
        continue;
      FailureOr<kernels::OperandType> type = operandType(buffer.getTensorType(), *symbols_, buffer);
      if (failed(type))
        return failure();
      ports_.insert({{buffer.getPortNameAttr(), buffer.getTensorType()}, *type});
    }
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

std::optional<int64_t> ModuleMemory::assign() {
  ArrayRef<int64_t> bounds = symbols_->bounds();
  int64_t state = 0, io = 0, transient = 0;
  stateOffsets_.clear();
  portOffsets_.clear();
  for (auto &[op, type] : states_) {
    std::optional<int64_t> offset = append(state, byteSize(type, bounds));
    if (!offset)
      return std::nullopt;
    stateOffsets_.push_back(*offset);
  }
  for (auto &[port, type] : ports_) {
    std::optional<int64_t> offset = append(io, byteSize(type, bounds));
    if (!offset)
      return std::nullopt;
    portOffsets_.push_back(*offset);
  }
  for (ProgramMemory &program : programs_) {
    std::optional<int64_t> bytes = program.assign(bounds, targetOf(module_));
    if (!bytes)
      return std::nullopt;
    transient = std::max(transient, *bytes);
  }
  arenas_[0] = static_cast<int64_t>(llvm::alignTo(state, kAlignment));
  arenas_[1] = static_cast<int64_t>(llvm::alignTo(io, kAlignment));
  arenas_[3] = transient;
  return std::accumulate(std::begin(arenas_), std::end(arenas_), int64_t(0));
}

void ModuleMemory::commit() {
  Builder builder(module_.getContext());
  for (auto [op, bound] : llvm::zip_equal(symbols_->ops(), symbols_->bounds())) {
    moe::SymbolOp symbol = op;
    symbol.setBound(bound);
    symbol.removeMinimumAttr();
  }
  for (auto [entry, offset] : llvm::zip_equal(states_, stateOffsets_))
    entry.first.setOffset(offset);
  llvm::DenseMap<std::pair<StringAttr, Type>, int64_t> portOffset;
  for (auto [entry, offset] : llvm::zip_equal(ports_, portOffsets_))
    portOffset[entry.first] = offset;
  for (plan::ProgramOp program : module_.getOps<plan::ProgramOp>())
    for (auto buffer : program.getBody().front().getOps<plan::BufferOp>())
      if (buffer.getArena() == plan::Arena::Io)
        buffer.setOffset(portOffset[{buffer.getPortNameAttr(), buffer.getTensorType()}]);
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
    if (!moduleMemory.assign()) {
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
      int64_t &bound = symbols.bounds()[index];
      auto fits = [&](int64_t candidate) {
        bound = candidate;
        std::optional<int64_t> peak = moduleMemory.assign();
        return peak && *peak <= memory;
      };
      int64_t high = bound, low = static_cast<int64_t>(*symbol.getMinimum());
      if (fits(high))
        continue;
      while (high - low > kBucketRows) { // `high` does not fit, `low` does or is the minimum
        int64_t middle = (low + (high - low) / 2) / kBucketRows * kBucketRows;
        if (middle <= low)
          break;
        (fits(middle) ? low : high) = middle;
      }
      bound = low;
    }
  }
};

} // namespace
} // namespace switchyard::passes

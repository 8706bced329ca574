// to-plan: functions over tensors become plan programs over buffers.
//
// One launch per op, its operands and attributes found through the kernel's signature, or one
// collective: no code here knows an op by name but those that have no kernel (read, write,
// boundary, and the dist dialect's). A result that is returned or written to a state is computed
// where it has to end up if nothing still reads what is there; an update overwrites its operand if
// the operand is dead after it; every other case is an explicit plan.copy. What rounds carry is
// updated in place.

#include "passes/KernelTypes.h"
#include "passes/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_TOPLAN
#include "passes/Passes.h.inc"

namespace {

class FunctionLowering {
public:
  FunctionLowering(func::FuncOp func, const SymbolBounds &symbols, dist::MeshAttr mesh)
      : func_(func), symbols_(symbols), mesh_(mesh), builder_(func.getContext()) {}

  LogicalResult run();

private:
  void forwardIdentities();
  bool updatesItself(moe::GradientOp gradient);
  void sinkConstants();
  void tieSums(dist::RoundsOp loop);
  LogicalResult collect(Block &block);
  void chooseHomes();
  LogicalResult lowerBlock(Block &block);
  LogicalResult lowerLaunch(Operation &op, const kernels::Signature &signature);
  void lowerCollective(Operation &op, plan::CollectiveKind kind);
  LogicalResult lowerRounds(dist::RoundsOp loop);
  void finish(func::ReturnOp op);

  bool canUpdateInPlace(OpOperand &operand);
  Value bufferOf(Value value);
  Value updatedBuffer(OpOperand &operand, Value result);
  Value newBufferFor(Value value, int64_t room = 0);
  Value withRoom(Value buffer, int64_t room);
  int64_t roomFor(Value part, Value whole, dist::AxesAttr axes);
  Value stateBuffer(FlatSymbolRefAttr state, RankedTensorType type);
  int lastUse(Value value);
  int lastReadUse(StringRef state);
  void emitCopy(Value from, Value to);

  /// Makes a buffer, before the repeat where instructions of its body are being made.
  template <typename... Args>
  Value createBuffer(Location location, RankedTensorType type, Args... args) {
    OpBuilder::InsertionGuard guard(builder_);
    if (auto repeat = dyn_cast<plan::RepeatOp>(builder_.getInsertionBlock()->getParentOp()))
      builder_.setInsertionPoint(repeat);
    return plan::BufferOp::create(builder_, location, type, args...);
  }

  func::FuncOp func_;
  const SymbolBounds &symbols_;
  dist::MeshAttr mesh_; // null for one rank
  OpBuilder builder_;
  plan::ProgramOp program_;

  llvm::DenseMap<Operation *, int> positions_;
  int exit_ = 0;                                     // the position of the return
  llvm::StringMap<SmallVector<moe::ReadOp>> reads_;  // by state
  llvm::MapVector<StringAttr, moe::WriteOp> writes_; // by state
  llvm::DenseSet<Operation *> updatesOfState_;       // updates from a read of a state to its write
  llvm::DenseSet<OpOperand *> sumsOfRounds_;         // where a round adds to what it carries
  llvm::DenseMap<Value, Value> homes_;               // buffer where a result must end up
  llvm::DenseMap<Value, Value> buffers_;             // buffer that holds a value
  llvm::MapVector<StringAttr, Value> stateBuffers_;
  SmallVector<Value> outputs_;
};

/// The kernel of an op: its name without the dialect's.
const kernels::Signature *signatureOf(Operation *op) {
  StringRef name = op->getName().stripDialect();
  return kernels::findSignature(std::string_view(name.data(), name.size()));
}

/// What the collectives of the dist dialect become.
std::optional<plan::CollectiveKind> collectiveKindOf(Operation *op) {
  using Kind = plan::CollectiveKind;
  return llvm::TypeSwitch<Operation *, std::optional<Kind>>(op)
      .Case<dist::AllGatherOp>([](auto) { return Kind::AllGather; })
      .Case<dist::ReduceScatterOp>([](auto) { return Kind::ReduceScatter; })
      .Case<dist::AllReduceOp>([](auto) { return Kind::AllReduce; })
      .Case<dist::TokenExchangeOp>([](auto) { return Kind::TokenExchange; })
      .Case<dist::TokenReturnOp>([](auto) { return Kind::TokenReturn; })
      .Default(std::nullopt);
}

bool isInstruction(Operation *op) {
  return isa<dist::RoundsOp>(op) || collectiveKindOf(op) || signatureOf(op);
}

/// The number of results that are tied to the op's Update operands: its first.
unsigned numTiedResults(const kernels::Signature &signature) {
  return llvm::count_if(signature.operands, [](const kernels::OperandSpec &spec) {
    return spec.role == kernels::Role::Update;
  });
}

/// The operand whose memory `result` takes over, or null. Update operands never follow a repeated
/// one.
OpOperand *tiedOperand(OpResult result) {
  Operation *op = result.getOwner();
  if (auto loop = dyn_cast<dist::RoundsOp>(op))
    return &loop.getCarriedMutable()[result.getResultNumber()];
  if (auto back = dyn_cast<dist::TokenReturnOp>(op))
    return back.getInto() ? &back.getIntoMutable()[0] : nullptr;
  const kernels::Signature *signature = signatureOf(op);
  if (!signature)
    return nullptr;
  unsigned update = 0;
  for (auto [index, spec] : llvm::enumerate(signature->operands)) {
    if (spec.role == kernels::Role::Update && update++ == result.getResultNumber())
      return &op->getOpOperand(index);
  }
  return nullptr;
}

void FunctionLowering::forwardIdentities() {
  func_.walk([](Operation *op) {
    if (!isa<moe::BoundaryOp, dist::ReplicateOp>(op))
      return;
    op->getResult(0).replaceAllUsesWith(op->getOperand(0));
    op->erase();
  });
}

/// Whether the program writes the parameter whose gradient is marked: it has used the gradient.
bool FunctionLowering::updatesItself(moe::GradientOp gradient) {
  return llvm::any_of(func_.getOps<moe::WriteOp>(), [&](moe::WriteOp write) {
    return write.getStateAttr() == gradient.getParameterAttr();
  });
}

/// Makes a constant anew wherever it is used. To fill memory costs less than to keep it, and one
/// that is updated is then updated in place.
void FunctionLowering::sinkConstants() {
  SmallVector<Operation *> constants;
  func_.walk([&](Operation *op) {
    if (op->hasTrait<OpTrait::ConstantLike>())
      constants.push_back(op);
  });
  for (Operation *constant : constants) {
    for (OpOperand &use : llvm::make_early_inc_range(constant->getUses())) {
      builder_.setInsertionPoint(use.getOwner());
      use.set(builder_.clone(*constant)->getResult(0));
    }
    constant->erase();
  }
}

/// Makes each sum with a carried value an update of it (C4 of dist.rounds says that there is
/// nothing else), and remembers where those are.
void FunctionLowering::tieSums(dist::RoundsOp loop) {
  for (Value sum : loop.getCarriedArguments()) {
    while (!isa<dist::YieldOp>(*sum.user_begin())) {
      Operation *user = *sum.user_begin();
      if (auto add = dyn_cast<moe::AddOp>(user)) {
        builder_.setInsertionPoint(add);
        Value term = add.getA() == sum ? add.getB() : add.getA();
        user = moe::AccumulateOp::create(builder_, add.getLoc(), sum, term);
        add.replaceAllUsesWith(user->getResult(0));
        add.erase();
      }
      sumsOfRounds_.insert(&*sum.use_begin());
      sum = user->getResult(0);
    }
  }
}

LogicalResult FunctionLowering::collect(Block &block) {
  for (Operation &op : block) {
    positions_[&op] = exit_++;
    if (auto read = dyn_cast<moe::ReadOp>(op)) {
      reads_[read.getState()].push_back(read);
    } else if (auto write = dyn_cast<moe::WriteOp>(op)) {
      if (!writes_.try_emplace(write.getStateAttr().getAttr(), write).second)
        return write.emitOpError("writes @") << write.getState() << " a second time";
    } else if (auto loop = dyn_cast<dist::RoundsOp>(op)) {
      if (!loop.getCount().getDefiningOp<dist::OverflowRoundsOp>())
        return loop.emitOpError("repeats by a count that is not a dist.overflow_rounds; a plan has "
                                "no other");
      tieSums(loop);
      if (failed(collect(loop.getBody().front())))
        return failure();
    } else if (auto gradient = dyn_cast<moe::GradientOp>(op)) {
      if (!updatesItself(gradient))
        return gradient.emitOpError("has no kernel; lower it before to-plan");
    } else if (isa<dist::OverflowRoundsOp>(op)) {
      for (Operation *user : op.getUsers())
        if (!isa<dist::RoundsOp>(user))
          return user->emitOpError("uses the number of overflow rounds, which only a dist.rounds "
                                   "does in a plan");
    } else if (!isa<func::ReturnOp, dist::YieldOp>(op) && !isInstruction(&op)) {
      return op.emitOpError("has no kernel; lower it before to-plan");
    }
  }
  return success();
}

/// The position of the last instruction that needs `value`: the exit for what is returned or
/// written to a state.
int FunctionLowering::lastUse(Value value) {
  int last = -1;
  for (Operation *user : value.getUsers()) {
    int position = isa<moe::WriteOp, func::ReturnOp>(user) ? exit_
                   : isa<dist::OverflowRoundsOp>(user)     ? lastUse(user->getResult(0))
                                                           : positions_[user];
    last = std::max(last, position);
  }
  return last;
}

int FunctionLowering::lastReadUse(StringRef state) {
  int last = -1;
  for (moe::ReadOp read : reads_[state])
    last = std::max(last, lastUse(read.getResult()));
  return last;
}

void FunctionLowering::chooseHomes() {
  auto isFreshResult = [&](Value value) {
    auto result = dyn_cast<OpResult>(value);
    return result && isInstruction(result.getOwner()) && !tiedOperand(result) &&
           !homes_.contains(value);
  };
  auto returned = cast<func::ReturnOp>(func_.front().getTerminator());
  for (auto [index, value] : llvm::enumerate(returned.getOperands())) {
    auto name = func_.getResultAttrOfType<StringAttr>(index, "moe.name");
    Value output = createBuffer(returned.getLoc(), cast<RankedTensorType>(value.getType()),
                                plan::Port::Output, name.getValue());
    outputs_.push_back(output);
    if (isFreshResult(value))
      homes_[value] = output;
  }
  for (auto &[state, write] : writes_) {
    Value value = write.getValue();
    if (isFreshResult(value) && lastReadUse(state) < positions_[value.getDefiningOp()])
      homes_[value] = stateBuffer(write.getStateAttr(), cast<RankedTensorType>(value.getType()));
    // Follow the updates back from the written value: in place if they start at a read of the same
    // state.
    SmallVector<Operation *> chain;
    while (auto result = dyn_cast<OpResult>(value)) {
      if (auto read = result.getDefiningOp<moe::ReadOp>()) {
        if (read.getStateAttr() == write.getStateAttr())
          updatesOfState_.insert_range(chain);
        break;
      }
      OpOperand *operand = tiedOperand(result);
      if (!operand)
        break;
      chain.push_back(result.getOwner());
      value = operand->get();
    }
  }
}

Value FunctionLowering::stateBuffer(FlatSymbolRefAttr state, RankedTensorType type) {
  Value &buffer = stateBuffers_[state.getAttr()];
  if (!buffer)
    buffer = createBuffer(func_.getLoc(), type, state);
  return buffer;
}

/// How many elements the buffer of `whole`, gathered from parts like `part` or summed into them,
/// must have room for beyond its own; 0 for none.
int64_t FunctionLowering::roomFor(Value part, Value whole, dist::AxesAttr axes) {
  auto count = [](Value value) {
    return *dist::elementCount(cast<RankedTensorType>(value.getType()));
  };
  int64_t room = *mesh_.groupSize(axes) * count(part);
  return room > count(whole) ? room : 0;
}

/// `buffer`, with room for as many elements, or 0 for its own; a copy of it where that is a port.
Value FunctionLowering::withRoom(Value buffer, int64_t room) {
  auto op = buffer.getDefiningOp<plan::BufferOp>();
  if (room == 0 || op.roomInElements() >= room)
    return buffer;
  if (op.getArena() == plan::Arena::Io) {
    Value roomy = createBuffer(op.getLoc(), op.getTensorType());
    emitCopy(buffer, roomy);
    return withRoom(roomy, room);
  }
  op.setReserve(room);
  return buffer;
}

Value FunctionLowering::newBufferFor(Value value, int64_t room) {
  Value home = homes_.lookup(value);
  bool isPort = home && home.getDefiningOp<plan::BufferOp>().getArena() == plan::Arena::Io;
  if (!home || (isPort && room > 0)) // a port has no more room; finish() copies into it
    home = createBuffer(value.getLoc(), cast<RankedTensorType>(value.getType()));
  return withRoom(home, room);
}

Value FunctionLowering::bufferOf(Value value) {
  if (auto read = value.getDefiningOp<moe::ReadOp>())
    return stateBuffer(read.getStateAttr(), cast<RankedTensorType>(value.getType()));
  return buffers_.lookup(value);
}

/// Whether the op that owns `operand` may overwrite it: nothing reads it later, and it is no input;
/// a state's memory only on the way to that state's write, after every other read of it. What
/// rounds carry always is.
bool FunctionLowering::canUpdateInPlace(OpOperand &operand) {
  if (sumsOfRounds_.contains(&operand))
    return true;
  Value value = operand.get();
  Operation *op = operand.getOwner();
  int position = positions_[op];
  if (isa<BlockArgument>(value) || lastUse(value) > position ||
      llvm::count(op->getOperands(), value) > 1)
    return false;
  auto buffer = bufferOf(value).getDefiningOp<plan::BufferOp>();
  if (buffer.getArena() == plan::Arena::Io)
    return false;
  if (buffer.getArena() != plan::Arena::State)
    return true;
  if (!updatesOfState_.contains(op))
    return false;
  return llvm::all_of(reads_[*buffer.getState()], [&](moe::ReadOp read) {
    return read.getResult() == value || lastUse(read.getResult()) < position;
  });
}

void FunctionLowering::emitCopy(Value from, Value to) {
  plan::CopyOp::create(builder_, from.getLoc(), from, to);
}

/// The buffer in which `result`, tied to `operand`, is computed: the operand's or a copy of it.
Value FunctionLowering::updatedBuffer(OpOperand &operand, Value result) {
  Value buffer = bufferOf(operand.get());
  if (!canUpdateInPlace(operand)) {
    Value fresh = newBufferFor(result);
    emitCopy(buffer, fresh);
    buffer = fresh;
  }
  buffers_[result] = buffer;
  return buffer;
}

LogicalResult FunctionLowering::lowerLaunch(Operation &op, const kernels::Signature &signature) {
  unsigned tied = numTiedResults(signature);
  SmallVector<Value> ins, updates, outs;
  int count = static_cast<int>(op.getNumOperands() + op.getNumResults() - tied);
  for (OpOperand &operand : op.getOpOperands()) {
    int spec = kernels::specOfOperand(signature, operand.getOperandNumber(), count);
    if (spec < 0 || signature.operands[spec].role == kernels::Role::Out)
      return op.emitOpError("has more operands than its kernel's signature");
    if (signature.operands[spec].role == kernels::Role::In)
      ins.push_back(bufferOf(operand.get()));
    else
      updates.push_back(updatedBuffer(operand, op.getResult(updates.size())));
  }
  for (OpResult result : op.getResults().drop_front(tied)) {
    buffers_[result] = newBufferFor(result);
    outs.push_back(buffers_[result]);
  }

  SmallVector<NamedAttribute> attributes;
  for (const kernels::AttributeSpec &spec : signature.attributes)
    if (Attribute attribute = op.getAttr(StringRef(spec.name)))
      attributes.emplace_back(builder_.getStringAttr(StringRef(spec.name)), attribute);
  auto launch =
      plan::LaunchOp::create(builder_, op.getLoc(), StringRef(signature.name), ins, updates, outs,
                             Value(), builder_.getDictionaryAttr(attributes));
  return failure(failed(resolveLaunch(launch, symbols_)));
}

void FunctionLowering::lowerCollective(Operation &op, plan::CollectiveKind kind) {
  dist::AxesAttr axes = cast<dist::CollectiveOpInterface>(op).getAxes();
  OpOperand *tied = tiedOperand(op.getResult(0));
  SmallVector<Value> ins, updates, outs;
  for (OpOperand &operand : op.getOpOperands()) {
    if (&operand == tied)
      updates.push_back(updatedBuffer(operand, op.getResult(0)));
    else if (kind == plan::CollectiveKind::ReduceScatter)
      ins.push_back(
          withRoom(bufferOf(operand.get()), roomFor(op.getResult(0), operand.get(), axes)));
    else
      ins.push_back(bufferOf(operand.get()));
  }
  for (OpResult result : op.getResults().drop_front(updates.size())) {
    int64_t room =
        kind == plan::CollectiveKind::AllGather ? roomFor(op.getOperand(0), result, axes) : 0;
    buffers_[result] = newBufferFor(result, room);
    outs.push_back(buffers_[result]);
  }
  auto reduce = dyn_cast<dist::AllReduceOp>(op);
  plan::CollectiveOp::create(builder_, op.getLoc(), kind, axes,
                             reduce ? reduce.getReduction() : dist::Reduction::Sum, ins, updates,
                             outs);
}

LogicalResult FunctionLowering::lowerRounds(dist::RoundsOp loop) {
  for (auto [operand, argument, result] :
       llvm::zip_equal(loop.getCarriedMutable(), loop.getCarriedArguments(), loop.getResults()))
    buffers_[argument] = updatedBuffer(operand, result);
  for (auto [value, argument] : llvm::zip_equal(loop.getInvariants(), loop.getInvariantArguments()))
    buffers_[argument] = bufferOf(value);
  BlockArgument round = loop.getRoundArgument();
  buffers_[round] = createBuffer(round.getLoc(), cast<RankedTensorType>(round.getType()));

  auto count = loop.getCount().getDefiningOp<dist::OverflowRoundsOp>();
  auto repeat = plan::RepeatOp::create(builder_, loop.getLoc(), buffers_[round],
                                       bufferOf(count.getAllCounts()), loop.getAxesAttr());
  OpBuilder::InsertionGuard guard(builder_);
  builder_.setInsertionPointToStart(&repeat.getBody().emplaceBlock());
  return lowerBlock(loop.getBody().front());
}

LogicalResult FunctionLowering::lowerBlock(Block &block) {
  for (Operation &op : block.without_terminator()) {
    if (auto loop = dyn_cast<dist::RoundsOp>(op)) {
      if (failed(lowerRounds(loop)))
        return failure();
    } else if (std::optional<plan::CollectiveKind> kind = collectiveKindOf(&op)) {
      lowerCollective(op, *kind);
    } else if (const kernels::Signature *signature = signatureOf(&op)) {
      if (failed(lowerLaunch(op, *signature)))
        return failure();
    }
  }
  return success();
}

/// Copies what is not yet where it has to be at exit. A state that is written may still be what
/// another copy reads, so such sources are set aside first.
void FunctionLowering::finish(func::ReturnOp op) {
  SmallVector<std::pair<Value, Value>> copies;
  for (auto [value, output] : llvm::zip_equal(op.getOperands(), outputs_))
    copies.emplace_back(bufferOf(value), output);
  for (auto &[state, write] : writes_)
    copies.emplace_back(
        bufferOf(write.getValue()),
        stateBuffer(write.getStateAttr(), cast<RankedTensorType>(write.getValue().getType())));
  llvm::erase_if(copies, [](auto &copy) { return copy.first == copy.second; });

  for (auto &[from, to] : copies) {
    bool overwritten = llvm::any_of(copies, [&](auto &other) { return other.second == from; });
    if (!overwritten)
      continue;
    auto type = cast<plan::BufferType>(from.getType()).getTensor();
    Value aside = createBuffer(op.getLoc(), type);
    emitCopy(from, aside);
    from = aside;
  }
  for (auto &[from, to] : copies)
    emitCopy(from, to);
}

LogicalResult FunctionLowering::run() {
  forwardIdentities();
  sinkConstants();
  if (failed(collect(func_.front())))
    return failure();
  --exit_;
  builder_.setInsertionPoint(func_);
  program_ = plan::ProgramOp::create(builder_, func_.getLoc(), func_.getName());
  builder_.setInsertionPointToStart(&program_.getBody().front());
  for (BlockArgument argument : func_.getArguments()) {
    auto name = func_.getArgAttrOfType<StringAttr>(argument.getArgNumber(), "moe.name");
    buffers_[argument] = createBuffer(argument.getLoc(), cast<RankedTensorType>(argument.getType()),
                                      plan::Port::Input, name.getValue());
  }
  chooseHomes();
  if (failed(lowerBlock(func_.front())))
    return failure();
  finish(cast<func::ReturnOp>(func_.front().getTerminator()));
  return success();
}

/// to-plan's own preconditions: one block, ranked tensors, a name for each argument and result.
LogicalResult checkFunction(func::FuncOp func) {
  if (!func.getBody().hasOneBlock())
    return func.emitOpError("has ")
           << func.getBody().getBlocks().size() << " blocks; a program is a single block";
  for (auto [index, type] : llvm::enumerate(func.getArgumentTypes()))
    if (!isa<RankedTensorType>(type) || !func.getArgAttrOfType<StringAttr>(index, "moe.name"))
      return func.emitOpError("has the argument ")
             << index << ", which is not a ranked tensor with a moe.name";
  for (auto [index, type] : llvm::enumerate(func.getResultTypes()))
    if (!isa<RankedTensorType>(type) || !func.getResultAttrOfType<StringAttr>(index, "moe.name"))
      return func.emitOpError("has the result ")
             << index << ", which is not a ranked tensor with a moe.name";
  return success();
}

struct ToPlan : impl::ToPlanBase<ToPlan> {
  using ToPlanBase::ToPlanBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    std::optional<kernels::Target::Kind> kind = targetKind(target);
    if (!kind) {
      module.emitError("to-plan: target is \"") << target << "\"; expected cpu or cuda";
      return signalPassFailure();
    }
    if (threads < 1) {
      module.emitError("to-plan: threads is ") << threads << "; a rank has at least 1";
      return signalPassFailure();
    }
    const bool isCpu = *kind == kernels::Target::Kind::Cpu;
    setTarget(module, {*kind, isCpu ? threads.getValue() : 1});
    SymbolBounds symbols(module);
    dist::MeshOp mesh = dist::lookupMesh(module);
    for (func::FuncOp func : llvm::make_early_inc_range(module.getOps<func::FuncOp>())) {
      if (failed(checkFunction(func)) ||
          failed(FunctionLowering(func, symbols, mesh ? mesh.getMesh() : nullptr).run()))
        return signalPassFailure();
      func.erase();
    }
  }
};

} // namespace
} // namespace switchyard::passes

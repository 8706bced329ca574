// to-plan: functions over tensors become plan programs over buffers.
//
// One launch per op, its operands and attributes found through the kernel's signature: no code here
// knows an op by name but those that have no kernel (read, write, boundary). A result that is
// returned or written to a state is computed where it has to end up if nothing still reads what is
// there; an update overwrites its operand if the operand is dead after it; every other case is an
// explicit plan.copy.

#include "passes/KernelTypes.h"
#include "passes/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_TOPLAN
#include "passes/Passes.h.inc"

namespace {

class FunctionLowering {
public:
  FunctionLowering(func::FuncOp func, const SymbolBounds &symbols)
      : func_(func), symbols_(symbols), builder_(func.getContext()) {}

  LogicalResult run();

private:
  void forwardBoundaries();
  LogicalResult collect();
  void chooseHomes();
  LogicalResult lower(Operation &op);
  LogicalResult finish(func::ReturnOp op);

  bool canUpdateInPlace(OpOperand &operand);
  Value bufferOf(Value value);
  Value newBufferFor(Value value);
  Value stateBuffer(FlatSymbolRefAttr state, RankedTensorType type);
  int lastUse(Value value);
  int lastReadUse(StringRef state);
  void emitCopy(Value from, Value to);

  func::FuncOp func_;
  const SymbolBounds &symbols_;
  OpBuilder builder_;
  plan::ProgramOp program_;

  llvm::DenseMap<Operation *, int> positions_;
  int exit_ = 0;                                     // the position of the return
  llvm::StringMap<SmallVector<moe::ReadOp>> reads_;  // by state
  llvm::MapVector<StringAttr, moe::WriteOp> writes_; // by state
  llvm::DenseSet<Operation *> updatesOfState_;       // updates from a read of a state to its write
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

void FunctionLowering::forwardBoundaries() {
  for (moe::BoundaryOp op : llvm::make_early_inc_range(func_.getOps<moe::BoundaryOp>())) {
    op.getResult().replaceAllUsesWith(op.getOperand());
    op.erase();
  }
}

LogicalResult FunctionLowering::collect() {
  for (Operation &op : func_.front()) {
    positions_[&op] = exit_++;
    if (auto read = dyn_cast<moe::ReadOp>(op))
      reads_[read.getState()].push_back(read);
    else if (auto write = dyn_cast<moe::WriteOp>(op)) {
      if (!writes_.try_emplace(write.getStateAttr().getAttr(), write).second)
        return write.emitOpError("writes @") << write.getState() << " a second time";
    } else if (!isa<func::ReturnOp>(op) && !signatureOf(&op)) {
      return op.emitOpError("has no kernel; lower it before to-plan");
    }
  }
  --exit_;
  return success();
}

/// The position of the last instruction that needs `value`: the exit for what is returned or
/// written to a state.
int FunctionLowering::lastUse(Value value) {
  int last = -1;
  for (Operation *user : value.getUsers())
    last = std::max(last, isa<moe::WriteOp, func::ReturnOp>(user) ? exit_ : positions_[user]);
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
    return result && signatureOf(result.getOwner()) && !tiedOperand(result) &&
           !homes_.contains(value);
  };
  auto returned = cast<func::ReturnOp>(func_.front().getTerminator());
  for (auto [index, value] : llvm::enumerate(returned.getOperands())) {
    auto name = func_.getResultAttrOfType<StringAttr>(index, "moe.name");
    Value output =
        plan::BufferOp::create(builder_, returned.getLoc(), cast<RankedTensorType>(value.getType()),
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
    buffer = plan::BufferOp::create(builder_, func_.getLoc(), type, state);
  return buffer;
}

Value FunctionLowering::newBufferFor(Value value) {
  if (Value home = homes_.lookup(value))
    return home;
  return plan::BufferOp::create(builder_, value.getLoc(), cast<RankedTensorType>(value.getType()));
}

Value FunctionLowering::bufferOf(Value value) {
  if (auto read = value.getDefiningOp<moe::ReadOp>())
    return stateBuffer(read.getStateAttr(), cast<RankedTensorType>(value.getType()));
  return buffers_.lookup(value);
}

/// Whether the op that owns `operand` may overwrite it: nothing reads it later, and it is no input;
/// a state's memory only on the way to that state's write, after every other read of it.
bool FunctionLowering::canUpdateInPlace(OpOperand &operand) {
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

LogicalResult FunctionLowering::lower(Operation &op) {
  const kernels::Signature &signature = *signatureOf(&op);
  unsigned tied = numTiedResults(signature);
  SmallVector<Value> ins, updates, outs;
  int count = static_cast<int>(op.getNumOperands() + op.getNumResults() - tied);
  for (OpOperand &operand : op.getOpOperands()) {
    int spec = kernels::specOfOperand(signature, operand.getOperandNumber(), count);
    if (spec < 0 || signature.operands[spec].role == kernels::Role::Out)
      return op.emitOpError("has more operands than its kernel's signature");
    Value buffer = bufferOf(operand.get());
    if (signature.operands[spec].role == kernels::Role::In) {
      ins.push_back(buffer);
      continue;
    }
    OpResult result = op.getResult(updates.size());
    if (!canUpdateInPlace(operand)) {
      Value fresh = newBufferFor(result);
      emitCopy(buffer, fresh);
      buffer = fresh;
    }
    buffers_[result] = buffer;
    updates.push_back(buffer);
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

/// Copies what is not yet where it has to be at exit. A state that is written may still be what
/// another copy reads, so such sources are set aside first.
LogicalResult FunctionLowering::finish(func::ReturnOp op) {
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
    Value aside = plan::BufferOp::create(builder_, op.getLoc(), type);
    emitCopy(from, aside);
    from = aside;
  }
  for (auto &[from, to] : copies)
    emitCopy(from, to);
  return success();
}

LogicalResult FunctionLowering::run() {
  forwardBoundaries();
  if (failed(collect()))
    return failure();
  builder_.setInsertionPoint(func_);
  program_ = plan::ProgramOp::create(builder_, func_.getLoc(), func_.getName());
  builder_.setInsertionPointToStart(&program_.getBody().front());
  for (BlockArgument argument : func_.getArguments()) {
    auto name = func_.getArgAttrOfType<StringAttr>(argument.getArgNumber(), "moe.name");
    buffers_[argument] = plan::BufferOp::create(builder_, argument.getLoc(),
                                                cast<RankedTensorType>(argument.getType()),
                                                plan::Port::Input, name.getValue());
  }
  chooseHomes();
  for (Operation &op : func_.front().without_terminator())
    if (signatureOf(&op) && failed(lower(op)))
      return failure();
  return finish(cast<func::ReturnOp>(func_.front().getTerminator()));
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
    Builder builder(module.getContext());
    if (threads < 1) {
      module.emitError("to-plan: threads is ") << threads << "; a rank has at least 1";
      return signalPassFailure();
    }
    module->setAttr(plan::kTargetAttr,
                    builder.getDictionaryAttr(
                        {builder.getNamedAttr("kind", builder.getStringAttr("cpu")),
                         builder.getNamedAttr("threads", builder.getI64IntegerAttr(threads))}));
    SymbolBounds symbols(module);
    for (func::FuncOp func : llvm::make_early_inc_range(module.getOps<func::FuncOp>())) {
      if (failed(checkFunction(func)) || failed(FunctionLowering(func, symbols).run()))
        return signalPassFailure();
      func.erase();
    }
  }
};

} // namespace
} // namespace switchyard::passes

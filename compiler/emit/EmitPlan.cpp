// The plan dialect to a Plan.

#include "compiler/emit/Emit.h"
#include "compiler/emit/TrainingFields.h"
#include "passes/KernelTypes.h"
#include "runtime/plan/PlanFile.h"

using namespace mlir;

namespace switchyard::compiler {

namespace {

class Emitter {
public:
  explicit Emitter(ModuleOp module) : module_(module), symbols_(module) {}

  Result<Plan> run();

private:
  Status emitModule();
  Status emitState(moe::StateOp op);
  Status emitProgram(plan::ProgramOp op);
  Status emitBuffer(plan::BufferOp op, Program &program);
  Status emitLaunch(plan::LaunchOp op, Program &program);
  uint32_t indexOf(Value buffer) { return buffers_.lookup(buffer); }

  ModuleOp module_;
  passes::SymbolBounds symbols_;
  Plan plan_;
  llvm::StringMap<int32_t> states_;
  llvm::DenseMap<Value, uint32_t> buffers_; // of the program at hand
};

Status notAddressed(const std::string &what) {
  return Status::invalidInput(what + " has no address; run assign-addresses first");
}

/// The tree of a `from` attribute: a string, #moe.concat or #moe.stack.
Source sourceOf(Attribute attribute) {
  Source source;
  if (auto leaf = dyn_cast<StringAttr>(attribute)) {
    source.kind = Source::Kind::Leaf;
    source.name = leaf.getValue().str();
  } else if (auto concat = dyn_cast<moe::ConcatAttr>(attribute)) {
    source.kind = Source::Kind::Concat;
    for (Attribute part : concat.getParts())
      source.children.push_back(sourceOf(part));
    source.sizes.assign(concat.getRows().begin(), concat.getRows().end());
  } else {
    auto stack = cast<moe::StackAttr>(attribute);
    source.kind = Source::Kind::Stack;
    source.index = stack.getVariable().str();
    source.begin = stack.getBegin();
    source.end = stack.getEnd();
    source.children.push_back(sourceOf(stack.getPart()));
  }
  return source;
}

Status Emitter::emitModule() {
  plan_.compilerVersion = "switchyard " SWITCHYARD_VERSION;
  plan_.target = passes::targetOf(module_);
  auto model = module_->getAttrOfType<DictionaryAttr>(kModelAttr);
  if (!model)
    return Status::invalidInput(
        "the module has no moe.model attribute; import it with moe-translate "
        "--import-hf");
  if (std::string missing = readTraining(model, plan_.training, plan_.modelFingerprint);
      !missing.empty())
    return Status::invalidInput("the module's moe.model attribute lacks \"" + missing + "\"");
  auto arenas = module_->getAttrOfType<DictionaryAttr>(plan::kArenasAttr);
  auto peak = module_->getAttrOfType<IntegerAttr>(plan::kPeakAttr);
  if (!arenas || !peak)
    return notAddressed("the module");
  plan_.peakBytes = peak.getInt();
  for (uint32_t arena = 0; arena < kNumArenas; ++arena) {
    auto bytes = arenas.getAs<IntegerAttr>(plan::stringifyArena(static_cast<plan::Arena>(arena)));
    if (!bytes)
      return notAddressed("the module");
    plan_.arenaBytes[arena] = bytes.getInt();
  }
  for (auto [op, bound] : llvm::zip_equal(symbols_.ops(), symbols_.bounds())) {
    moe::SymbolOp symbol = op;
    plan_.symbols.push_back({symbol.getSymName().str(), bound});
  }
  return {};
}

Status Emitter::emitState(moe::StateOp op) {
  State state;
  state.name = op.getSymName().str();
  auto tensor = cast<RankedTensorType>(op.getType());
  FailureOr<kernels::OperandType> type = passes::operandType(tensor, symbols_, op);
  if (failed(type) || !tensor.hasStaticShape())
    return Status::invalidInput("moe.state @" + state.name + " has no static type");
  if (!op.getOffset())
    return notAddressed("moe.state @" + state.name);
  state.kind = static_cast<StateKind>(op.getKind());
  state.dtype = type->dtype;
  state.shape.assign(tensor.getShape().begin(), tensor.getShape().end());
  state.offset = *op.getOffset();
  state.layer = op.getLayer() ? static_cast<int32_t>(*op.getLayer()) : -1;
  state.decay = op.getDecay();
  state.moduleName = op.getModuleName().value_or("").str();
  if (op.getOf()) {
    auto of = states_.find(*op.getOf());
    if (of == states_.end())
      return Status::invalidInput("moe.state @" + state.name + " is of @" + op.getOf()->str() +
                                  ", which is not declared before it");
    state.of = of->second;
  }
  if (op.getFrom())
    state.source = sourceOf(*op.getFrom());
  else if (state.kind == StateKind::Master) // loaded from the same tensors
    state.source = plan_.states[state.of].source;
  states_[op.getSymName()] = static_cast<int32_t>(plan_.states.size());
  plan_.states.push_back(std::move(state));
  return {};
}

Status Emitter::emitBuffer(plan::BufferOp op, Program &program) {
  FailureOr<kernels::OperandType> type = passes::operandType(op.getTensorType(), symbols_, op);
  if (failed(type))
    return Status::invalidInput("a buffer of program " + program.name + " has no plan type");
  Buffer buffer;
  buffer.dtype = type->dtype;
  buffer.shape = type->shape;
  buffer.arena = static_cast<Arena>(op.getArena());
  auto index = static_cast<uint32_t>(program.buffers.size());
  if (op.getState()) {
    buffer.state = states_.lookup(*op.getState());
    buffer.offset = plan_.states[buffer.state].offset;
  } else if (op.getOffset()) {
    buffer.offset = *op.getOffset();
  } else {
    return notAddressed("a buffer of program " + program.name);
  }
  if (op.getPort())
    (*op.getPort() == plan::Port::Input ? program.inputs : program.outputs)
        .push_back({op.getPortName()->str(), index});
  buffers_[op.getBuffer()] = index;
  program.buffers.push_back(std::move(buffer));
  return {};
}

Status Emitter::emitLaunch(plan::LaunchOp op, Program &program) {
  FailureOr<passes::LaunchOperands> operands = passes::resolveLaunch(op, symbols_);
  if (failed(operands))
    return Status::invalidInput("a launch of program " + program.name +
                                " does not match its kernel's signature");
  LaunchInstruction launch;
  launch.kernel = op.getKernel().str();
  for (Value operand : operands->values)
    launch.operands.push_back(indexOf(operand));
  launch.attributes.assign(operands->attributes.begin(), operands->attributes.end());
  if (op.getWorkspace())
    launch.workspace = static_cast<int32_t>(indexOf(op.getWorkspace()));
  program.instructions.emplace_back(std::move(launch));
  return {};
}

Status Emitter::emitProgram(plan::ProgramOp op) {
  Program program;
  program.name = op.getSymName().str();
  buffers_.clear();
  for (Operation &instruction : op.getBody().front()) {
    if (auto buffer = dyn_cast<plan::BufferOp>(instruction)) {
      // Declared but never named by an instruction (an input that the program does not need): ports
      // stay, scratch goes.
      if (buffer.getBuffer().use_empty() && !buffer.getPort())
        continue;
      SY_RETURN_IF_ERROR(emitBuffer(buffer, program));
    } else if (auto launch = dyn_cast<plan::LaunchOp>(instruction)) {
      SY_RETURN_IF_ERROR(emitLaunch(launch, program));
    } else {
      auto copy = cast<plan::CopyOp>(instruction);
      program.instructions.emplace_back(
          CopyInstruction{indexOf(copy.getFrom()), indexOf(copy.getTo()), 0});
    }
  }
  plan_.programs.push_back(std::move(program));
  return {};
}

Result<Plan> Emitter::run() {
  SY_RETURN_IF_ERROR(emitModule());
  for (moe::StateOp state : module_.getOps<moe::StateOp>())
    SY_RETURN_IF_ERROR(emitState(state));
  for (plan::ProgramOp program : module_.getOps<plan::ProgramOp>())
    SY_RETURN_IF_ERROR(emitProgram(program));
  return std::move(plan_);
}

} // namespace

Result<Plan> emitPlan(ModuleOp module) {
  return Emitter(module).run();
}

} // namespace switchyard::compiler

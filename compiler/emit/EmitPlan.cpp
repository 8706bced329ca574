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
  Status emitInstruction(Operation &op, Program &program);
  Status emitLaunch(plan::LaunchOp op, Program &program);
  void emitCollective(plan::CollectiveOp op, Program &program);
  Status emitRepeat(plan::RepeatOp op, Program &program);
  uint32_t indexOf(Value buffer) { return buffers_.lookup(buffer); }

  ModuleOp module_;
  passes::SymbolBounds symbols_;
  Plan plan_;
  llvm::StringMap<int32_t> states_;
  llvm::DenseMap<Value, uint32_t> buffers_; // of the program at hand, as its events
  llvm::DenseMap<Value, uint32_t> events_;
};

Status notAddressed(const std::string &what) {
  return Status::invalidInput(what + " has no address; run assign-addresses first");
}

AxisSet axisSetOf(dist::AxesAttr axes) {
  AxisSet set;
  if (axes)
    for (dist::Axis axis : axes.getAxes())
      set = set | static_cast<Axis>(axis);
  return set;
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
  std::optional<kernels::Target> target = passes::targetOf(module_);
  if (!target)
    return Status::invalidInput("the module's plan.target is no target; expected as to-plan leaves "
                                "it, {kind = \"cpu\" or \"cuda\", threads = N : i64}");
  plan_.target = *target;
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
    std::optional<APFloat> rows = symbol.getRowsPerToken();
    plan_.symbols.push_back(
        {symbol.getSymName().str(), bound, rows ? rows->convertToDouble() : 0.0});
  }
  if (dist::MeshOp mesh = dist::lookupMesh(module_))
    for (auto [axis, size] : llvm::zip_equal(mesh.getMesh().getAxes(), mesh.getMesh().getSizes()))
      plan_.mesh.sizes[static_cast<int>(axis)] = static_cast<int32_t>(size);
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
  if (auto sharding = dyn_cast_if_present<dist::ShardingAttr>(op.getShardingAttr()))
    state.sharding = {axisSetOf(sharding.getDim0()), axisSetOf(sharding.getFlat())};
  else if (op.getShardingAttr())
    return Status::invalidInput("moe.state @" + state.name +
                                " has a sharding that is not a #dist.sharding");
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
  buffer.reserve = static_cast<int64_t>(op.getReserve().value_or(0));
  auto index = static_cast<uint32_t>(program.buffers.size());
  if (op.getState()) {
    buffer.state = states_.lookup(*op.getState());
    State &state = plan_.states[buffer.state];
    buffer.offset = state.offset;
    state.reserve = std::max(state.reserve, buffer.reserve);
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
  launch.stream = op.getStream();
  program.instructions.emplace_back(std::move(launch));
  return {};
}

/// The operands in the order that CollectiveInstruction has.
void Emitter::emitCollective(plan::CollectiveOp op, Program &program) {
  CollectiveInstruction collective;
  collective.kind = static_cast<CollectiveKind>(op.getKind());
  collective.axes = axisSetOf(op.getAxesAttr());
  collective.isMax = op.getReduction() == dist::Reduction::Max;
  collective.stream = op.getStream();
  auto add = [&](Value buffer) { collective.operands.push_back(indexOf(buffer)); };
  if (op.isExchange()) {
    collective.adds = !op.getUpdates().empty();
    llvm::for_each(op.getIns().take_front(2), add);
    llvm::for_each(op.getUpdates(), add);
    llvm::for_each(op.getOuts(), add);
    llvm::for_each(op.getIns().drop_front(2), add);
  } else {
    for (auto [in, out] : llvm::zip_equal(op.getIns(), op.getOuts())) {
      add(in);
      add(out);
    }
  }
  program.instructions.emplace_back(std::move(collective));
}

Status Emitter::emitRepeat(plan::RepeatOp op, Program &program) {
  RepeatInstruction repeat;
  repeat.round = indexOf(op.getRound());
  repeat.allCounts = indexOf(op.getAllCounts());
  repeat.axes = axisSetOf(op.getAxesAttr());
  repeat.stream = op.getStream();
  Block &body = op.getBody().front();
  repeat.length = static_cast<uint32_t>(std::distance(body.begin(), body.end()));
  program.instructions.emplace_back(repeat);
  for (Operation &instruction : body)
    SY_RETURN_IF_ERROR(emitInstruction(instruction, program));
  return {};
}

Status Emitter::emitInstruction(Operation &op, Program &program) {
  if (auto launch = dyn_cast<plan::LaunchOp>(op))
    return emitLaunch(launch, program);
  if (auto repeat = dyn_cast<plan::RepeatOp>(op))
    return emitRepeat(repeat, program);
  if (auto collective = dyn_cast<plan::CollectiveOp>(op)) {
    emitCollective(collective, program);
  } else if (auto record = dyn_cast<plan::RecordOp>(op)) {
    auto event = static_cast<uint32_t>(events_.size());
    events_[record.getEvent()] = event;
    program.instructions.emplace_back(RecordInstruction{event, record.getStream()});
  } else if (auto wait = dyn_cast<plan::WaitOp>(op)) {
    program.instructions.emplace_back(
        WaitInstruction{events_.lookup(wait.getEvent()), wait.getStream()});
  } else {
    auto copy = cast<plan::CopyOp>(op);
    program.instructions.emplace_back(
        CopyInstruction{indexOf(copy.getFrom()), indexOf(copy.getTo()), copy.getStream()});
  }
  return {};
}

Status Emitter::emitProgram(plan::ProgramOp op) {
  Program program;
  program.name = op.getSymName().str();
  buffers_.clear();
  events_.clear();
  for (Operation &instruction : op.getBody().front()) {
    auto buffer = dyn_cast<plan::BufferOp>(instruction);
    if (!buffer)
      SY_RETURN_IF_ERROR(emitInstruction(instruction, program));
    // Declared but never named by an instruction (an input that the program does not need): ports
    // stay, scratch goes.
    else if (!buffer.getBuffer().use_empty() || buffer.getPort())
      SY_RETURN_IF_ERROR(emitBuffer(buffer, program));
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

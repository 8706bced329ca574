// A Plan to the plan dialect.

#include "compiler/emit/Emit.h"
#include "compiler/emit/TrainingFields.h"
#include "passes/KernelTypes.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

namespace switchyard::compiler {

namespace {

class ModuleBuilder {
public:
  ModuleBuilder(const Plan &plan, MLIRContext &context)
      : plan_(plan), builder_(&context), location_(builder_.getUnknownLoc()) {}

  OwningOpRef<ModuleOp> run();

private:
  RankedTensorType tensorType(DType dtype, ArrayRef<Extent> shape);
  Attribute sourceAttr(const Source &source);
  void addModuleAttributes(ModuleOp module);
  void addState(const State &state);
  void addProgram(const Program &program);
  Value addBuffer(const Program &program, uint32_t index);
  void addMesh();
  dist::AxesAttr axesAttr(AxisSet axes);
  ShardingAttrInterface shardingAttr(const Sharding &sharding);
  void add(const LaunchInstruction &launch);
  void add(const CopyInstruction &copy);
  void add(const CollectiveInstruction &collective);
  void add(const RepeatInstruction &repeat);
  void add(const RecordInstruction &record);
  void add(const WaitInstruction &wait);

  const Plan &plan_;
  OpBuilder builder_;
  Location location_;
  SmallVector<Value> buffers_; // of the program at hand
  llvm::DenseMap<uint32_t, Value> events_;
};

RankedTensorType ModuleBuilder::tensorType(DType dtype, ArrayRef<Extent> shape) {
  Type element = dtype == DType::F32    ? Type(builder_.getF32Type())
                 : dtype == DType::BF16 ? Type(builder_.getBF16Type())
                                        : Type(builder_.getI32Type());
  SmallVector<int64_t> sizes;
  Attribute encoding;
  for (const Extent &extent : shape) {
    sizes.push_back(extent.symbol < 0 ? extent.offset : ShapedType::kDynamic);
    if (extent.symbol >= 0)
      encoding = moe::RowsAttr::get(builder_.getContext(), extent.scale,
                                    plan_.symbols[extent.symbol].name, extent.offset);
  }
  return RankedTensorType::get(sizes, element, encoding);
}

Attribute ModuleBuilder::sourceAttr(const Source &source) {
  if (source.kind == Source::Kind::Leaf)
    return builder_.getStringAttr(source.name);
  SmallVector<Attribute> parts;
  for (const Source &child : source.children)
    parts.push_back(sourceAttr(child));
  if (source.kind == Source::Kind::Concat)
    return moe::ConcatAttr::get(builder_.getContext(), parts, source.sizes);
  return moe::StackAttr::get(builder_.getContext(), source.index, source.begin, source.end,
                             parts.front());
}

/// The axes that have more than one rank or are named by something; none: no mesh.
void ModuleBuilder::addMesh() {
  AxisSet named;
  for (const State &state : plan_.states)
    named = named | state.sharding.dim0 | state.sharding.flat;
  for (const Program &program : plan_.programs)
    for (const Instruction &instruction : program.instructions) {
      if (const auto *collective = std::get_if<CollectiveInstruction>(&instruction))
        named = named | collective->axes;
      else if (const auto *repeat = std::get_if<RepeatInstruction>(&instruction))
        named = named | repeat->axes;
    }
  SmallVector<dist::Axis> axes;
  SmallVector<int64_t> sizes;
  for (int axis = 0; axis < kNumAxes; ++axis)
    if (plan_.mesh.sizes[axis] > 1 || named.contains(static_cast<Axis>(axis))) {
      axes.push_back(static_cast<dist::Axis>(axis));
      sizes.push_back(plan_.mesh.sizes[axis]);
    }
  if (!axes.empty())
    dist::MeshOp::create(builder_, location_,
                         dist::MeshAttr::get(builder_.getContext(), axes, sizes));
}

/// Null for no axes.
dist::AxesAttr ModuleBuilder::axesAttr(AxisSet set) {
  SmallVector<dist::Axis> axes;
  for (int axis = 0; axis < kNumAxes; ++axis)
    if (set.contains(static_cast<Axis>(axis)))
      axes.push_back(static_cast<dist::Axis>(axis));
  return axes.empty() ? dist::AxesAttr() : dist::AxesAttr::get(builder_.getContext(), axes);
}

/// Null where each rank holds all.
ShardingAttrInterface ModuleBuilder::shardingAttr(const Sharding &sharding) {
  if (sharding.empty())
    return {};
  return dist::ShardingAttr::get(builder_.getContext(), axesAttr(sharding.dim0),
                                 axesAttr(sharding.flat));
}

void ModuleBuilder::addModuleAttributes(ModuleOp module) {
  module->setAttr(kModelAttr,
                  writeTraining(plan_.training, plan_.modelFingerprint, builder_.getContext()));
  passes::setTarget(module, plan_.target);
  SmallVector<NamedAttribute> sizes;
  for (uint32_t arena = 0; arena < kNumArenas; ++arena)
    sizes.push_back(builder_.getNamedAttr(
        plan::stringifyArena(static_cast<plan::Arena>(arena)),
        builder_.getI64IntegerAttr(static_cast<int64_t>(plan_.arenaBytes[arena]))));
  module->setAttr(plan::kArenasAttr, builder_.getDictionaryAttr(sizes));
  module->setAttr(plan::kPeakAttr,
                  builder_.getI64IntegerAttr(static_cast<int64_t>(plan_.peakBytes)));
}

void ModuleBuilder::addState(const State &state) {
  SmallVector<Extent> shape;
  for (int64_t size : state.shape)
    shape.push_back({0, -1, size});
  MLIRContext *context = builder_.getContext();
  auto integer = [&](int64_t value) { return builder_.getI64IntegerAttr(value); };
  moe::StateOp::create(
      builder_, location_, builder_.getStringAttr(state.name),
      TypeAttr::get(tensorType(state.dtype, shape)),
      moe::StateKindAttr::get(context, static_cast<moe::StateKind>(state.kind)),
      state.of < 0 ? FlatSymbolRefAttr()
                   : FlatSymbolRefAttr::get(context, plan_.states[state.of].name),
      state.layer < 0 ? IntegerAttr() : integer(state.layer), builder_.getBoolAttr(state.decay),
      state.moduleName.empty() ? StringAttr() : builder_.getStringAttr(state.moduleName),
      state.kind == StateKind::Parameter ? sourceAttr(state.source) : Attribute(),
      integer(static_cast<int64_t>(state.offset)), shardingAttr(state.sharding));
}

Value ModuleBuilder::addBuffer(const Program &program, uint32_t index) {
  const Buffer &buffer = program.buffers[index];
  RankedTensorType type = tensorType(buffer.dtype, buffer.shape);
  if (buffer.state >= 0) {
    auto op = plan::BufferOp::create(
        builder_, location_, type,
        FlatSymbolRefAttr::get(builder_.getContext(), plan_.states[buffer.state].name));
    if (buffer.reserve)
      op.setReserve(buffer.reserve);
    return op;
  }
  auto port = [&](const std::vector<Port> &ports) {
    return llvm::find_if(ports, [&](const Port &port) { return port.buffer == index; });
  };
  plan::BufferOp op;
  if (auto input = port(program.inputs); input != program.inputs.end())
    op = plan::BufferOp::create(builder_, location_, type, plan::Port::Input, input->name);
  else if (auto output = port(program.outputs); output != program.outputs.end())
    op = plan::BufferOp::create(builder_, location_, type, plan::Port::Output, output->name);
  else
    op = plan::BufferOp::create(builder_, location_, type);
  op.setArena(static_cast<plan::Arena>(buffer.arena));
  op.setOffset(static_cast<int64_t>(buffer.offset));
  if (buffer.reserve)
    op.setReserve(buffer.reserve);
  return op;
}

void ModuleBuilder::add(const LaunchInstruction &launch) {
  const kernels::Signature &signature = *kernels::findSignature(launch.kernel);
  SmallVector<Value> ins, updates, outs;
  auto count = static_cast<int>(launch.operands.size());
  for (auto [index, buffer] : llvm::enumerate(launch.operands)) {
    int spec = kernels::specOfOperand(signature, static_cast<int>(index), count);
    kernels::Role role = signature.operands[spec].role;
    (role == kernels::Role::In       ? ins
     : role == kernels::Role::Update ? updates
                                     : outs)
        .push_back(buffers_[buffer]);
  }
  SmallVector<NamedAttribute> attributes;
  for (auto [spec, value] : llvm::zip_equal(signature.attributes, launch.attributes))
    attributes.push_back(builder_.getNamedAttr(
        StringRef(spec.name), passes::toAttribute(spec, value, builder_.getContext())));
  plan::LaunchOp::create(builder_, location_, launch.kernel, ins, updates, outs,
                         launch.workspace < 0 ? Value() : buffers_[launch.workspace],
                         builder_.getDictionaryAttr(attributes), launch.stream);
}

void ModuleBuilder::add(const CopyInstruction &copy) {
  plan::CopyOp::create(builder_, location_, buffers_[copy.from], buffers_[copy.to], copy.stream);
}

void ModuleBuilder::add(const CollectiveInstruction &collective) {
  SmallVector<Value> ins, updates, outs;
  bool isExchange = collective.kind == CollectiveKind::TokenExchange ||
                    collective.kind == CollectiveKind::TokenReturn;
  size_t numOuts = collective.kind == CollectiveKind::TokenExchange ? 2 : 1;
  for (auto [index, operand] : llvm::enumerate(collective.operands)) {
    // rows, all_counts, what is written, perhaps the round; or in, out, in, out, ...
    bool isIn = isExchange ? index < 2 || index >= 2 + numOuts : index % 2 == 0;
    (isIn ? ins : collective.adds ? updates : outs).push_back(buffers_[operand]);
  }
  plan::CollectiveOp::create(
      builder_, location_, static_cast<plan::CollectiveKind>(collective.kind),
      axesAttr(collective.axes), collective.isMax ? dist::Reduction::Max : dist::Reduction::Sum,
      ins, updates, outs, collective.stream);
}

void ModuleBuilder::add(const RepeatInstruction &repeat) {
  auto op =
      plan::RepeatOp::create(builder_, location_, buffers_[repeat.round],
                             buffers_[repeat.allCounts], axesAttr(repeat.axes), repeat.stream);
  op.getBody().emplaceBlock();
}

void ModuleBuilder::add(const RecordInstruction &record) {
  events_[record.event] = plan::RecordOp::create(builder_, location_,
                                                 builder_.getType<plan::EventType>(), record.stream)
                              .getEvent();
}

void ModuleBuilder::add(const WaitInstruction &wait) {
  plan::WaitOp::create(builder_, location_, events_.lookup(wait.event), wait.stream);
}

void ModuleBuilder::addProgram(const Program &program) {
  auto op = plan::ProgramOp::create(builder_, location_, program.name);
  OpBuilder::InsertionGuard guard(builder_);
  builder_.setInsertionPointToStart(&op.getBody().front());
  buffers_.clear();
  events_.clear();
  for (uint32_t index = 0; index < program.buffers.size(); ++index)
    buffers_.push_back(addBuffer(program, index));
  uint32_t inBody = 0; // how many of the instructions that follow are a repeat's body
  for (const Instruction &instruction : program.instructions) {
    std::visit([&](const auto &one) { add(one); }, instruction);
    if (inBody > 0 && --inBody == 0)
      builder_.setInsertionPointToEnd(&op.getBody().front());
    if (const auto *repeat = std::get_if<RepeatInstruction>(&instruction);
        repeat && repeat->length > 0) {
      inBody = repeat->length;
      auto body = cast<plan::RepeatOp>(op.getBody().front().back()).getBody().begin();
      builder_.setInsertionPointToEnd(&*body);
    }
  }
}

OwningOpRef<ModuleOp> ModuleBuilder::run() {
  OwningOpRef<ModuleOp> module = ModuleOp::create(location_);
  addModuleAttributes(*module);
  builder_.setInsertionPointToStart(module->getBody());
  for (const Symbol &symbol : plan_.symbols)
    moe::SymbolOp::create(builder_, location_, builder_.getStringAttr(symbol.name),
                          builder_.getI64IntegerAttr(symbol.bound), IntegerAttr(),
                          symbol.rowsPerToken > 0 ? builder_.getF64FloatAttr(symbol.rowsPerToken)
                                                  : FloatAttr());
  addMesh();
  for (const State &state : plan_.states)
    addState(state);
  for (const Program &program : plan_.programs)
    addProgram(program);
  return module;
}

} // namespace

OwningOpRef<ModuleOp> planToModule(const Plan &plan, MLIRContext &context) {
  return ModuleBuilder(plan, context).run();
}

} // namespace switchyard::compiler

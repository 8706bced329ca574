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
  void addLaunch(const LaunchInstruction &launch, ArrayRef<Value> buffers);

  const Plan &plan_;
  OpBuilder builder_;
  Location location_;
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

void ModuleBuilder::addModuleAttributes(ModuleOp module) {
  module->setAttr(kModelAttr,
                  writeTraining(plan_.training, plan_.modelFingerprint, builder_.getContext()));
  module->setAttr(
      plan::kTargetAttr,
      builder_.getDictionaryAttr(
          {builder_.getNamedAttr("kind", builder_.getStringAttr("cpu")),
           builder_.getNamedAttr("threads", builder_.getI64IntegerAttr(plan_.target.threads))}));
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
      integer(static_cast<int64_t>(state.offset)), ShardingAttrInterface());
}

Value ModuleBuilder::addBuffer(const Program &program, uint32_t index) {
  const Buffer &buffer = program.buffers[index];
  RankedTensorType type = tensorType(buffer.dtype, buffer.shape);
  if (buffer.state >= 0)
    return plan::BufferOp::create(
        builder_, location_, type,
        FlatSymbolRefAttr::get(builder_.getContext(), plan_.states[buffer.state].name));
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
  return op;
}

void ModuleBuilder::addLaunch(const LaunchInstruction &launch, ArrayRef<Value> buffers) {
  const kernels::Signature &signature = *kernels::findSignature(launch.kernel);
  SmallVector<Value> ins, updates, outs;
  auto count = static_cast<int>(launch.operands.size());
  for (auto [index, buffer] : llvm::enumerate(launch.operands)) {
    int spec = kernels::specOfOperand(signature, static_cast<int>(index), count);
    kernels::Role role = signature.operands[spec].role;
    (role == kernels::Role::In       ? ins
     : role == kernels::Role::Update ? updates
                                     : outs)
        .push_back(buffers[buffer]);
  }
  SmallVector<NamedAttribute> attributes;
  for (auto [spec, value] : llvm::zip_equal(signature.attributes, launch.attributes))
    attributes.push_back(builder_.getNamedAttr(
        StringRef(spec.name), passes::toAttribute(spec, value, builder_.getContext())));
  plan::LaunchOp::create(builder_, location_, launch.kernel, ins, updates, outs,
                         launch.workspace < 0 ? Value() : buffers[launch.workspace],
                         builder_.getDictionaryAttr(attributes));
}

void ModuleBuilder::addProgram(const Program &program) {
  auto op = plan::ProgramOp::create(builder_, location_, program.name);
  OpBuilder::InsertionGuard guard(builder_);
  builder_.setInsertionPointToStart(&op.getBody().front());
  SmallVector<Value> buffers;
  for (uint32_t index = 0; index < program.buffers.size(); ++index)
    buffers.push_back(addBuffer(program, index));
  for (const Instruction &instruction : program.instructions) {
    if (const auto *launch = std::get_if<LaunchInstruction>(&instruction))
      addLaunch(*launch, buffers);
    else if (const auto *copy = std::get_if<CopyInstruction>(&instruction))
      plan::CopyOp::create(builder_, location_, buffers[copy->from], buffers[copy->to]);
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

#include "test/runtime/plan/TinyPlan.h"

#include "runtime/plan/Layout.h"

#include <algorithm>

namespace switchyard::test {

using kernels::AttributeValue;

Extent fixed(int64_t value) {
  return {0, -1, value};
}
Extent tokens() {
  return {1, 0, 0};
}
Extent segmentsPlusOne() {
  return {1, 1, 1};
}
Extent microBatches() {
  return {1, 2, 0};
}
Extent rowsReceived() {
  return {1, 3, 0};
}

Plan newPlan() {
  Plan plan;
  plan.compilerVersion = "0.1.0";
  plan.modelFingerprint = "0123456789abcdef";
  plan.target.threads = 2;
  plan.symbols = {{"T", kTokensBound}, {"S", 5}, {"M", 3}};
  Training &training = plan.training;
  training.modelType = "mixtral";
  training.vocabSize = kVocab;
  training.numLayers = 1;
  training.numExperts = kExperts;
  training.topK = 2;
  training.activeParameters = 2 * kVocab * kWidth;
  training.precision = "f32";
  training.lossNormalization = "micro_batch";
  training.weightDecayScope = "hf";
  training.gradientAccumulationSteps = 4;
  training.maxSeqLength = 16;
  return plan;
}

int32_t addState(Plan &plan, StateKind kind, std::string name, std::vector<int64_t> shape,
                 int32_t of, DType dtype, Sharding sharding) {
  State state;
  state.name = std::move(name);
  state.kind = kind;
  state.dtype = dtype;
  state.shape = std::move(shape);
  state.of = of;
  state.sharding = sharding;
  if (!plan.states.empty())
    state.offset = alignUp(plan.states.back().offset + capacityOf(plan.states.back(), plan.mesh));
  if (kind == StateKind::Parameter) {
    state.source = leafSource(state.name);
    state.decay = true;
  }
  plan.states.push_back(std::move(state));
  return static_cast<int32_t>(plan.states.size()) - 1;
}

ProgramBuilder::ProgramBuilder(const Plan &plan, std::string name) : plan_(plan) {
  program_.name = std::move(name);
}

uint32_t ProgramBuilder::state(int32_t index) {
  const State &state = plan_.states[index];
  Buffer buffer{state.dtype, {}, Arena::State, state.offset, index, state.reserve};
  for (int64_t extent : localShape(state.shape, state.sharding, plan_.mesh))
    buffer.shape.push_back(fixed(extent));
  program_.buffers.push_back(buffer);
  return static_cast<uint32_t>(program_.buffers.size()) - 1;
}

uint32_t ProgramBuilder::place(Arena arena, DType dtype, std::vector<Extent> shape,
                               int64_t reserve) {
  uint64_t &end = ends_[static_cast<size_t>(arena)];
  program_.buffers.push_back({dtype, std::move(shape), arena, end, -1, reserve});
  end = alignUp(end + capacityOf(program_.buffers.back(), symbolBounds(plan_)));
  return static_cast<uint32_t>(program_.buffers.size()) - 1;
}

uint32_t ProgramBuilder::transient(DType dtype, std::vector<Extent> shape) {
  return place(Arena::Transient, dtype, std::move(shape));
}

uint32_t ProgramBuilder::reserving(int64_t elements, DType dtype, std::vector<Extent> shape) {
  return place(Arena::Transient, dtype, std::move(shape), elements);
}

uint32_t ProgramBuilder::sharing(uint32_t other, DType dtype, std::vector<Extent> shape) {
  program_.buffers.push_back(
      {dtype, std::move(shape), program_.buffers[other].arena, program_.buffers[other].offset, -1});
  return static_cast<uint32_t>(program_.buffers.size()) - 1;
}

uint32_t ProgramBuilder::input(std::string name, DType dtype, std::vector<Extent> shape) {
  uint32_t index = place(Arena::Io, dtype, std::move(shape));
  program_.inputs.push_back({std::move(name), index});
  return index;
}

uint32_t ProgramBuilder::output(std::string name, DType dtype, std::vector<Extent> shape) {
  uint32_t index = place(Arena::Io, dtype, std::move(shape));
  program_.outputs.push_back({std::move(name), index});
  return index;
}

ProgramBuilder::Pass ProgramBuilder::pass() {
  Pass pass;
  // Fixed sizes first, so that the arena ends with what varies.
  pass.loss = output("loss", DType::F32, {});
  pass.auxLoss = output("aux_loss", DType::F32, {});
  pass.expertCounts = output("expert_counts", DType::F32, {fixed(1), fixed(kExperts)});
  pass.auxWeights = input("aux_weights", DType::F32, {microBatches()});
  pass.cuSeqlens = input("cu_seqlens", DType::I32, {segmentsPlusOne()});
  pass.inputIds = input("input_ids", DType::I32, {tokens()});
  pass.positionIds = input("position_ids", DType::I32, {tokens()});
  pass.labels = input("labels", DType::I32, {tokens()});
  pass.lossWeights = input("loss_weights", DType::F32, {tokens()});
  pass.microBatchIds = input("micro_batch_ids", DType::I32, {tokens()});
  return pass;
}

void ProgramBuilder::launch(std::string kernel, std::vector<uint32_t> operands,
                            std::vector<AttributeValue> attributes) {
  LaunchInstruction launch{std::move(kernel), std::move(operands), std::move(attributes)};
  if (const kernels::Signature *signature = kernels::findSignature(launch.kernel)) {
    std::vector<kernels::OperandType> types;
    for (uint32_t operand : launch.operands)
      types.push_back({program_.buffers[operand].dtype, program_.buffers[operand].shape});
    int64_t bytes = kernels::workspaceBytes(*signature, types, launch.attributes,
                                            symbolBounds(plan_), plan_.target);
    if (bytes > 0 && bytes < int64_t{1} << 40)
      launch.workspace = static_cast<int32_t>(transient(DType::F32, {fixed((bytes + 3) / 4)}));
  }
  program_.instructions.emplace_back(std::move(launch));
}

void ProgramBuilder::copy(uint32_t from, uint32_t to) {
  program_.instructions.emplace_back(CopyInstruction{from, to, 0});
}

void ProgramBuilder::collective(CollectiveKind kind, AxisSet axes, std::vector<uint32_t> operands,
                                uint32_t stream) {
  add(CollectiveInstruction{kind, axes, false, false, std::move(operands), stream});
}

void ProgramBuilder::add(Instruction instruction) {
  program_.instructions.push_back(std::move(instruction));
}

void finish(Plan &plan) {
  std::fill(std::begin(plan.arenaBytes), std::end(plan.arenaBytes), 0);
  auto raise = [&](Arena arena, uint64_t end) {
    uint64_t &bytes = plan.arenaBytes[static_cast<size_t>(arena)];
    bytes = std::max(bytes, alignUp(end));
  };
  for (const State &state : plan.states)
    raise(Arena::State, state.offset + capacityOf(state, plan.mesh));
  for (const Program &program : plan.programs)
    for (const Buffer &buffer : program.buffers)
      raise(buffer.arena, buffer.offset + capacityOf(buffer, symbolBounds(plan)));
  plan.peakBytes = 0;
  for (uint64_t bytes : plan.arenaBytes)
    plan.peakBytes += bytes;
}

namespace {

Program microStep(const Plan &plan) {
  ProgramBuilder builder(plan, "micro_step");
  auto pass = builder.pass();
  uint32_t embed = builder.state(kEmbed), head = builder.state(kHead);
  uint32_t embedGrad = builder.state(kEmbedGrad), headGrad = builder.state(kHeadGrad);
  uint32_t dloss = builder.transient(DType::F32, {});
  uint32_t dw = builder.transient(DType::F32, {fixed(kVocab), fixed(kWidth)});
  uint32_t scaled = builder.sharing(dw, DType::F32, {fixed(kVocab), fixed(kWidth)});
  uint32_t dtable = builder.sharing(dw, DType::F32, {fixed(kVocab), fixed(kWidth)});
  builder.launch("constant", {dloss}, {{0, 1.0}});
  builder.launch("constant", {pass.auxLoss}, {{0, 0.0}});
  builder.launch("constant", {pass.expertCounts}, {{0, 0.0}});
  uint32_t x = builder.transient(DType::F32, {tokens(), fixed(kWidth)});
  builder.launch("embedding", {embed, pass.inputIds, x});
  uint32_t dx = builder.transient(DType::F32, {tokens(), fixed(kWidth)});
  builder.launch("linear_cross_entropy_grad",
                 {x, head, pass.labels, pass.lossWeights, dloss, pass.loss, dx, dw}, {{16, 0}});
  builder.launch("scale", {dw, scaled}, {{0, 1.0}});
  builder.launch("accumulate", {headGrad, scaled});
  builder.launch("embedding_grad", {dx, pass.inputIds, dtable}, {{kVocab, 0}});
  builder.launch("accumulate", {embedGrad, dtable});
  return builder.program();
}

Program evaluate(const Plan &plan) {
  ProgramBuilder builder(plan, "evaluate");
  auto pass = builder.pass();
  uint32_t embed = builder.state(kEmbed), head = builder.state(kHead);
  uint32_t x = builder.transient(DType::F32, {tokens(), fixed(kWidth)});
  builder.launch("embedding", {embed, pass.inputIds, x});
  builder.launch("linear_cross_entropy", {x, head, pass.labels, pass.lossWeights, pass.loss},
                 {{16, 0}});
  builder.launch("constant", {pass.auxLoss}, {{0, 0.0}});
  builder.launch("constant", {pass.expertCounts}, {{0, 0.0}});
  return builder.program();
}

Program logits(const Plan &plan) {
  ProgramBuilder builder(plan, "logits");
  uint32_t ids = builder.input("input_ids", DType::I32, {tokens()});
  builder.input("position_ids", DType::I32, {tokens()});
  builder.input("cu_seqlens", DType::I32, {segmentsPlusOne()});
  builder.input("micro_batch_ids", DType::I32, {tokens()});
  uint32_t rows = builder.input("rows", DType::I32, {fixed(kRows)});
  uint32_t result = builder.output("logits", DType::F32, {fixed(kRows), fixed(kVocab)});
  uint32_t embed = builder.state(kEmbed), head = builder.state(kHead);
  uint32_t x = builder.transient(DType::F32, {tokens(), fixed(kWidth)});
  uint32_t chosen = builder.transient(DType::F32, {fixed(kRows), fixed(kWidth)});
  uint32_t product = builder.transient(DType::F32, {fixed(kRows), fixed(kVocab)});
  builder.launch("embedding", {embed, ids, x});
  builder.launch("gather_rows", {x, rows, chosen});
  builder.launch("linear", {chosen, head, product});
  builder.copy(product, result);
  return builder.program();
}

} // namespace

Program optimizerStep(const Plan &plan) {
  ProgramBuilder builder(plan, "optimizer_step");
  auto scalar = [&](const char *name) { return builder.input(name, DType::F32, {}); };
  uint32_t rate = scalar("learning_rate"), beta1 = scalar("beta1"), beta2 = scalar("beta2");
  uint32_t epsilon = scalar("epsilon"), decay = scalar("weight_decay"),
           maxNorm = scalar("max_grad_norm");
  uint32_t step = scalar("step");
  uint32_t norm = builder.output("grad_norm", DType::F32, {}),
           apply = builder.output("apply", DType::I32, {});
  uint32_t first = builder.transient(DType::F32, {}), second = builder.transient(DType::F32, {});
  uint32_t total = builder.transient(DType::F32, {}),
           coefficient = builder.transient(DType::F32, {});
  uint32_t embedGrad = builder.state(kEmbedGrad), headGrad = builder.state(kHeadGrad);
  builder.launch("sum_of_squares", {embedGrad, first});
  builder.launch("sum_of_squares", {headGrad, second});
  if (plan.mesh.groupSize(kFsdpAndEp) > 1) {
    uint32_t mine = builder.transient(DType::F32, {});
    builder.launch("sum", {first, second, mine});
    builder.collective(CollectiveKind::AllReduce, kFsdpAndEp, {mine, total});
  } else {
    builder.launch("sum", {first, second, total});
  }
  builder.launch("clip", {total, maxNorm, norm, coefficient, apply});
  auto adamw = [&](int32_t parameter, int32_t m, int32_t v, uint32_t gradient) {
    builder.launch("adamw",
                   {builder.state(parameter), builder.state(m), builder.state(v), gradient,
                    coefficient, apply, rate, beta1, beta2, epsilon, decay, step},
                   {{1, 0}});
  };
  adamw(kEmbed, kEmbedM, kEmbedV, embedGrad);
  adamw(kHead, kHeadM, kHeadV, headGrad);
  return builder.program();
}

Plan tinyPlan(kernels::Target target) {
  Plan plan = newPlan();
  plan.target = target;
  std::vector<int64_t> shape = {kVocab, kWidth};
  addState(plan, StateKind::Parameter, "embed", shape);
  addState(plan, StateKind::Parameter, "head", shape);
  addState(plan, StateKind::Gradient, "embed.gradient", shape, kEmbed);
  addState(plan, StateKind::Gradient, "head.gradient", shape, kHead);
  addState(plan, StateKind::Moment, "embed.exp_avg", shape, kEmbed);
  addState(plan, StateKind::Moment, "embed.exp_avg_sq", shape, kEmbed);
  addState(plan, StateKind::Moment, "head.exp_avg", shape, kHead);
  addState(plan, StateKind::Moment, "head.exp_avg_sq", shape, kHead);
  plan.programs = {microStep(plan), optimizerStep(plan), evaluate(plan), logits(plan)};
  finish(plan);
  return plan;
}

Program &programOf(Plan &plan, std::string_view name) {
  return *std::find_if(plan.programs.begin(), plan.programs.end(),
                       [&](const Program &program) { return program.name == name; });
}

LaunchInstruction &launchAt(Program &program, size_t index) {
  return std::get<LaunchInstruction>(program.instructions[index]);
}

} // namespace switchyard::test

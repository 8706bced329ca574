#include "test/runtime/plan/RanksPlan.h"

#include "runtime/plan/Layout.h"

namespace switchyard::test {
namespace {

constexpr int64_t kElements = kShardedVocab * kShardedWidth;

Program microStep(const Plan &plan) {
  ProgramBuilder builder(plan, "micro_step");
  auto pass = builder.pass();
  int64_t shards = plan.mesh.groupSize(kFsdpAndEp);
  int64_t shard = flatShardElements(kElements, shards);
  std::vector<Extent> shape = {fixed(kShardedVocab), fixed(kShardedWidth)};
  auto whole = [&] {
    return builder.reserving(shards > 1 ? shards * shard : 0, DType::F32, shape);
  };
  auto part = [&] {
    return builder.transient(DType::F32, shards > 1 ? std::vector{fixed(shard)} : shape);
  };
  uint32_t embed = builder.state(kEmbed), head = builder.state(kHead);
  if (shards > 1) {
    uint32_t table = whole(), weight = whole();
    builder.collective(CollectiveKind::AllGather, kFsdpAndEp,
                       {std::exchange(embed, table), table, std::exchange(head, weight), weight});
  }
  uint32_t dloss = builder.transient(DType::F32, {}), x, dx, dw = whole(), dtable = whole();
  builder.launch("constant", {dloss}, {{0, 1.0}});
  if (shards > 1) {
    // What is summed into shards leaves no trace of what its padding held.
    std::vector<Extent> padded = {fixed(shards * shard)};
    builder.launch("constant", {builder.sharing(dw, DType::F32, padded)}, {{0, 7.0}});
  }
  builder.launch("constant", {pass.auxLoss}, {{0, 0.0}});
  builder.launch("constant", {pass.expertCounts}, {{0, 0.0}});
  x = builder.transient(DType::F32, {tokens(), fixed(kShardedWidth)});
  builder.launch("embedding", {embed, pass.inputIds, x});
  dx = builder.transient(DType::F32, {tokens(), fixed(kShardedWidth)});
  uint32_t loss = builder.transient(DType::F32, {});
  builder.launch("linear_cross_entropy_grad",
                 {x, head, pass.labels, pass.lossWeights, dloss, loss, dx, dw}, {{16, 0}});
  if (plan.mesh.numRanks() > 1)
    builder.collective(CollectiveKind::AllReduce, kAllAxes, {loss, pass.loss});
  else
    builder.copy(loss, pass.loss);
  builder.launch("embedding_grad", {dx, pass.inputIds, dtable}, {{kShardedVocab, 0}});
  if (shards > 1) {
    uint32_t headPart = part(), embedPart = part();
    builder.collective(
        CollectiveKind::ReduceScatter, kFsdpAndEp,
        {std::exchange(dw, headPart), headPart, std::exchange(dtable, embedPart), embedPart});
  }
  if (plan.mesh.size(Axis::Dp) > 1)
    builder.collective(CollectiveKind::AllReduce, Axis::Dp, {dw, dw, dtable, dtable});
  builder.launch("accumulate", {builder.state(kHeadGrad), dw});
  builder.launch("accumulate", {builder.state(kEmbedGrad), dtable});
  return builder.program();
}

/// token_exchange, the experts, token_return; of round 0, or of a repeat.
struct Rounds {
  ProgramBuilder &builder;
  AxisSet axes;
  int64_t localExperts;
  uint32_t rows, counts, experts, returned;

  void run(std::vector<uint32_t> round) const {
    bool adds = !round.empty();
    std::vector<Extent> shape = {rowsReceived(), fixed(kExchangeWidth)};
    uint32_t received = builder.transient(DType::F32, shape);
    uint32_t sizes = builder.transient(DType::I32, {fixed(localExperts)});
    uint32_t done = builder.transient(DType::F32, shape);
    std::vector<uint32_t> exchange = {rows, counts, received, sizes},
                          back = {done, counts, returned};
    exchange.insert(exchange.end(), round.begin(), round.end());
    back.insert(back.end(), round.begin(), round.end());
    builder.collective(CollectiveKind::TokenExchange, axes, exchange);
    builder.launch("grouped_gemm", {received, experts, sizes, done});
    builder.add(CollectiveInstruction{CollectiveKind::TokenReturn, axes, false, adds, back, 0});
  }
};

Program exchange(const Plan &plan, AxisSet axes) {
  ProgramBuilder builder(plan, "logits");
  int64_t experts = plan.training.numExperts, ranks = plan.mesh.groupSize(axes);
  uint32_t result =
      builder.output("logits", DType::F32, {fixed(kExchangeRows), fixed(kExchangeWidth)});
  uint32_t wanted = builder.input("rows", DType::I32, {fixed(kExchangeRows)});
  uint32_t counts = builder.input("cu_seqlens", DType::I32, {fixed(experts)});
  uint32_t ids = builder.input("input_ids", DType::I32, {tokens()});
  builder.input("position_ids", DType::I32, {tokens()});
  builder.input("micro_batch_ids", DType::I32, {tokens()});
  uint32_t allCounts = builder.transient(DType::I32, {fixed(ranks), fixed(experts)});
  uint32_t round = builder.transient(DType::I32, {});
  uint32_t chosen = builder.transient(DType::F32, {fixed(kExchangeRows), fixed(kExchangeWidth)});
  std::vector<Extent> shape = {tokens(), fixed(kExchangeWidth)};
  uint32_t x = builder.transient(DType::F32, shape), y = builder.transient(DType::F32, shape);
  builder.launch("embedding", {builder.state(0), ids, x});
  builder.collective(CollectiveKind::AllGather, axes, {counts, allCounts});
  Rounds rounds{builder, axes, experts / ranks, x, allCounts, builder.state(1), y};
  rounds.run({});
  builder.add(RepeatInstruction{round, allCounts, axes, 3, 0});
  rounds.run({round});
  builder.launch("gather_rows", {y, wanted, chosen});
  builder.copy(chosen, result);
  return builder.program();
}

} // namespace

Plan shardedPlan(Mesh mesh) {
  Plan plan = newPlan();
  plan.mesh = mesh;
  plan.training.vocabSize = kShardedVocab;
  Sharding sharding;
  if (mesh.groupSize(kFsdpAndEp) > 1)
    sharding.flat = kFsdpAndEp;
  auto add = [&](StateKind kind, const char *name, int32_t of) {
    addState(plan, kind, name, {kShardedVocab, kShardedWidth}, of, DType::F32, sharding);
  };
  add(StateKind::Parameter, "embed", -1);
  add(StateKind::Parameter, "head", -1);
  add(StateKind::Gradient, "embed.gradient", kEmbed);
  add(StateKind::Gradient, "head.gradient", kHead);
  add(StateKind::Moment, "embed.exp_avg", kEmbed);
  add(StateKind::Moment, "embed.exp_avg_sq", kEmbed);
  add(StateKind::Moment, "head.exp_avg", kHead);
  add(StateKind::Moment, "head.exp_avg_sq", kHead);
  plan.programs = {microStep(plan), optimizerStep(plan)};
  finish(plan);
  return plan;
}

Plan exchangePlan(Mesh mesh, AxisSet axes, int64_t experts, double rowsPerToken) {
  Plan plan = newPlan();
  plan.mesh = mesh;
  plan.symbols[0].bound = kExchangeRows;
  Symbol received{"R", 0, rowsPerToken};
  received.bound = int64_t{1} << 40;
  received.bound = valueFor(received, kExchangeRows);
  plan.symbols.push_back(received);
  plan.training.vocabSize = kExchangeWidth;
  plan.training.numExperts = experts;
  addState(plan, StateKind::Parameter, "embed", {kExchangeRows, kExchangeWidth});
  addState(plan, StateKind::Parameter, "experts", {experts, kExchangeWidth, kExchangeWidth}, -1,
           DType::F32, {axes, {}});
  plan.programs = {exchange(plan, axes)};
  finish(plan);
  return plan;
}

} // namespace switchyard::test

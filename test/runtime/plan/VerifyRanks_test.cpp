// Plans for many ranks: meshes, shards, collectives, repeats, streams and events. Each check of the
// verifier is seen to refuse what it is there for.
#include "runtime/plan/Layout.h"
#include "runtime/plan/Verify.h"
#include "test/runtime/plan/RanksPlan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <limits>

namespace switchyard {
namespace {

using namespace test;
using testing::HasSubstr;

Plan sharded() {
  return shardedPlan(Mesh{{1, 2, 2}});
}
Plan exchanging() {
  return exchangePlan(Mesh{{2, 1, 2}}, Axis::Ep, 4, 2.0);
}

/// The instructions that shardedPlan's and exchangePlan's programs begin with.
enum : size_t { kGather = 0, kLossReduce = 7, kScatter = 9 };
enum : size_t { kCounts = 1, kExchange = 2, kGemm = 3, kReturn = 4, kRepeat = 5, kBody = 6 };

Program &micro(Plan &plan) {
  return programOf(plan, "micro_step");
}

Program &logits(Plan &plan) {
  return programOf(plan, "logits");
}

CollectiveInstruction &collectiveAt(Program &program, size_t index) {
  return std::get<CollectiveInstruction>(program.instructions[index]);
}

Buffer &operandAt(Program &program, size_t index, size_t operand) {
  return program.buffers[collectiveAt(program, index).operands[operand]];
}

RepeatInstruction &repeatOf(Plan &plan) {
  return std::get<RepeatInstruction>(logits(plan).instructions[kRepeat]);
}

/// Adds a transient buffer behind all others.
uint32_t addBuffer(Plan &plan, Program &program, DType dtype, std::vector<Extent> shape) {
  program.buffers.push_back({dtype, std::move(shape), Arena::Transient, plan.arenaBytes[3], -1});
  finish(plan);
  return static_cast<uint32_t>(program.buffers.size()) - 1;
}

struct Fault {
  const char *message;
  std::function<void(Plan &)> plant;
};

void expectRefused(Plan plan, const Fault &fault) {
  ASSERT_TRUE(verify(plan).ok()) << verify(plan).message();
  fault.plant(plan);
  Status status = verify(plan);
  ASSERT_FALSE(status.ok()) << fault.message;
  EXPECT_EQ(status.code(), StatusCode::InvalidInput);
  EXPECT_THAT(status.message(), HasSubstr(fault.message));
}

class ShardFaults : public testing::TestWithParam<Fault> {};
TEST_P(ShardFaults, AreFoundAndNamed) {
  expectRefused(sharded(), GetParam());
}

const Fault kShardFaults[] = {
    {"training setting aux_loss_scope is 'step'; expected micro_batch or pass",
     [](Plan &p) { p.training.auxLossScope = "step"; }},
    {"symbol 'T' has 2.000000 rows per token; expected none, which only R has",
     [](Plan &p) { p.symbols[0].rowsPerToken = 2; }},
    {"symbol 'R' has 0.000000 rows per token; expected more than 0",
     [](Plan &p) { p.symbols.push_back({"R", 8, 0}); }},
    {"symbol 'R' has bound 2147483648; expected less than 2^31, as rows are counted in i32",
     [](Plan &p) { p.symbols.push_back({"R", int64_t{1} << 31, 2}); }},
    {"symbol 'R' has nan rows per token", [](Plan &p) { p.symbols.push_back({"R", 8, NAN}); }},
    {"symbol 'R' follows T, which the plan lacks",
     [](Plan &p) { p.symbols = {{"R", 8, 2}, {"S", 1, 0}}; }},
    {"state 'embed': is divided over unknown axes",
     [](Plan &p) { p.states[0].sharding.flat = AxisSet(8); }},
    {"state 'embed': is divided over [\"ep\"] and flat over [\"fsdp\", \"ep\"]; expected no axis "
     "in "
     "both",
     [](Plan &p) { p.states[0].sharding.dim0 = Axis::Ep; }},
    {"state 'embed': is f32[21, 24]; expected an extent that 2 ranks of [\"ep\"] can divide",
     [](Plan &p) {
       p.states[0].shape[0] = 21;
       p.states[0].sharding = {Axis::Ep, Axis::Fsdp};
     }},
    {"state 'embed': is f32[1048576, 1048577]; expected at most 2^40 elements to divide",
     [](Plan &p) { p.states[0].shape = {1 << 20, (1 << 20) + 1}; }},
    {"state 'embed': reserves room for 128 elements; expected more than its 128 and at most 2^48",
     [](Plan &p) { p.states[0].reserve = 128; }},
    {"state 'embed': reserves room for -1 elements", [](Plan &p) { p.states[0].reserve = -1; }},
    {"state 'embed': reserves room for 9223372036854775807 elements",
     [](Plan &p) { p.states[0].reserve = std::numeric_limits<int64_t>::max(); }},
    {"state 'head' at offset 512 overlaps state 'embed', which ends at 516",
     [](Plan &p) { p.states[0].reserve = 129; }},
    {"state 'embed.exp_avg': is divided by dim 0 over [], flat over [\"fsdp\"]; expected dim 0 "
     "over "
     "[], flat over [\"fsdp\", \"ep\"] as its parameter 'embed' is",
     [](Plan &p) { p.states[4].sharding.flat = Axis::Fsdp; }},
    {"state 'embed.gradient': is divided by dim 0 over [], flat over []; expected",
     [](Plan &p) { p.states[2].sharding = {}; }},
    {"state 'embed.exp_avg': is divided by dim 0 over [], flat over []",
     [](Plan &p) { p.training.syncEachBatch = false, p.states[4].sharding = {}; }},
    {"buffer 10: is f32[20, 24]; expected f32[128] as state 'embed' is on a rank",
     [](Plan &p) { micro(p).buffers[10].shape = {fixed(20), fixed(24)}; }},
    {"buffer 10: reserves room for 200 elements; expected 0 as state 'embed' does",
     [](Plan &p) { micro(p).buffers[10].reserve = 200; }},
    {"f32[20, 24] reserves room for 480 elements; expected more than its 480",
     [](Plan &p) { operandAt(micro(p), kGather, 1).reserve = 480; }},
    {"i32[T] reserves room; expected a fixed size",
     [](Plan &p) { micro(p).buffers[micro(p).inputs[2].buffer].reserve = 1000; }},
};
INSTANTIATE_TEST_SUITE_P(Verify, ShardFaults, testing::ValuesIn(kShardFaults));

class CollectiveFaults : public testing::TestWithParam<Fault> {};
TEST_P(CollectiveFaults, AreFoundAndNamed) {
  expectRefused(sharded(), GetParam());
}

const Fault kCollectiveFaults[] = {
    {"instruction 0 (all_gather): is over no axes; expected some of dp, fsdp and ep",
     [](Plan &p) { collectiveAt(micro(p), kGather).axes = AxisSet(); }},
    {"instruction 0 (all_gather): is over unknown axes",
     [](Plan &p) { collectiveAt(micro(p), kGather).axes = AxisSet(15); }},
    {"instruction 0 (all_gather): is on stream 8; expected less than 8",
     [](Plan &p) { collectiveAt(micro(p), kGather).stream = 8; }},
    {"(all_gather): operand 3 names buffer 4294967295; the program has",
     [](Plan &p) { collectiveAt(micro(p), kGather).operands[3] = ~0U; }},
    {"(all_gather): has 3 operands; expected pairs of an input and an output",
     [](Plan &p) { collectiveAt(micro(p), kGather).operands.pop_back(); }},
    {"(all_gather): has 0 operands; expected pairs",
     [](Plan &p) { collectiveAt(micro(p), kGather).operands.clear(); }},
    {"(all_gather): takes a maximum; expected a sum, as only all_reduce has others",
     [](Plan &p) { collectiveAt(micro(p), kGather).isMax = true; }},
    {"(all_gather): adds to its output, which only token_return does",
     [](Plan &p) { collectiveAt(micro(p), kGather).adds = true; }},
    {"(all_gather): in[0] is f32[128] and out[0] bf16[20, 24]; expected the same element type",
     [](Plan &p) { operandAt(micro(p), kGather, 1).dtype = DType::BF16; }},
    {"(all_gather): in[0] is f32[128] and out[0] f32[T, 24]; expected fixed sizes",
     [](Plan &p) {
       operandAt(micro(p), kGather, 1).reserve = 0;
       operandAt(micro(p), kGather, 1).shape[0] = tokens();
       operandAt(micro(p), kGather, 1).offset = p.arenaBytes[3];
       finish(p);
     }},
    {"(all_gather): in[0] is f32[128] and out[0] f32[20, 24]; expected the parts of 2 ranks of "
     "[\"ep\"]: flat shards of 256 elements, or equal rows",
     [](Plan &p) { collectiveAt(micro(p), kGather).axes = Axis::Ep; }},
    {"(all_gather): in[1] is f32[128] and out[1] f32[20, 24], with room for 511 elements; expected "
     "512, for the padding of the last flat shards",
     [](Plan &p) { operandAt(micro(p), kGather, 3).reserve = 511; }},
    {"(reduce_scatter): in[0] is f32[20, 24] and out[0] f32[128]; expected the parts of 2 ranks of "
     "[\"fsdp\"]",
     [](Plan &p) { collectiveAt(micro(p), kScatter).axes = Axis::Fsdp; }},
    {"(reduce_scatter): in[0] is f32[20, 24] and out[0] f32[128], with room for 480 elements",
     [](Plan &p) { operandAt(micro(p), kScatter, 0).reserve = 0; }},
    {"(reduce_scatter): in[0] is i32[4] and out[0] i32[1]; expected floats to sum",
     [](Plan &p) {
       uint32_t in = addBuffer(p, micro(p), DType::I32, {fixed(4)});
       uint32_t out = addBuffer(p, micro(p), DType::I32, {fixed(1)});
       collectiveAt(micro(p), kScatter).operands = {in, out};
     }},
    {"(all_reduce): in[0] is f32[] and out[0] f32[1, 4]; expected the same shape",
     [](Plan &p) { collectiveAt(micro(p), kLossReduce).operands[1] = micro(p).outputs[2].buffer; }},
    {"(all_reduce): in[0] is f32[R] and out[0] f32[R]: the rows received differ between ranks; "
     "expected no extent over R",
     [](Plan &p) {
       p.symbols.push_back({"R", 8, 2});
       uint32_t in = addBuffer(p, micro(p), DType::F32, {rowsReceived()});
       collectiveAt(micro(p), kLossReduce).operands = {in, in};
     }},
    {"instruction 0 (all_gather): writes 'out[0]', buffer 12 (f32[20, 24] at transient+0), over "
     "'out[1]', buffer 13 (f32[20, 24] at transient+1792); the instruction does not allow it",
     [](Plan &p) { operandAt(micro(p), kGather, 3).offset = 1792; }},
    {"(all_reduce): writes 'out[0]', buffer",
     [](Plan &p) {
       // In place is exactly in place.
       uint32_t in = addBuffer(p, micro(p), DType::F32, {fixed(100)});
       uint32_t out = addBuffer(p, micro(p), DType::F32, {fixed(100)});
       micro(p).buffers[out].offset = micro(p).buffers[in].offset + 256;
       collectiveAt(micro(p), kLossReduce).operands = {in, out};
     }},
};
INSTANTIATE_TEST_SUITE_P(Verify, CollectiveFaults, testing::ValuesIn(kCollectiveFaults));

class ExchangeFaults : public testing::TestWithParam<Fault> {};
TEST_P(ExchangeFaults, AreFoundAndNamed) {
  expectRefused(exchanging(), GetParam());
}

const Fault kExchangeFaults[] = {
    {"(token_exchange): has 3 operands; expected rows, all_counts, received, group_sizes and "
     "perhaps round",
     [](Plan &p) { collectiveAt(logits(p), kExchange).operands.pop_back(); }},
    {"(token_return): has 5 operands; expected rows, all_counts, returned and perhaps round",
     [](Plan &p) { collectiveAt(logits(p), kReturn).operands.resize(5); }},
    {"(token_exchange): all_counts is i32[2, 4]; expected i32[4, experts], the experts divisible "
     "by "
     "the 4 ranks of [\"dp\", \"ep\"]",
     [](Plan &p) { collectiveAt(logits(p), kExchange).axes = AxisSet(Axis::Dp) | Axis::Ep; }},
    {"(token_exchange): all_counts is i32[4]; expected i32[2, experts]",
     [](Plan &p) { collectiveAt(logits(p), kExchange).operands[1] = logits(p).inputs[1].buffer; }},
    {"(token_exchange): round is i32[2]; expected i32[]",
     [](Plan &p) {
       auto &operands = collectiveAt(logits(p), kBody).operands;
       operands[4] = operands[3];
     }},
    {"(token_exchange): rows is i32[T]; expected floats of rank 2",
     [](Plan &p) { collectiveAt(logits(p), kExchange).operands[0] = logits(p).inputs[2].buffer; }},
    {"(token_exchange): received is f32[24, 6]; expected R rows",
     [](Plan &p) { collectiveAt(logits(p), kExchange).operands[2] = logits(p).outputs[0].buffer; }},
    {"(token_exchange): received is f32[R, 7]; expected rows like those of f32[T, 6]",
     [](Plan &p) {
       collectiveAt(logits(p), kExchange).operands[2] =
           addBuffer(p, logits(p), DType::F32, {rowsReceived(), fixed(7)});
     }},
    {"(token_exchange): group_sizes is i32[3]; expected i32[2], the experts of a rank",
     [](Plan &p) {
       collectiveAt(logits(p), kExchange).operands[3] =
           addBuffer(p, logits(p), DType::I32, {fixed(3)});
     }},
    {"(token_return): rows is f32[T, 6] and returned f32[T, 6]; expected R rows and not R rows",
     [](Plan &p) {
       auto &operands = collectiveAt(logits(p), kReturn).operands;
       operands[0] = collectiveAt(logits(p), kExchange).operands[0];
     }},
    {"(token_return): rows is f32[R, 6] and returned f32[R, 6]; expected R rows and not R rows",
     [](Plan &p) {
       auto &operands = collectiveAt(logits(p), kReturn).operands;
       operands[2] = addBuffer(p, logits(p), DType::F32, {rowsReceived(), fixed(6)});
     }},
    // Repeats.
    {"(repeat): is over no axes", [](Plan &p) { repeatOf(p).axes = AxisSet(); }},
    {"(repeat): operand 1 names buffer 99", [](Plan &p) { repeatOf(p).round = 99; }},
    {"(repeat): all_counts is i32[2]; expected i32[2, experts]",
     [](Plan &p) { repeatOf(p).allCounts = collectiveAt(logits(p), kExchange).operands[3]; }},
    {"(repeat): round is i32[2, 4]; expected i32[]",
     [](Plan &p) { repeatOf(p).round = repeatOf(p).allCounts; }},
    {"(repeat): repeats 0 instructions; expected 1 to 5, those that follow",
     [](Plan &p) { repeatOf(p).length = 0; }},
    {"(repeat): repeats 4294967295 instructions; expected 1 to 5",
     [](Plan &p) { repeatOf(p).length = ~0U; }},
    {"instruction 5 (repeat): repeats instruction 6, which is a repeat; expected none inside "
     "another",
     [](Plan &p) {
       repeatOf(p).length = 4;
       Instruction copy = logits(p).instructions[kRepeat];
       std::get<RepeatInstruction>(copy).length = 3;
       logits(p).instructions.insert(logits(p).instructions.begin() + kBody, copy);
     }},
    {"instruction 5 (repeat): repeats instruction 6 (token_exchange) over [\"dp\"]; expected some "
     "of its own axes, [\"ep\"], over which the number of rounds is the same",
     [](Plan &p) { collectiveAt(logits(p), kBody).axes = Axis::Dp; }},
    // What a body may read, and what is there behind it.
    {"in a later round: instruction 6 (token_exchange): operand 'rows' reads",
     [](Plan &p) {
       // The last instruction of a round takes the bytes of what the first one reads.
       Program &program = logits(p);
       Buffer rows = operandAt(program, kBody, 0);
       rows.shape = {fixed(1)};
       program.buffers.push_back(rows);
       auto index = static_cast<uint32_t>(program.buffers.size()) - 1;
       program.instructions.insert(program.instructions.begin() + kBody + 3,
                                   LaunchInstruction{"constant", {index}, {{0, 1}}});
       repeatOf(p).length = 4;
     }},
    {"instruction 9 (gather_rows): operand 'x' reads buffer",
     [](Plan &p) {
       // What only a round writes is not there if there is none.
       Program &program = logits(p);
       uint32_t fresh = addBuffer(p, program, DType::F32, {tokens(), fixed(6)});
       collectiveAt(program, kBody + 2).adds = false;
       collectiveAt(program, kBody + 2).operands[2] = fresh;
       launchAt(program, 9).operands[0] = fresh;
     }},
    {"(token_return): operand 'returned' reads",
     [](Plan &p) {
       // To add needs something to add to.
       uint32_t fresh = addBuffer(p, logits(p), DType::F32, {tokens(), fixed(6)});
       collectiveAt(logits(p), kBody + 2).operands[2] = fresh;
     }},
};
INSTANTIATE_TEST_SUITE_P(Verify, ExchangeFaults, testing::ValuesIn(kExchangeFaults));

TEST(VerifyRanks, AcceptsGradientsThatAreWholeUntilTheOptimizer) {
  Plan plan = sharded();
  plan.training.syncEachBatch = false;
  plan.programs.erase(plan.programs.begin()); // micro_step adds to shards
  plan.programs.erase(plan.programs.begin());
  Plan other = exchanging();
  plan.states[2].sharding = {};
  plan.states[2].reserve = 512;
  uint64_t end = 0;
  for (State &state : plan.states) {
    state.offset = end;
    end = alignUp(end + capacityOf(state, plan.mesh));
  }
  ProgramBuilder builder(plan, "optimizer_step");
  for (const char *name :
       {"learning_rate", "beta1", "beta2", "epsilon", "weight_decay", "max_grad_norm", "step"})
    builder.input(name, DType::F32, {});
  uint32_t norm = builder.output("grad_norm", DType::F32, {});
  uint32_t apply = builder.output("apply", DType::I32, {});
  uint32_t shard = builder.transient(DType::F32, {fixed(128)});
  uint32_t total = builder.transient(DType::F32, {}), factor = builder.transient(DType::F32, {});
  builder.collective(CollectiveKind::ReduceScatter, kFsdpAndEp, {builder.state(2), shard});
  builder.launch("sum_of_squares", {shard, total});
  builder.launch("clip", {total, builder.program().inputs[5].buffer, norm, factor, apply});
  plan.programs = {builder.program()};
  finish(plan);
  Status status = verify(plan);
  EXPECT_TRUE(status.ok()) << status.message();
}

/// The sharded plan with its collectives on streams of their own, ordered as they must be:
///
///   0 gather (1), 1 record e0 (1), 2 wait e0 (0), 3.. compute, 9 record e1 (0), 10 wait e1 (2),
///   11 wait e0 (2), 12 all_reduce of the loss (2), 13 embedding_grad (0), 14 record e2 (0),
///   15 wait e2 (2), 16 reduce_scatter (2), 17 record e3 (2), 18 wait e3 (0), 19.. accumulate
Plan streaming() {
  Plan plan = sharded();
  std::vector<Instruction> old = std::move(micro(plan).instructions),
                           &list = micro(plan).instructions;
  list.clear();
  std::get<CollectiveInstruction>(old[kGather]).stream = 1;
  std::get<CollectiveInstruction>(old[kLossReduce]).stream = 2;
  std::get<CollectiveInstruction>(old[kScatter]).stream = 2;
  auto append = [&](size_t begin, size_t end) {
    list.insert(list.end(), old.begin() + begin, old.begin() + end);
  };
  append(0, 1);
  list.insert(list.end(), {RecordInstruction{0, 1}, WaitInstruction{0, 0}});
  append(1, kLossReduce);
  list.insert(list.end(), {RecordInstruction{1, 0}, WaitInstruction{1, 2}, WaitInstruction{0, 2}});
  append(kLossReduce, kLossReduce + 2);
  list.insert(list.end(), {RecordInstruction{2, 0}, WaitInstruction{2, 2}});
  append(kScatter, kScatter + 1);
  list.insert(list.end(), {RecordInstruction{3, 2}, WaitInstruction{3, 0}});
  append(kScatter + 1, old.size());
  return plan;
}

/// Makes an instruction do nothing without moving the others.
void disarm(Plan &plan, size_t wait) {
  auto &instruction = std::get<WaitInstruction>(micro(plan).instructions[wait]);
  instruction.stream = 7;
}

class StreamFaults : public testing::TestWithParam<Fault> {};
TEST_P(StreamFaults, AreFoundAndNamed) {
  expectRefused(streaming(), GetParam());
}

const Fault kStreamFaults[] = {
    {"instruction 1 (record): records event 4; expected less than 4, the number of records in the "
     "program",
     [](Plan &p) { std::get<RecordInstruction>(micro(p).instructions[1]).event = 4; }},
    {"(record): records event 0, as instruction 1 (record) does; expected each to be recorded once",
     [](Plan &p) {
       micro(p).instructions.insert(micro(p).instructions.begin() + 2, RecordInstruction{0, 1});
     }},
    {"instruction 2 (wait): waits for event 9; the program records 4",
     [](Plan &p) { std::get<WaitInstruction>(micro(p).instructions[2]).event = 9; }},
    {"instruction 1 (wait): waits for event 0, which instruction 2 (record) records later; "
     "expected "
     "the record before the wait",
     [](Plan &p) { std::swap(micro(p).instructions[1], micro(p).instructions[2]); }},
    {"instruction 1 (record): is on stream 4294967295; expected less than 8",
     [](Plan &p) { std::get<RecordInstruction>(micro(p).instructions[1]).stream = ~0U; }},
    // A write and a read of it, a read and a write of it, two writes.
    {"(embedding): reads 'table', buffer 12 (f32[20, 24] at transient+0), on stream 0 while "
     "instruction 0 (all_gather) may still be writing it on stream 1; expected a wait between them",
     [](Plan &p) { disarm(p, 2); }},
    {"(embedding): reads 'table'",
     [](Plan &p) { std::get<RecordInstruction>(micro(p).instructions[1]).stream = 3; }},
    {"(all_reduce): reads 'in[0]'", [](Plan &p) { disarm(p, 10); }},
    {"(reduce_scatter): reads 'in[1]', buffer", [](Plan &p) { disarm(p, 15); }},
    {"(accumulate): reads 'value', buffer", [](Plan &p) { disarm(p, 18); }},
    {"may still be reading it on stream 2; expected a wait between them",
     [](Plan &p) {
       // Writes over what the reduce_scatter reads.
       uint32_t dw = collectiveAt(micro(p), 16).operands[0];
       micro(p).instructions.insert(micro(p).instructions.begin() + 17,
                                    LaunchInstruction{"constant", {dw}, {{0, 1.0}}});
     }},
    {"(constant): writes 'y', buffer 12 (f32[20, 24] at transient+0), on stream 0 while "
     "instruction "
     "0 (all_gather) may still be writing it on stream 1",
     [](Plan &p) {
       uint32_t table = collectiveAt(micro(p), 0).operands[1];
       micro(p).instructions.insert(micro(p).instructions.begin() + 1,
                                    LaunchInstruction{"constant", {table}, {{0, 1.0}}});
     }},
    // Bytes that two buffers share.
    {"may still be reading it on stream 2",
     [](Plan &p) {
       Buffer shared = micro(p).buffers[collectiveAt(micro(p), 16).operands[0]];
       shared.offset += 256, shared.shape = {fixed(1)}, shared.reserve = 0;
       micro(p).buffers.push_back(shared);
       auto index = static_cast<uint32_t>(micro(p).buffers.size()) - 1;
       micro(p).instructions.insert(micro(p).instructions.begin() + 17,
                                    LaunchInstruction{"constant", {index}, {{0, 1.0}}});
     }},
    {"instruction 12 (all_reduce): meets the ranks of [\"dp\", \"fsdp\", \"ep\"] on stream 2 with "
     "no "
     "order to instruction 0 (all_gather) over [\"fsdp\", \"ep\"] on stream 1; expected a wait "
     "between them, or ranks can wait for each other forever",
     [](Plan &p) {
       // The all_reduce waits for neither the gather nor for what waited for it.
       disarm(p, 11);
       micro(p).instructions[10] = WaitInstruction{1, 7};
       uint32_t fresh = addBuffer(p, micro(p), DType::F32, {});
       collectiveAt(micro(p), 12).operands[0] = fresh;
       micro(p).instructions[9] = LaunchInstruction{"constant", {fresh}, {{0, 1.0}}, -1, 2};
       micro(p).instructions[10] = RecordInstruction{1, 0};
     }},
};
INSTANTIATE_TEST_SUITE_P(Verify, StreamFaults, testing::ValuesIn(kStreamFaults));

TEST(VerifyRanks, FollowsOrderThroughOtherStreams) {
  // Stream 2 is behind the gather through stream 0 as well: the direct wait is not needed.
  Plan plan = streaming();
  disarm(plan, 11);
  EXPECT_TRUE(verify(plan).ok()) << verify(plan).message();
}

/// exchangePlan() with the gather of counts on stream 1, awaited at once.
Plan repeating() {
  Plan plan = exchanging();
  auto &list = logits(plan).instructions;
  std::get<CollectiveInstruction>(list[kCounts]).stream = 1;
  list.insert(list.begin() + kCounts + 1, {RecordInstruction{0, 1}, WaitInstruction{0, 0}});
  return plan;
}

class RepeatOrderFaults : public testing::TestWithParam<Fault> {};
TEST_P(RepeatOrderFaults, AreFoundAndNamed) {
  expectRefused(repeating(), GetParam());
}

RepeatInstruction &repeatAt(Plan &plan, size_t index) {
  return std::get<RepeatInstruction>(logits(plan).instructions[index]);
}

const Fault kRepeatOrderFaults[] = {
    {"waits for event 1, which instruction 8 (record) records inside a repeat that may not run; "
     "expected a record behind the repeat",
     [](Plan &p) {
       auto &list = logits(p).instructions;
       list.insert(list.begin() + 8, RecordInstruction{1, 0});
       repeatAt(p, 7).length = 4;
       list.insert(list.begin() + 12, WaitInstruction{1, 1});
     }},
    {"(gather_rows): reads 'x', buffer 10 (f32[T, 6] at transient",
     [](Plan &p) {
       // The wait in the body orders the body, not what is behind it.
       auto &list = logits(p).instructions;
       collectiveAt(logits(p), 6).stream = 1; // round 0's token_return
       list.insert(list.begin() + 6, {RecordInstruction{1, 0}, WaitInstruction{1, 1}});
       list.insert(list.begin() + 9, RecordInstruction{2, 1});
       list.insert(list.begin() + 11, WaitInstruction{2, 0});
       repeatAt(p, 10).length = 4;
     }},
    {"instruction 7 (repeat): writes 'round', buffer 7 (i32[] at transient+256), on stream 0 while "
     "instruction 13 (token_return) may still be reading it on stream 2",
     [](Plan &p) {
       // The second round begins while the first one may still be at work.
       auto &list = logits(p).instructions;
       std::get<LaunchInstruction>(list[9]).stream = 2;
       list.insert(list.begin() + 9, {RecordInstruction{1, 0}, WaitInstruction{1, 2}});
       list.insert(list.begin() + 12, RecordInstruction{2, 2});
       std::get<CollectiveInstruction>(list[13]).stream = 2;
       repeatAt(p, 7).length = 6;
     }},
};
INSTANTIATE_TEST_SUITE_P(Verify, RepeatOrderFaults, testing::ValuesIn(kRepeatOrderFaults));

TEST(VerifyRanks, IsFastForManyLayers) {
  // As a model of 61 layers has them: tens of thousands of instructions, gathers on a stream of
  // their own into buffers that take turns.
  Plan plan = sharded();
  ProgramBuilder builder(plan, "evaluate");
  auto pass = builder.pass();
  constexpr int kLayers = 4000;
  std::vector<Extent> shape = {fixed(kShardedVocab), fixed(kShardedWidth)};
  uint32_t weights[2] = {builder.reserving(512, DType::F32, shape),
                         builder.reserving(512, DType::F32, shape)};
  uint32_t x[2] = {builder.transient(DType::F32, {tokens(), fixed(kShardedWidth)}),
                   builder.transient(DType::F32, {tokens(), fixed(kShardedWidth)})};
  uint32_t embed = builder.state(0);
  builder.launch("constant", {pass.auxLoss}, {{0, 0.0}});
  builder.launch("constant", {pass.loss}, {{0, 0.0}});
  builder.launch("constant", {pass.expertCounts}, {{0, 0.0}});
  uint32_t event = 0;
  for (int layer = 0; layer < kLayers; ++layer) {
    if (layer >= 2)
      builder.add(WaitInstruction{event - 3, 1}); // what was computed with this buffer is done
    builder.collective(CollectiveKind::AllGather, kFsdpAndEp, {embed, weights[layer % 2]}, 1);
    builder.add(RecordInstruction{event, 1});
    builder.add(WaitInstruction{event++, 0});
    builder.launch("embedding", {weights[layer % 2], pass.inputIds, x[layer % 2]});
    for (int i = 0; i < 5; ++i)
      builder.launch("add", {x[layer % 2], x[layer % 2], x[(layer + 1) % 2]});
    builder.add(RecordInstruction{event++, 0});
  }
  plan.programs = {builder.program()};
  finish(plan);
  auto begin = std::chrono::steady_clock::now();
  Status status = verify(plan);
  std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  EXPECT_TRUE(status.ok()) << status.message();
  std::printf("%zu instructions verified in %.3f s\n", plan.programs[0].instructions.size(),
              seconds.count());
  EXPECT_LT(seconds.count(), 5.0); // far from quadratic, in any build
}

} // namespace
} // namespace switchyard

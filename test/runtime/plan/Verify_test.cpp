#include "runtime/plan/Verify.h"

#include "runtime/plan/Layout.h"
#include "test/runtime/plan/TinyPlan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

namespace switchyard {
namespace {

using namespace test;
using testing::HasSubstr;

/// Plants a fault in a valid plan.
struct Fault {
  const char *message; // what verify() must say
  std::function<void(Plan &)> plant;
};

class Faults : public testing::TestWithParam<Fault> {};

TEST(Verify, AcceptsTheTinyPlan) {
  Status status = verify(tinyPlan());
  EXPECT_TRUE(status.ok()) << status.message();
}

TEST_P(Faults, IsFoundAndNamed) {
  Plan plan = tinyPlan();
  GetParam().plant(plan);
  Status status = verify(plan);
  ASSERT_FALSE(status.ok()) << GetParam().message;
  EXPECT_EQ(status.code(), StatusCode::InvalidInput);
  EXPECT_THAT(status.message(), HasSubstr(GetParam().message));
}

Program &micro(Plan &plan) {
  return programOf(plan, "micro_step");
}
Program &optimizer(Plan &plan) {
  return programOf(plan, "optimizer_step");
}

/// The index of the first launch of `kernel` in `program`.
size_t indexOf(const Program &program, std::string_view kernel) {
  for (size_t i = 0; i < program.instructions.size(); ++i)
    if (nameOf(program.instructions[i]) == kernel)
      return i;
  ADD_FAILURE() << kernel;
  return 0;
}

LaunchInstruction &launchOf(Program &program, std::string_view kernel) {
  return launchAt(program, indexOf(program, kernel));
}

Buffer &operandOf(Program &program, std::string_view kernel, size_t operand) {
  return program.buffers[launchOf(program, kernel).operands[operand]];
}

Buffer &portOf(Program &program, std::string_view name) {
  for (auto *ports : {&program.inputs, &program.outputs})
    for (Port &port : *ports)
      if (port.name == name)
        return program.buffers[port.buffer];
  ADD_FAILURE() << name;
  return program.buffers[0];
}

const Fault kPlanFaults[] = {
    {"plan: the plan does not say which compiler", [](Plan &p) { p.compilerVersion = ""; }},
    {"target has 0 threads; expected 1 to 4096", [](Plan &p) { p.target.threads = 0; }},
    {"the mesh has an axis of size 0; expected 1 to 65536", [](Plan &p) { p.mesh = {{2, 0, 1}}; }},
    {"the mesh has an axis of size -4", [](Plan &p) { p.mesh = {{-4, -1, 1}}; }},
    {"the mesh dp=256,fsdp=256,ep=2 has 131072 ranks; expected at most 65536",
     [](Plan &p) { p.mesh = {{256, 256, 2}}; }},
    {"symbol 'Q' is unknown; expected T, S, M or R", [](Plan &p) { p.symbols[0].name = "Q"; }},
    {"symbol 'T' is listed twice", [](Plan &p) { p.symbols[1].name = "T"; }},
    {"symbol 'S' has bound 0; expected 1 to 2^40", [](Plan &p) { p.symbols[1].bound = 0; }},
    {"symbol 'T' has bound -9223372036854775808",
     [](Plan &p) { p.symbols[0].bound = std::numeric_limits<int64_t>::min(); }},
    {"training setting vocab_size is -1; expected 1 to 2^40",
     [](Plan &p) { p.training.vocabSize = -1; }},
    {"training setting aux_loss_coef is nan",
     [](Plan &p) { p.training.auxLossCoef = std::numeric_limits<double>::quiet_NaN(); }},
    {"training setting precision is 'fp8'; expected f32, bf16",
     [](Plan &p) { p.training.precision = "fp8"; }},
    {"training setting loss_normalization is ''",
     [](Plan &p) { p.training.lossNormalization = ""; }},
    {"training setting weight_decay_scope is 'none'; expected hf or all",
     [](Plan &p) { p.training.weightDecayScope = "none"; }},
    {"the sum of the arenas", [](Plan &p) { p.peakBytes += 1; }},
    {"arena io has 18446744073709551615 bytes; expected at most 2^50",
     [](Plan &p) { p.arenaBytes[1] = ~uint64_t{0}; }},
    {"arena comm has 256 bytes; expected 0, where what lies in it ends",
     [](Plan &p) { p.arenaBytes[2] += 256, p.peakBytes += 256; }},
    {"the plan has no programs", [](Plan &p) { p.programs.clear(); }},
    {"program evaluate is listed twice",
     [](Plan &p) { p.programs.push_back(programOf(p, "evaluate")); }},
};
INSTANTIATE_TEST_SUITE_P(Plan, Faults, testing::ValuesIn(kPlanFaults));

const Fault kStateFaults[] = {
    {"state 'embed': its name is empty or used twice", [](Plan &p) { p.states[1].name = "embed"; }},
    {"state 'embed': is f32[12, 0]; expected extents from 1 to 2^40",
     [](Plan &p) { p.states[0].shape[1] = 0; }},
    {"state 'head': is f32[4294967296, 4294967296]; expected extents",
     [](Plan &p) { p.states[1].shape = {int64_t{1} << 32, int64_t{1} << 32}; }},
    {"state 'head': is f32[1, 1, 1, 1, 1]; expected a rank of at most 4",
     [](Plan &p) { p.states[1].shape = {1, 1, 1, 1, 1}; }},
    {"state 'head': is i32[12, 8]; expected f32 or bf16",
     [](Plan &p) { p.states[1].dtype = DType::I32; }},
    {"state 'head': is at offset 500; expected a multiple of 256",
     [](Plan &p) { p.states[1].offset = 500; }},
    {"state 'embed.exp_avg': f32[12, 8] at offset 1099511627776 leaves the state arena of",
     [](Plan &p) { p.states[4].offset = uint64_t{1} << 40; }},
    {"state 'embed': f32[12, 8] at offset 18446744073709551360 leaves the state arena",
     [](Plan &p) { p.states[0].offset = ~uint64_t{255}; }},
    {"state 'head' at offset 256 overlaps state 'embed', which ends at 384",
     [](Plan &p) { p.states[1].offset = 256; }},
    {"state 'embed': belongs to layer 1; the model has 1", [](Plan &p) { p.states[0].layer = 1; }},
    {"state 'embed': is a parameter of state 1", [](Plan &p) { p.states[0].of = 1; }},
    {"state 'embed.gradient': is the gradient of state -1, which is no parameter",
     [](Plan &p) { p.states[2].of = -1; }},
    {"state 'embed.gradient': is the gradient of state 3, which is no parameter",
     [](Plan &p) { p.states[2].of = 3; }},
    {"state 'embed.gradient': is the gradient of state 99, which is no parameter",
     [](Plan &p) { p.states[2].of = 99; }},
    {"state 'head.gradient': is f32[8, 12]; expected the shape of its parameter 'head', f32[12, 8]",
     [](Plan &p) { p.states[3].shape = {8, 12}; }},
    {"state 'head.gradient': is one gradient too many of parameter 'embed'; expected at most 1",
     [](Plan &p) { p.states[3].of = 0; }},
    {"state 'head.exp_avg': is one moment too many of parameter 'embed'; expected at most 2",
     [](Plan &p) { p.states[6].of = 0; }},
    {"state 'embed.gradient': has weight decay", [](Plan &p) { p.states[2].decay = true; }},
    {"state 'embed': has no source", [](Plan &p) { p.states[0].source = {}; }},
    {"state 'embed.gradient': has a source", [](Plan &p) { p.states[2].source = leafSource("x"); }},
    {"state 'embed': the source stacks 3 parts",
     [](Plan &p) { p.states[0].source = stackSource("e", 0, 3, leafSource("x.{e}")); }},
    {"state 'embed': the source joins parts of 5 + 6 rows, expected a sum of 12",
     [](Plan &p) {
       p.states[0].source = concatSource({leafSource("x"), leafSource("y")}, {5, 6});
     }},
};
INSTANTIATE_TEST_SUITE_P(States, Faults, testing::ValuesIn(kStateFaults));

TEST(Verify, AcceptsSourcesThatLeaveSizesToTheFiles) {
  Plan plan = tinyPlan();
  plan.states[0].source = concatSource({leafSource("q"), leafSource("k"), leafSource("v")});
  plan.states[1].source = stackSource(
      "e", 0, 12,
      concatSource({stackSource("i", 0, 3, leafSource("{e}.{i}")), leafSource("b.{e}")}));
  Status status = verify(plan);
  EXPECT_TRUE(status.ok()) << status.message();
}

const Fault kBufferFaults[] = {
    {"program micro_step: buffer 0: has rank 5; expected at most 4",
     [](Plan &p) { micro(p).buffers[0].shape.assign(5, fixed(1)); }},
    {"is symbolic; expected only the first to be",
     [](Plan &p) { operandOf(micro(p), "embedding", 2).shape = {fixed(1), tokens()}; }},
    {"names symbol 3; the plan has 3",
     [](Plan &p) { portOf(micro(p), "input_ids").shape[0].symbol = 3; }},
    {"names symbol -2; the plan has 3",
     [](Plan &p) { portOf(micro(p), "input_ids").shape[0].symbol = -2; }},
    {"extent 0 of f32[0, 8] is 0*symbol + 0; expected a positive extent",
     [](Plan &p) { operandOf(micro(p), "linear_cross_entropy_grad", 7).shape[0] = fixed(0); }},
    {"is -1*symbol + 0; expected a positive extent",
     [](Plan &p) { portOf(micro(p), "input_ids").shape[0].scale = -1; }},
    {"at the symbols' bounds",
     [](Plan &p) { portOf(micro(p), "input_ids").shape[0].scale = int64_t{1} << 39; }},
    {"buffer 0: is at offset 4; expected a multiple of 256",
     [](Plan &p) { micro(p).buffers[0].offset = 4; }},
    {"leaves its arena: transient has",
     [](Plan &p) {
       Buffer &buffer = operandOf(micro(p), "embedding", 2);
       buffer.offset = p.arenaBytes[3] - 256;
     }},
    {"leaves its arena: io has", [](Plan &p) { micro(p).buffers[0].offset = ~uint64_t{255}; }},
    {"leaves its arena: comm has 0 bytes",
     [](Plan &p) { micro(p).buffers[0].arena = Arena::Comm; }},
    {"is in the state arena but names no state",
     [](Plan &p) { micro(p).buffers[0].arena = Arena::State; }},
    {"names state 8; the plan has 8",
     [](Plan &p) { operandOf(micro(p), "embedding", 0).state = 8; }},
    {"is bf16[12, 8]; expected f32[12, 8] as state 'embed' is",
     [](Plan &p) { operandOf(micro(p), "embedding", 0).dtype = DType::BF16; }},
    {"is at state+512; expected state+0 where state 'embed' is",
     [](Plan &p) { operandOf(micro(p), "embedding", 0).offset = 512; }},
    {"is neither a port nor used by an instruction",
     [](Plan &p) { micro(p).buffers.push_back({DType::F32, {}, Arena::Transient, 0, -1}); }},
};
INSTANTIATE_TEST_SUITE_P(Buffers, Faults, testing::ValuesIn(kBufferFaults));

const Fault kPortFaults[] = {
    {"program step: is no known program; expected micro_step, optimizer_step, train_step, evaluate "
     "or logits",
     [](Plan &p) { p.programs[0].name = "step"; }},
    {"has the program train_step, but a pass of T = 40 tokens and M = 3 micro-batches does not "
     "hold "
     "the step's 4 x 1 rows of 16 tokens",
     [](Plan &p) {
       std::erase_if(p.programs, [](const Program &q) { return q.name == "optimizer_step"; });
       micro(p).name = "train_step";
     }},
    {"has the program train_step, a whole step, and beside it micro_step",
     [](Plan &p) { programOf(p, "optimizer_step").name = "train_step"; }},
    {"has the program train_step, a whole step, and beside it optimizer_step",
     [](Plan &p) { micro(p).name = "train_step"; }},
    {"program micro_step: has no input 'labels'; expected input_ids, position_ids, cu_seqlens, "
     "labels,",
     [](Plan &p) {
       std::erase_if(micro(p).inputs, [](const Port &port) { return port.name == "labels"; });
     }},
    {"program micro_step: has an unknown input 'images'",
     [](Plan &p) { micro(p).inputs.push_back({"images", micro(p).inputs[0].buffer}); }},
    {"program micro_step: has no output 'loss'",
     [](Plan &p) { micro(p).outputs.erase(micro(p).outputs.begin()); }},
    {"input 'input_ids' is listed twice",
     [](Plan &p) { micro(p).inputs.push_back(micro(p).inputs[2]); }},
    {"input 'aux_weights' names buffer 99; the program has",
     [](Plan &p) { micro(p).inputs[0].buffer = 99; }},
    {"input 'aux_weights' is in the state arena; expected io",
     [](Plan &p) { micro(p).inputs[0].buffer = launchOf(micro(p), "embedding").operands[0]; }},
    {"input 'labels' is f32[T]; expected i32[T]",
     [](Plan &p) { portOf(micro(p), "labels").dtype = DType::F32; }},
    {"input 'labels' is i32[S]; expected i32[T]",
     [](Plan &p) { portOf(micro(p), "labels").shape[0].symbol = 1; }},
    {"input 'cu_seqlens' is f32[S+1]; expected i32 of rank 1",
     [](Plan &p) { portOf(micro(p), "cu_seqlens").dtype = DType::F32; }},
    {"output 'expert_counts' is f32[4, 1]; expected f32[1, 4]",
     [](Plan &p) { portOf(micro(p), "expert_counts").shape = {fixed(4), fixed(1)}; }},
    {"input 'rows' is i32[T]; expected i32 of rank 1 and a fixed extent",
     [](Plan &p) { portOf(programOf(p, "logits"), "rows").shape = {tokens()}; }},
    {"output 'logits' is f32[3, 13]; expected f32[3, 12]",
     [](Plan &p) { portOf(programOf(p, "logits"), "logits").shape[1] = fixed(13); }},
    {"output 'apply' is f32[]; expected i32[]",
     [](Plan &p) { portOf(optimizer(p), "apply").dtype = DType::F32; }},
    {"overlaps input",
     [](Plan &p) { portOf(micro(p), "labels").offset = portOf(micro(p), "input_ids").offset; }},
};
INSTANTIATE_TEST_SUITE_P(Ports, Faults, testing::ValuesIn(kPortFaults));

const Fault kLaunchFaults[] = {
    {"(embed): there is no kernel called 'embed'",
     [](Plan &p) { launchOf(micro(p), "embedding").kernel = "embed"; }},
    {"(embedding): is on stream 8; expected less than 8",
     [](Plan &p) { launchOf(micro(p), "embedding").stream = 8; }},
    {"(embedding): operand 2 names buffer 4294967295; the program has",
     [](Plan &p) { launchOf(micro(p), "embedding").operands[2] = ~0u; }},
    {"instruction 3 (embedding): kernel 'embedding' takes 3 operands, found 2",
     [](Plan &p) { launchOf(micro(p), "embedding").operands.pop_back(); }},
    {"kernel 'embedding', operand 'ids': is f32, expected i32",
     [](Plan &p) {
       launchOf(micro(p), "embedding").operands[1] = launchOf(micro(p), "embedding").operands[2];
     }},
    {"kernel 'linear_cross_entropy_grad', attribute 'chunk_rows': is 0",
     [](Plan &p) { launchOf(micro(p), "linear_cross_entropy_grad").attributes[0].integer = 0; }},
    {"kernel 'scale', attribute 'factor': is nan",
     [](Plan &p) {
       launchOf(micro(p), "scale").attributes[0].real = std::numeric_limits<double>::quiet_NaN();
     }},
    {"kernel 'embedding', operand 'y': dimension 1 is 4, expected D = 8",
     [](Plan &p) { operandOf(micro(p), "embedding", 2).shape[1] = fixed(4); }},
    {"(linear_cross_entropy_grad): has no workspace; expected one of",
     [](Plan &p) { launchOf(micro(p), "linear_cross_entropy_grad").workspace = -1; }},
    {"(linear_cross_entropy_grad): workspace names buffer 1000",
     [](Plan &p) { launchOf(micro(p), "linear_cross_entropy_grad").workspace = 1000; }},
    {"(embedding): has a workspace; its kernel uses none",
     [](Plan &p) {
       launchOf(micro(p), "embedding").workspace =
           launchOf(micro(p), "linear_cross_entropy_grad").workspace;
     }},
    {"(linear_cross_entropy_grad): workspace has",
     [](Plan &p) {
       micro(p)
           .buffers[launchOf(micro(p), "linear_cross_entropy_grad").workspace]
           .shape[0]
           .offset -= 1;
     }},
    {"workspace is f32[T]; expected a fixed size",
     [](Plan &p) {
       micro(p).buffers[launchOf(micro(p), "linear_cross_entropy_grad").workspace].shape = {
           tokens()};
     }},
    {"workspace is in the io arena; expected transient",
     [](Plan &p) {
       launchOf(micro(p), "linear_cross_entropy_grad").workspace =
           static_cast<int32_t>(micro(p).inputs[0].buffer);
     }},
    {"instruction 3 (copy): is from f32[3, 12] to f32[3, 8]; expected the same type",
     [](Plan &p) {
       Program &program = programOf(p, "logits");
       std::get<CopyInstruction>(program.instructions[3]).to =
           launchOf(program, "gather_rows").operands[2];
     }},
    {"instruction 3 (copy): is on stream 9; expected less than 8",
     [](Plan &p) { std::get<CopyInstruction>(programOf(p, "logits").instructions[3]).stream = 9; }},
    {"instruction 3 (copy): names buffer 77",
     [](Plan &p) { std::get<CopyInstruction>(programOf(p, "logits").instructions[3]).from = 77; }},
};
INSTANTIATE_TEST_SUITE_P(Launches, Faults, testing::ValuesIn(kLaunchFaults));

const Fault kMemoryFaults[] = {
    // The result of scale may lie exactly on its operand, no other way.
    {"(scale): writes 'y', buffer 16 (f32[12, 8] at transient+512), over 'x', buffer 15 (f32[12, "
     "8] at transient+256)",
     [](Plan &p) {
       operandOf(micro(p), "scale", 1).offset += 256;
       operandOf(micro(p), "accumulate", 1).offset = operandOf(micro(p), "scale", 1).offset;
     }},
    {"(embedding_grad): writes 'dtable'",
     [](Plan &p) {
       operandOf(micro(p), "embedding_grad", 2).offset =
           operandOf(micro(p), "embedding_grad", 0).offset;
     }},
    {"over 'workspace', buffer 20 (f32[",
     [](Plan &p) {
       Program &program = micro(p);
       program.buffers[launchOf(program, "linear_cross_entropy_grad").workspace].offset =
           operandOf(program, "linear_cross_entropy_grad", 0).offset;
       p.arenaBytes[3] += 4 << 20, p.peakBytes += 4 << 20;
     }},
    {"(copy): writes 'to'",
     [](Plan &p) {
       Program &program = programOf(p, "logits");
       std::get<CopyInstruction>(program.instructions[3]).to =
           std::get<CopyInstruction>(program.instructions[3]).from;
     }},
    // Reading what nothing wrote.
    {"instruction 3 (embedding): operand 'ids' reads buffer",
     [](Plan &p) {
       Program &program = micro(p);
       program.buffers.push_back(portOf(program, "input_ids"));
       launchOf(program, "embedding").operands[1] =
           static_cast<uint32_t>(program.buffers.size()) - 1;
     }},
    {"output 'aux_loss' reads buffer 1 (f32[] at io+256) before anything wrote it",
     [](Plan &p) { micro(p).instructions.erase(micro(p).instructions.begin() + 1); }},
    {"before anything wrote it",
     [](Plan &p) { std::swap(micro(p).instructions[3], micro(p).instructions[4]); }},
    // Bytes taken by another buffer before the last read.
    {"(linear_cross_entropy_grad): operand 'x' reads",
     [](Plan &p) {
       Program &program = micro(p);
       program.buffers.push_back(operandOf(program, "embedding", 2));
       program.buffers.back().shape = {fixed(1)};
       auto index = static_cast<uint32_t>(program.buffers.size()) - 1;
       program.instructions.insert(program.instructions.begin() + 4,
                                   LaunchInstruction{"constant", {index}, {{0, 1}}});
     }},
    {"output 'loss' reads buffer 0 (f32[] at io+0), but instruction 9 (constant) has overwritten "
     "it through buffer",
     [](Plan &p) {
       Program &program = micro(p);
       program.buffers.push_back(program.buffers[0]);
       auto index = static_cast<uint32_t>(program.buffers.size()) - 1;
       program.instructions.emplace_back(LaunchInstruction{"constant", {index}, {{0, 1}}});
     }},
    // Who may write which state.
    {"program micro_step: instruction 6 (accumulate): operand 'accumulator': writes parameter "
     "'head', which program "
     "micro_step may not write",
     [](Plan &p) {
       launchOf(micro(p), "accumulate").operands[0] =
           launchOf(micro(p), "linear_cross_entropy_grad").operands[1];
     }},
    {"program evaluate: instruction 4 (scale): operand 'y': writes gradient 'embed.gradient', "
     "which program evaluate "
     "may not write",
     [](Plan &p) {
       Program &program = programOf(p, "evaluate");
       program.buffers.push_back(operandOf(micro(p), "accumulate", 0));
       program.buffers.back().state = 2;
       program.buffers.back().offset = p.states[2].offset;
       auto index = static_cast<uint32_t>(program.buffers.size()) - 1;
       program.instructions.emplace_back(LaunchInstruction{
           "scale", {launchOf(program, "embedding").operands[0], index}, {{0, 1}}});
     }},
    {"(adamw): operand 'param' reads state 'embed' after instruction 4 (adamw) wrote it",
     [](Plan &p) { optimizer(p).instructions.push_back(optimizer(p).instructions[4]); }},
    {"instruction 6 (scale): operand 'y': writes state 'embed', which instruction 4 (adamw) wrote; "
     "expected one write",
     [](Plan &p) {
       Program &program = optimizer(p);
       uint32_t parameter = launchAt(program, 4).operands[0],
                gradient = launchAt(program, 4).operands[3];
       program.instructions.emplace_back(
           LaunchInstruction{"scale", {gradient, parameter}, {{0, 1}}});
     }},
};
INSTANTIATE_TEST_SUITE_P(Memory, Faults, testing::ValuesIn(kMemoryFaults));

} // namespace
} // namespace switchyard

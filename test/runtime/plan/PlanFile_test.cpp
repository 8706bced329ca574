#include "runtime/plan/PlanFile.h"

#include "runtime/plan/Verify.h"
#include "runtime/plan/plan_generated.h"
#include "test/runtime/plan/RanksPlan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

namespace switchyard {
namespace {

using testing::HasSubstr;

std::string messageOf(std::span<const uint8_t> bytes) {
  Result<Plan> plan = parse(bytes);
  if (plan.ok())
    return "";
  EXPECT_EQ(plan.status().code(), StatusCode::InvalidInput);
  return plan.status().message();
}

/// A plan in which every field has a value of its own.
Plan variedPlan() {
  Plan plan = test::tinyPlan();
  plan.target.kind = kernels::Target::Kind::Cuda;
  plan.states[0].layer = 0;
  plan.states[0].moduleName = "model.embed.weight";
  plan.states[0].source =
      stackSource("e", 0, 12, concatSource({leafSource("a.{e}"), leafSource("b.{e}")}, {3, 5}));
  plan.training.packing = true;
  plan.training.auxLossCoef = 0.125;
  return plan;
}

TEST(PlanFile, ReadsBackWhatItWrote) {
  Plan plan = variedPlan();
  std::vector<uint8_t> bytes = serialize(plan);
  Result<Plan> back = parse(bytes);
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(serialize(*back), bytes);
  const State &state = back->states[0];
  EXPECT_EQ(state.moduleName, "model.embed.weight");
  EXPECT_EQ(state.layer, 0);
  EXPECT_TRUE(state.decay);
  EXPECT_EQ(back->states[2].of, 0);
  EXPECT_EQ(state.shape, plan.states[0].shape);
  EXPECT_EQ(state.source.kind, Source::Kind::Stack);
  ASSERT_EQ(state.source.children.size(), 1u);
  EXPECT_EQ(state.source.children[0].children[1].name, "b.{e}");
  EXPECT_EQ(state.source.children[0].sizes, (std::vector<int64_t>{3, 5}));
  EXPECT_EQ(back->states[2].source.name, "");
  EXPECT_EQ(back->target.kind, kernels::Target::Kind::Cuda);
  EXPECT_EQ(back->target.threads, 2);
  EXPECT_EQ(back->symbols[2].name, "M");
  EXPECT_EQ(back->peakBytes, plan.peakBytes);
  EXPECT_EQ(back->arenaBytes[3], plan.arenaBytes[3]);
  EXPECT_EQ(back->training.auxLossCoef, 0.125);
  EXPECT_TRUE(back->training.packing);
  ASSERT_EQ(back->programs.size(), plan.programs.size());
  const Program &program = *back->findProgram("logits");
  EXPECT_EQ(program.inputs[4].name, "rows");
  EXPECT_EQ(program.buffers[0].shape[0], test::tokens());
  EXPECT_TRUE(std::holds_alternative<CopyInstruction>(program.instructions.back()));
  EXPECT_EQ(nullptr, back->findProgram("train"));
}

TEST(PlanFile, ReadsBackPlansForManyRanks) {
  Plan plan = test::exchangePlan(Mesh{{2, 1, 2}}, Axis::Ep, 4, 1.25);
  plan.states[1].sharding.flat = Axis::Fsdp;
  plan.states[1].reserve = 500;
  plan.programs[0].buffers[7].reserve = 9;
  plan.training.auxLossScope = "pass";
  plan.training.syncEachBatch = false;
  auto &list = plan.programs[0].instructions;
  std::get<CollectiveInstruction>(list[1]).isMax = true;
  list.insert(list.begin(), {RecordInstruction{3, 1}, WaitInstruction{4, 2}});
  std::vector<uint8_t> bytes = serialize(plan);
  Result<Plan> back = parse(bytes);
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(serialize(*back), bytes);
  EXPECT_EQ(back->mesh, plan.mesh);
  EXPECT_EQ(back->symbols[3].rowsPerToken, 1.25);
  EXPECT_EQ(back->states[1].sharding, plan.states[1].sharding);
  EXPECT_EQ(back->states[1].reserve, 500);
  EXPECT_EQ(back->programs[0].buffers[7].reserve, 9);
  EXPECT_EQ(back->training.auxLossScope, "pass");
  EXPECT_FALSE(back->training.syncEachBatch);
  const auto &found = back->programs[0].instructions;
  EXPECT_EQ(std::get<RecordInstruction>(found[0]).event, 3u);
  EXPECT_EQ(std::get<RecordInstruction>(found[0]).stream, 1u);
  EXPECT_EQ(std::get<WaitInstruction>(found[1]).event, 4u);
  EXPECT_EQ(std::get<WaitInstruction>(found[1]).stream, 2u);
  EXPECT_TRUE(std::get<CollectiveInstruction>(found[3]).isMax);
  EXPECT_EQ(std::get<CollectiveInstruction>(found[4]).kind, CollectiveKind::TokenExchange);
  EXPECT_EQ(std::get<CollectiveInstruction>(found[4]).axes, AxisSet(Axis::Ep));
  EXPECT_EQ(std::get<RepeatInstruction>(found[7]).length, 3u);
  EXPECT_EQ(std::get<RepeatInstruction>(found[7]).axes, AxisSet(Axis::Ep));
  EXPECT_TRUE(std::get<CollectiveInstruction>(found[10]).adds);
  EXPECT_EQ(std::get<CollectiveInstruction>(found[10]).operands,
            std::get<CollectiveInstruction>(list[10]).operands);
}

TEST(PlanFile, IsTheSameBytesForTheSamePlan) {
  EXPECT_EQ(serialize(variedPlan()), serialize(variedPlan()));
}

TEST(PlanFile, RefusesOtherFiles) {
  EXPECT_THAT(messageOf({}), HasSubstr("not a plan file (no \"MOEP\" at byte 8)"));
  std::string text = "{\"model_type\": \"mixtral\"}";
  EXPECT_THAT(messageOf({reinterpret_cast<const uint8_t *>(text.data()), text.size()}),
              HasSubstr("not a plan file"));
}

TEST(PlanFile, RefusesATruncatedFile) {
  std::vector<uint8_t> bytes = serialize(test::tinyPlan());
  std::string size = std::to_string(bytes.size());
  for (size_t kept = 0; kept < bytes.size(); kept += 7)
    EXPECT_NE(messageOf(std::span(bytes).first(kept)), "") << kept;
  EXPECT_THAT(
      messageOf(std::span(bytes).first(100)),
      HasSubstr("the plan file has 100 bytes, but says that it has " + size + ": it is truncated"));
  bytes.push_back(0);
  EXPECT_THAT(messageOf(bytes), HasSubstr("something was appended to it"));
}

TEST(PlanFile, RefusesAnotherSchemaVersion) {
  std::vector<uint8_t> bytes = serialize(test::tinyPlan());
  // The version is the only field with this value that stands in the root table.
  uint32_t root;
  std::memcpy(&root, bytes.data() + 4, 4);
  bool found = false;
  for (size_t at = 4 + root; at < 4 + root + 80 && !found; at += 4) {
    uint32_t value;
    std::memcpy(&value, bytes.data() + at, 4);
    if (value != kPlanSchemaVersion)
      continue;
    uint32_t other = 7;
    std::memcpy(bytes.data() + at, &other, 4);
    found = messageOf(bytes).find("schema version 7; this program reads 1") != std::string::npos;
    std::memcpy(bytes.data() + at, &value, 4);
  }
  EXPECT_TRUE(found);
}

TEST(PlanFile, RefusesUnknownEnumerators) {
  Plan plan = test::tinyPlan();
  plan.states[1].kind = static_cast<StateKind>(9);
  EXPECT_THAT(messageOf(serialize(plan)), HasSubstr("unknown kind of state 9"));
  plan = test::tinyPlan();
  plan.programs[0].buffers[3].arena = static_cast<Arena>(4);
  EXPECT_THAT(messageOf(serialize(plan)), HasSubstr("unknown arena 4"));
  plan = test::tinyPlan();
  plan.programs[0].buffers[3].dtype = static_cast<DType>(77);
  EXPECT_THAT(messageOf(serialize(plan)), HasSubstr("unknown dtype 77"));
}

TEST(PlanFile, RefusesNamesThatSteerATerminal) {
  Plan plan = test::tinyPlan();
  plan.states[0].name = "embed\x1b[31m";
  EXPECT_THAT(messageOf(serialize(plan)), HasSubstr("a name in it has a control character"));
}

/// A file with the given instructions and arenas, built by hand: forms that serialize() never
/// writes.
template <typename Body>
std::vector<uint8_t> fileWith(planfile::InstructionBody type, Body body, size_t instructions,
                              size_t arenas) {
  namespace fb = planfile;
  flatbuffers::FlatBufferBuilder builder;
  auto text = [&] { return builder.CreateString("x"); };
  std::vector<flatbuffers::Offset<fb::Instruction>> list;
  flatbuffers::Offset<void> shared = body(builder);
  for (size_t i = 0; i < instructions; ++i)
    list.push_back(fb::CreateInstruction(builder, 0, type, shared));
  auto buffers = builder.CreateVector(std::vector<flatbuffers::Offset<fb::Buffer>>());
  auto ports = [&] { return builder.CreateVector(std::vector<flatbuffers::Offset<fb::Port>>()); };
  auto inputs = ports(), outputs = ports();
  auto instructionList = builder.CreateVector(list);
  auto program = fb::CreateProgram(builder, text(), buffers, inputs, outputs, instructionList);
  auto programs = builder.CreateVector(&program, 1);
  auto symbols = builder.CreateVector(std::vector<flatbuffers::Offset<fb::Symbol>>());
  auto states = builder.CreateVector(std::vector<flatbuffers::Offset<fb::State>>());
  auto arenaBytes = builder.CreateVector(std::vector<uint64_t>(arenas));
  auto modelType = text(), precision = text(), normalization = text(), scope = text(),
       auxLossScope = text();
  fb::TrainingBuilder training(builder);
  training.add_model_type(modelType);
  training.add_precision(precision);
  training.add_loss_normalization(normalization);
  training.add_weight_decay_scope(scope);
  training.add_aux_loss_scope(auxLossScope);
  auto trainingTable = training.Finish();
  auto target = fb::CreateTarget(builder);
  auto mesh = fb::CreateMesh(builder);
  auto compiler = text(), fingerprint = text();
  builder.FinishSizePrefixed(fb::CreatePlan(builder, kPlanSchemaVersion, compiler, fingerprint,
                                            target, mesh, symbols, states, programs, arenaBytes, 0,
                                            trainingTable),
                             fb::PlanIdentifier());
  return {builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize()};
}

flatbuffers::Offset<void> copyBody(flatbuffers::FlatBufferBuilder &builder) {
  return planfile::CreateCopy(builder, 1, 2).Union();
}

TEST(PlanFile, RefusesUnknownInstructionsAndArenas) {
  EXPECT_EQ(messageOf(fileWith(planfile::InstructionBody::Copy, copyBody, 3, 4)), "");
  EXPECT_THAT(messageOf(fileWith(planfile::InstructionBody::Copy, copyBody, 3, 5)),
              HasSubstr("the file lists 5 arenas; expected 4"));
  EXPECT_THAT(messageOf(fileWith(static_cast<planfile::InstructionBody>(9), copyBody, 3, 4)),
              HasSubstr("unknown kind of instruction 9"));
}

TEST(PlanFile, RefusesPartsThatAreUsedTwice) {
  // One long list of operands in ten thousand launches would be 4 GB.
  auto longLaunch = [](flatbuffers::FlatBufferBuilder &builder) {
    auto kernel = builder.CreateString("sum");
    auto operands = builder.CreateVector(std::vector<uint32_t>(100000));
    auto attributes = builder.CreateVectorOfStructs(std::vector<planfile::AttributeValue>());
    return planfile::CreateLaunch(builder, kernel, operands, attributes).Union();
  };
  EXPECT_EQ(messageOf(fileWith(planfile::InstructionBody::Launch, longLaunch, 1, 4)), "");
  EXPECT_THAT(messageOf(fileWith(planfile::InstructionBody::Launch, longLaunch, 10000, 4)),
              HasSubstr("the plan is damaged: its parts overlap"));
}

TEST(PlanFile, ReadsBytesThatLieAnywhere) {
  std::vector<uint8_t> bytes = serialize(test::tinyPlan());
  for (size_t shift = 1; shift < 8; ++shift) {
    std::vector<uint8_t> shifted(shift);
    shifted.insert(shifted.end(), bytes.begin(), bytes.end());
    EXPECT_EQ(messageOf(std::span(shifted).subspan(shift)), "");
  }
}

TEST(PlanFile, RefusesDeepNesting) {
  Plan plan = test::tinyPlan();
  for (int i = 0; i < 100; ++i)
    plan.states[0].source = concatSource({plan.states[0].source});
  EXPECT_THAT(messageOf(serialize(plan)), HasSubstr("an offset or a length in it is wrong"));
}

TEST(PlanFile, WritesAndLoadsFiles) {
  auto folder = std::filesystem::temp_directory_path() / "switchyard_plan_file_test";
  std::filesystem::create_directories(folder);
  std::string path = folder / "step.plan";
  ASSERT_TRUE(writePlan(test::tinyPlan(), path).ok());
  Result<Plan> plan = load(path);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  EXPECT_EQ(serialize(*plan), serialize(test::tinyPlan()));
  std::ofstream(path) << "not a plan, but long enough";
  EXPECT_THAT(load(path).status().message(), HasSubstr("step.plan: not a plan file"));
  std::filesystem::remove_all(folder);
  EXPECT_THAT(load(path).status().message(), HasSubstr("step.plan"));
  EXPECT_FALSE(writePlan(test::tinyPlan(), path).ok());
}

/// The claim that mutations must not break: what verify() passes stays inside its arenas.
void expectInsideArenas(const Plan &plan) {
  for (const Program &program : plan.programs)
    for (const Buffer &buffer : program.buffers) {
      __int128 bytes = kernels::byteSize(buffer.dtype);
      for (const Extent &extent : buffer.shape)
        bytes *= extent.symbol < 0
                     ? __int128(extent.offset)
                     : __int128(extent.scale) * plan.symbols[extent.symbol].bound + extent.offset;
      bytes = std::max(bytes, __int128(buffer.reserve) * kernels::byteSize(buffer.dtype));
      ASSERT_LE(buffer.offset + bytes, plan.arenaBytes[static_cast<int>(buffer.arena)]);
    }
  __int128 peak = 0;
  for (uint64_t bytes : plan.arenaBytes)
    peak += bytes;
  ASSERT_EQ(peak, plan.peakBytes);
}

/// Damages `plan` in many ways: none may crash the reader, and what is still valid stays inside its
/// memory.
void mutate(const Plan &plan) {
  const std::vector<uint8_t> original = serialize(plan);
  std::mt19937_64 random(1);
  int parsed = 0, verified = 0;
  for (int i = 0; i < 5000; ++i) {
    std::vector<uint8_t> bytes = original;
    int count = 1 + static_cast<int>(random() % 4);
    for (int j = 0; j < count; ++j) {
      size_t at = 12 + random() % (bytes.size() - 12);
      bytes[at] = random() % 2 ? static_cast<uint8_t>(random())
                               : bytes[at] ^ static_cast<uint8_t>(1 << random() % 8);
    }
    Result<Plan> plan = parse(bytes);
    if (!plan.ok())
      continue;
    ++parsed;
    if (!verify(*plan).ok())
      continue;
    ++verified;
    expectInsideArenas(*plan);
  }
  // Many get through the format, some (a changed coefficient) are as valid as before.
  EXPECT_GT(parsed, 1000);
  EXPECT_GT(verified, 10);
  EXPECT_LT(verified, 2500);
}

TEST(PlanFile, RandomMutationsNeverCrashNorEscape) {
  mutate(test::tinyPlan());
}

TEST(PlanFile, RandomMutationsOfPlansForManyRanksNeverCrashNorEscape) {
  mutate(test::exchangePlan(Mesh{{2, 1, 2}}, Axis::Ep, 4, 2.0));
  // Streams and events too.
  Plan plan = test::shardedPlan(Mesh{{1, 2, 2}});
  auto &list = plan.programs[0].instructions;
  std::get<CollectiveInstruction>(list[0]).stream = 1;
  list.insert(list.begin() + 1, {RecordInstruction{0, 1}, WaitInstruction{0, 0}});
  ASSERT_TRUE(verify(plan).ok()) << verify(plan).message();
  mutate(plan);
}

} // namespace
} // namespace switchyard

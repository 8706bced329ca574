#include "runtime/plan/Diff.h"

#include "runtime/plan/PlanFile.h"
#include "runtime/plan/Verify.h"
#include "test/runtime/plan/RanksPlan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace switchyard {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(Diff, SaysNothingOfTheSamePlan) {
  EXPECT_EQ(diff(test::tinyPlan(), test::tinyPlan()), "");
  Plan plan = test::exchangePlan(Mesh{{1, 1, 4}}, AxisSet(Axis::Ep), 4, 1.5);
  EXPECT_EQ(diff(plan, plan), "");
}

TEST(Diff, NamesMeshMemoryProgramsAndBytes) {
  Plan one = test::shardedPlan(Mesh{{1, 1, 1}}), four = test::shardedPlan(Mesh{{1, 2, 2}});
  std::string text = diff(one, four);
  EXPECT_THAT(text, AllOf(HasSubstr("Settings\n"), HasSubstr("  ranks  1  4\n"),
                          HasSubstr("  mesh   -  fsdp=2,ep=2\n"),
                          HasSubstr("Memory of each rank (bytes)\n"), HasSubstr("  peak "),
                          HasSubstr("  all_gather "), Not(HasSubstr("Symbols"))));
  EXPECT_THAT(text, AllOf(HasSubstr("Program micro_step\n"), HasSubstr("  instructions "),
                          HasSubstr("from instruction "),
                          HasSubstr("Communication (bytes that a rank sends at the bounds, routing "
                                    "evenly)\n"),
                          HasSubstr("micro_step all_gather calls")));
  EXPECT_THAT(diff(four, one), HasSubstr("  mesh   fsdp=2,ep=2  -\n"));
}

TEST(Diff, NamesSymbolsWithTheirBounds) {
  Plan plan = test::tinyPlan(), other = plan;
  other.symbols[0].bound = 44;
  EXPECT_THAT(diff(plan, other), HasSubstr("Symbols (bounds)\n  T  40  44  +4 (+10.0%)\n"));
}

TEST(Diff, ShowsWhereInstructionsPart) {
  Plan plan = test::tinyPlan(), other = plan;
  test::programOf(other, "evaluate").instructions.pop_back();
  EXPECT_THAT(diff(plan, other),
              AllOf(HasSubstr("Program evaluate\n"
                              "  instructions  4  3  -1 (-25.0%)\n"
                              "    constant    2  1  -1 (-50.0%)\n"
                              "  from instruction 3 on they differ:\n"
                              "    constant(y = expert_counts f32[1, 4]), value = 0\n"
                              "    ends\n"),
                    Not(HasSubstr("Program micro_step"))));
  std::erase_if(other.programs, [](const Program &each) { return each.name == "evaluate"; });
  EXPECT_THAT(diff(plan, other),
              HasSubstr("Programs\n  only in the first: evaluate, 4 instructions\n"));
  EXPECT_THAT(diff(other, plan),
              HasSubstr("Programs\n  only in the second: evaluate, 4 instructions\n"));
}

/// Whatever the file holds, diff() sees. Some of these plans are not valid: they differ in one
/// place each.
TEST(Diff, SeesEachField) {
  using Change = std::function<void(Plan &)>;
  auto launch = [](Plan &plan) -> LaunchInstruction & {
    return test::launchAt(test::programOf(plan, "micro_step"), 0);
  };
  const std::vector<Change> changes = {
      [](Plan &p) { p.compilerVersion = "0.2.0"; },
      [](Plan &p) { p.modelFingerprint[0] = 'f'; },
      [](Plan &p) { p.target.threads = 3; },
      [](Plan &p) { p.mesh.sizes[0] = 2; },
      [](Plan &p) { p.symbols[1].bound = 6; },
      [](Plan &p) { p.symbols[1].rowsPerToken = 0.5; },
      [](Plan &p) { std::swap(p.symbols[1], p.symbols[2]); },
      [](Plan &p) { p.states[0].name = "other"; },
      [](Plan &p) { p.states[0].kind = StateKind::Master; },
      [](Plan &p) { p.states[0].dtype = DType::BF16; },
      [](Plan &p) { p.states[0].sharding.flat = AxisSet(Axis::Ep); },
      [](Plan &p) { p.states[0].shape[0] = 16; },
      [](Plan &p) { p.states[0].offset = 1 << 20; },
      [](Plan &p) { p.states[0].reserve = 1000; },
      [](Plan &p) { p.states[0].layer = 0; },
      [](Plan &p) { p.states[2].of = 1; },
      [](Plan &p) { p.states[0].decay = false; },
      [](Plan &p) { p.states[0].moduleName = "embedding"; },
      [](Plan &p) { p.states[0].source.name = "wte"; },
      [](Plan &p) { std::swap(p.states[0], p.states[1]); },
      [](Plan &p) { p.arenaBytes[1] += 256; },
      [](Plan &p) { p.peakBytes += 256; },
      [](Plan &p) { p.programs[0].name = "train_step"; },
      [](Plan &p) { std::swap(p.programs[2], p.programs[3]); },
      [](Plan &p) { std::swap(p.programs[0].inputs[1], p.programs[0].inputs[2]); },
      [](Plan &p) { p.programs[0].inputs[1].name = "ids"; },
      [](Plan &p) { p.programs[0].outputs.pop_back(); },
      [](Plan &p) { p.programs[0].buffers.back().offset += 256; },
      [](Plan &p) { p.programs[0].buffers.back().reserve = 1000; },
      [](Plan &p) { p.programs[0].buffers.back().arena = Arena::Comm; },
      [](Plan &p) { p.programs[0].buffers.push_back(p.programs[0].buffers.back()); },
      [&](Plan &p) { launch(p).attributes[0].real = 0.5; },
      [&](Plan &p) { launch(p).operands[0] += 1; },
      [&](Plan &p) { launch(p).stream = 1; },
      [](Plan &p) { std::get<CopyInstruction>(p.programs[3].instructions[3]).to -= 1; },
      [](Plan &p) { p.training.modelType = "olmoe"; },
      [](Plan &p) { ++p.training.vocabSize; },
      [](Plan &p) { ++p.training.numLayers; },
      [](Plan &p) { ++p.training.numExperts; },
      [](Plan &p) { ++p.training.topK; },
      [](Plan &p) { ++p.training.activeParameters; },
      [](Plan &p) { p.training.auxLossCoef = 0.02; },
      [](Plan &p) { p.training.precision = "bf16"; },
      [](Plan &p) { p.training.lossNormalization = "global"; },
      [](Plan &p) { p.training.weightDecayScope = "all"; },
      [](Plan &p) { ++p.training.perDeviceTrainBatchSize; },
      [](Plan &p) { ++p.training.gradientAccumulationSteps; },
      [](Plan &p) { ++p.training.maxSeqLength; },
      [](Plan &p) { p.training.packing = true; },
      [](Plan &p) { p.training.auxLossScope = "pass"; },
      [](Plan &p) { p.training.syncEachBatch = false; },
  };
  const Plan plan = test::tinyPlan();
  for (size_t i = 0; i < changes.size(); ++i) {
    Plan other = plan;
    changes[i](other);
    ASSERT_NE(serialize(plan), serialize(other)) << "change " << i;
    EXPECT_NE(diff(plan, other), "") << "change " << i;
    EXPECT_NE(diff(other, plan), "") << "change " << i;
  }
}

TEST(Diff, SaysOfFilesThatDifferInNothingElseThatTheyDo) {
  Plan plan = test::tinyPlan(), other = plan;
  test::launchAt(test::programOf(other, "micro_step"), 0).attributes[0].integer = 7; // of a float
  EXPECT_EQ(diff(plan, other),
            "Files\n  differ only in what has no effect: the numbers of buffers, unused values\n");
}

TEST(Diff, SeesWhatACollectiveDoes) {
  const Plan plan = test::shardedPlan(Mesh{{2, 2, 2}});
  size_t seen = 0;
  for (size_t i = 0; i < plan.programs[0].instructions.size(); ++i) {
    if (!std::holds_alternative<CollectiveInstruction>(plan.programs[0].instructions[i]))
      continue;
    ++seen;
    for (int change = 0; change < 4; ++change) {
      Plan other = plan;
      auto &collective = std::get<CollectiveInstruction>(other.programs[0].instructions[i]);
      if (change == 0)
        collective.axes = AxisSet(uint8_t(collective.axes.bits() ^ 1));
      if (change == 1)
        collective.isMax = true;
      if (change == 2)
        collective.adds = true;
      if (change == 3)
        collective.stream = 2;
      EXPECT_THAT(diff(plan, other), HasSubstr("differ:\n    ")) << i << " " << change;
    }
  }
  EXPECT_GT(seen, 0u);
}

} // namespace
} // namespace switchyard

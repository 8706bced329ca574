#include "runtime/plan/Inspect.h"
#include "runtime/plan/InspectMemory.h"
#include "runtime/plan/Layout.h"
#include "runtime/plan/RunSummary.h"
#include "runtime/plan/SavedStates.h"
#include "runtime/plan/TextTable.h"
#include "runtime/plan/Traffic.h"

#include "test/runtime/plan/RanksPlan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace switchyard {
namespace {

using testing::HasSubstr;

TEST(Inspect, PrintsBytesWithThreeDigits) {
  EXPECT_EQ(humanBytes(0), "0 B");
  EXPECT_EQ(humanBytes(1023), "1023 B");
  EXPECT_EQ(humanBytes(1024), "1.00 KiB");
  EXPECT_EQ(humanBytes(10 * 1024), "10.0 KiB");
  EXPECT_EQ(humanBytes(1048575), "1.00 MiB");
  EXPECT_EQ(humanBytes(uint64_t{123} << 30), "123 GiB");
  EXPECT_EQ(humanBytes(uint64_t{1} << 50), "1.00 PiB");
}

TEST(Inspect, PrintsEachPart) {
  Plan plan = test::tinyPlan();
  plan.states[1].source = stackSource(
      "e", 0, 12,
      concatSource({leafSource("model.layers.0.block_sparse_moe.experts.{e}.w1.weight"),
                    leafSource("model.layers.0.block_sparse_moe.experts.{e}.w3.weight")}));
  std::string text = inspect(plan);
  for (const char *part : {
           "  model         mixtral, 192 parameters, 192 active per token\n"
           "                1 layer, 4 experts, top 2, vocabulary 12\n",
           "  target        cpu, 2 threads, 1 rank\n",
           "  T  <= 40  tokens of a pass\n",
           "  state        4.00 KiB      4,096\n    parameter     768 B        768\n",
           "  comm              0 B          0\n",
           "  saving       2.25 KiB      2,304\n",
           "Program optimizer_step: 6 instructions, 9.00 KiB transient\n",
           "  inputs   aux_weights f32[M], cu_seqlens i32[S+1], input_ids i32[T],",
           "  outputs  loss f32[], aux_loss f32[], expert_counts f32[1, 4]\n",
           "  kernels  2 adamw, 1 clip, 1 sum, 2 sum_of_squares\n",
           "  embed  f32  12 x 8  384 B  decay\n"
           "  head   f32  12 x 8  384 B  decay\n"
           "      = stack(e=0..11: concat(model.layers.0.block_sparse_moe.experts.{e}.w1.weight,\n"
           "        model.layers.0.block_sparse_moe.experts.{e}.w3.weight))\n",
       })
    EXPECT_THAT(text, HasSubstr(part));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    EXPECT_LE(line.size(), 100u) << line;
}

// A buffer and what takes it over in place are one; what a repeat names is needed for all of it.
TEST(Inspect, ListsWhatIsNeededWhereMostIs) {
  Plan plan = test::newPlan();
  EXPECT_EQ(memoryPeakText(plan), "");
  test::ProgramBuilder builder(plan, "evaluate");
  uint32_t x = builder.input("x", DType::F32, {test::fixed(256)});
  uint32_t y = builder.output("y", DType::F32, {test::fixed(256)});
  uint32_t a = builder.transient(DType::F32, {test::fixed(256)});
  uint32_t b = builder.sharing(a, DType::F32, {test::fixed(256)});
  uint32_t c = builder.transient(DType::F32, {test::fixed(512)});
  uint32_t d = builder.transient(DType::F32, {test::fixed(2048)});
  uint32_t counts = builder.transient(DType::I32, {test::fixed(2), test::fixed(4)});
  uint32_t round = builder.transient(DType::I32, {});
  builder.copy(x, a);
  builder.launch("add", {a, x, b});
  builder.copy(x, d);
  builder.add(RepeatInstruction{round, counts, Axis::Ep, 1});
  builder.launch("add", {b, d, c});
  builder.copy(b, y);
  plan.programs.push_back(builder.program());
  EXPECT_EQ(memoryPeakText(plan),
            "Most transient memory: 11.0 KiB in evaluate, at instruction 3 (repeat)\n"
            "  8.00 KiB  f32[2048]  from 2 (copy)    to 4 (add)\n"
            "  2.00 KiB  f32[512]   from 3 (repeat)  to 4 (add)\n"
            "  1.00 KiB  f32[256]   from 0 (copy)    to 5 (copy)\n"
            "      32 B  i32[2, 4]  from 3 (repeat)  to 4 (add)\n"
            "       4 B  i32[]      from 3 (repeat)  to 4 (add)\n");
}

TEST(RunSummary, SaysWhatWillRun) {
  EXPECT_THAT(runSummary(test::tinyPlan()),
              testing::ElementsAre("mixtral: 192 parameters, 192 active per token, in f32",
                                   "1 rank, on the CPU",
                                   testing::AllOf(testing::StartsWith("memory of the plan: "),
                                                  HasSubstr(" = parameters 1.00 KiB, gradients "
                                                            "1.00 KiB, moments 2.00 KiB, inputs "
                                                            "and outputs "),
                                                  HasSubstr(", activations and workspaces ")),
                                   "saving takes 2.25 KiB of host memory"));
}

TEST(RunSummary, SaysWhatRanksSend) {
  Plan plan = test::shardedPlan(Mesh{{1, 2, 2}});
  std::vector<std::string> lines = runSummary(plan);
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[1], "4 ranks, fsdp=2,ep=2, on the CPU");
  EXPECT_THAT(lines[2], testing::StartsWith("memory of each rank: "));
  auto bytes = [&](const char *program) {
    return humanBytes(
        sentBytes(trafficOf(plan, *plan.findProgram(program), symbolBounds(plan)).expected));
  };
  EXPECT_EQ(lines[3],
            "saving takes " + humanBytes(stagingBytes(plan)) + " of host memory for each rank");
  EXPECT_THAT(lines[4], testing::StartsWith("each rank sends up to " + bytes("micro_step") +
                                            " in a pass if routing is even: all_gather "));
  EXPECT_EQ(lines[5], "each rank sends up to " + bytes("optimizer_step") +
                          " in an update if routing is even: all_reduce " +
                          bytes("optimizer_step"));
}

TEST(Inspect, SumsUpInOneLine) {
  Plan plan = test::tinyPlan();
  plan.peakBytes = 3 << 20;
  EXPECT_EQ(summary(plan), "4 programs, 23 instructions, peak 3.00 MiB (3,145,728 bytes)");
}

} // namespace
} // namespace switchyard

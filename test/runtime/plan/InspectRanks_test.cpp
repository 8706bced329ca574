// What inspect says of plans for many ranks, and which tensors ranks read.
#include "runtime/plan/InspectRanks.h"

#include "runtime/plan/Inspect.h"
#include "runtime/plan/Layout.h"
#include "runtime/plan/SourceRanges.h"
#include "runtime/plan/Traffic.h"
#include "test/runtime/plan/RanksPlan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <sstream>

namespace switchyard {
namespace {

using namespace test;
using testing::Each;
using testing::HasSubstr;

TEST(InspectRanks, PrintsMeshMemoryAndCommunication) {
  Plan plan = shardedPlan(Mesh{{1, 2, 2}});
  std::string text = inspect(plan);
  // Shards of 128 floats: 3 of them for each of two parameters, gathered and scattered.
  for (const char *part : {
           "  target        cpu, 2 threads, 4 ranks\n  mesh          fsdp=2,ep=2\n",
           "Memory of each rank (bytes)\n  state        4.00 KiB      4,096\n    parameter  1.00 "
           "KiB",
           "  micro_step        all_gather      1  3.00 KiB  3,072\n"
           "                    reduce_scatter  1  3.00 KiB  3,072\n"
           "                    all_reduce      1       6 B      6\n"
           "  optimizer_step    all_reduce      1       6 B      6\n"
           "  step of one pass  all_gather      1  3.00 KiB  3,072\n"
           "                    reduce_scatter  1  3.00 KiB  3,072\n"
           "                    all_reduce      2      12 B     12\n",
           "  embed  f32  20 x 24  1.88 KiB  512 B  decay\n",
           "  parameters  1.00 KiB  1,024 bytes\n",
       })
    EXPECT_THAT(text, HasSubstr(part));
  std::string exchange = inspect(exchangePlan(Mesh{{2, 1, 2}}, Axis::Ep, 4, 1.5));
  EXPECT_THAT(exchange, HasSubstr("  R  <= 36  rows received at once, 1.5 for each token\n"));
  EXPECT_THAT(exchange, HasSubstr("token_exchange  1  288 B  288  <= 1.12 KiB\n"));
  EXPECT_THAT(exchange, HasSubstr("FLOP in experts at the bounds; 36 per token of all ranks\n"));
  for (const std::string &each : {text, exchange}) {
    std::istringstream lines(each);
    for (std::string line; std::getline(lines, line);)
      EXPECT_LE(line.size(), 100U) << line;
  }
}

TEST(InspectRanks, CountsBytesAsRingsSendThem) {
  EXPECT_EQ(bytesSent(CollectiveKind::AllGather, 4, 100), 300U);
  EXPECT_EQ(bytesSent(CollectiveKind::ReduceScatter, 4, 100), 300U);
  EXPECT_EQ(bytesSent(CollectiveKind::AllReduce, 4, 100), 150U);
  EXPECT_EQ(bytesSent(CollectiveKind::AllReduce, 3, 4), 5U); // 5.33
  EXPECT_EQ(bytesSent(CollectiveKind::AllReduce, 1, 4), 0U);
  EXPECT_EQ(bytesSent(CollectiveKind::AllReduce, 65536, uint64_t{1} << 50),
            (uint64_t{1} << 51) - (uint64_t{1} << 35));
}

TEST(InspectRanks, ExpertWorkFallsWithTheRanksOfExperts) {
  auto planOf = [](int32_t ranks) { return exchangePlan(Mesh{{1, 1, ranks}}, Axis::Ep, 8, 2.0); };
  Plan one = planOf(1);
  double flops = expertWork(one, one.programs[0]).flops;
  // Two products of 24 tokens' rows, one of them in a repeat, which has a part of the same rows.
  EXPECT_EQ(flops, 2.0 * (2 * 24) * 6 * 6);
  for (int32_t ranks : {2, 4, 8}) {
    Plan plan = planOf(ranks);
    EXPECT_EQ(parameterBytes(plan).experts * ranks, parameterBytes(one).experts);
    // Ranks have as many tokens each, so the work for one of the job's tokens falls as 1/E.
    EXPECT_EQ(expertWork(plan, plan.programs[0]).flops, flops);
  }
}

TEST(InspectRanks, ExpertWorkIsOfTheExpertsMatricesWhereverTheyStand) {
  Plan plan = exchangePlan(Mesh{{1, 1, 1}}, Axis::Ep, 8, 2.0);
  double flops = expertWork(plan, plan.programs[0]).flops;
  for (Instruction &instruction : plan.programs[0].instructions)
    if (auto *launch = std::get_if<LaunchInstruction>(&instruction);
        launch && launch->kernel == "grouped_gemm") {
      launch->kernel = "grouped_gemm_gated_gather";
      launch->operands.insert(launch->operands.begin() + 1, launch->operands[2]); // of one extent
    }
  EXPECT_EQ(expertWork(plan, plan.programs[0]).flops, flops);
}

/// A plan with parameters of all kinds: dense and of experts, of one tensor and of many, divided
/// over whatever the mesh has.
Plan planOfSources(Mesh mesh) {
  Plan plan = newPlan();
  plan.mesh = mesh;
  Sharding dense{{}, kFsdpAndEp}, experts{Axis::Ep, Axis::Fsdp};
  addState(plan, StateKind::Parameter, "embed", {20, 24}, -1, DType::F32, dense);
  addState(plan, StateKind::Parameter, "norm", {5}, -1, DType::F32, dense);
  int32_t qkv = addState(plan, StateKind::Parameter, "qkv", {40, 24}, -1, DType::BF16, dense);
  plan.states[qkv].source =
      concatSource({leafSource("q"), leafSource("k"), leafSource("v")}, {24, 8, 8});
  int32_t gateUp =
      addState(plan, StateKind::Parameter, "gate_up", {8, 10, 30}, -1, DType::F32, experts);
  plan.states[gateUp].source =
      stackSource("e", 0, 8, concatSource({leafSource("{e}.gate"), leafSource("{e}.up")}, {5, 5}));
  int32_t down = addState(plan, StateKind::Parameter, "down", {8, 7, 9}, -1, DType::F32, experts);
  plan.states[down].source = stackSource("e", 0, 8, leafSource("{e}.down"));
  addState(plan, StateKind::Gradient, "embed.gradient", {20, 24}, 0, DType::F32, dense);
  return plan;
}

class Sources : public testing::TestWithParam<Mesh> {};
INSTANTIATE_TEST_SUITE_P(Inspect, Sources,
                         testing::Values(Mesh(), Mesh{{2, 1, 1}}, Mesh{{1, 2, 1}}, Mesh{{1, 1, 4}},
                                         Mesh{{1, 3, 2}}, Mesh{{2, 2, 2}}, Mesh{{1, 16, 8}},
                                         Mesh{{3, 5, 1}}));

TEST_P(Sources, AreReadOnceByEachReplica) {
  Plan plan = planOfSources(GetParam());
  std::map<std::string, std::vector<int>> readers;
  size_t tensors = 0;
  for (int64_t rank = 0; rank < plan.mesh.numRanks(); ++rank) {
    auto ranges = sourceRanges(plan, rank);
    ASSERT_TRUE(ranges.ok()) << ranges.status().message();
    for (const SourceRange &range : *ranges) {
      std::vector<int> &count = readers[range.tensor];
      int64_t size =
          std::accumulate(range.shape.begin(), range.shape.end(), int64_t{1}, std::multiplies<>());
      count.resize(size);
      ASSERT_TRUE(0 <= range.elements.begin && range.elements.begin < range.elements.end &&
                  range.elements.end <= size);
      for (int64_t i = range.elements.begin; i < range.elements.end; ++i)
        ++count[i];
    }
  }
  for (const auto &[tensor, count] : readers) {
    EXPECT_THAT(count, Each(plan.mesh.size(Axis::Dp))) << tensor;
    ++tensors;
  }
  EXPECT_EQ(tensors, 2U + 3U + 24U);
}

TEST(InspectRanks, PrintsWhatARankReads) {
  Plan plan = planOfSources(Mesh{{2, 1, 4}});
  auto text = inspectRank(plan, 6);
  ASSERT_TRUE(text.ok());
  for (const char *part : {
           "Rank 6 of 8 (dp 1, ep 2): elements of the model's tensors that it reads",
           "  embed   256  to 384  512  of 1,920\n",
           "  q       512  to 576  128  of 1,152\n",
           "  k         0  to 192  384  all\n",
           "  4.gate    0  to 150  600  all\n",
           "  5.down    0   to 63  252  all\n",
           "  sum: 3.84 KiB, 3,928 bytes of 9 ranges\n",
       })
    EXPECT_THAT(*text, HasSubstr(part));
  EXPECT_EQ(inspectRank(plan, 8).status().message(),
            "there is no rank 8; the plan has ranks 0 to 7");
  EXPECT_EQ(inspectRank(plan, -1).status().code(), StatusCode::Usage);
}

} // namespace
} // namespace switchyard

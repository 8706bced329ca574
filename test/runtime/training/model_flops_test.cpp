#include "runtime/training/ModelFlops.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

/// 1,000 active parameters and two attentions of 3 heads of 2 elements: one without a window, one
/// that sees 4 tokens.
Plan smallPlan() {
  Plan plan;
  plan.training.activeParameters = 1000;
  Program &evaluate = plan.programs.emplace_back();
  evaluate.name = "evaluate";
  for (int64_t window : {0, 4}) {
    LaunchInstruction launch;
    launch.kernel = "attention";
    for (int64_t value : {int64_t{3}, int64_t{1}, int64_t{2}, int64_t{0}, window})
      launch.attributes.push_back({value, 0});
    evaluate.instructions.emplace_back(launch);
    launch.kernel = "linear";
    launch.attributes.clear();
    evaluate.instructions.emplace_back(launch);
  }
  return plan;
}

TEST(ModelFlops, CountsTokensAndTheirPairs) {
  ModelFlops flops(smallPlan());
  EXPECT_EQ(flops.ofSegment(0), 0);
  EXPECT_EQ(flops.ofSegment(1), 6000 + 2 * 12 * 6);
  EXPECT_EQ(flops.ofSegment(4), 4 * 6000 + 2 * 12 * 6 * 10);
  // 28 pairs without a window; with it the last three tokens see 4 each.
  EXPECT_EQ(flops.ofSegment(7), 7 * 6000 + 12 * 6 * (28 + 10 + 12));
}

TEST(ModelFlops, PeaksAreThoseOfTheWholeName) {
  EXPECT_EQ(peakFlops("NVIDIA H200"), 989.4e12);
  EXPECT_EQ(peakFlops("NVIDIA H100 80GB HBM3"), 989.4e12);
  EXPECT_EQ(peakFlops("NVIDIA H100 PCIe"), 756e12);
  EXPECT_EQ(peakFlops("NVIDIA A100-SXM4-80GB"), 312e12);
  EXPECT_EQ(peakFlops("CPU"), std::nullopt);
}

} // namespace
} // namespace switchyard

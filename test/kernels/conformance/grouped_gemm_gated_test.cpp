// grouped_gemm_gated and grouped_gemm_dgrad_gated: against float64, and bit by bit against the two
// kernels that each stands for.
#include "test/kernels/conformance/GroupedReference.h"

#include <gtest/gtest.h>

namespace switchyard::kernels::conformance {
namespace {

/// Operands dy, w, group_sizes, gate_up, dgate_up, y.
void dgradGated(std::vector<Array> &o) {
  const Array &gateUp = o[3];
  Array &dgateUp = o[4], &y = o[5];
  int64_t width = y.dims[1];
  forEachProduct(o[0], o[1], o[2], false, [&](int64_t row, int64_t i, double dactivated) {
    double gate = gateUp.at(row, i), up = gateUp.at(row, width + i), s = sigmoid(gate);
    dgateUp.at(row, i) = dactivated * up * (s + gate * s * (1 - s));
    dgateUp.at(row, width + i) = dactivated * gate * s;
    y.at(row, i) = gate * s * up;
  });
}

struct Routing {
  int64_t rows, width, depth;
  std::vector<double> sizes;
};

Call forwardCall(Random &random, DType dtype, const Routing &routing) {
  const auto &[rows, width, depth, sizes] = routing;
  auto experts = static_cast<int64_t>(sizes.size());
  return {"grouped_gemm_gated",
          {uniform(random, dtype, {rows, depth}),
           uniform(random, dtype, {experts, 2 * width, depth}),
           arrayOf(DType::I32, {experts}, sizes), Array(dtype, {rows, 2 * width}),
           Array(dtype, {rows, width})},
          kSilu};
}

Call byDataCall(Random &random, DType dtype, const Routing &routing) {
  const auto &[rows, width, depth, sizes] = routing;
  auto experts = static_cast<int64_t>(sizes.size());
  return {"grouped_gemm_dgrad_gated",
          {uniform(random, dtype, {rows, depth}), uniform(random, dtype, {experts, depth, width}),
           arrayOf(DType::I32, {experts}, sizes), uniform(random, dtype, {rows, 2 * width}, -6, 6),
           Array(dtype, {rows, 2 * width}), Array(dtype, {rows, width})},
          kSilu};
}

class GroupedGemmGatedTest : public testing::TestWithParam<std::tuple<DType, Routing>> {
protected:
  DType dtype() const { return std::get<0>(GetParam()); }
  Call forward() { return forwardCall(random_, dtype(), std::get<1>(GetParam())); }
  Call byData() { return byDataCall(random_, dtype(), std::get<1>(GetParam())); }

private:
  Random random_{31};
};

TEST_P(GroupedGemmGatedTest, Forward) {
  expectConforms(forward(), gated, gatedOptions(dtype()));
}

TEST_P(GroupedGemmGatedTest, ByData) {
  expectConforms(byData(), dgradGated, gatedOptions(dtype()));
}

TEST_P(GroupedGemmGatedTest, ForwardIsTheBitsOfTwoKernels) {
  Call call = forward();
  std::vector<Array> fused = runOnce(call);
  const std::vector<Array> &o = call.operands;
  Array gateUp = runOnce({"grouped_gemm", {o[0], o[1], o[2], o[3]}})[3];
  EXPECT_EQ(fused[3].values, gateUp.values);
  EXPECT_EQ(fused[4].values, runOnce({"gated_activation", {gateUp, o[4]}, kSilu})[1].values);
}

TEST_P(GroupedGemmGatedTest, ByDataIsTheBitsOfThreeKernels) {
  Call call = byData();
  std::vector<Array> fused = runOnce(call);
  const std::vector<Array> &o = call.operands;
  Array dactivated = runOnce({"grouped_gemm_dgrad", {o[0], o[1], o[2], o[5]}})[3];
  EXPECT_EQ(fused[4].values,
            runOnce({"gated_activation_grad", {dactivated, o[3], o[4]}, kSilu})[2].values);
  EXPECT_EQ(fused[5].values, runOnce({"gated_activation", {o[3], o[5]}, kSilu})[1].values);
}

INSTANTIATE_TEST_SUITE_P(
    Routings, GroupedGemmGatedTest,
    testing::Combine(
        testing::Values(DType::F32, DType::BF16),
        testing::Values(Routing{0, 8, 8, {0, 0, 0}},          // T = 0
                        Routing{2, 16, 8, {0, 1, 0, 1}},      // T = 1, k = 2
                        Routing{300, 24, 40, {0, 0, 300, 0}}, // one expert takes all
                        Routing{101, 17, 33, {5, 0, 33, 63}}, // odd sizes, an empty expert
                        Routing{150, 12, 20, {64, 40, 8, 7}}, // rows past the last group
                        Routing{64, 8, 16, {0, 0}},           // only rows past the last group
                        Routing{200, 40, 1, {70, 130}},       // a contraction of one
                        // Of the shapes of large tiles: sizes one off a tile's and half a tile's,
                        // columns past a tile's by one pack, contractions with ragged ends, of one
                        // step, of two and of many; rows of no group.
                        Routing{900, 136, 136, {127, 128, 129, 1, 0, 255, 257}},
                        Routing{260, 264, 72, {0, 63, 64, 65, 0, 33, 31}},
                        Routing{340, 128, 64, {16, 17, 15, 0, 47, 49, 130}},
                        Routing{200, 256, 128, {0, 0, 200, 0}},
                        Routing{400, 40, 328, {90, 0, 1, 2, 200}})));

// What is contracted decides in CUDA's launcher which kernel it is: whole steps of it, a ragged
// end, an odd number of steps.
INSTANTIATE_TEST_SUITE_P(
    LongContractions, GroupedGemmGatedTest,
    testing::Combine(testing::Values(DType::BF16),
                     testing::Values(Routing{400, 24, 3072, {127, 129, 0, 128}},
                                     Routing{75, 264, 3080, {1, 0, 65}},
                                     Routing{70, 136, 3136, {33, 31, 0}},
                                     Routing{64, 8, 3072, {0, 0}})));

TEST(GroupedGemmGated, MoreTilesThanBlocks) {
  Random random(37);
  Routing routing{0, 456, 16, {}};
  for (int64_t expert = 0; expert < 100; ++expert) { // most of a few rows, some of none
    int64_t size = expert % 5 == 4 ? 100 : expert % 5;
    routing.sizes.push_back(static_cast<double>(size));
    routing.rows += size;
  }
  expectConforms(forwardCall(random, DType::BF16, routing), gated, manyExperts());
  expectConforms(byDataCall(random, DType::BF16, routing), dgradGated, manyExperts());
}

TEST(GroupedGemmGated, MoreTilesThanBlocksOfALongContraction) {
  Random random(43);
  Routing routing{0, 8, 3080, {}};
  for (int64_t expert = 0; expert < 320; ++expert) {
    int64_t size = expert % 60 == 59 ? 150 : expert % 4;
    routing.sizes.push_back(static_cast<double>(size));
    routing.rows += size;
  }
  expectConforms(byDataCall(random, DType::BF16, routing), dgradGated, manyExperts());
}

// As ranks have that get few of the rows that they have room for: many tiles of which nothing is
// multiplied follow each other.
TEST(GroupedGemmGated, ManyRowsPastTheLastGroup) {
  Random random(47);
  Routing routing{9000, 136, 72, {70, 0, 130}};
  expectConforms(forwardCall(random, DType::BF16, routing), gated, manyExperts());
  expectConforms(byDataCall(random, DType::BF16, routing), dgradGated, manyExperts());
}

TEST(GroupedGemmGated, ManyExperts) {
  Random random(41);
  for (int64_t experts : {320, 321}) {
    Routing routing{14, 8, 8, std::vector<double>(experts, 0.0)};
    for (int64_t expert : {int64_t{0}, int64_t{31}, int64_t{32}, experts - 1})
      routing.sizes[expert] = 3;
    expectConforms(forwardCall(random, DType::BF16, routing), gated, manyExperts());
  }
}

} // namespace
} // namespace switchyard::kernels::conformance

// grouped_gemm, grouped_gemm_dgrad, grouped_gemm_wgrad and what else becomes of the latter,
// grouped_gemm_wgrad_squared and grouped_gemm_wgrad_accumulate, against float64.
#include "test/kernels/conformance/GroupedReference.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>

namespace switchyard::kernels::conformance {
namespace {

void groupedGemm(std::vector<Array> &o) {
  Array &x = o[0], &w = o[1], &y = o[3];
  forEachRow(o[2], [&](int64_t expert, int64_t row) {
    for (int64_t n = 0; n < w.dims[1]; ++n)
      for (int64_t k = 0; k < w.dims[2]; ++k)
        y.at(row, n) += x.at(row, k) * element(w, expert, n, k);
  });
}

void groupedGemmDgrad(std::vector<Array> &o) {
  Array &dy = o[0], &w = o[1], &dx = o[3];
  forEachRow(o[2], [&](int64_t expert, int64_t row) {
    for (int64_t n = 0; n < w.dims[1]; ++n)
      for (int64_t k = 0; k < w.dims[2]; ++k)
        dx.at(row, k) += dy.at(row, n) * element(w, expert, n, k);
  });
}

double sumOfSquares(const Array &x) {
  double sum = 0;
  for (double value : x.values)
    sum += value * value;
  return sum;
}

/// Expects the bits of grouped_gemm_wgrad, and the squares of what it stores.
void expectSquares(const Array &dy, const Array &x, const Array &sizes, DType result,
                   const Options &options = {}) {
  std::vector<Array> operands = {dy, x, sizes,
                                 Array(result, {sizes.count(), dy.dims[1], x.dims[1]})};
  const Array dw = runOnce({"grouped_gemm_wgrad", operands})[3];
  operands.emplace_back(DType::F32, std::vector<int64_t>{});
  Call call{"grouped_gemm_wgrad_squared", operands};
  EXPECT_EQ(runOnce(call)[3].values, dw.values);
  expectConforms(
      call,
      [&](std::vector<Array> &o) {
        groupedGemmWgrad(o);
        o[4].values[0] = sumOfSquares(dw);
      },
      options);
}

struct Routing {
  int64_t rows, n, k;
  std::vector<double> sizes;
};

class GroupedGemmTest : public testing::TestWithParam<std::tuple<DType, Routing>> {
protected:
  DType dtype() const { return std::get<0>(GetParam()); }
  const Routing &routing() const { return std::get<1>(GetParam()); }
  Array random(std::vector<int64_t> dims) { return uniform(random_, dtype(), std::move(dims)); }
  int64_t experts() const { return static_cast<int64_t>(routing().sizes.size()); }
  Array sizes() const { return arrayOf(DType::I32, {experts()}, routing().sizes); }

  Random random_{13};
};

TEST_P(GroupedGemmTest, Forward) {
  const auto &[rows, n, k, unused] = routing();
  expectConforms(
      {"grouped_gemm",
       {random({rows, k}), random({experts(), n, k}), sizes(), Array(dtype(), {rows, n})}},
      groupedGemm);
}

TEST_P(GroupedGemmTest, ByData) {
  const auto &[rows, n, k, unused] = routing();
  expectConforms(
      {"grouped_gemm_dgrad",
       {random({rows, n}), random({experts(), n, k}), sizes(), Array(dtype(), {rows, k})}},
      groupedGemmDgrad);
}

TEST_P(GroupedGemmTest, ByWeight) {
  const auto &[rows, n, k, unused] = routing();
  for (DType result : {DType::F32, dtype()})
    expectConforms(
        {"grouped_gemm_wgrad",
         {random({rows, n}), random({rows, k}), sizes(), Array(result, {experts(), n, k})}},
        groupedGemmWgrad);
}

TEST_P(GroupedGemmTest, ByWeightSquared) {
  const auto &[rows, n, k, unused] = routing();
  for (DType result : {DType::F32, dtype()})
    expectSquares(random({rows, n}), random({rows, k}), sizes(), result);
}

TEST_P(GroupedGemmTest, ByWeightAccumulated) {
  const auto &[rows, n, k, unused] = routing();
  for (DType result : {DType::F32, dtype()}) {
    const Array dy = random({rows, n}), x = random({rows, k});
    const Array before = uniform(random_, result, {experts(), n, k});
    Call call{"grouped_gemm_wgrad_accumulate", {dy, x, sizes(), before}};
    expectConforms(call, groupedGemmWgrad);
    // The bits of the two ops that it stands for.
    const Array sum =
        runOnce({"grouped_gemm_wgrad", {dy, x, sizes(), Array(DType::F32, {experts(), n, k})}})[3];
    EXPECT_EQ(runOnce(call)[3].values, runOnce({"accumulate", {before, sum}})[0].values);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Routings, GroupedGemmTest,
    testing::Combine(
        testing::Values(DType::F32, DType::BF16),
        testing::Values(Routing{0, 8, 8, {0, 0, 0}},           // T = 0
                        Routing{2, 16, 8, {0, 1, 0, 1}},       // T = 1, k = 2
                        Routing{300, 24, 40, {0, 0, 300, 0}},  // one expert takes all
                        Routing{201, 17, 33, {5, 0, 63, 133}}, // odd sizes, an empty expert
                        Routing{290, 72, 20, {128, 64, 8, 7}}, // rows past the last group
                        Routing{64, 8, 16, {0, 0}},            // only rows past the last group
                        Routing{40, 5, 3, {1, 2, 3, 4, 5, 6, 7, 8}},
                        Routing{520, 130, 64, {199, 321}},
                        // Of the shapes of large tiles: sizes one off a tile's, contractions with
                        // ragged ends, columns past a tile's by one pack, rows of no group.
                        Routing{900, 264, 136, {127, 128, 129, 1, 0, 255, 257}},
                        Routing{260, 520, 72, {0, 63, 64, 65, 0, 33, 31}},
                        Routing{340, 512, 64, {16, 17, 15, 0, 47, 49, 130}},
                        Routing{700, 8, 256, {0, 0, 700, 0}},
                        Routing{400, 40, 328, {90, 0, 1, 2, 200}},
                        Routing{300, 328, 264, {65, 0, 200, 33}})));

// Many experts of few rows, for which CUDA's tiles are narrow: four of 256 columns would be across
// by rows, then three by data.
const std::vector<double> kFewRows = {0,  1,  17, 64, 65, 5, 0,  130, 2, 16, 15, 0, 0, 7,
                                      31, 33, 1,  1,  1,  8, 0,  3,   2, 4,  6,  9, 8, 12,
                                      0,  1,  11, 0,  0,  1, 63, 2,   1, 0,  5,  14};
INSTANTIATE_TEST_SUITE_P(FewRows, GroupedGemmTest,
                         testing::Combine(testing::Values(DType::BF16),
                                          testing::Values(Routing{560, 776, 72, kFewRows},
                                                          Routing{560, 72, 520, kFewRows})));

TEST(GroupedGemm, SizesThatAreNoSizesStayInsideTheRows) {
  Random random(17);
  for (DType dtype : {DType::F32, DType::BF16})
    for (int64_t n : {6, 8}) {
      Call call{"grouped_gemm",
                {uniform(random, dtype, {10, 8}), uniform(random, dtype, {3, n, 8}),
                 arrayOf(DType::I32, {3}, {-5, 7, 2000000000}), Array(dtype, {10, n})}};
      expectConforms(call, [](std::vector<Array> &o) {
        o[2] = arrayOf(DType::I32, {3}, {0, 7, 3});
        groupedGemm(o);
      });
    }
}

// The last number is of more tiles than CUDA's blocks take in turn.
TEST(GroupedGemm, ManyExperts) {
  Random random(29);
  std::vector<double> sizes(2700, 0.0);
  for (size_t expert : {0, 1, 31, 32, 1024, 2047, 2048, 2099, 2698})
    sizes[expert] = 3;
  for (int64_t count : {2048, 2100, 2700}) {
    Array group = arrayOf(DType::I32, {count}, {sizes.begin(), sizes.begin() + count});
    Array x = uniform(random, DType::BF16, {30, 8}),
          w = uniform(random, DType::BF16, {count, 8, 8});
    Options alone{.threads = {1}};
    expectConforms({"grouped_gemm", {x, w, group, Array(DType::BF16, {30, 8})}}, groupedGemm,
                   alone);
    expectConforms({"grouped_gemm_dgrad", {x, w, group, Array(DType::BF16, {30, 8})}},
                   groupedGemmDgrad, alone);
    expectConforms({"grouped_gemm_wgrad", {x, x, group, Array(DType::BF16, {count, 8, 8})}},
                   groupedGemmWgrad, alone);
  }
}

// More pieces than are summed at once.
TEST(GroupedGemm, SquaresOfManyExperts) {
  Random random(31);
  std::vector<double> sizes(1100, 0.0);
  for (size_t expert : {0, 1, 31, 1023, 1024, 1099})
    sizes[expert] = 5;
  Array groups = arrayOf(DType::I32, {1100}, sizes);
  for (DType result : {DType::F32, DType::BF16})
    expectSquares(uniform(random, DType::BF16, {30, 136}), uniform(random, DType::BF16, {30, 8}),
                  groups, result, {.threads = {1}});
}

TEST(GroupedGemm, SquaresOfWhatIsNotFiniteAreNot) {
  Random random(37);
  for (DType dtype : {DType::F32, DType::BF16})
    for (double value : {std::numeric_limits<double>::infinity(), std::nan("")}) {
      Array dy = uniform(random, dtype, {9, 24});
      dy.at(8, 23) = value;
      std::vector<Array> operands =
          runOnce({"grouped_gemm_wgrad_squared",
                   {dy, uniform(random, dtype, {9, 136}), arrayOf(DType::I32, {2}, {4, 5}),
                    Array(dtype, {2, 24, 136}), Array(DType::F32, {})}});
      EXPECT_FALSE(std::isfinite(operands[4].values[0]));
    }
}

TEST(GroupedGemm, EveryGroupSizeIsPrepared) {
  Random random(19);
  for (int64_t rows = 0; rows <= 270; ++rows) {
    Call call{"grouped_gemm",
              {uniform(random, DType::F32, {270, 4}), uniform(random, DType::F32, {2, 3, 4}),
               arrayOf(DType::I32, {2}, {static_cast<double>(rows), 270.0 - rows}),
               Array(DType::F32, {270, 3})}};
    expectConforms(call, groupedGemm, {.threads = {1}});
  }
}

TEST(GroupedGemmReference, GradientsAgreeWithFiniteDifferences) {
  Random random(23);
  Array sizes = arrayOf(DType::I32, {3}, {2, 0, 3});
  std::vector<Array> forward = {uniform(random, DType::F32, {6, 4}),
                                uniform(random, DType::F32, {3, 5, 4}), sizes,
                                Array(DType::F32, {6, 5})};
  Array dy = uniform(random, DType::F32, {6, 5});
  auto loss = [&] {
    std::fill(forward[3].values.begin(), forward[3].values.end(), 0.0);
    groupedGemm(forward);
    return dot(forward[3], dy);
  };
  std::vector<Array> byData = {dy, forward[1], sizes, Array(DType::F32, {6, 4})};
  groupedGemmDgrad(byData);
  expectGradient(random, loss, forward[0], byData[3]);
  std::vector<Array> byWeight = {dy, forward[0], sizes, Array(DType::F32, {3, 5, 4})};
  groupedGemmWgrad(byWeight);
  expectGradient(random, loss, forward[1], byWeight[3]);
}

} // namespace
} // namespace switchyard::kernels::conformance

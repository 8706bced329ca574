#include "test/kernels/conformance/Conformance.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

namespace switchyard::kernels::conformance {
namespace {

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

/// Operands gate_up, y.
void forward(std::vector<Array> &operands, std::optional<DType> rounding) {
  const Array &gateUp = operands[0];
  Array &y = operands[1];
  int64_t width = y.dims[1];
  for (int64_t row = 0; row < y.dims[0]; ++row)
    for (int64_t i = 0; i < width; ++i) {
      double gate = gateUp.at(row, i);
      double activated = gate * sigmoid(gate);
      y.at(row, i) =
          (rounding ? roundTo(*rounding, activated) : activated) * gateUp.at(row, width + i);
    }
}

/// Operands dy, gate_up, dgate_up.
void backward(std::vector<Array> &operands) {
  const Array &dy = operands[0], &gateUp = operands[1];
  Array &dgateUp = operands[2];
  int64_t width = dy.dims[1];
  for (int64_t row = 0; row < dy.dims[0]; ++row)
    for (int64_t i = 0; i < width; ++i) {
      double gate = gateUp.at(row, i), up = gateUp.at(row, width + i);
      double s = sigmoid(gate);
      dgateUp.at(row, i) = dy.at(row, i) * up * (s + gate * s * (1 - s));
      dgateUp.at(row, width + i) = dy.at(row, i) * gate * s;
    }
}

struct Case {
  DType dtype;
  int64_t rows, width;
};

/// bfloat16 rounds twice.
Options options(DType dtype) {
  if (dtype == DType::BF16)
    return {.tolerance = Tolerance{1.0 / 64, 1e-5}};
  return {};
}

class GatedActivation : public ::testing::TestWithParam<Case> {};

TEST_P(GatedActivation, AgreesWithFloat64) {
  auto [dtype, rows, width] = GetParam();
  Random random(1);
  expectConforms(
      {"gated_activation",
       {uniform(random, dtype, {rows, 2 * width}, -10, 10), Array(dtype, {rows, width})},
       {{.integer = 0}}},
      [dtype](std::vector<Array> &operands) { forward(operands, dtype); }, options(dtype));
}

TEST_P(GatedActivation, GradientAgreesWithFloat64) {
  auto [dtype, rows, width] = GetParam();
  Random random(2);
  expectConforms(
      {"gated_activation_grad",
       {uniform(random, dtype, {rows, width}), uniform(random, dtype, {rows, 2 * width}, -10, 10),
        Array(dtype, {rows, 2 * width})},
       {{.integer = 0}}},
      backward, options(dtype));
}

INSTANTIATE_TEST_SUITE_P(Shapes, GatedActivation,
                         ::testing::Values(Case{DType::F32, 0, 4}, Case{DType::F32, 1, 1},
                                           Case{DType::F32, 13, 37}, Case{DType::F32, 90, 500},
                                           Case{DType::BF16, 0, 4}, Case{DType::BF16, 1, 1},
                                           Case{DType::BF16, 13, 37}, Case{DType::BF16, 90, 500}));

TEST(GatedActivationReference, GradientIsTheDerivative) {
  Random random(3);
  Array gateUp = uniform(random, DType::F32, {3, 10}, -3, 3);
  Array dy = uniform(random, DType::F32, {3, 5});
  std::vector<Array> gradient = {dy, gateUp, Array(DType::F32, {3, 10})};
  backward(gradient);
  auto loss = [&] {
    std::vector<Array> operands = {gateUp, Array(DType::F32, {3, 5})};
    forward(operands, std::nullopt);
    return dot(operands[1], dy);
  };
  expectGradient(random, loss, gateUp, gradient[2]);
}

TEST(GatedActivation, FarGatesNeitherOverflowNorLoseTheirSign) {
  std::vector<Array> operands =
      runOnce({"gated_activation",
               {arrayOf(DType::F32, {1, 8}, {-200, 200, -1e30, 1e30, 2, 2, 2, 2}),
                Array(DType::F32, {1, 4})},
               {{.integer = 0}}});
  EXPECT_EQ(operands[1].values[0], 0);
  EXPECT_EQ(operands[1].values[1], 400);
  EXPECT_EQ(operands[1].values[2], 0);
  EXPECT_NEAR(operands[1].values[3], 2e30, 1e24);
}

// silu(1) = 0.73106 rounds to 187/256; times 1.125 that is nearest to 0.8203125. The product of
// what was not rounded, 0.82244, is nearer to 0.82421875.
TEST(GatedActivationRounding, ActivationIsRoundedBeforeTheProduct) {
  std::vector<Array> operands =
      runOnce({"gated_activation",
               {arrayOf(DType::BF16, {1, 2}, {1, 1.125}), Array(DType::BF16, {1, 1})},
               {{.integer = 0}}});
  EXPECT_EQ(operands[1].values[0], 0.8203125);
}

} // namespace
} // namespace switchyard::kernels::conformance

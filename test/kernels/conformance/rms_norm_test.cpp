#include "test/kernels/conformance/Conformance.h"

#include <cmath>
#include <gtest/gtest.h>

namespace switchyard::kernels::conformance {
namespace {

/// y = cast(x / rms) * w, operands x, w, y. `rounding`: what the cast casts to, or nothing.
void forward(std::vector<Array> &operands, double eps, std::optional<DType> rounding) {
  const Array &x = operands[0], &w = operands[1];
  Array &y = operands[2];
  int64_t width = x.dims[1];
  for (int64_t t = 0; t < x.dims[0]; ++t) {
    double sum = 0;
    for (int64_t i = 0; i < width; ++i)
      sum += x.at(t, i) * x.at(t, i);
    double scale = 1 / std::sqrt(sum / width + eps);
    for (int64_t i = 0; i < width; ++i) {
      double normalized = x.at(t, i) * scale;
      y.at(t, i) = (rounding ? roundTo(*rounding, normalized) : normalized) * w.values[i];
    }
  }
}

/// Operands dy, x, w, dx, dw.
void backward(std::vector<Array> &operands, double eps) {
  const Array &dy = operands[0], &x = operands[1], &w = operands[2];
  Array &dx = operands[3], &dw = operands[4];
  int64_t width = x.dims[1];
  for (int64_t t = 0; t < x.dims[0]; ++t) {
    double sum = 0, dot = 0;
    for (int64_t i = 0; i < width; ++i)
      sum += x.at(t, i) * x.at(t, i);
    double scale = 1 / std::sqrt(sum / width + eps);
    for (int64_t i = 0; i < width; ++i)
      dot += dy.at(t, i) * w.values[i] * x.at(t, i);
    for (int64_t i = 0; i < width; ++i) {
      dw.values[i] += dy.at(t, i) * x.at(t, i) * scale;
      dx.at(t, i) =
          scale * dy.at(t, i) * w.values[i] - scale * scale * scale * x.at(t, i) * dot / width;
    }
  }
}

struct Case {
  DType dtype;
  int64_t tokens, width;
};

class RmsNorm : public ::testing::TestWithParam<Case> {};

constexpr double kEps = 1e-5;

/// bfloat16's inner rounding falls to the other side now and then.
Options options(DType dtype) {
  if (dtype == DType::BF16)
    return {.tolerance = Tolerance{1.0 / 64, 4e-3}};
  return {};
}

TEST_P(RmsNorm, AgreesWithFloat64) {
  auto [dtype, tokens, width] = GetParam();
  Random random(1);
  Call call{"rms_norm",
            {uniform(random, dtype, {tokens, width}, -2, 2),
             uniform(random, dtype, {width}, 0.5, 1.5), Array(dtype, {tokens, width})},
            {{.real = kEps}}};
  expectConforms(
      call, [&](std::vector<Array> &operands) { forward(operands, kEps, dtype); }, options(dtype));
}

TEST_P(RmsNorm, GradientAgreesWithFloat64) {
  auto [dtype, tokens, width] = GetParam();
  Random random(2);
  Call call{"rms_norm_grad",
            {uniform(random, dtype, {tokens, width}),
             uniform(random, dtype, {tokens, width}, -2, 2),
             uniform(random, dtype, {width}, 0.5, 1.5), Array(dtype, {tokens, width}),
             Array(DType::F32, {width})},
            {{.real = kEps}}};
  expectConforms(
      call, [](std::vector<Array> &operands) { backward(operands, kEps); }, options(dtype));
}

INSTANTIATE_TEST_SUITE_P(Shapes, RmsNorm,
                         ::testing::Values(Case{DType::F32, 0, 8}, Case{DType::F32, 1, 3},
                                           Case{DType::F32, 7, 33}, Case{DType::F32, 130, 100},
                                           Case{DType::F32, 5, 2048}, Case{DType::BF16, 0, 8},
                                           Case{DType::BF16, 1, 3}, Case{DType::BF16, 7, 33},
                                           Case{DType::BF16, 130, 100}, Case{DType::BF16, 5, 2048},
                                           Case{DType::F32, 3, 5001}, Case{DType::BF16, 3, 8200}));

TEST(RmsNormReference, GradientsAreDerivatives) {
  Random random(3);
  Array x = uniform(random, DType::F32, {3, 7});
  Array w = uniform(random, DType::F32, {7});
  Array dy = uniform(random, DType::F32, {3, 7});
  std::vector<Array> gradient = {dy, x, w, Array(DType::F32, {3, 7}), Array(DType::F32, {7})};
  backward(gradient, kEps);
  auto loss = [&] {
    std::vector<Array> operands = {x, w, Array(DType::F32, {3, 7})};
    forward(operands, kEps, std::nullopt);
    return dot(operands[2], dy);
  };
  expectGradient(random, loss, x, gradient[3]);
  expectGradient(random, loss, w, gradient[4]);
}

// Every x / rms is 1 / sqrt(1 + eps) = 255.36 / 256, which rounds to 255 / 256; times 1 + 2^-7 that
// is nearest to 1. Rounded only once, the product would be nearest to 1 + 2^-7.
TEST(RmsNormRounding, CastsBeforeItMultiplies) {
  Call call{"rms_norm",
            {arrayOf(DType::BF16, {1, 2}, {1, 1}), arrayOf(DType::BF16, {2}, {1.0078125, 1}),
             Array(DType::BF16, {1, 2})},
            {{.real = 0.005}}};
  EXPECT_EQ(runOnce(call)[2].values, (std::vector<double>{1, 255.0 / 256}));
}

} // namespace
} // namespace switchyard::kernels::conformance

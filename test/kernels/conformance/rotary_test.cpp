#include "test/kernels/conformance/Conformance.h"

#include <cmath>
#include <gtest/gtest.h>

namespace switchyard::kernels::conformance {
namespace {

struct Case {
  DType dtype;
  int64_t tokens, heads, kvHeads, headDim;
  double theta = 10000;

  int64_t width() const { return (heads + 2 * kvHeads) * headDim; }
  std::vector<AttributeValue> attributes(bool inverse) const {
    return {{.integer = heads},
            {.integer = kvHeads},
            {.integer = headDim},
            {.real = theta},
            {.integer = inverse}};
  }
};

/// Operands qkv, position_ids, y. The angle is rounded to float32 where transformers does.
void rotate(std::vector<Array> &operands, const Case &shape, bool inverse) {
  const Array &x = operands[0];
  Array &y = operands[2];
  int64_t half = shape.headDim / 2;
  y.values = x.values;
  for (int64_t t = 0; t < shape.tokens; ++t)
    for (int64_t head = 0; head < shape.heads + shape.kvHeads; ++head)
      for (int64_t i = 0; i < half; ++i) {
        float exponent = static_cast<float>(2 * i) / static_cast<float>(shape.headDim);
        float frequency = 1.0f / static_cast<float>(std::pow(shape.theta, exponent));
        float angle = static_cast<float>(operands[1].values[t]) * frequency;
        double cosine = roundTo(shape.dtype, std::cos(static_cast<double>(angle)));
        double sine = roundTo(shape.dtype, std::sin(static_cast<double>(angle)));
        sine = inverse ? -sine : sine;
        int64_t column = head * shape.headDim + i;
        double low = x.at(t, column), high = x.at(t, column + half);
        y.at(t, column) = low * cosine - high * sine;
        y.at(t, column + half) = high * cosine + low * sine;
      }
}

class Rotary : public ::testing::TestWithParam<Case> {};

TEST_P(Rotary, AgreesWithFloat64) {
  const Case &shape = GetParam();
  Random random(1);
  for (bool inverse : {false, true}) {
    Call call{"rotary",
              {uniform(random, shape.dtype, {shape.tokens, shape.width()}),
               uniform(random, DType::I32, {shape.tokens}, 0, 4096),
               Array(shape.dtype, {shape.tokens, shape.width()})},
              shape.attributes(inverse)};
    expectConforms(call, [&](std::vector<Array> &operands) { rotate(operands, shape, inverse); });
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Rotary,
    ::testing::Values(Case{DType::F32, 0, 2, 1, 8}, Case{DType::F32, 1, 1, 1, 2},
                      Case{DType::F32, 9, 4, 2, 6}, Case{DType::F32, 33, 2, 2, 128, 1e6},
                      Case{DType::F32, 5, 1, 1, 200, 5e5}, Case{DType::F32, 4, 2, 1, 5},
                      Case{DType::F32, 4, 2, 1, 1}, Case{DType::BF16, 0, 2, 1, 8},
                      Case{DType::BF16, 1, 1, 1, 2}, Case{DType::BF16, 9, 4, 2, 6},
                      Case{DType::BF16, 33, 2, 2, 128, 1e6}));

// The op is linear in qkv, so the inverse is its gradient if <R x, y> = <x, R^-1 y>.
TEST(RotaryReference, InverseIsTheTranspose) {
  Case shape{DType::F32, 4, 2, 1, 6};
  Random random(2);
  Array x = uniform(random, DType::F32, {4, shape.width()});
  Array positions = uniform(random, DType::I32, {4}, 0, 100);
  Array dy = uniform(random, DType::F32, x.dims);
  std::vector<Array> gradient = {dy, positions, Array(DType::F32, x.dims)};
  rotate(gradient, shape, true);
  auto loss = [&] {
    std::vector<Array> operands = {x, positions, Array(DType::F32, x.dims)};
    rotate(operands, shape, false);
    return dot(operands[2], dy);
  };
  expectGradient(random, loss, x, gradient[2]);
}

TEST(Rotary, PositionZeroTurnsNothing) {
  Case shape{DType::F32, 1, 1, 1, 4};
  Random random(3);
  Array x = uniform(random, DType::F32, {1, shape.width()});
  Call call{"rotary",
            {x, arrayOf(DType::I32, {1}, {0}), Array(DType::F32, x.dims)},
            shape.attributes(false)};
  EXPECT_EQ(runOnce(call)[2].values, x.values);
}

// Halves are rotated against each other, not neighbours.
TEST(Rotary, RotatesHalves) {
  Case shape{DType::F32, 1, 1, 1, 4};
  Call call{"rotary",
            {arrayOf(DType::F32, {1, 12}, {1, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3, 4}),
             arrayOf(DType::I32, {1}, {1}), Array(DType::F32, {1, 12})},
            shape.attributes(false)};
  Array want = arrayOf(
      DType::F32, {1, 12},
      {std::cos(1.0), 0, std::sin(1.0), 0, -std::sin(1.0), 0, std::cos(1.0), 0, 1, 2, 3, 4});
  expectNear(runOnce(call)[2], want, {1e-6, 0}, "y");
}

} // namespace
} // namespace switchyard::kernels::conformance

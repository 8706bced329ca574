#include "test/kernels/conformance/Conformance.h"

#include <cmath>
#include <gtest/gtest.h>

namespace switchyard::kernels::conformance {
namespace {

constexpr double kEps = 1e-5;

struct Case {
  DType dtype;
  int64_t tokens, heads, kvHeads, headDim;

  int64_t query() const { return heads * headDim; }
  int64_t key() const { return kvHeads * headDim; }
  int64_t width() const { return query() + 2 * key(); }
  std::vector<AttributeValue> attributes() const {
    return {{.integer = heads}, {.integer = kvHeads}, {.integer = headDim}, {.real = kEps}};
  }
};

double scaleOf(const Array &x, int64_t row, int64_t first, int64_t count) {
  double sum = 0;
  for (int64_t i = first; i < first + count; ++i)
    sum += x.at(row, i) * x.at(row, i);
  return 1 / std::sqrt(sum / count + kEps);
}

/// Operands qkv, q_weight, k_weight, y.
void forward(std::vector<Array> &operands, const Case &shape, bool rounds) {
  const Array &x = operands[0];
  Array &y = operands[3];
  for (int64_t t = 0; t < shape.tokens; ++t) {
    for (int64_t i = 0; i < shape.width(); ++i)
      y.at(t, i) = x.at(t, i);
    for (int part = 0; part < 2; ++part) {
      int64_t first = part == 0 ? 0 : shape.query();
      int64_t count = part == 0 ? shape.query() : shape.key();
      double scale = scaleOf(x, t, first, count);
      for (int64_t i = 0; i < count; ++i) {
        double normalized = x.at(t, first + i) * scale;
        y.at(t, first + i) =
            (rounds ? roundTo(shape.dtype, normalized) : normalized) * operands[1 + part].values[i];
      }
    }
  }
}

/// Operands dy, qkv, q_weight, k_weight, dqkv, dq_weight, dk_weight.
void backward(std::vector<Array> &operands, const Case &shape) {
  const Array &dy = operands[0], &x = operands[1];
  Array &dx = operands[4];
  for (int64_t t = 0; t < shape.tokens; ++t) {
    for (int64_t i = 0; i < shape.width(); ++i)
      dx.at(t, i) = dy.at(t, i);
    for (int part = 0; part < 2; ++part) {
      int64_t first = part == 0 ? 0 : shape.query();
      int64_t count = part == 0 ? shape.query() : shape.key();
      const Array &w = operands[2 + part];
      double scale = scaleOf(x, t, first, count), dot = 0;
      for (int64_t i = 0; i < count; ++i)
        dot += dy.at(t, first + i) * w.values[i] * x.at(t, first + i);
      for (int64_t i = 0; i < count; ++i) {
        operands[5 + part].values[i] += dy.at(t, first + i) * x.at(t, first + i) * scale;
        dx.at(t, first + i) = scale * dy.at(t, first + i) * w.values[i] -
                              scale * scale * scale * x.at(t, first + i) * dot / count;
      }
    }
  }
}

/// bfloat16's inner rounding falls to the other side now and then.
Options options(DType dtype) {
  if (dtype == DType::BF16)
    return {.tolerance = Tolerance{1.0 / 64, 4e-3}};
  return {};
}

class QkNorm : public ::testing::TestWithParam<Case> {};

TEST_P(QkNorm, AgreesWithFloat64) {
  const Case &shape = GetParam();
  Random random(1);
  Call call{"qk_norm",
            {uniform(random, shape.dtype, {shape.tokens, shape.width()}, -2, 2),
             uniform(random, shape.dtype, {shape.query()}, 0.5, 1.5),
             uniform(random, shape.dtype, {shape.key()}, 0.5, 1.5),
             Array(shape.dtype, {shape.tokens, shape.width()})},
            shape.attributes()};
  expectConforms(
      call, [&](std::vector<Array> &operands) { forward(operands, shape, true); },
      options(shape.dtype));
}

TEST_P(QkNorm, GradientAgreesWithFloat64) {
  const Case &shape = GetParam();
  Random random(2);
  Call call{"qk_norm_grad",
            {uniform(random, shape.dtype, {shape.tokens, shape.width()}),
             uniform(random, shape.dtype, {shape.tokens, shape.width()}, -2, 2),
             uniform(random, shape.dtype, {shape.query()}, 0.5, 1.5),
             uniform(random, shape.dtype, {shape.key()}, 0.5, 1.5),
             Array(shape.dtype, {shape.tokens, shape.width()}), Array(DType::F32, {shape.query()}),
             Array(DType::F32, {shape.key()})},
            shape.attributes()};
  expectConforms(
      call, [&](std::vector<Array> &operands) { backward(operands, shape); }, options(shape.dtype));
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, QkNorm,
    ::testing::Values(Case{DType::F32, 0, 2, 1, 8}, Case{DType::F32, 1, 1, 1, 1},
                      Case{DType::F32, 9, 4, 2, 5}, Case{DType::F32, 70, 16, 16, 8},
                      Case{DType::BF16, 0, 2, 1, 8}, Case{DType::BF16, 1, 1, 1, 1},
                      Case{DType::BF16, 9, 4, 2, 5}, Case{DType::BF16, 70, 16, 16, 8}));

TEST(QkNormReference, GradientsAreDerivatives) {
  Case shape{DType::F32, 3, 4, 2, 3};
  Random random(3);
  Array x = uniform(random, DType::F32, {shape.tokens, shape.width()});
  Array q = uniform(random, DType::F32, {shape.query()});
  Array k = uniform(random, DType::F32, {shape.key()});
  Array dy = uniform(random, DType::F32, x.dims);
  std::vector<Array> gradient = {
      dy, x, q, k, Array(DType::F32, x.dims), Array(DType::F32, q.dims), Array(DType::F32, k.dims)};
  backward(gradient, shape);
  auto loss = [&] {
    std::vector<Array> operands = {x, q, k, Array(DType::F32, x.dims)};
    forward(operands, shape, false);
    return dot(operands[3], dy);
  };
  expectGradient(random, loss, x, gradient[4]);
  expectGradient(random, loss, q, gradient[5]);
  expectGradient(random, loss, k, gradient[6]);
}

} // namespace
} // namespace switchyard::kernels::conformance

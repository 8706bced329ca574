#include "test/kernels/conformance/Conformance.h"

#include <gtest/gtest.h>

namespace switchyard::kernels::conformance {
namespace {

struct Case {
  int64_t layers, microBatches, experts, topK;
};

/// Operands aux_weights, statistics of each layer, loss, expert_counts.
void forward(std::vector<Array> &operands, const Case &shape) {
  Array &loss = operands[shape.layers + 1], &expertCounts = operands[shape.layers + 2];
  for (int64_t m = 0; m < shape.microBatches; ++m) {
    double tokens = 0, products = 0;
    for (int64_t e = 0; e < shape.experts; ++e)
      tokens += operands[1].at(m * 2, e) / static_cast<double>(shape.topK);
    for (int64_t e = 0; e < shape.experts; ++e) {
      double count = 0, sum = 0;
      for (int64_t layer = 0; layer < shape.layers; ++layer) {
        count += operands[1 + layer].at(m * 2, e);
        sum += operands[1 + layer].at(m * 2 + 1, e);
        expertCounts.at(layer, e) += operands[1 + layer].at(m * 2, e);
      }
      products += count * sum;
    }
    double n = tokens * static_cast<double>(shape.layers);
    if (tokens > 0)
      loss.values[0] +=
          operands[0].values[m] * static_cast<double>(shape.experts) * products / n / n;
  }
}

/// Operands dloss, aux_weights, statistics of each layer, dstatistics.
void backward(std::vector<Array> &operands, const Case &shape) {
  Array &gradient = operands[shape.layers + 2];
  for (int64_t m = 0; m < shape.microBatches; ++m) {
    double tokens = 0;
    for (int64_t e = 0; e < shape.experts; ++e)
      tokens += operands[2].at(m * 2, e) / static_cast<double>(shape.topK);
    double n = tokens * static_cast<double>(shape.layers);
    for (int64_t e = 0; e < shape.experts && tokens > 0; ++e) {
      double count = 0;
      for (int64_t layer = 0; layer < shape.layers; ++layer)
        count += operands[2 + layer].at(m * 2, e);
      gradient.at(m * 2 + 1, e) = operands[0].values[0] * operands[1].values[m] *
                                  static_cast<double>(shape.experts) * count / n / n;
    }
  }
}

/// Counts and sums of random tokens: the same number in every layer. Micro-batch 1 has none.
Array statisticsOf(const Case &shape, Random &random) {
  Array array(DType::F32, {shape.microBatches, 2, shape.experts});
  std::uniform_int_distribution<int64_t> expert(0, shape.experts - 1);
  for (int64_t m = 0; m < shape.microBatches; ++m)
    for (int64_t slot = 0; slot < (m == 1 ? 0 : 10 + m) * shape.topK; ++slot) {
      array.at(m * 2, expert(random)) += 1;
      array.at(m * 2 + 1, expert(random)) += 0.25;
    }
  return array;
}

class LoadBalanceLoss : public ::testing::TestWithParam<Case> {};

TEST_P(LoadBalanceLoss, AgreesWithFloat64) {
  const Case &shape = GetParam();
  Random random(1);
  Call call{"load_balance_loss",
            {uniform(random, DType::F32, {shape.microBatches}, 0, 1)},
            {{.integer = shape.topK}}};
  for (int64_t layer = 0; layer < shape.layers; ++layer)
    call.operands.push_back(statisticsOf(shape, random));
  call.operands.push_back(Array(DType::F32, {}));
  call.operands.push_back(Array(DType::F32, {shape.layers, shape.experts}));
  expectConforms(call, [&](std::vector<Array> &operands) { forward(operands, shape); });
}

TEST_P(LoadBalanceLoss, GradientAgreesWithFloat64) {
  const Case &shape = GetParam();
  Random random(2);
  Call call{"load_balance_loss_grad",
            {scalar(DType::F32, 0.5), uniform(random, DType::F32, {shape.microBatches}, 0, 1)},
            {{.integer = shape.topK}}};
  for (int64_t layer = 0; layer < shape.layers; ++layer)
    call.operands.push_back(statisticsOf(shape, random));
  call.operands.push_back(Array(DType::F32, {shape.microBatches, 2, shape.experts}));
  expectConforms(call, [&](std::vector<Array> &operands) { backward(operands, shape); });
}

INSTANTIATE_TEST_SUITE_P(Shapes, LoadBalanceLoss,
                         ::testing::Values(Case{1, 1, 1, 1}, Case{2, 3, 8, 2}, Case{3, 16, 64, 8},
                                           Case{1, 0, 4, 2}));

// The gradient is the same for every layer: the derivative by the first layer's statistics.
TEST(LoadBalanceLossReference, GradientIsTheDerivative) {
  Case shape{2, 3, 4, 2};
  Random random(3);
  Array weights = uniform(random, DType::F32, {3}, 0, 1);
  Array first = statisticsOf(shape, random), second = statisticsOf(shape, random);
  std::vector<Array> gradient = {scalar(DType::F32, 0.5), weights, first, second,
                                 Array(DType::F32, first.dims)};
  backward(gradient, shape);
  // Only the sums vary: counts are data.
  Array sums(DType::F32, {3, 4}), sumGradients(DType::F32, {3, 4});
  for (int64_t m = 0; m < 3; ++m)
    for (int64_t e = 0; e < 4; ++e) {
      sums.at(m, e) = first.at(m * 2 + 1, e);
      sumGradients.at(m, e) = gradient[4].at(m * 2 + 1, e);
    }
  auto loss = [&] {
    std::vector<Array> operands = {weights, first, second, Array(DType::F32, {}),
                                   Array(DType::F32, {2, 4})};
    for (int64_t m = 0; m < 3; ++m)
      for (int64_t e = 0; e < 4; ++e)
        operands[1].at(m * 2 + 1, e) = sums.at(m, e);
    forward(operands, shape);
    return 0.5 * operands[3].values[0];
  };
  expectGradient(random, loss, sums, sumGradients);
}

// Perfectly even routing of uniform probabilities costs top_k: transformers' formula.
TEST(LoadBalanceLoss, EvenRoutingCostsTopK) {
  Call call{"load_balance_loss",
            {arrayOf(DType::F32, {1}, {1}),
             arrayOf(DType::F32, {1, 2, 4}, {4, 4, 4, 4, 2, 2, 2, 2}), Array(DType::F32, {}),
             Array(DType::F32, {1, 4})},
            {{.integer = 2}}};
  EXPECT_EQ(runOnce(call)[2].values[0], 2);
}

} // namespace
} // namespace switchyard::kernels::conformance

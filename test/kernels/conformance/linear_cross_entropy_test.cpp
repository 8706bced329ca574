// linear_cross_entropy and linear_cross_entropy_grad against float64.
#include "test/kernels/conformance/Conformance.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>

namespace switchyard::kernels::conformance {
namespace {

/// The loss, and where `probabilities` is given, each row's softmax (0 for a row that is left out).
double crossEntropy(const Array &x, const Array &w, const Array &labels, const Array &weights,
                    Array *probabilities = nullptr) {
  int64_t v = w.dims[0], d = w.dims[1];
  double loss = 0;
  std::vector<double> logits(v);
  for (int64_t t = 0; t < x.dims[0]; ++t) {
    auto label = static_cast<int64_t>(labels.values[t]);
    if (label < 0)
      continue;
    for (int64_t j = 0; j < v; ++j) {
      logits[j] = 0;
      for (int64_t i = 0; i < d; ++i)
        logits[j] += x.at(t, i) * w.at(j, i);
    }
    double largest = *std::max_element(logits.begin(), logits.end()), sum = 0;
    for (double logit : logits)
      sum += std::exp(logit - largest);
    loss += weights.values[t] * (largest + std::log(sum) - logits[label]);
    if (probabilities)
      for (int64_t j = 0; j < v; ++j)
        probabilities->at(t, j) = std::exp(logits[j] - largest) / sum;
  }
  return loss;
}

void forward(std::vector<Array> &o) {
  o[4].values[0] = crossEntropy(o[0], o[1], o[2], o[3]);
}

void gradient(std::vector<Array> &o) {
  const Array &x = o[0], &w = o[1], &labels = o[2], &weights = o[3];
  double dloss = o[4].values[0];
  int64_t v = w.dims[0], d = w.dims[1];
  Array dlogits(DType::F32, {x.dims[0], v});
  o[5].values[0] = crossEntropy(x, w, labels, weights, &dlogits);
  Array &dx = o[6], &dw = o[7];
  for (int64_t t = 0; t < x.dims[0]; ++t) {
    auto label = static_cast<int64_t>(labels.values[t]);
    if (label < 0)
      continue;
    for (int64_t j = 0; j < v; ++j) {
      double slope = (dlogits.at(t, j) - (j == label)) * weights.values[t] * dloss;
      for (int64_t i = 0; i < d; ++i) {
        dx.at(t, i) += slope * w.at(j, i);
        dw.at(j, i) += slope * x.at(t, i);
      }
    }
  }
}

struct Size {
  int64_t t, d, v, chunk;
  double labelled = 0.6;
};

class CrossEntropyTest : public testing::TestWithParam<std::tuple<DType, Size>> {
protected:
  DType dtype() const { return std::get<0>(GetParam()); }
  Size size() const { return std::get<1>(GetParam()); }

  /// x, w, labels, loss weights.
  std::vector<Array> inputs() {
    auto [t, d, v, chunk, labelled] = size();
    Array labels(DType::I32, {t});
    std::bernoulli_distribution hasLabel(labelled);
    std::uniform_int_distribution<int64_t> pick(0, v - 1);
    for (double &label : labels.values)
      label = hasLabel(random_) ? static_cast<double>(pick(random_)) : -100.0;
    return {uniform(random_, dtype(), {t, d}, -2, 2), uniform(random_, dtype(), {v, d}), labels,
            uniform(random_, DType::F32, {t}, 0.1, 1)};
  }
  /// Of dx and dw: the logits' gradient is rounded to the dtype before the products.
  Tolerance tolerance() const {
    return dtype() == DType::BF16 ? Tolerance{1.0 / 128, 1.0 / 256} : Tolerance{4e-6, 4e-6};
  }

  Random random_{29};
};

TEST_P(CrossEntropyTest, Forward) {
  std::vector<Array> operands = inputs();
  operands.emplace_back(DType::F32, std::vector<int64_t>{});
  expectConforms({"linear_cross_entropy", operands, {{size().chunk, 0}}}, forward);
}

TEST_P(CrossEntropyTest, Gradient) {
  std::vector<Array> operands = inputs();
  operands.push_back(scalar(DType::F32, 0.75));
  operands.emplace_back(DType::F32, std::vector<int64_t>{});
  operands.emplace_back(dtype(), operands[0].dims);
  operands.emplace_back(DType::F32, operands[1].dims);
  expectConforms({"linear_cross_entropy_grad", operands, {{size().chunk, 0}}}, gradient,
                 {.tolerance = tolerance()});
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, CrossEntropyTest,
    testing::Combine(testing::Values(DType::F32, DType::BF16),
                     testing::Values(Size{0, 8, 16, 8}, Size{1, 8, 16, 8, 1.0}, Size{1, 1, 1, 1, 1},
                                     Size{40, 16, 100, 64}, Size{33, 7, 257, 5},
                                     Size{50, 24, 515, 16, 0.0}, Size{130, 12, 300, 64, 1.0},
                                     Size{20, 300, 40, 16}, Size{9, 260, 530, 4},
                                     Size{70, 8, 9000, 33})));

TEST(CrossEntropy, LeavesOutRowsOfNoWeightEvenWhereTheirLogitsAreNotFinite) {
  Random random(31);
  Array x = uniform(random, DType::F32, {4, 8});
  for (int64_t i = 0; i < 8; ++i)
    x.at(1, i) = x.at(2, i) = HUGE_VAL;
  Call call{"linear_cross_entropy_grad",
            {x, uniform(random, DType::F32, {20, 8}), arrayOf(DType::I32, {4}, {3, 5, -100, 19}),
             arrayOf(DType::F32, {4}, {0.5, 0, 1, 0.25}), scalar(DType::F32, 1),
             scalar(DType::F32, 0), Array(DType::F32, {4, 8}), Array(DType::F32, {20, 8})},
            {{4, 0}}};
  expectConforms(call, [](std::vector<Array> &o) {
    for (int64_t i = 0; i < 8; ++i)
      o[0].at(1, i) = o[0].at(2, i) = 0;
    gradient(o);
  });
}

TEST(CrossEntropy, IsStableForLargeLogits) {
  Call call{"linear_cross_entropy",
            {arrayOf(DType::F32, {2, 1}, {1000, -1000}), arrayOf(DType::F32, {3, 1}, {1, 0.5, -1}),
             arrayOf(DType::I32, {2}, {0, 0}), arrayOf(DType::F32, {2}, {1, 1}),
             scalar(DType::F32, 0)},
            {{2, 0}}};
  expectConforms(call, [](std::vector<Array> &o) { o[4].values[0] = 2000; });
}

TEST(CrossEntropyReference, GradientsAgreeWithFiniteDifferences) {
  Random random(37);
  std::vector<Array> o = {uniform(random, DType::F32, {5, 4}),
                          uniform(random, DType::F32, {7, 4}),
                          arrayOf(DType::I32, {5}, {0, 6, -100, 3, 3}),
                          uniform(random, DType::F32, {5}, 0.1, 1),
                          scalar(DType::F32, 0.5),
                          scalar(DType::F32, 0),
                          Array(DType::F32, {5, 4}),
                          Array(DType::F32, {7, 4})};
  gradient(o);
  auto loss = [&] { return 0.5 * crossEntropy(o[0], o[1], o[2], o[3]); };
  expectGradient(random, loss, o[0], o[6]);
  expectGradient(random, loss, o[1], o[7]);
}

} // namespace
} // namespace switchyard::kernels::conformance

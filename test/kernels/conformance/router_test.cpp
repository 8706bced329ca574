#include "test/kernels/conformance/Conformance.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>

namespace switchyard::kernels::conformance {
namespace {

struct Case {
  DType logits, weights;
  int64_t tokens, experts, topK, microBatches;
  bool renormalize;

  std::vector<AttributeValue> attributes() const {
    return {{.integer = topK}, {.integer = 0}, {.integer = renormalize}};
  }
};

std::vector<double> softmax(const Array &logits, int64_t token) {
  int64_t experts = logits.dims[1];
  double largest = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t e = 0; e < experts; ++e)
    largest = std::max(largest, logits.at(token, e));
  std::vector<double> p(experts);
  for (int64_t e = 0; e < experts; ++e)
    sum += p[e] = std::exp(logits.at(token, e) - largest);
  for (double &value : p)
    value /= sum;
  return p;
}

bool isInert(const Array &microBatchIds, int64_t token, int64_t microBatches) {
  return microBatchIds.values[token] < 0 ||
         microBatchIds.values[token] >= static_cast<double>(microBatches);
}

/// Operands logits, micro_batch_ids, weights, experts, statistics. With `choose` false, the given
/// experts are kept, as derivatives need.
void forward(std::vector<Array> &operands, const Case &shape, bool choose, bool rounds) {
  const Array &logits = operands[0];
  Array &weights = operands[2], &experts = operands[3], &statistics = operands[4];
  for (int64_t t = 0; t < shape.tokens; ++t) {
    if (isInert(operands[1], t, shape.microBatches)) {
      for (int64_t j = 0; j < shape.topK; ++j)
        experts.at(t, j) = -1;
      continue;
    }
    std::vector<double> p = softmax(logits, t);
    auto m = static_cast<int64_t>(operands[1].values[t]);
    for (int64_t e = 0; e < shape.experts; ++e)
      statistics.at(m * 2 + 1, e) += rounds ? roundTo(shape.logits, p[e]) : p[e];
    std::vector<int64_t> order(shape.experts);
    for (int64_t e = 0; e < shape.experts; ++e)
      order[e] = e;
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return p[a] > p[b]; });
    double sum = 0;
    for (int64_t j = 0; j < shape.topK; ++j) {
      if (choose)
        experts.at(t, j) = j < shape.experts ? static_cast<double>(order[j]) : -1;
      if (experts.at(t, j) < 0)
        continue;
      auto expert = static_cast<int64_t>(experts.at(t, j));
      weights.at(t, j) = p[expert];
      sum += p[expert];
      statistics.at(m * 2, expert) += 1;
    }
    for (int64_t j = 0; j < shape.topK && shape.renormalize; ++j)
      weights.at(t, j) /= sum;
  }
}

/// Operands dweights, dstatistics, logits, experts, micro_batch_ids, dlogits.
void backward(std::vector<Array> &operands, const Case &shape) {
  const Array &dweights = operands[0], &experts = operands[3];
  for (int64_t t = 0; t < shape.tokens; ++t) {
    if (isInert(operands[4], t, shape.microBatches))
      continue;
    std::vector<double> p = softmax(operands[2], t);
    auto m = static_cast<int64_t>(operands[4].values[t]);
    std::vector<double> dp(shape.experts);
    for (int64_t e = 0; e < shape.experts; ++e)
      dp[e] = operands[1].at(m * 2 + 1, e);
    auto chosen = [&](int64_t j) { return static_cast<int64_t>(experts.at(t, j)); };
    auto counts = [&](int64_t j) { return chosen(j) >= 0 && chosen(j) < shape.experts; };
    double sum = 0, weighted = 0;
    for (int64_t j = 0; j < shape.topK; ++j)
      if (counts(j)) {
        sum += p[chosen(j)];
        weighted += dweights.at(t, j) * p[chosen(j)];
      }
    for (int64_t j = 0; j < shape.topK; ++j)
      if (counts(j))
        dp[chosen(j)] +=
            shape.renormalize ? (dweights.at(t, j) - weighted / sum) / sum : dweights.at(t, j);
    double dot = 0;
    for (int64_t e = 0; e < shape.experts; ++e)
      dot += p[e] * dp[e];
    for (int64_t e = 0; e < shape.experts; ++e)
      operands[5].at(t, e) = p[e] * (dp[e] - dot);
  }
}

/// Operands dweights, weights, experts, dlogits.
void backwardRenormalized(std::vector<Array> &operands) {
  const Array &dweights = operands[0], &weights = operands[1], &experts = operands[2];
  Array &dlogits = operands[3];
  auto counts = [&](int64_t t, int64_t j) {
    return experts.at(t, j) >= 0 && experts.at(t, j) < static_cast<double>(dlogits.dims[1]);
  };
  for (int64_t t = 0; t < weights.dims[0]; ++t)
    for (int64_t j = 0; j < weights.dims[1]; ++j)
      for (int64_t i = 0; i < weights.dims[1]; ++i)
        if (counts(t, j) && counts(t, i))
          dlogits.at(t, static_cast<int64_t>(experts.at(t, j))) +=
              weights.at(t, j) * weights.at(t, i) * (dweights.at(t, j) - dweights.at(t, i));
}

Options options(const Case &shape) {
  // The summed probabilities are rounded to bfloat16 one by one, some to the other side.
  if (shape.logits == DType::BF16)
    return {.tolerance = Tolerance{1.0 / 128, 1e-4}};
  if (shape.weights == DType::BF16)
    return {.tolerance = Tolerance{1.0 / 256, 4e-6}};
  return {};
}

Call forwardCall(const Case &shape, Array logits, Array microBatchIds) {
  return {"router",
          {std::move(logits), std::move(microBatchIds),
           Array(shape.weights, {shape.tokens, shape.topK}),
           Array(DType::I32, {shape.tokens, shape.topK}),
           Array(DType::F32, {shape.microBatches, 2, shape.experts})},
          shape.attributes()};
}

Call backwardCall(const Case &shape, Random &random) {
  return {"router_grad",
          {uniform(random, shape.weights, {shape.tokens, shape.topK}),
           uniform(random, DType::F32, {shape.microBatches, 2, shape.experts}),
           uniform(random, shape.logits, {shape.tokens, shape.experts}, -3, 3),
           Array(DType::I32, {shape.tokens, shape.topK}),
           uniform(random, DType::I32, {shape.tokens}, -1, static_cast<double>(shape.microBatches)),
           Array(shape.logits, {shape.tokens, shape.experts})},
          shape.attributes()};
}

/// Different experts for the slots of each token.
void chooseExperts(Array &experts, int64_t count) {
  for (int64_t t = 0; t < experts.dims[0]; ++t)
    for (int64_t j = 0; j < experts.dims[1]; ++j)
      experts.at(t, j) = static_cast<double>((t * 7 + j) % count);
}

/// A gradient by router_grad, without statistics, and by router_grad_renormalized. Some tokens are
/// inert, and some slots have an expert that there is not.
struct Gradients {
  Call full, renormalized;
};

Gradients gradients(const Case &shape, Random &random) {
  Call full = backwardCall(shape, random);
  std::ranges::fill(full.operands[1].values, 0);
  Array &experts = full.operands[3];
  chooseExperts(experts, shape.experts);
  for (int64_t t = 0; t < shape.tokens && shape.topK > 1; t += 5)
    experts.at(t, t % shape.topK) = -1;
  Call at = forwardCall(shape, full.operands[2], full.operands[4]);
  at.operands[3] = experts;
  forward(at.operands, shape, false, false);
  for (double &weight : at.operands[2].values)
    weight = roundTo(shape.weights, weight);
  for (int64_t t = 0; t < shape.tokens && shape.topK > 1; t += 10)
    experts.at(t, t % shape.topK) = at.operands[3].at(t, t % shape.topK) =
        static_cast<double>(shape.experts);
  Call renormalized = {"router_grad_renormalized",
                       {full.operands[0], at.operands[2], at.operands[3], full.operands[5]},
                       {{.integer = shape.experts}}};
  return {std::move(full), std::move(renormalized)};
}

class Router : public ::testing::TestWithParam<Case> {};

TEST_P(Router, AgreesWithFloat64) {
  const Case &shape = GetParam();
  Random random(1);
  Call call = forwardCall(
      shape, uniform(random, shape.logits, {shape.tokens, shape.experts}, -3, 3),
      uniform(random, DType::I32, {shape.tokens}, -1, static_cast<double>(shape.microBatches)));
  expectConforms(
      call, [&](std::vector<Array> &operands) { forward(operands, shape, true, true); },
      options(shape));
}

TEST_P(Router, GradientAgreesWithFloat64) {
  const Case &shape = GetParam();
  Random random(2);
  Call call = backwardCall(shape, random);
  chooseExperts(call.operands[3], shape.experts);
  expectConforms(
      call, [&](std::vector<Array> &operands) { backward(operands, shape); }, options(shape));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Router,
                         ::testing::Values(Case{DType::F32, DType::F32, 0, 4, 2, 1, true},
                                           Case{DType::F32, DType::F32, 1, 1, 1, 1, false},
                                           Case{DType::F32, DType::F32, 77, 8, 2, 3, true},
                                           Case{DType::F32, DType::F32, 100, 64, 8, 2, false},
                                           Case{DType::F32, DType::F32, 9, 1500, 5, 2, true},
                                           Case{DType::BF16, DType::F32, 77, 8, 2, 3, true},
                                           Case{DType::BF16, DType::BF16, 77, 64, 8, 3, false},
                                           Case{DType::BF16, DType::BF16, 0, 4, 2, 1, false}));

class RenormalizedRouter : public ::testing::TestWithParam<Case> {};

TEST_P(RenormalizedRouter, GradientAgreesWithFloat64) {
  const Case &shape = GetParam();
  Random random(5);
  Call call = gradients(shape, random).renormalized;
  call.operands[1] = uniform(random, shape.weights, call.operands[1].dims, 0, 1);
  expectConforms(call, backwardRenormalized);
}

TEST_P(RenormalizedRouter, GradientIsThatOfAllOperands) {
  const Case &shape = GetParam();
  Random random(6);
  Gradients calls = gradients(shape, random);
  Array got = runOnce(calls.renormalized)[3], want = runOnce(calls.full)[5];
  if (shape.topK == 1) // the weight is 1, and logits that are all alike leave rounding
    want.values = std::vector<double>(want.values.size());
  bool rounds = shape.logits == DType::BF16 || shape.weights == DType::BF16;
  expectNear(got, want, rounds ? Tolerance{1.0 / 128, 1.0 / 512} : Tolerance{1e-5, 1e-6},
             "dlogits");
}

INSTANTIATE_TEST_SUITE_P(Shapes, RenormalizedRouter,
                         ::testing::Values(Case{DType::F32, DType::F32, 0, 4, 2, 1, true},
                                           Case{DType::F32, DType::F32, 1, 1, 1, 1, true},
                                           Case{DType::F32, DType::F32, 77, 8, 2, 3, true},
                                           Case{DType::F32, DType::F32, 100, 64, 8, 2, true},
                                           Case{DType::F32, DType::F32, 9, 1500, 5, 2, true},
                                           Case{DType::F32, DType::BF16, 33, 4, 1, 1, true},
                                           Case{DType::BF16, DType::F32, 77, 9, 2, 3, true},
                                           Case{DType::BF16, DType::BF16, 77, 64, 8, 3, true}));

TEST(RouterReference, GradientIsTheDerivative) {
  for (bool renormalize : {false, true}) {
    Case shape{DType::F32, DType::F32, 6, 5, 2, 2, renormalize};
    Random random(3);
    Call call = backwardCall(shape, random);
    call.operands[0].dtype = DType::F32;
    chooseExperts(call.operands[3], shape.experts);
    backward(call.operands, shape);
    Array &logits = call.operands[2];
    // The counts are constants: their cotangents take no part.
    for (int64_t m = 0; m < shape.microBatches; ++m)
      for (int64_t e = 0; e < shape.experts; ++e)
        call.operands[1].at(m * 2, e) = 0;
    auto loss = [&] {
      Call at = forwardCall(shape, logits, call.operands[4]);
      at.operands[3] = call.operands[3];
      forward(at.operands, shape, false, false);
      return dot(at.operands[2], call.operands[0]) + dot(at.operands[4], call.operands[1]);
    };
    Array gradient = call.operands[5];
    expectGradient(random, loss, logits, gradient);
  }
}

TEST(RouterReference, RenormalizedGradientIsTheDerivative) {
  Case shape{DType::F32, DType::F32, 12, 5, 3, 2, true};
  Random random(7);
  Call call = backwardCall(shape, random);
  chooseExperts(call.operands[3], shape.experts);
  Array &logits = call.operands[2];
  auto weights = [&] {
    Call at = forwardCall(shape, logits, call.operands[4]);
    at.operands[3] = call.operands[3];
    forward(at.operands, shape, false, false);
    return at.operands[2];
  };
  std::vector<Array> operands = {call.operands[0], weights(), call.operands[3], call.operands[5]};
  backwardRenormalized(operands);
  expectGradient(random, [&] { return dot(weights(), call.operands[0]); }, logits, operands[3]);
}

// Of weights 1 and 2^-10 that sum to more than 1, the gradient is that of 1 - 2^-10 and 2^-10.
TEST(RenormalizedRouter, AWeightMayRoundToOne) {
  double small = 1.0 / 1024;
  Array weights = arrayOf(DType::BF16, {1, 2}, {1 - small, small});
  ASSERT_EQ(weights.values[0], 1);
  Array got = runOnce({"router_grad_renormalized",
                       {arrayOf(DType::BF16, {1, 2}, {100, 101}), weights,
                        arrayOf(DType::I32, {1, 2}, {2, 0}), Array(DType::F32, {1, 3})},
                       {{.integer = 3}}})[3];
  double gradient = small * (1 - small);
  expectNear(got, arrayOf(DType::F32, {1, 3}, {gradient, 0, -gradient}), {1.0 / 512}, "dlogits");
}

TEST(Router, TiesGoToTheLowestExpert) {
  Case shape{DType::F32, DType::F32, 1, 6, 3, 1, false};
  std::vector<Array> operands = runOnce(forwardCall(
      shape, arrayOf(DType::F32, {1, 6}, {1, 2, 1, 2, 2, 0}), arrayOf(DType::I32, {1}, {0})));
  EXPECT_EQ(operands[3].values, (std::vector<double>{1, 3, 4}));
}

TEST(Router, InertTokensAreNeitherRoutedNorCounted) {
  Case shape{DType::F32, DType::F32, 3, 4, 2, 2, true};
  Random random(4);
  std::vector<Array> operands = runOnce(forwardCall(shape, uniform(random, DType::F32, {3, 4}),
                                                    arrayOf(DType::I32, {3}, {-1, 2, -7})));
  EXPECT_EQ(operands[2].values, std::vector<double>(6, 0.0));
  EXPECT_EQ(operands[3].values, std::vector<double>(6, -1.0));
  EXPECT_EQ(operands[4].values, std::vector<double>(16, 0.0));
}

// What diverged must stay inside its buffers and name experts that exist.
TEST(Router, NanLogitsChooseDifferentExperts) {
  Case shape{DType::F32, DType::F32, 1, 4, 3, 1, true};
  double nan = std::numeric_limits<double>::quiet_NaN();
  std::vector<Array> operands = runOnce(forwardCall(
      shape, arrayOf(DType::F32, {1, 4}, {nan, 1, nan, 2}), arrayOf(DType::I32, {1}, {0})));
  EXPECT_EQ(operands[3].values, (std::vector<double>{0, 1, 2}));
  EXPECT_TRUE(std::isnan(operands[2].values[0]));
}

TEST(Router, MoreSlotsThanExpertsLeaveInertOnes) {
  Case shape{DType::F32, DType::F32, 1, 2, 3, 1, true};
  std::vector<Array> operands = runOnce(
      forwardCall(shape, arrayOf(DType::F32, {1, 2}, {0, 0}), arrayOf(DType::I32, {1}, {0})));
  EXPECT_EQ(operands[3].values, (std::vector<double>{0, 1, -1}));
  EXPECT_EQ(operands[2].values, (std::vector<double>{0.5, 0.5, 0}));
}

} // namespace
} // namespace switchyard::kernels::conformance

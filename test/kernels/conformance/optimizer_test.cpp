#include "test/kernels/conformance/Conformance.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

namespace switchyard::kernels::conformance {
namespace {

constexpr DType kFloats[] = {DType::F32, DType::BF16};

struct Step {
  double coefficient = 0.7, apply = 1, learningRate = 1e-3, beta1 = 0.9, beta2 = 0.95,
         epsilon = 1e-8, weightDecay = 0.1, step = 3;

  std::vector<Array> scalars() const {
    return {scalar(DType::F32, coefficient),  scalar(DType::I32, apply),
            scalar(DType::F32, learningRate), scalar(DType::F32, beta1),
            scalar(DType::F32, beta2),        scalar(DType::F32, epsilon),
            scalar(DType::F32, weightDecay),  scalar(DType::F32, step)};
  }
};

/// torch.optim.AdamW. Operands param, exp_avg, exp_avg_sq, [master,] grad, scalars.
void adamw(std::vector<Array> &operands, bool decay) {
  bool hasMaster = operands.size() == 13;
  size_t grad = hasMaster ? 4 : 3;
  auto value = [&](size_t index) { return operands[grad + index].values[0]; };
  double coefficient = value(1), learningRate = value(3), beta1 = value(4), beta2 = value(5),
         epsilon = value(6), weightDecay = value(7), step = value(8);
  if (value(2) == 0)
    return;
  Array &param = operands[hasMaster ? 3 : 0];
  auto moment = [&](double x) { return roundTo(operands[1].dtype, x); };
  for (int64_t i = 0; i < operands[0].count(); ++i) {
    double &m = operands[1].values[i], &v = operands[2].values[i];
    double g = roundTo(operands[grad].dtype, coefficient * operands[grad].values[i]);
    double p = roundTo(param.dtype, param.values[i] * (decay ? 1 - learningRate * weightDecay : 1));
    m = moment(m + (1 - beta1) * (g - m));
    v = moment(moment(beta2 * v) + (1 - beta2) * g * g);
    double root = moment(moment(std::sqrt(v)) / std::sqrt(1 - std::pow(beta2, step)));
    p -= learningRate / (1 - std::pow(beta1, step)) * m / moment(root + epsilon);
    operands[0].values[i] = p;
    if (hasMaster)
      operands[3].values[i] = p;
  }
}

Call adamwCall(Random &random, DType param, DType moment, DType grad,
               const std::vector<int64_t> &dims, const Step &step, bool decay, bool master) {
  Call call{master ? "adamw_master" : "adamw",
            {uniform(random, param, dims), uniform(random, moment, dims, -0.1, 0.1),
             uniform(random, moment, dims, 1e-4, 0.01)},
            {{.integer = decay}}};
  if (master)
    call.operands.push_back(uniform(random, DType::F32, dims));
  call.operands.push_back(uniform(random, grad, dims));
  for (const Array &value : step.scalars())
    call.operands.push_back(value);
  return call;
}

TEST(Adamw, AgreesWithTorchsFormula) {
  Random random(1);
  // A bfloat16 moment is rounded twice: float64 and float32 may then round to different sides, so
  // its rounding is checked where it is exact, below.
  for (DType param : kFloats)
    for (DType grad : kFloats)
      for (bool decay : {false, true})
        for (bool master : {false, true})
          expectConforms(adamwCall(random, param, DType::F32, grad, {3, 61}, Step(), decay, master),
                         [decay](std::vector<Array> &operands) { adamw(operands, decay); });
}

TEST(Adamw, TakesAnyShape) {
  Random random(2);
  for (const auto &dims : std::vector<std::vector<int64_t>>{{0}, {1}, {40000}, {2, 3, 5}})
    expectConforms(adamwCall(random, DType::F32, DType::F32, DType::F32, dims, Step(), true, false),
                   [](std::vector<Array> &operands) { adamw(operands, true); });
}

// With bias correction the first step moves every parameter by the learning rate.
TEST(Adamw, FirstStepMovesByTheLearningRate) {
  Step first;
  first.step = 1;
  first.coefficient = 1;
  Random random(3);
  Call call = adamwCall(random, DType::F32, DType::F32, DType::F32, {2}, first, false, false);
  call.operands[0] = arrayOf(DType::F32, {2}, {1, 1});
  call.operands[1] = call.operands[2] = Array(DType::F32, {2});
  call.operands[3] = arrayOf(DType::F32, {2}, {0.5, -3});
  std::vector<Array> operands = runOnce(call);
  EXPECT_NEAR(operands[0].values[0], 1 - 1e-3, 1e-7);
  EXPECT_NEAR(operands[0].values[1], 1 + 1e-3, 1e-7);
}

// beta2 = 0.999 takes less than half of a bfloat16 step off v, so torch's v stands still, whatever
// the gradient.
TEST(Adamw, RoundsTheDecayOfTheSecondMomentAlone) {
  Step step;
  step.beta2 = 0.999;
  Random random(7);
  Call call = adamwCall(random, DType::BF16, DType::BF16, DType::BF16, {2}, step, false, false);
  call.operands[2] = arrayOf(DType::BF16, {2}, {1, 1});
  call.operands[3] = arrayOf(DType::BF16, {2}, {0, 1});
  std::vector<Array> operands = runOnce(call);
  EXPECT_EQ(operands[2].values, (std::vector<double>{1, 1}));
}

TEST(Adamw, WritesNothingWhereApplyIsZero) {
  Step skipped;
  skipped.apply = 0;
  skipped.coefficient = std::numeric_limits<double>::quiet_NaN();
  Random random(4);
  for (bool master : {false, true}) {
    Call call =
        adamwCall(random, DType::BF16, DType::F32, DType::F32, {100}, skipped, true, master);
    std::vector<Array> operands = runOnce(call);
    for (size_t i = 0; i < (master ? 4u : 3u); ++i)
      EXPECT_EQ(operands[i].values, call.operands[i].values);
  }
}

// Many small steps: bfloat16 alone would stand still, the master does not.
TEST(AdamwMaster, KeepsWhatTheParameterRoundsAway) {
  Step step;
  step.learningRate = 1e-4;
  Random random(5);
  Call call = adamwCall(random, DType::BF16, DType::F32, DType::F32, {1}, step, false, true);
  call.operands[0] = arrayOf(DType::BF16, {1}, {1});
  call.operands[3] = arrayOf(DType::F32, {1}, {1});
  call.operands[4] = arrayOf(DType::F32, {1}, {1});
  for (int i = 0; i < 60; ++i)
    call.operands = runOnce(call);
  EXPECT_LT(call.operands[3].values[0], 0.9985);
  EXPECT_EQ(call.operands[0].values[0], roundTo(DType::BF16, call.operands[3].values[0]));
  EXPECT_LT(call.operands[0].values[0], 1);
}

TEST(SumOfSquares, AgreesWithFloat64) {
  Random random(6);
  for (DType dtype : kFloats)
    for (const auto &dims :
         std::vector<std::vector<int64_t>>{{}, {0}, {1}, {1023}, {3, 5, 7}, {300000}})
      expectConforms({"sum_of_squares", {uniform(random, dtype, dims), Array(DType::F32, {})}},
                     [](std::vector<Array> &operands) {
                       for (double value : operands[0].values)
                         operands[1].values[0] += value * value;
                     });
}

std::vector<double> clip(double sum, double largest) {
  std::vector<Array> operands =
      runOnce({"clip",
               {scalar(DType::F32, sum), scalar(DType::F32, largest), Array(DType::F32, {}),
                Array(DType::F32, {}), Array(DType::I32, {})}});
  return {operands[2].values[0], operands[3].values[0], operands[4].values[0]};
}

TEST(Clip, ScalesDownWhatIsTooLong) {
  EXPECT_EQ(clip(0.25, 1), (std::vector<double>{0.5, 1, 1}));
  EXPECT_EQ(clip(0, 1), (std::vector<double>{0, 1, 1}));
  std::vector<double> scaled = clip(16, 1);
  EXPECT_EQ(scaled[0], 4);
  EXPECT_NEAR(scaled[1], 1 / (4 + 1e-6), 1e-7);
  EXPECT_EQ(scaled[2], 1);
}

TEST(Clip, NoMaximumMeansNoClipping) {
  EXPECT_EQ(clip(16, 0), (std::vector<double>{4, 1, 1}));
  EXPECT_EQ(clip(16, -1), (std::vector<double>{4, 1, 1}));
}

TEST(Clip, WhatIsNotFiniteIsNotApplied) {
  double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(clip(infinity, 1)[2], 0);
  EXPECT_EQ(clip(infinity, 0)[2], 0);
  EXPECT_EQ(clip(std::numeric_limits<double>::quiet_NaN(), 1)[2], 0);
}

} // namespace
} // namespace switchyard::kernels::conformance

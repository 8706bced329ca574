// A hand-built plan on the CPU: it trains, computes what a reference in double precision computes,
// and allocates nothing while it runs.
#include "kernels/cpu/Gemm.h"
#include "runtime/device/cpu/CpuDevice.h"
#include "runtime/executor/Executor.h"
#include "test/kernels/conformance/HeapCounter.h"
#include "test/runtime/plan/TinyPlan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace switchyard {
namespace {

using namespace test;

constexpr int64_t kTokens = 10;

/// The batch: each token's label is the next token.
struct Batch {
  std::vector<int32_t> ids, positions, segments = {0, 4, kTokens}, labels, microBatches;
  std::vector<float> weights, auxWeights = {1};

  Batch() {
    for (int32_t t = 0; t < kTokens; ++t) {
      ids.push_back((t * 5 + 1) % kVocab);
      positions.push_back(t < 4 ? t : t - 4);
      labels.push_back(
          t == 3 || t == kTokens - 1 ? -100 : ((t + 1) * 5 + 1) % static_cast<int32_t>(kVocab));
      microBatches.push_back(0);
      weights.push_back(1.0f / 8);
    }
  }
};

class TinyTraining : public ::testing::Test {
protected:
  void SetUp() override {
    Plan plan = tinyPlan();
    auto device = createCpuDevice(plan.target);
    ASSERT_TRUE(device.ok());
    auto executor = Executor::create(std::move(plan), std::move(*device));
    ASSERT_TRUE(executor.ok()) << executor.status().message();
    executor_ = std::move(*executor);
    for (size_t i = 0; i < embed_.size(); ++i) {
      embed_[i] = std::sin(static_cast<float>(i)) * 0.5f;
      head_[i] = std::cos(static_cast<float>(3 * i)) * 0.5f;
    }
    ASSERT_TRUE(executor_->writeState(0, 0, std::as_bytes(std::span(embed_))).ok());
    ASSERT_TRUE(executor_->writeState(1, 0, std::as_bytes(std::span(head_))).ok());
  }

  std::shared_ptr<const Binding> bound(std::string_view program,
                                       std::vector<int64_t> values = {kTokens, 2, 1}) {
    auto binding = executor_->bind(program, values);
    EXPECT_TRUE(binding.ok()) << binding.status().message();
    return *binding;
  }

  bool setPass(const Binding &binding) {
    return executor_->setInput<int32_t>(binding, "input_ids", batch_.ids).ok() &&
           executor_->setInput<int32_t>(binding, "position_ids", batch_.positions).ok() &&
           executor_->setInput<int32_t>(binding, "cu_seqlens", batch_.segments).ok() &&
           executor_->setInput<int32_t>(binding, "labels", batch_.labels).ok() &&
           executor_->setInput<float>(binding, "loss_weights", batch_.weights).ok() &&
           executor_->setInput<int32_t>(binding, "micro_batch_ids", batch_.microBatches).ok() &&
           executor_->setInput<float>(binding, "aux_weights", batch_.auxWeights).ok();
  }

  bool setOptimizer(const Binding &binding, float step) {
    return executor_->setScalar(binding, "learning_rate", 0.05f).ok() &&
           executor_->setScalar(binding, "beta1", 0.9f).ok() &&
           executor_->setScalar(binding, "beta2", 0.999f).ok() &&
           executor_->setScalar(binding, "epsilon", 1e-8f).ok() &&
           executor_->setScalar(binding, "weight_decay", 0.0f).ok() &&
           executor_->setScalar(binding, "max_grad_norm", 1.0f).ok() &&
           executor_->setScalar(binding, "step", step).ok();
  }

  std::vector<float> state(size_t index) {
    std::vector<float> values(kVocab * kWidth);
    EXPECT_TRUE(executor_->readState(index, 0, std::as_writable_bytes(std::span(values))).ok());
    return values;
  }

  double logit(int64_t token, int64_t word) const {
    double sum = 0;
    for (int64_t d = 0; d < kWidth; ++d)
      sum += double(embed_[token * kWidth + d]) * head_[word * kWidth + d];
    return sum;
  }

  /// The loss, and its gradient by the head.
  double reference(std::vector<double> *headGradient = nullptr) const {
    double loss = 0;
    for (int64_t t = 0; t < kTokens; ++t) {
      if (batch_.labels[t] < 0)
        continue;
      double sum = 0;
      for (int64_t v = 0; v < kVocab; ++v)
        sum += std::exp(logit(batch_.ids[t], v));
      loss += batch_.weights[t] * (std::log(sum) - logit(batch_.ids[t], batch_.labels[t]));
      for (int64_t v = 0; headGradient && v < kVocab; ++v)
        for (int64_t d = 0; d < kWidth; ++d)
          (*headGradient)[v * kWidth + d] +=
              batch_.weights[t] *
              (std::exp(logit(batch_.ids[t], v)) / sum - (v == batch_.labels[t])) *
              embed_[batch_.ids[t] * kWidth + d];
    }
    return loss;
  }

  Batch batch_;
  std::vector<float> embed_ = std::vector<float>(kVocab * kWidth);
  std::vector<float> head_ = std::vector<float>(kVocab * kWidth);
  std::unique_ptr<Executor> executor_;
};

TEST_F(TinyTraining, LossAndGradientsAreTheReferences) {
  auto pass = bound("micro_step");
  ASSERT_TRUE(setPass(*pass));
  ASSERT_TRUE(executor_->run(*pass).ok());
  std::vector<double> expected(kVocab * kWidth);
  EXPECT_NEAR(*executor_->getScalar<float>(*pass, "loss"), reference(&expected), 1e-6);
  std::vector<float> gradient = state(3);
  for (size_t i = 0; i < gradient.size(); ++i)
    EXPECT_NEAR(gradient[i], expected[i], 1e-6) << i;
  // A second pass adds to the gradients.
  ASSERT_TRUE(executor_->run(*pass).ok());
  gradient = state(3);
  for (size_t i = 0; i < gradient.size(); ++i)
    EXPECT_NEAR(gradient[i], 2 * expected[i], 1e-6) << i;
  auto evaluation = bound("evaluate");
  ASSERT_TRUE(setPass(*evaluation));
  ASSERT_TRUE(executor_->run(*evaluation).ok());
  EXPECT_NEAR(*executor_->getScalar<float>(*evaluation, "loss"), reference(), 1e-6);
}

TEST_F(TinyTraining, LogitsAreOfTheAskedRows) {
  auto binding = bound("logits");
  std::vector<int32_t> rows = {9, 0, 4};
  ASSERT_TRUE(executor_->setInput<int32_t>(*binding, "input_ids", batch_.ids).ok());
  ASSERT_TRUE(executor_->setInput<int32_t>(*binding, "rows", rows).ok());
  ASSERT_TRUE(executor_->run(*binding).ok());
  std::vector<float> logits(kRows * kVocab);
  ASSERT_TRUE(executor_->getOutput<float>(*binding, "logits", logits).ok());
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t v = 0; v < kVocab; ++v)
      EXPECT_NEAR(logits[r * kVocab + v], logit(batch_.ids[rows[r]], v), 1e-6);
}

TEST_F(TinyTraining, StepsLowerTheLossAndAllocateNothing) {
  auto pass = bound("micro_step"), optimizer = bound("optimizer_step");
  double first = reference();
  int64_t before = testing::heapAllocations();
  bool good = true;
  for (int step = 1; step <= 20; ++step) {
    good &= executor_->zeroGradients().ok() && setPass(*pass) && executor_->run(*pass).ok();
    good &= setOptimizer(*optimizer, static_cast<float>(step)) && executor_->run(*optimizer).ok();
    good &= executor_->getScalar<int32_t>(*optimizer, "apply").ok();
    good &= executor_->bind("micro_step", pass->symbolValues()).ok(); // known extents
  }
  int64_t after = testing::heapAllocations();
  ASSERT_TRUE(good);
  if (testing::countsHeapAllocations() && !kernels::cpu::allocatesInProducts(kernels::DType::F32)) {
    EXPECT_EQ(after, before);
  }
  EXPECT_LT(*executor_->getScalar<float>(*pass, "loss"), 0.6 * first);
}

TEST_F(TinyTraining, ARankWithoutTokensRunsToo) {
  auto pass = bound("micro_step", {0, 0, 0});
  std::vector<int32_t> zero = {0};
  ASSERT_TRUE(executor_->setInput<int32_t>(*pass, "cu_seqlens", zero).ok());
  Status status = executor_->run(*pass);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(*executor_->getScalar<float>(*pass, "loss"), 0.0f);
  EXPECT_THAT(state(3), ::testing::Each(0.0f));
}

TEST(CpuDevice, RefusesWhatItCannotBe) {
  kernels::Target target;
  target.kind = kernels::Target::Kind::Cuda;
  auto device = createCpuDevice(target);
  ASSERT_FALSE(device.ok());
  EXPECT_EQ(device.status().message(),
            "the plan is for CUDA devices; compile it with --target cpu to run it on this machine");
  EXPECT_EQ(createCpuDevice({}, -1).status().message(),
            "the number of threads is -1; expected 1 or more");
}

} // namespace
} // namespace switchyard

// The executor on a GPU: replayed graphs give the bits of direct runs, whatever changes between
// them; runs that nobody waits for come out in their order. Skips where there is no GPU.
#include "runtime/device/cuda/CudaDevice.h"
#include "runtime/executor/Executor.h"
#include "test/runtime/plan/TinyPlan.h"

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

namespace switchyard {
namespace {

using namespace test;

constexpr kernels::Target kCuda{kernels::Target::Kind::Cuda, 1};

/// Passes of tinyPlan() with inputs that follow from a number.
class Runs {
public:
  static std::unique_ptr<Runs> create() {
    auto device = createCudaDevice(kCuda);
    EXPECT_TRUE(device.ok()) << device.status().message();
    auto executor = Executor::create(tinyPlan(kCuda), std::move(*device));
    EXPECT_TRUE(executor.ok()) << executor.status().message();
    auto runs = std::make_unique<Runs>();
    runs->executor = std::move(*executor);
    for (size_t state = 0; state < 2; ++state) {
      std::vector<float> values(kVocab * kWidth);
      for (size_t i = 0; i < values.size(); ++i)
        values[i] = std::sin(static_cast<float>(i + 100 * state)) * 0.5f;
      EXPECT_TRUE(runs->executor->writeState(state, 0, std::as_bytes(std::span(values))).ok());
    }
    return runs;
  }

  /// Puts micro_step at `tokens` tokens on the GPU, with inputs by `seed`.
  std::shared_ptr<const Binding> startPass(int64_t tokens, int32_t seed) {
    std::vector<int32_t> ids, positions, labels, microBatches(tokens, 0);
    for (int32_t t = 0; t < tokens; ++t) {
      ids.push_back((t * 5 + seed) % static_cast<int32_t>(kVocab));
      positions.push_back(t);
      labels.push_back((t * 7 + 3 * seed) % static_cast<int32_t>(kVocab));
    }
    std::vector<int32_t> segments = {0, static_cast<int32_t>(tokens)};
    std::vector<float> weights(tokens, 1.0f / static_cast<float>(tokens)), auxWeights = {1};
    auto binding = bound("micro_step", {tokens, 1, 1});
    auto set = [&](Status status) { EXPECT_TRUE(status.ok()) << status.message(); };
    set(executor->setInput<int32_t>(*binding, "input_ids", ids));
    set(executor->setInput<int32_t>(*binding, "position_ids", positions));
    set(executor->setInput<int32_t>(*binding, "cu_seqlens", segments));
    set(executor->setInput<int32_t>(*binding, "labels", labels));
    set(executor->setInput<float>(*binding, "loss_weights", weights));
    set(executor->setInput<int32_t>(*binding, "micro_batch_ids", microBatches));
    set(executor->setInput<float>(*binding, "aux_weights", auxWeights));
    set(executor->start(*binding));
    return binding;
  }

  void startUpdate(int step) {
    auto binding = bound("optimizer_step", {0, 0, 0});
    const std::pair<const char *, float> scalars[] = {
        {"learning_rate", 0.05f / static_cast<float>(step)},
        {"beta1", 0.9f},
        {"beta2", 0.999f},
        {"epsilon", 1e-8f},
        {"weight_decay", 0.01f},
        {"max_grad_norm", 1.0f},
        {"step", static_cast<float>(step)}};
    for (const auto &[name, value] : scalars)
      EXPECT_TRUE(executor->setScalar(*binding, name, value).ok());
    Status status = executor->start(*binding);
    EXPECT_TRUE(status.ok()) << status.message();
  }

  std::vector<std::byte> states() {
    std::vector<std::byte> all;
    for (size_t i = 0; i < executor->plan().states.size(); ++i) {
      std::vector<std::byte> bytes(kVocab * kWidth * 4);
      EXPECT_TRUE(executor->readState(i, 0, bytes).ok());
      all.insert(all.end(), bytes.begin(), bytes.end());
    }
    return all;
  }

  std::shared_ptr<const Binding> bound(std::string_view program, std::vector<int64_t> values) {
    auto binding = executor->bind(program, values);
    EXPECT_TRUE(binding.ok()) << binding.status().message();
    return *binding;
  }

  std::unique_ptr<Executor> executor;
};

class CudaExecutor : public ::testing::Test {
protected:
  void SetUp() override {
    int devices = 0;
    cudaError_t error = cudaGetDeviceCount(&devices);
    if (error != cudaSuccess || devices == 0)
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(error);
  }
};

// Two bindings in turn, their inputs and the optimizer's scalars different each time.
TEST_F(CudaExecutor, ReplaysGiveTheBitsOfDirectRuns) {
  auto direct = Runs::create(), replayed = Runs::create();
  direct->executor->allowGraphs(false);
  std::vector<float> losses[2];
  for (Runs *runs : {direct.get(), replayed.get()})
    for (int step = 1; step <= 8; ++step) {
      ASSERT_TRUE(runs->executor->zeroGradients().ok());
      auto binding = runs->startPass(step % 2 ? 10 : 37, step);
      auto loss = runs->executor->getScalar<float>(*binding, "loss");
      ASSERT_TRUE(loss.ok()) << loss.status().message();
      losses[runs == replayed.get()].push_back(*loss);
      runs->startUpdate(step);
    }
  EXPECT_EQ(losses[0], losses[1]);
  EXPECT_EQ(direct->states(), replayed->states());
  for (size_t i = 2; i < losses[0].size(); ++i)
    EXPECT_NE(losses[0][i], losses[0][i - 2]) << i; // the inputs were new ones
  auto use = replayed->executor->device().memoryUse();
  ASSERT_TRUE(use.ok() && use->has_value());
  EXPECT_EQ((*use)->allocated, replayed->executor->plan().peakBytes);
}

// More runs than there are blocks to upload from, and the host waits for none of them.
TEST_F(CudaExecutor, RunsAheadKeepTheirInputsAndOutputs) {
  auto each = Runs::create(), ahead = Runs::create();
  constexpr int kRuns = 40;
  std::vector<float> expected, losses;
  for (int i = 0; i < kRuns; ++i) {
    auto binding = each->startPass(20, i);
    auto loss = each->executor->getScalar<float>(*binding, "loss");
    ASSERT_TRUE(loss.ok()) << loss.status().message();
    expected.push_back(*loss);
  }
  std::vector<std::unique_ptr<Outputs>> outputs;
  for (int i = 0; i < kRuns; ++i) {
    auto made = ahead->executor->createOutputs("micro_step");
    ASSERT_TRUE(made.ok()) << made.status().message();
    outputs.push_back(std::move(*made));
    auto binding = ahead->startPass(20, i);
    ASSERT_TRUE(ahead->executor->readBack(*binding, *outputs.back()).ok());
  }
  for (auto &output : outputs) {
    ASSERT_TRUE(output->wait().ok());
    losses.push_back(*output->getScalar<float>("loss"));
  }
  EXPECT_EQ(losses, expected);
}

TEST_F(CudaExecutor, AProfileHasTheKernelsOfReplays) {
  auto runs = Runs::create();
  auto profiler = runs->executor->device().createProfiler();
  if (!profiler.ok())
    GTEST_SKIP() << profiler.status().message();
  for (int i = 0; i < 3; ++i)
    runs->startPass(20, i);
  uint64_t label = 0;
  runs->executor->setMarker([&](const Program &, int64_t instruction) {
    label += instruction < 0 ? 1000 : 0;
    return (*profiler)->mark(label + static_cast<uint64_t>(instruction + 1));
  });
  ASSERT_TRUE((*profiler)->begin().ok());
  runs->startPass(20, 5); // a replay
  runs->executor->allowGraphs(false);
  runs->startPass(20, 6);
  auto activities = (*profiler)->end();
  ASSERT_TRUE(activities.ok()) << activities.status().message();
  std::vector<std::string> replayed, direct;
  uint64_t last = 0;
  for (const DeviceActivity &activity : *activities) {
    EXPECT_GE(activity.end, activity.begin);
    if (activity.kind != DeviceActivity::Kind::Kernel)
      continue;
    (activity.isReplayed ? replayed : direct).push_back(activity.name);
    EXPECT_NE(activity.label, 0u) << activity.name;
    EXPECT_EQ(activity.label % 1000 == 0, activity.isReplayed) << activity.name;
    EXPECT_GE(activity.label, last);
    last = activity.label;
  }
  EXPECT_FALSE(direct.empty());
  EXPECT_EQ(replayed, direct);
}

} // namespace
} // namespace switchyard

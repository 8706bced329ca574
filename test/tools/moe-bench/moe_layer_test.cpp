// MoeLayer on the CPU in float32, beside the layer written down in float64 with no sort.
#include "tools/moe-bench/MoeLayer.h"

#include "runtime/device/CreateDevice.h"

#include <gmock/gmock.h>

#include <cmath>

namespace switchyard::bench {
namespace {

constexpr LayerShape kShape{.tokens = 13, .width = 8, .expertSize = 6, .experts = 4, .topK = 2};
constexpr LayerShape kWideShape{
    .tokens = 5, .width = 4, .expertSize = 513, .experts = 3, .topK = 2};

using Values = std::map<std::string, std::vector<double>>;

Values read(Device &device, const MoeLayer &layer) {
  Values values;
  for (const char *name :
       {"x", "router", "gate_up", "down", "dy", "y", "dx", "drouter", "dgate_up", "ddown"}) {
    const kernels::Tensor &tensor = layer.tensor(name);
    std::vector<float> floats(tensor.count());
    EXPECT_TRUE(device.copyOut(floats.data(), tensor.data, tensor.bytes()).ok());
    values[name].assign(floats.begin(), floats.end());
  }
  return values;
}

/// One expert's output for a token's row, its element `d`.
double expertOutput(const LayerShape &shape, const Values &v, int64_t token, int64_t expert,
                    int64_t d) {
  const auto [tokens, width, ffn, experts, topK] = shape;
  double sum = 0;
  for (int64_t f = 0; f < ffn; ++f) {
    double gate = 0, up = 0;
    for (int64_t i = 0; i < width; ++i) {
      const double x = v.at("x")[token * width + i];
      gate += x * v.at("gate_up")[(expert * 2 * ffn + f) * width + i];
      up += x * v.at("gate_up")[(expert * 2 * ffn + ffn + f) * width + i];
    }
    sum += gate / (1 + std::exp(-gate)) * up * v.at("down")[(expert * width + d) * ffn + f];
  }
  return sum;
}

std::vector<double> reference(const LayerShape &shape, const Values &v) {
  const auto [tokens, width, ffn, experts, topK] = shape;
  std::vector<double> y(tokens * width);
  for (int64_t token = 0; token < tokens; ++token) {
    std::vector<std::pair<double, int64_t>> scores;
    for (int64_t expert = 0; expert < experts; ++expert) {
      double logit = 0;
      for (int64_t i = 0; i < width; ++i)
        logit += v.at("x")[token * width + i] * v.at("router")[expert * width + i];
      scores.emplace_back(-std::exp(logit), expert); // the softmax's sum cancels
    }
    std::ranges::sort(scores);
    const double sum = scores[0].first + scores[1].first;
    for (int64_t j = 0; j < topK; ++j)
      for (int64_t d = 0; d < width; ++d)
        y[token * width + d] +=
            scores[j].first / sum * expertOutput(shape, v, token, scores[j].second, d);
  }
  return y;
}

/// <y, dy>.
double objective(const LayerShape &shape, const Values &v) {
  const std::vector<double> y = reference(shape, v);
  double sum = 0;
  for (size_t i = 0; i < y.size(); ++i)
    sum += y[i] * v.at("dy")[i];
  return sum;
}

class MoeLayerTest : public testing::Test {
protected:
  void SetUp() override {
    auto device = createDevice(kTarget);
    ASSERT_TRUE(device.ok());
    device_ = std::move(*device);
  }

  /// A layer after both directions.
  std::unique_ptr<MoeLayer> run(LayerKernels kernels, const LayerShape &shape = kShape) {
    auto layer = MoeLayer::create(*device_, kTarget, shape, kernels::DType::F32, kernels);
    EXPECT_TRUE(layer.ok()) << layer.status().message();
    if (!layer.ok() || !(*layer)->forward().ok() || !(*layer)->backward().ok())
      return nullptr;
    return std::move(*layer);
  }

  static constexpr kernels::Target kTarget{.threads = 1};
  std::unique_ptr<Device> device_;
};

class EachMoeLayerTest : public MoeLayerTest,
                         public testing::WithParamInterface<std::pair<LayerKernels, LayerShape>> {
protected:
  void SetUp() override {
    MoeLayerTest::SetUp();
    layer_ = run(GetParam().first, shape());
    ASSERT_NE(layer_, nullptr);
    values_ = read(*device_, *layer_);
  }

  static const LayerShape &shape() { return GetParam().second; }

  std::unique_ptr<MoeLayer> layer_;
  Values values_;
};

TEST_P(EachMoeLayerTest, ForwardIsTheLayers) {
  const std::vector<double> expected = reference(shape(), values_);
  double largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(values_["y"][i], expected[i], 1e-9);
    largest = std::max(largest, std::abs(expected[i]));
  }
  EXPECT_GT(largest, 1e-6);
}

// Central differences of each tensor's first, middle and last element.
TEST_P(EachMoeLayerTest, GradientsAreThoseOfTheLayer) {
  for (const char *name : {"x", "router", "gate_up", "down"}) {
    const size_t count = values_[name].size();
    double largest = 0;
    for (size_t i : {size_t{0}, count / 2, count - 1}) {
      constexpr double kStep = 1e-5;
      Values moved = values_;
      moved[name][i] += kStep;
      double difference = objective(shape(), moved);
      moved[name][i] -= 2 * kStep;
      difference = (difference - objective(shape(), moved)) / (2 * kStep);
      EXPECT_NEAR(values_[std::string("d") + name][i], difference,
                  1e-10 + 1e-3 * std::abs(difference))
          << name << " " << i;
      largest = std::max(largest, std::abs(difference));
    }
    EXPECT_GT(largest, 1e-8) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, EachMoeLayerTest,
                         testing::Values(std::pair(LayerKernels::Single, kShape),
                                         std::pair(LayerKernels::Fused, kShape),
                                         std::pair(LayerKernels::Gathered, kShape),
                                         std::pair(LayerKernels::Gathered, kWideShape)));

TEST_F(MoeLayerTest, IsTheSameBitsUnfused) {
  std::unique_ptr<MoeLayer> single = run(LayerKernels::Single), fused = run(LayerKernels::Fused);
  ASSERT_TRUE(single && fused);
  EXPECT_EQ(read(*device_, *single), read(*device_, *fused));
}

/// Bytes of x, and of what each way of computing it keeps beside hidden.
constexpr int64_t keptBytes(int64_t others, const LayerShape &shape = kShape) {
  const auto [tokens, width, ffn, experts, topK] = shape;
  return 4 * (tokens * width + tokens * topK * 2 * ffn + others);
}

TEST_F(MoeLayerTest, KeepsWhatBackwardReads) {
  const auto [tokens, width, ffn, experts, topK] = kShape;
  const int64_t slots = tokens * topK;
  const int64_t routing = experts + 3 * slots; // sizes; weight, expert and row of each slot
  const int64_t copies = 2 * slots * width;    // rows and results
  std::unique_ptr<MoeLayer> fused = run(LayerKernels::Fused), single = run(LayerKernels::Single);
  ASSERT_TRUE(fused && single);
  EXPECT_EQ(fused->keptBytes(), keptBytes(routing + copies));
  EXPECT_EQ(single->keptBytes(), keptBytes(routing + copies + slots * ffn)) << "activated rows";
}

TEST_F(MoeLayerTest, KeepsNoCopiesOfTokensWhereTheyAreGathered) {
  const auto [tokens, width, ffn, experts, topK] = kShape;
  std::unique_ptr<MoeLayer> gathered = run(LayerKernels::Gathered);
  ASSERT_NE(gathered, nullptr);
  // Sizes; weight, expert and row of each slot, token and weight of each row.
  EXPECT_EQ(gathered->keptBytes(), keptBytes(experts + 5 * tokens * topK));
}

TEST_F(MoeLayerTest, KeepsNoCopiesOfTokensThatArePermutedAgain) {
  const auto [tokens, width, ffn, experts, topK] = kWideShape;
  std::unique_ptr<MoeLayer> layer = run(LayerKernels::Gathered, kWideShape);
  ASSERT_NE(layer, nullptr);
  // The same but for the token of each row.
  EXPECT_EQ(layer->keptBytes(), keptBytes(experts + 4 * tokens * topK, kWideShape));
}

TEST(LayerShape, IsFiveIntegers) {
  const Result<LayerShape> shape = parseLayerShape("16384,4096,14336,8,2");
  ASSERT_TRUE(shape.ok());
  EXPECT_EQ(shape->tokens, 16384);
  EXPECT_EQ(shape->width, 4096);
  EXPECT_EQ(shape->expertSize, 14336);
  EXPECT_EQ(shape->experts, 8);
  EXPECT_EQ(shape->topK, 2);
  for (const char *text : {"", "1,2,3,4", "1,2,3,4,5,6", "1,2,3,4,5", "0,1,1,1,1", "1,1,1,1,1,",
                           "1,1,1,1,x", "1 1 1 1 1", "2000000,1,1,1,1"}) {
    const Result<LayerShape> bad = parseLayerShape(text);
    ASSERT_FALSE(bad.ok()) << text;
    EXPECT_EQ(bad.status().code(), StatusCode::Usage);
    EXPECT_EQ(
        bad.status().message(),
        std::string("found the shape \"") + text +
            "\", expected T,D,F,E,K: tokens, hidden size, expert size, experts and experts of "
            "a token, integers from 1 to 2^20, and K at most E");
  }
}

} // namespace
} // namespace switchyard::bench

#include "tools/moe-bench/RandomValues.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

namespace switchyard::bench {
namespace {

using kernels::DType;

std::vector<float> uniform(uint64_t seed, int64_t begin, int64_t count) {
  std::vector<float> values(count);
  fillUniform(seed, begin, 0.5F, DType::F32, std::as_writable_bytes(std::span(values)));
  return values;
}

// More than one thread's piece, which no cut is a multiple of.
TEST(RandomValues, DependOnTheirPlaceAlone) {
  constexpr int64_t kCount = 600'001;
  const std::vector<float> whole = uniform(7, 0, kCount);
  for (int64_t begin : {1, 2, 3, 4, 300'003}) {
    const std::vector<float> rest = uniform(7, begin, kCount - begin);
    EXPECT_EQ(0, std::memcmp(rest.data(), whole.data() + begin, rest.size() * 4)) << begin;
  }
  EXPECT_NE(uniform(8, 0, 4), uniform(7, 0, 4));
}

TEST(RandomValues, HaveTheirMeanAndDeviation) {
  const std::vector<float> values = uniform(1, 0, 1 << 20);
  double sum = 0, squares = 0, largest = 0;
  for (float value : values) {
    sum += value;
    squares += value * value;
    largest = std::max(largest, std::abs(static_cast<double>(value)));
  }
  EXPECT_NEAR(sum / (1 << 20), 0, 2e-3);
  EXPECT_NEAR(std::sqrt(squares / (1 << 20)), 0.5, 1e-3);
  EXPECT_NEAR(largest, 0.5 * std::sqrt(3), 1e-4);
}

TEST(RandomValues, AreRoundedToBfloat16) {
  const std::vector<float> exact = uniform(3, 5, 1000);
  std::vector<uint16_t> rounded(1000);
  fillUniform(3, 5, 0.5F, DType::BF16, std::as_writable_bytes(std::span(rounded)));
  for (size_t i = 0; i < rounded.size(); ++i) {
    const uint32_t bits = static_cast<uint32_t>(rounded[i]) << 16;
    float value = 0;
    std::memcpy(&value, &bits, 4);
    EXPECT_NEAR(value, exact[i], std::abs(exact[i]) / 256);
  }
}

} // namespace
} // namespace switchyard::bench

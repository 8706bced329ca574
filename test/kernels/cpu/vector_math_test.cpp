#include "kernels/cpu/BFloat16.h"
#include "kernels/cpu/VectorMath.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

namespace switchyard::kernels::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// |got - want| in units of the last place of the float32 nearest to `want`.
double ulps(float got, double want) {
  float nearest = std::fabs(static_cast<float>(want));
  double unit = static_cast<double>(std::nextafter(nearest, kInfinity)) - nearest;
  return std::fabs(got - want) / unit;
}

TEST(FastExp, IsWithinOneUnit) {
  double worst = 0;
  for (int i = 0; i < 140000; ++i) {
    float x = -103.9f + 0.001375f * static_cast<float>(i); // to 88.6
    worst = std::max(worst, ulps(fastExp(x), std::exp(static_cast<double>(x))));
  }
  EXPECT_LT(worst, 1.0);
}

TEST(FastExp, TakesWhatIsFarAway) {
  EXPECT_EQ(fastExp(0), 1);
  EXPECT_EQ(fastExp(-kInfinity), 0);
  EXPECT_EQ(fastExp(-1e30f), 0);
  EXPECT_EQ(fastExp(88.8f), kInfinity);
  EXPECT_EQ(fastExp(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(fastExp(std::numeric_limits<float>::quiet_NaN())));
}

TEST(FastSinCos, IsWithinOneUnit) {
  double worst = 0;
  for (int i = 0; i < 40000; ++i) {
    auto x = static_cast<float>(1e-6 * std::pow(1.0007, i)); // to 1.4e6
    for (float angle : {x, -x}) {
      float sine = 0, cosine = 0;
      fastSinCos(angle, sine, cosine);
      worst = std::max(worst, ulps(sine, std::sin(static_cast<double>(angle))));
      worst = std::max(worst, ulps(cosine, std::cos(static_cast<double>(angle))));
    }
  }
  EXPECT_LT(worst, 1.0);
}

TEST(FastSinCos, TakesThePositionsOfAnyInteger) {
  for (float angle : {2147483648.0f, 1234567890.0f, -2147483648.0f}) {
    float sine = 0, cosine = 0;
    fastSinCos(angle, sine, cosine);
    EXPECT_NEAR(sine, std::sin(static_cast<double>(angle)), 1e-6);
    EXPECT_NEAR(cosine, std::cos(static_cast<double>(angle)), 1e-6);
  }
}

TEST(BFloat16, RoundsToNearestEven) {
  auto rounded = [](float value) { return roundTo<BFloat16>(value); };
  EXPECT_EQ(rounded(1.00390625f), 1.0f);       // halfway, down to the even one
  EXPECT_EQ(rounded(1.01171875f), 1.015625f);  // halfway, up to the even one
  EXPECT_EQ(rounded(1.00390637f), 1.0078125f); // just above halfway
  EXPECT_EQ(rounded(-1.00390637f), -1.0078125f);
  EXPECT_EQ(rounded(3.4e38f), kInfinity);
  EXPECT_EQ(rounded(-kInfinity), -kInfinity);
  EXPECT_EQ(fromFloat<BFloat16>(std::bit_cast<float>(0x7f800001u)).bits, 0x7fc0);
  EXPECT_EQ(fromFloat<BFloat16>(std::bit_cast<float>(0x7fffffffu)).bits, 0x7fc0);
  EXPECT_EQ(fromFloat<BFloat16>(-0.0f).bits, 0x8000);
}

TEST(BFloat16, KeepsEveryValueItCanHold) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    float value = toFloat(BFloat16{static_cast<uint16_t>(bits)});
    if (!std::isnan(value)) {
      EXPECT_EQ(fromFloat<BFloat16>(value).bits, bits);
    }
  }
}

} // namespace
} // namespace switchyard::kernels::cpu

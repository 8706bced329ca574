#include "runtime/core/Floats.h"

#include "runtime/core/Fingerprint.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

using namespace switchyard;

static float fromBits(uint32_t bits) {
  return std::bit_cast<float>(bits);
}

TEST(Floats, RoundsToNearestEven) {
  EXPECT_EQ(bf16FromFloat(fromBits(0x3f808000)), 0x3f80); // a tie goes to the even one, down
  EXPECT_EQ(bf16FromFloat(fromBits(0x3f818000)), 0x3f82); // and up
  EXPECT_EQ(bf16FromFloat(fromBits(0x3f808001)), 0x3f81);
  EXPECT_EQ(bf16FromFloat(fromBits(0x3f817fff)), 0x3f81);
  EXPECT_EQ(bf16FromFloat(-0.0f), 0x8000);
  EXPECT_EQ(bf16FromFloat(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(bf16FromFloat(-std::numeric_limits<float>::infinity()), 0xff80);
  EXPECT_EQ(bf16FromFloat(fromBits(0x7f800001)), 0x7fc0);
  EXPECT_EQ(bf16FromFloat(fromBits(0xffffffff)), 0x7fc0);
}

TEST(Floats, EveryBf16ComesBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    float value = floatFromBf16(static_cast<uint16_t>(bits));
    if (std::isnan(value))
      EXPECT_EQ(bf16FromFloat(value), 0x7fc0);
    else
      EXPECT_EQ(bf16FromFloat(value), bits);
  }
}

TEST(Floats, EveryF16HasItsValue) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    int exponent = bits >> 10 & 31;
    int mantissa = bits & 1023;
    float sign = bits >> 15 ? -1.0f : 1.0f;
    float value = floatFromF16(static_cast<uint16_t>(bits));
    if (exponent == 31 && mantissa) {
      EXPECT_TRUE(std::isnan(value));
      continue;
    }
    float expected = exponent == 31 ? INFINITY
                     : exponent     ? std::ldexp(1024.0f + mantissa, exponent - 25)
                                    : std::ldexp(float(mantissa), -24);
    EXPECT_EQ(value, sign * expected) << bits;
    EXPECT_EQ(std::signbit(value), bits >> 15 == 1) << bits;
  }
}

TEST(Floats, ConvertsArraysWithoutAlignment) {
  std::vector<float> floats = {1.0f, -2.5f, 3.14159f};
  std::vector<std::byte> source(1 + 12), narrow(1 + 6), wide(1 + 12);
  std::memcpy(source.data() + 1, floats.data(), 12);
  convertFloats(FloatFormat::F32, std::span(source).subspan(1), FloatFormat::BF16,
                std::span(narrow).subspan(1));
  convertFloats(FloatFormat::BF16, std::span(narrow).subspan(1), FloatFormat::F32,
                std::span(wide).subspan(1));
  float back[3];
  std::memcpy(back, wide.data() + 1, 12);
  EXPECT_EQ(back[0], 1.0f);
  EXPECT_EQ(back[1], -2.5f);
  EXPECT_EQ(back[2], 3.140625f);
  uint16_t half = 0x4248; // 3.140625
  convertFloats(FloatFormat::F16, std::as_bytes(std::span(&half, 1)), FloatFormat::F32,
                std::span(wide).subspan(1, 4));
  EXPECT_EQ(0, std::memcmp(wide.data() + 1, &back[2], 4));
  convertFloats(FloatFormat::F16, std::as_bytes(std::span(&half, 1)), FloatFormat::BF16,
                std::span(wide).subspan(1, 2));
  EXPECT_EQ(0, std::memcmp(wide.data() + 1, narrow.data() + 5, 2));
  convertFloats(FloatFormat::F32, {}, FloatFormat::F32, {});
}

TEST(Floats, FindsWhatIsNotFinite) {
  const float large = std::numeric_limits<float>::max();
  std::vector<std::byte> bytes(1 + 5 * 4);
  const auto found = [&](std::vector<float> values) {
    std::memcpy(bytes.data() + 1, values.data(), values.size() * 4);
    return findNonFinite(FloatFormat::F32, std::span(bytes).subspan(1, values.size() * 4));
  };
  EXPECT_EQ(found({0, large, -large, fromBits(1)}).count, 0);
  EXPECT_EQ(found({0, large}).first, -1);
  NonFiniteValues some = found({1, large, -INFINITY, fromBits(0x7f800001), 2});
  EXPECT_EQ(some.count, 2);
  EXPECT_EQ(some.first, 2);
  EXPECT_EQ(some.value, -INFINITY);
  const uint16_t halves[] = {0x7bff, 0x7f7f, 0x7c00, 0x7f80};
  EXPECT_EQ(findNonFinite(FloatFormat::BF16, std::as_bytes(std::span(halves))).count, 1);
  EXPECT_EQ(findNonFinite(FloatFormat::BF16, std::as_bytes(std::span(halves))).first, 3);
  EXPECT_EQ(findNonFinite(FloatFormat::F16, std::as_bytes(std::span(halves))).count, 3);
  EXPECT_TRUE(std::isnan(findNonFinite(FloatFormat::F16, std::as_bytes(std::span(halves))).value));
  EXPECT_EQ(findNonFinite(FloatFormat::F16, {}).count, 0);
}

// The published test values of 64-bit FNV-1a.
TEST(Fingerprint, IsFnv1a) {
  EXPECT_EQ(fingerprint(""), 0xcbf29ce484222325u);
  EXPECT_EQ(fingerprint("a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(fingerprint("foobar"), 0x85944171f73967e8u);
  EXPECT_EQ(fingerprint("bar", fingerprint("foo")), fingerprint("foobar"));
  EXPECT_EQ(fingerprintText(0xab), "00000000000000ab");
}

#include "runtime/core/Floats.h"

#include <bit>
#include <cassert>
#include <cstring>

namespace switchyard {

float floatFromBf16(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

float floatFromF16(uint16_t bits) {
  uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  uint32_t magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) // infinity and NaN keep their mantissa
    return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // The exponent's bias is 15 there and 127 here; as a float32 the subnormal numbers are scaled
  // down by the product.
  float value = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
}

uint16_t bf16FromFloat(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  bool isNan = (bits & 0x7fffffffu) > 0x7f800000u;
  uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  return static_cast<uint16_t>(isNan ? 0x7fc0u : rounded);
}

namespace {

template <typename T>
T load(const std::byte *from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

/// Element by element through memcpy, for there is no alignment; compilers make plain moves of it.
template <typename From, typename To, typename Convert>
void convertEach(std::span<const std::byte> source, std::span<std::byte> destination,
                 const Convert &convert) {
  size_t count = source.size() / sizeof(From);
  const std::byte *from = source.data();
  std::byte *to = destination.data();
  for (size_t i = 0; i < count; ++i) {
    To value = convert(load<From>(from + i * sizeof(From)));
    std::memcpy(to + i * sizeof(To), &value, sizeof(To));
  }
}

/// Those whose exponent, which `exponent` masks, is all ones. Counts first, which compilers make
/// vectors of.
template <typename Bits, typename Convert>
NonFiniteValues findEach(std::span<const std::byte> values, Bits exponent, const Convert &convert) {
  const std::byte *from = values.data();
  const size_t count = values.size() / sizeof(Bits);
  const auto isNonFinite = [&](size_t i) {
    return (load<Bits>(from + i * sizeof(Bits)) & exponent) == exponent;
  };
  NonFiniteValues found;
  for (size_t i = 0; i < count; ++i)
    found.count += isNonFinite(i);
  for (size_t i = 0; found.count > 0 && found.first < 0; ++i)
    if (isNonFinite(i)) {
      found.first = static_cast<int64_t>(i);
      found.value = convert(load<Bits>(from + i * sizeof(Bits)));
    }
  return found;
}

} // namespace

NonFiniteValues findNonFinite(FloatFormat format, std::span<const std::byte> values) {
  switch (format) {
  case FloatFormat::F32:
    return findEach<uint32_t>(values, 0x7f800000u,
                              [](uint32_t bits) { return std::bit_cast<float>(bits); });
  case FloatFormat::BF16:
    return findEach<uint16_t>(values, 0x7f80, floatFromBf16);
  case FloatFormat::F16:
    return findEach<uint16_t>(values, 0x7c00, floatFromF16);
  }
  return {};
}

void convertFloats(FloatFormat from, std::span<const std::byte> source, FloatFormat to,
                   std::span<std::byte> destination) {
  assert(source.size() / byteSize(from) == destination.size() / byteSize(to));
  assert(from == to || to != FloatFormat::F16);
  if (from == to) {
    if (!source.empty()) // memcpy takes no null pointer
      std::memcpy(destination.data(), source.data(), source.size());
  } else if (from == FloatFormat::F32) {
    convertEach<float, uint16_t>(source, destination, bf16FromFloat);
  } else if (from == FloatFormat::BF16) {
    convertEach<uint16_t, float>(source, destination, floatFromBf16);
  } else if (to == FloatFormat::F32) {
    convertEach<uint16_t, float>(source, destination, floatFromF16);
  } else {
    convertEach<uint16_t, uint16_t>(
        source, destination, [](uint16_t bits) { return bf16FromFloat(floatFromF16(bits)); });
  }
}

} // namespace switchyard

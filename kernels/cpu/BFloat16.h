// bfloat16 as storage: the upper half of a float32, converted with round to nearest even.
//
// Kernels load elements as float32, compute in float32 and round once when they store. The loops
// that do so vectorize: nothing here branches.
#pragma once

#include "kernels/signatures/Signature.h"

#include <bit>
#include <cstdint>

namespace switchyard::kernels::cpu {

struct BFloat16 {
  uint16_t bits = 0;
};

inline float toFloat(float value) {
  return value;
}
inline float toFloat(BFloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

/// The nearest T; ties go to the even one, too large values to infinity, NaN to a quiet NaN.
template <typename T>
T fromFloat(float value);
template <>
inline float fromFloat<float>(float value) {
  return value;
}
template <>
inline BFloat16 fromFloat<BFloat16>(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  bool isNan = (bits & 0x7fffffffu) > 0x7f800000u;
  return BFloat16{static_cast<uint16_t>(isNan ? 0x7fc0u : rounded)};
}

/// The value that storing as T and loading again gives.
template <typename T>
float roundTo(float value) {
  return toFloat(fromFloat<T>(value));
}

/// Calls body(T{}) with the C++ type of a floating dtype.
template <typename Body>
void withFloatType(DType dtype, const Body &body) {
  if (dtype == DType::BF16)
    body(BFloat16{});
  else
    body(float{});
}

} // namespace switchyard::kernels::cpu

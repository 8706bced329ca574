// Arrays of floating-point numbers in files and buffers: conversion between float32, bfloat16 and
// float16; infinite values and NaN among them.
//
// Rounding is to nearest, ties to even; too large values become infinity, a NaN a quiet NaN (as
// torch converts).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace switchyard {

enum class FloatFormat : uint8_t { F32, BF16, F16 };

constexpr size_t byteSize(FloatFormat format) {
  return format == FloatFormat::F32 ? 4 : 2;
}

/// One value. F16 is IEEE binary16.
float floatFromBf16(uint16_t bits);
float floatFromF16(uint16_t bits);
uint16_t bf16FromFloat(float value);

/// Converts an array. Neither side needs an alignment; they do not overlap, and have the same
/// number of elements. `to` is F32 or BF16: nothing is stored as F16 here.
void convertFloats(FloatFormat from, std::span<const std::byte> source, FloatFormat to,
                   std::span<std::byte> destination);

/// The values of an array that are infinite or NaN.
struct NonFiniteValues {
  int64_t count = 0;
  int64_t first = -1; // the index of the first one
  float value = 0;    // which is this
};
/// The array needs no alignment.
NonFiniteValues findNonFinite(FloatFormat format, std::span<const std::byte> values);

} // namespace switchyard

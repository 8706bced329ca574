// Elements on the device: loaded as float32, computed in float32, rounded once when stored; and
// packs of up to 16 bytes, the widest access of a thread.
#pragma once

#include "kernels/cuda/Kernels.h"

#include <cstdint>
#include <cuda_bf16.h>
#include <initializer_list>
#include <type_traits>

namespace switchyard::kernels::cuda {

using BFloat16 = __nv_bfloat16;

__device__ inline float toFloat(float value) {
  return value;
}
__device__ inline float toFloat(BFloat16 value) {
  return __bfloat162float(value);
}

/// The nearest T; ties go to the even one.
template <typename T>
__device__ T fromFloat(float value);
template <>
__device__ inline float fromFloat<float>(float value) {
  return value;
}
template <>
__device__ inline BFloat16 fromFloat<BFloat16>(float value) {
  return __float2bfloat16_rn(value);
}

/// The value that storing as T and loading again gives.
template <typename T>
__device__ float roundTo(float value) {
  return toFloat(fromFloat<T>(value));
}

/// N elements that one thread moves at once.
template <typename T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack {
  T values[N];
};

/// The elements of a 16-byte pack.
template <typename T>
inline constexpr int kPack = 16 / sizeof(T);

template <int N, typename T>
__device__ void loadPack(const T *from, float (&to)[N]) {
  Pack<T, N> pack = *reinterpret_cast<const Pack<T, N> *>(from);
#pragma unroll
  for (int i = 0; i < N; ++i)
    to[i] = toFloat(pack.values[i]);
}

template <int N, typename T>
__device__ void storePack(T *to, const float (&from)[N]) {
  Pack<T, N> pack;
#pragma unroll
  for (int i = 0; i < N; ++i)
    pack.values[i] = fromFloat<T>(from[i]);
  *reinterpret_cast<Pack<T, N> *>(to) = pack;
}

/// Calls body(T{}) with the C++ type of a floating dtype, and returns what it returns.
template <typename Body>
auto withFloatType(DType dtype, const Body &body) {
  return dtype == DType::BF16 ? body(BFloat16{}) : body(float{});
}

/// Calls body(std::integral_constant<int, N>) with N = `wide` or 1.
template <int Wide, typename Body>
auto withPack(bool wide, const Body &body) {
  return wide ? body(std::integral_constant<int, Wide>{}) : body(std::integral_constant<int, 1>{});
}

/// Whether packs of 16 bytes may be used on these pointers.
inline bool isAligned(std::initializer_list<const void *> pointers) {
  for (const void *pointer : pointers)
    if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0)
      return false;
  return true;
}

constexpr int64_t ceilDivide(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/// Threads of a block that handles `items`: a multiple of a warp, at most `most`.
constexpr unsigned threadsFor(int64_t items, int64_t most = 256) {
  int64_t threads = ceilDivide(items < 1 ? 1 : items, 32) * 32;
  return static_cast<unsigned>(threads < most ? threads : most);
}

/// [begin, end) of block `block` of `blocks` over [0, count).
struct Range {
  int64_t begin;
  int64_t end;
};
__host__ __device__ inline Range blockOf(int64_t count, int64_t blocks, int64_t block) {
  return {count * block / blocks, count * (block + 1) / blocks};
}

} // namespace switchyard::kernels::cuda

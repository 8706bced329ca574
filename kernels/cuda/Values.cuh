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
/// A bfloat16 above 16 zero bits is its own float32: one conversion of a pair makes it.
template <>
__device__ inline float roundTo<BFloat16>(float value) {
  uint32_t bits = 0;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(value), "f"(0.0f));
  return __uint_as_float(bits);
}

/// The elements of a 16-byte pack.
template <typename T>
inline constexpr int kPack = 16 / sizeof(T);

/// N elements that one thread moves at once, as words: narrow elements are widened where they are
/// used, and accesses of up to 16 bytes stay whole.
template <typename T, int N>
struct Pack {
  static constexpr int kBytes = sizeof(T) * N;
  using Word = std::conditional_t<kBytes >= 4, uint32_t, uint16_t>;
  static constexpr int kWords = kBytes / sizeof(Word);
  Word words[kWords] = {};

  static __device__ Pack load(const T *from) {
    Pack pack;
    if constexpr (kBytes % 16 == 0) {
#pragma unroll
      for (int i = 0; i < kBytes / 16; ++i) {
        uint4 four = reinterpret_cast<const uint4 *>(from)[i];
        pack.words[4 * i] = four.x;
        pack.words[4 * i + 1] = four.y;
        pack.words[4 * i + 2] = four.z;
        pack.words[4 * i + 3] = four.w;
      }
    } else if constexpr (kBytes == 8) {
      uint2 two = *reinterpret_cast<const uint2 *>(from);
      pack.words[0] = two.x;
      pack.words[1] = two.y;
    } else {
      static_assert(kWords == 1);
      pack.words[0] = *reinterpret_cast<const Word *>(from);
    }
    return pack;
  }
  __device__ void store(T *to) const {
    if constexpr (kBytes % 16 == 0) {
#pragma unroll
      for (int i = 0; i < kBytes / 16; ++i)
        reinterpret_cast<uint4 *>(to)[i] =
            make_uint4(words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]);
    } else if constexpr (kBytes == 8) {
      *reinterpret_cast<uint2 *>(to) = make_uint2(words[0], words[1]);
    } else {
      *reinterpret_cast<Word *>(to) = words[0];
    }
  }
  __device__ float value(int j) const {
    if constexpr (sizeof(T) == 4)
      return __uint_as_float(words[j]);
    uint32_t word = words[j / 2];
    return __uint_as_float(j % 2 == 0 ? word << 16 : word & 0xffff0000u);
  }
  /// Makes the compiler forget what it widened: it would keep that in twice the registers.
  __device__ void forgetValues() {
#pragma unroll
    for (Word &word : words)
      if constexpr (sizeof(Word) == 4)
        asm volatile("" : "+r"(word));
  }
};

template <int N, typename T>
__device__ void loadPack(const T *from, float (&to)[N]) {
  Pack<T, N> pack = Pack<T, N>::load(from);
#pragma unroll
  for (int i = 0; i < N; ++i)
    to[i] = pack.value(i);
}

template <int N, typename T>
__device__ void storePack(T *to, const float (&from)[N]) {
  Pack<T, N> pack;
#pragma unroll
  for (int i = 0; i < pack.kWords; ++i)
    if constexpr (sizeof(T) == 4)
      pack.words[i] = __float_as_uint(from[i]);
    else if constexpr (N == 1)
      pack.words[i] = __bfloat16_as_ushort(fromFloat<T>(from[i]));
    else // two are one conversion
      asm("cvt.rn.bf16x2.f32 %0, %1, %2;"
          : "=r"(pack.words[i])
          : "f"(from[2 * i + 1]), "f"(from[2 * i]));
  pack.store(to);
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

// The sums of attention's tensor core products, as threads hold them: four warps have 64 rows,
// 16 each, and element 4 i + 2 h + j of a thread's N / 2 sums of N columns is row rowOfThread() +
// 8 h, column 8 i + columnOfThread() + j. So wgmma gives them, and mma.m16n8k16 for each i.
#pragma once

#include "kernels/cuda/Reduce.cuh"

namespace switchyard::kernels::cuda {

inline constexpr float kLog2E = 1.44269504088896340736f;

/// A product's sums as the registers of the next one's first operand.
template <int Sums>
__device__ void packWeights(const float (&from)[Sums], uint32_t (&to)[Sums / 2]) {
#pragma unroll
  for (int i = 0; i < Sums / 2; ++i) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(from[2 * i], from[2 * i + 1]);
    to[i] = *reinterpret_cast<uint32_t *>(&pair);
  }
}

__device__ inline float exp2Fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// The row of its four warps' 64 whose sums a thread has; the other one is 8 below.
__device__ inline int rowOfThread() {
  return static_cast<int>(threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4);
}
/// The first of the thread's two columns in each group of 8.
__device__ inline int columnOfThread() {
  return static_cast<int>(threadIdx.x % 4 * 2);
}

/// What rows see: [begin, end).
struct Seen {
  int begin, end;
};

/// The running softmax of a thread's two rows and its part of their sums over the values.
template <int Depth>
struct Softmax {
  float largest[2] = {-INFINITY, -INFINITY};
  float total[2] = {}; // of the thread's columns alone
  float sums[Depth / 2] = {};

  /// Scores to weights exp(score - largest), 0 where a query does not see; returns in `shrink` what
  /// older sums are to be multiplied by.
  template <int Sums>
  __device__ void weigh(float (&scores)[Sums], int key, bool full, float factor,
                        const Seen (&seen)[2], float (&shrink)[2]) {
    if (!full) {
#pragma unroll
      for (int i = 0; i < Sums; ++i) {
        int column = key + i / 4 * 8 + columnOfThread() + i % 2;
        if (column < seen[i / 2 % 2].begin || column >= seen[i / 2 % 2].end)
          scores[i] = -INFINITY;
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float next = largest[half];
#pragma unroll
      for (int i = 0; i < Sums / 2; ++i)
        next = fmaxf(next, scores[i / 2 * 4 + 2 * half + i % 2]);
      next = warpMax<4>(next);
      float shift = next == -INFINITY ? 0.0f : next * factor; // no score yet: all weights are 0
      shrink[half] = exp2Fast(largest[half] * factor - shift);
      largest[half] = next;
      float sum = 0;
#pragma unroll
      for (int i = 0; i < Sums / 2; ++i) {
        float &score = scores[i / 2 * 4 + 2 * half + i % 2];
        score = exp2Fast(score * factor - shift);
        sum += score;
      }
      total[half] = total[half] * shrink[half] + sum;
    }
  }

  __device__ void rescale(const float (&shrink)[2]) {
#pragma unroll
    for (int i = 0; i < Depth / 2; ++i)
      sums[i] *= shrink[i / 2 % 2];
  }
};

/// Stores 64 rows of sums, times each row's factor, as rows of x [rows, stride], up to `columns`,
/// 16 bytes a thread: the four threads of a row exchange their columns.
template <int Sums>
__device__ void storeRows(const float (&sums)[Sums], const float (&factors)[2], BFloat16 *x,
                          int64_t stride, int rows, int columns = 2 * Sums) {
  int lane = static_cast<int>(threadIdx.x % 4);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int row = rowOfThread() + 8 * half;
    float factor = factors[half];
#pragma unroll
    for (int block = 0; block < Sums / 16; ++block) { // 32 columns: 8 for each thread
      uint32_t pairs[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        int at = 4 * (4 * block + i) + 2 * half;
        __nv_bfloat162 pair = __floats2bfloat162_rn(factor * sums[at], factor * sums[at + 1]);
        pairs[i] = *reinterpret_cast<uint32_t *>(&pair);
      }
      uint4 own;
      uint32_t got[4];
      // In round r a thread sends what the thread `lane ^ r` stores and gets its own from there.
#pragma unroll
      for (int round = 0; round < 4; ++round) {
        int other = lane ^ round;
        uint32_t mine = other == 0   ? pairs[0]
                        : other == 1 ? pairs[1]
                        : other == 2 ? pairs[2]
                                     : pairs[3];
        uint32_t theirs = __shfl_xor_sync(0xffffffffu, mine, round);
#pragma unroll
        for (int i = 0; i < 4; ++i)
          if (i == other)
            got[i] = theirs;
      }
      own = {got[0], got[1], got[2], got[3]};
      if (row < rows && 32 * block + 8 * lane < columns)
        *reinterpret_cast<uint4 *>(x + row * stride + 32 * block + 8 * lane) = own;
    }
  }
}

} // namespace switchyard::kernels::cuda

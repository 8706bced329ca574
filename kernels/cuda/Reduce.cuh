// Sums and maxima over a warp or a block, in a fixed order.
#pragma once

#include "kernels/cuda/Values.cuh"
#include "kernels/signatures/Workspace.h"

namespace switchyard::kernels::cuda {

inline constexpr unsigned kFullWarp = 0xffffffffu;

/// The sum over the lanes of each group of `Width` lanes, in all of them.
template <int Width = 32, typename V>
__device__ V warpSum(V value) {
#pragma unroll
  for (int offset = Width / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(kFullWarp, value, offset);
  return value;
}

template <int Width = 32>
__device__ inline float warpMax(float value) {
#pragma unroll
  for (int offset = Width / 2; offset > 0; offset /= 2)
    value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, offset));
  return value;
}

/// Gives every thread of a block the combination of the warps' values, in their order. The block is
/// whole warps; all threads call it.
template <typename V, typename Combine>
__device__ V combineWarps(V value, const Combine &combine) {
  __shared__ V values[32];
  unsigned warps = blockDim.x / 32;
  __syncthreads(); // an earlier call's values were read
  if (threadIdx.x % 32 == 0)
    values[threadIdx.x / 32] = value;
  __syncthreads();
  V total = values[0];
  for (unsigned warp = 1; warp < warps; ++warp)
    total = combine(total, values[warp]);
  return total;
}

template <typename V>
__device__ V blockSum(V value) {
  return combineWarps(warpSum(value), [](V a, V b) { return a + b; });
}

__device__ inline float blockMax(float value) {
  return combineWarps(warpMax(value), [](float a, float b) { return fmaxf(a, b); });
}

namespace reduce {
inline constexpr int kColumns = 32;
inline constexpr int kGroups = 32;

/// A thread sums a column over a group of blocks; the groups are then added in order.
static __global__ void sumPartialsKernel(const float *partials, int64_t blocks, int64_t stride,
                                         int64_t count, float *sums) {
  __shared__ float groups[kGroups][kColumns];
  int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x;
  float sum = 0;
  if (column < count) {
    Range range = blockOf(blocks, kGroups, threadIdx.y);
#pragma unroll 8
    for (int64_t block = range.begin; block < range.end; ++block)
      sum += partials[block * stride + column];
  }
  groups[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= count)
    return;
  for (int group = 1; group < kGroups; ++group)
    sum += groups[group][threadIdx.x];
  sums[column] = sum;
}
} // namespace reduce

/// sums[i] = the sum of partials[b, i] over `blocks` rows b of `stride` elements.
inline void sumPartials(const Launch &launch, const float *partials, int64_t blocks, int64_t stride,
                        int64_t count, float *sums) {
  if (count > 0)
    reduce::
        sumPartialsKernel<<<static_cast<unsigned>(ceilDivide(count, reduce::kColumns)),
                            dim3(reduce::kColumns, reduce::kGroups), 0, contextOf(launch).stream>>>(
            partials, blocks, stride, count, sums);
}

inline float *floatWorkspace(const Launch &launch) {
  return reinterpret_cast<float *>(launch.workspace.data());
}

} // namespace switchyard::kernels::cuda

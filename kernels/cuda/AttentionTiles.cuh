// The inner loops of attention and its gradients, on tiles of float32 in shared memory.
//
// A block of 16 x 16 threads keeps R * 16 rows of one head (queries forward and for dq, keys for dk
// and dv) and goes over the rows that they see, kOther at a time. Thread (y, x) owns rows y + 16 i
// and, of sums over the head, columns 4 (x + 16 j). Rows of a tile are padded by 4 floats, so that
// the 16-byte accesses of neighbouring rows fall into different banks.
#pragma once

#include "kernels/cuda/Reduce.cuh"
#include "kernels/signatures/AttentionLaunch.h"

#include <type_traits>

namespace switchyard::kernels::cuda {

/// Tiles stand in shared memory and registers, which bounds head_dim.
inline constexpr int64_t kMaxHeadDim = 256;
inline constexpr int kAttentionThreads = 256;
inline constexpr int kOther = 32;
/// Floats of a row of scores: kOther or, transposed, as many.
inline constexpr int kScoreStride = kOther + 1;

/// The tile sizes of a head of up to Depth elements.
template <int Depth>
struct Tiles {
  static constexpr int kRows = Depth > 128 ? 2 : 4; // of a thread
  static constexpr int kOwn = kRows * 16;           // of a block
  static constexpr int kPacks = Depth / 64;         // of 4 columns, of a thread
  static constexpr int kStride = Depth + 4;
};

/// The rows [begin, end) of its segment that a row lies in; empty, at the row, if in none.
/// Boundaries are kept inside [0, tokens], whatever cu_seqlens holds.
__device__ inline Range segmentOf(const AttentionShape &shape, int64_t row) {
  int64_t low = 1, high = shape.boundaries; // the first boundary after the row is in [low, high]
  while (low < high) {
    int64_t middle = (low + high) / 2;
    if (shape.ends[middle] > row)
      high = middle;
    else
      low = middle + 1;
  }
  if (low >= shape.boundaries || shape.ends[low - 1] > row)
    return {row, row};
  return {max(int64_t{shape.ends[low - 1]}, int64_t{0}),
          min(int64_t{shape.ends[low]}, shape.tokens)};
}

/// The keys [begin, end) that a query sees.
__device__ inline Range keysOf(const AttentionShape &shape, int64_t query) {
  if (query >= shape.tokens)
    return {query, query};
  Range segment = segmentOf(shape, query);
  if (segment.end <= segment.begin)
    return {query, query};
  return {max(segment.begin, query - shape.window + 1), query + 1};
}

/// The queries [begin, end) that see a key.
__device__ inline Range queriesOf(const AttentionShape &shape, int64_t key) {
  if (key >= shape.tokens)
    return {key, key};
  Range segment = segmentOf(shape, key);
  int64_t end = shape.window < segment.end - key ? key + shape.window : segment.end;
  return {key, max(end, key)};
}

/// What each of the block's rows sees, and the smallest range that covers them all. `visible`
/// [Own] is shared memory. All threads call it.
template <int Own, typename See>
__device__ Range coverRows(int64_t first, Range *visible, const See &see) {
  __shared__ Range cover;
  for (int i = threadIdx.x; i < Own; i += kAttentionThreads)
    visible[i] = see(first + i);
  __syncthreads();
  if (threadIdx.x == 0) {
    cover = {INT64_MAX, 0};
    for (int i = 0; i < Own; ++i)
      if (visible[i].begin < visible[i].end)
        cover = {min(cover.begin, visible[i].begin), max(cover.end, visible[i].end)};
  }
  __syncthreads();
  return cover;
}

/// tile[r, c] = factor * x[r, c] for `rows` rows of `depth` elements; 0 in the remaining ones of
/// Rows x Depth.
template <int Rows, int Depth, typename T>
__device__ void loadTile(const T *x, int64_t stride, int64_t rows, int64_t depth, float factor,
                         float *tile) {
  for (int i = threadIdx.x; i < Rows * Depth; i += kAttentionThreads) {
    int r = i / Depth, c = i % Depth;
    tile[r * (Depth + 4) + c] = r < rows && c < depth ? factor * toFloat(x[r * stride + c]) : 0.0f;
  }
}

/// scores[i][j] = sum_c own[y + 16 i, c] other[x + 16 j, c].
template <int Depth>
__device__ void tileScores(const float *own, const float *other,
                           float (&scores)[Tiles<Depth>::kRows][2]) {
  constexpr int kRows = Tiles<Depth>::kRows, kStride = Tiles<Depth>::kStride;
  int y = threadIdx.x / 16, x = threadIdx.x % 16;
#pragma unroll
  for (int i = 0; i < kRows; ++i)
    scores[i][0] = scores[i][1] = 0;
#pragma unroll 4
  for (int c = 0; c < Depth; c += 4) {
    float4 right[2];
#pragma unroll
    for (int j = 0; j < 2; ++j)
      right[j] = *reinterpret_cast<const float4 *>(other + (x + 16 * j) * kStride + c);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      float4 left = *reinterpret_cast<const float4 *>(own + (y + 16 * i) * kStride + c);
#pragma unroll
      for (int j = 0; j < 2; ++j)
        scores[i][j] +=
            left.x * right[j].x + left.y * right[j].y + left.z * right[j].z + left.w * right[j].w;
    }
  }
}

/// Sums over the head that a thread keeps: rows y + 16 i, columns 4 (x + 16 j).
template <int Depth>
struct Sums {
  static constexpr int kRows = Tiles<Depth>::kRows, kPacks = Tiles<Depth>::kPacks;
  float values[kRows][kPacks][4] = {};

  /// += sum_r weights[y + 16 i, r] other[r, column], weights [Own, kScoreStride].
  __device__ void add(const float *weights, const float *other) {
    int y = threadIdx.x / 16, x = threadIdx.x % 16;
#pragma unroll 4
    for (int r = 0; r < kOther; ++r) {
      float factors[kRows];
#pragma unroll
      for (int i = 0; i < kRows; ++i)
        factors[i] = weights[(y + 16 * i) * kScoreStride + r];
#pragma unroll
      for (int j = 0; j < kPacks; ++j) {
        float4 pack =
            *reinterpret_cast<const float4 *>(other + r * Tiles<Depth>::kStride + 4 * (x + 16 * j));
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          values[i][j][0] += factors[i] * pack.x;
          values[i][j][1] += factors[i] * pack.y;
          values[i][j][2] += factors[i] * pack.z;
          values[i][j][3] += factors[i] * pack.w;
        }
      }
    }
  }

  /// x[y + 16 i, column] = factors[i] * the sums, for `rows` rows of `depth` columns.
  template <typename T>
  __device__ void store(T *x, int64_t stride, int64_t rows, int64_t depth,
                        const float (&factors)[kRows]) const {
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kPacks; ++j)
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          int64_t row = threadIdx.x / 16 + 16 * i;
          int64_t column = 4 * (threadIdx.x % 16 + 16 * j) + c;
          if (row < rows && column < depth)
            x[row * stride + column] = fromFloat<T>(factors[i] * values[i][j][c]);
        }
  }
};

/// Calls body(std::integral_constant<int, Depth>) with the smallest tile that a head fits in.
template <typename Body>
Fault withDepth(int64_t headDim, const Body &body) {
  if (headDim <= 64)
    return body(std::integral_constant<int, 64>{});
  if (headDim <= 128)
    return body(std::integral_constant<int, 128>{});
  return body(std::integral_constant<int, kMaxHeadDim>{});
}

} // namespace switchyard::kernels::cuda

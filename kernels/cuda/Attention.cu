// attention: blockwise online softmax (FlashAttention-2) in float32. A block computes
// Tiles<Depth>::kOwn query rows of one head; rows of several segments may share a block, each sees
// its own keys.
//
// bfloat16 has kernels of its own: AttentionHopper.cu, then AttentionMma.cu. What is left to this
// one is float32, and bfloat16 with a head_dim that these don't take.
//
// Seen on an H200 (segments of 4,096, head_dim 128, median of 20): 20 to 22 TFLOP/s of what the
// causal mask leaves.
#include "kernels/cuda/AttentionHopper.h"
#include "kernels/cuda/AttentionMma.h"
#include "kernels/cuda/AttentionTiles.cuh"
#include "kernels/cuda/KernelList.h"

namespace switchyard::kernels::cuda {
namespace {

/// Floats of shared memory: queries, keys, values, weights.
template <int Depth>
constexpr int kShared =
    (Tiles<Depth>::kOwn + 2 * kOther) * Tiles<Depth>::kStride + Tiles<Depth>::kOwn * kScoreStride;

/// The online softmax of a thread's rows: each row belongs to 16 lanes.
template <int Rows>
struct RunningSoftmax {
  float largest[Rows], sums[Rows];

  __device__ RunningSoftmax() {
    for (int i = 0; i < Rows; ++i) {
      largest[i] = -INFINITY;
      sums[i] = 0;
    }
  }
  /// Replaces the scores of row i by exp(score - maximum); returns what older sums shrink by.
  __device__ float step(int i, float (&scores)[2]) {
    float next = fmaxf(largest[i], warpMax<16>(fmaxf(scores[0], scores[1])));
    float shrink = next == -INFINITY ? 1.0f : expf(largest[i] - next);
#pragma unroll
    for (int j = 0; j < 2; ++j)
      scores[j] = scores[j] == -INFINITY ? 0.0f : expf(scores[j] - next);
    sums[i] = sums[i] * shrink + warpSum<16>(scores[0] + scores[1]);
    largest[i] = next;
    return shrink;
  }
};

template <typename T, int Depth>
__global__ __launch_bounds__(kAttentionThreads) void attentionKernel(AttentionShape shape,
                                                                     const T *qkv, T *y,
                                                                     float *lse) {
  constexpr int kRows = Tiles<Depth>::kRows, kOwn = Tiles<Depth>::kOwn;
  extern __shared__ __align__(16) float memory[];
  __shared__ Range visible[kOwn];
  float *queries = memory, *keys = queries + kOwn * Tiles<Depth>::kStride;
  float *values = keys + kOther * Tiles<Depth>::kStride;
  float *weights = values + kOther * Tiles<Depth>::kStride;
  int64_t depth = shape.headDim, width = shape.packedWidth();
  int64_t head = blockIdx.y, kvHead = head / shape.group();
  int64_t first = static_cast<int64_t>(blockIdx.x) * kOwn;
  int64_t rows = min(int64_t{kOwn}, shape.tokens - first);
  int ty = threadIdx.x / 16, tx = threadIdx.x % 16;

  loadTile<kOwn, Depth>(qkv + first * width + head * depth, width, rows, depth, shape.scale,
                        queries);
  Range cover = coverRows<kOwn>(first, visible, [&](int64_t row) { return keysOf(shape, row); });
  RunningSoftmax<kRows> softmax;
  Sums<Depth> sums;
  for (int64_t key = cover.begin; key < cover.end; key += kOther) {
    int64_t count = min(int64_t{kOther}, cover.end - key);
    const T *packed = qkv + key * width;
    __syncthreads(); // the tiles before these were read
    loadTile<kOther, Depth>(packed + shape.keyColumn(kvHead), width, count, depth, 1.0f, keys);
    loadTile<kOther, Depth>(packed + shape.valueColumn(kvHead), width, count, depth, 1.0f, values);
    __syncthreads();
    float scores[kRows][2];
    tileScores<Depth>(queries, keys, scores);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      Range seen = visible[ty + 16 * i];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        int64_t at = key + tx + 16 * j;
        if (at < seen.begin || at >= seen.end)
          scores[i][j] = -INFINITY;
      }
      float shrink = softmax.step(i, scores[i]);
#pragma unroll
      for (auto &pack : sums.values[i])
#pragma unroll
        for (float &sum : pack)
          sum *= shrink;
#pragma unroll
      for (int j = 0; j < 2; ++j)
        weights[(ty + 16 * i) * kScoreStride + tx + 16 * j] = scores[i][j];
    }
    __syncthreads();
    sums.add(weights, values);
  }
  float factors[kRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    bool any = softmax.sums[i] > 0;
    factors[i] = any ? 1.0f / softmax.sums[i] : 0.0f;
    if (tx == 0 && ty + 16 * i < rows)
      lse[(first + ty + 16 * i) * shape.heads + head] =
          any ? softmax.largest[i] + logf(softmax.sums[i]) : 0.0f;
  }
  sums.store(y + (first * shape.heads + head) * depth, shape.heads * depth, rows, depth, factors);
}

} // namespace

Fault prepareAttention(const Launch &launch) {
  if (auto fault = checkAttention(launch, kMaxHeadDim, "CUDA"))
    return fault;
  const Tensor &qkv = launch.operands[0];
  AttentionShape shape = attentionShape(launch, qkv, launch.operands[1]);
  if (takenByHopper(shape, qkv.dtype))
    return prepareAttentionHopper(shape);
  if (takenByMma(shape, qkv.dtype))
    return prepareAttentionMma(shape);
  return withDepth(launch.attributes[2].integer, [&](auto depth) {
    constexpr int kDepth = decltype(depth)::value;
    Fault fault;
    for (const void *kernel : {reinterpret_cast<const void *>(attentionKernel<float, kDepth>),
                               reinterpret_cast<const void *>(attentionKernel<BFloat16, kDepth>)})
      if (!fault)
        fault = faultOf(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                             kShared<kDepth> * 4),
                        "cudaFuncSetAttribute");
    return fault;
  });
}

Fault runAttention(const Launch &launch) {
  const Tensor &qkv = launch.operands[0];
  AttentionShape shape = attentionShape(launch, qkv, launch.operands[1]);
  if (shape.tokens == 0)
    return std::nullopt;
  if (takenByHopper(shape, qkv.dtype))
    return runAttentionHopper(launch, shape);
  if (takenByMma(shape, qkv.dtype))
    return runAttentionMma(launch, shape);
  return withDepth(shape.headDim, [&](auto depth) {
    constexpr int kDepth = decltype(depth)::value;
    dim3 grid(static_cast<unsigned>(ceilDivide(shape.tokens, Tiles<kDepth>::kOwn)),
              static_cast<unsigned>(shape.heads));
    withFloatType(qkv.dtype, [&]<typename T>(T) {
      attentionKernel<T, kDepth>
          <<<grid, kAttentionThreads, kShared<kDepth> * 4, contextOf(launch).stream>>>(
              shape, qkv.as<T>(), launch.operands[2].as<T>(), launch.operands[3].as<float>());
    });
    return launchFault("attention");
  });
}

} // namespace switchyard::kernels::cuda

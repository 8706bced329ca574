// attention_grad, from the rows' logsumexp (FlashAttention-2): p = exp(score - lse), dv = p^T dy,
// ds = p (dy v^T - rowsum(dy y)), dq = scale ds k, dk = scale ds^T q. One kernel computes dq, a
// block per query tile and head; one computes dk and dv, a block per key tile and key head. Both
// form the scores anew; no two blocks write to the same place, so that no sum depends on their
// order.
//
// bfloat16 has kernels of its own, as for attention: AttentionGradHopper.cu, AttentionMma.cu.
//
// Seen on an H200 (segments of 4,096, head_dim 128, median of 20): 11.6 to 13 TFLOP/s of what the
// causal mask leaves.
#include "kernels/cuda/AttentionHopper.h"
#include "kernels/cuda/AttentionMma.h"
#include "kernels/cuda/AttentionTiles.cuh"
#include "kernels/cuda/KernelList.h"

namespace switchyard::kernels::cuda {
namespace {

template <typename T>
struct Gradient {
  AttentionShape shape;
  const T *dy = nullptr;      // [T, heads * head_dim]
  const T *qkv = nullptr;     // [T, packed]
  const T *y = nullptr;       // as dy
  const float *lse = nullptr; // [T, heads]
  float *delta = nullptr;     // [T, heads]
  T *dqkv = nullptr;          // [T, packed]
};

/// Floats of shared memory: two tiles of own rows, two of the others, two of scores.
template <int Depth>
constexpr int kShared = 2 * (Tiles<Depth>::kOwn + kOther) * Tiles<Depth>::kStride +
                        2 * Tiles<Depth>::kOwn * kScoreStride;

/// The shared memory of a block.
template <int Depth>
struct Scratch {
  float *firstOwn, *secondOwn, *firstOther, *secondOther, *weights, *gradients;
  __device__ explicit Scratch(float *memory) {
    constexpr int kOwnTile = Tiles<Depth>::kOwn * Tiles<Depth>::kStride;
    constexpr int kOtherTile = kOther * Tiles<Depth>::kStride;
    firstOwn = memory;
    secondOwn = firstOwn + kOwnTile;
    firstOther = secondOwn + kOwnTile;
    secondOther = firstOther + kOtherTile;
    weights = secondOther + kOtherTile;
    gradients = weights + Tiles<Depth>::kOwn * kScoreStride;
  }
};

/// delta[t, h] = sum_c dy[t, h, c] y[t, h, c], a warp each.
template <typename T>
__global__ void deltaKernel(Gradient<T> gradient) {
  int64_t index = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  int64_t depth = gradient.shape.headDim;
  if (index >= gradient.shape.tokens * gradient.shape.heads)
    return;
  float sum = 0;
  for (int64_t c = threadIdx.x % 32; c < depth; c += 32)
    sum += toFloat(gradient.dy[index * depth + c]) * toFloat(gradient.y[index * depth + c]);
  sum = warpSum(sum);
  if (threadIdx.x % 32 == 0)
    gradient.delta[index] = sum;
}

template <typename T, int Depth>
__global__ __launch_bounds__(kAttentionThreads) void queryGradKernel(Gradient<T> gradient) {
  constexpr int kRows = Tiles<Depth>::kRows, kOwn = Tiles<Depth>::kOwn;
  extern __shared__ __align__(16) float memory[];
  __shared__ Range visible[kOwn];
  Scratch<Depth> scratch(memory);
  const AttentionShape &shape = gradient.shape;
  int64_t depth = shape.headDim, width = shape.packedWidth(), outputs = shape.outputWidth();
  int64_t head = blockIdx.y, kvHead = head / shape.group();
  int64_t first = static_cast<int64_t>(blockIdx.x) * kOwn;
  int64_t rows = min(int64_t{kOwn}, shape.tokens - first);
  int ty = threadIdx.x / 16, tx = threadIdx.x % 16;

  loadTile<kOwn, Depth>(gradient.qkv + first * width + head * depth, width, rows, depth,
                        shape.scale, scratch.firstOwn);
  loadTile<kOwn, Depth>(gradient.dy + first * outputs + head * depth, outputs, rows, depth, 1.0f,
                        scratch.secondOwn);
  Range cover = coverRows<kOwn>(first, visible, [&](int64_t row) { return keysOf(shape, row); });
  float lse[kRows], delta[kRows], factors[kRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    bool exists = ty + 16 * i < rows;
    int64_t at = (first + ty + 16 * i) * shape.heads + head;
    lse[i] = exists ? gradient.lse[at] : 0.0f;
    delta[i] = exists ? gradient.delta[at] : 0.0f;
    factors[i] = shape.scale;
  }
  Sums<Depth> dq;
  for (int64_t key = cover.begin; key < cover.end; key += kOther) {
    int64_t count = min(int64_t{kOther}, cover.end - key);
    const T *packed = gradient.qkv + key * width;
    __syncthreads(); // the tiles before these were read
    loadTile<kOther, Depth>(packed + shape.keyColumn(kvHead), width, count, depth, 1.0f,
                            scratch.firstOther);
    loadTile<kOther, Depth>(packed + shape.valueColumn(kvHead), width, count, depth, 1.0f,
                            scratch.secondOther);
    __syncthreads();
    float scores[kRows][2], products[kRows][2];
    tileScores<Depth>(scratch.firstOwn, scratch.firstOther, scores);
    tileScores<Depth>(scratch.secondOwn, scratch.secondOther, products);
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        int64_t at = key + tx + 16 * j;
        Range seen = visible[ty + 16 * i];
        bool sees = at >= seen.begin && at < seen.end;
        scratch.gradients[(ty + 16 * i) * kScoreStride + tx + 16 * j] =
            sees ? expf(scores[i][j] - lse[i]) * (products[i][j] - delta[i]) : 0.0f;
      }
    __syncthreads();
    dq.add(scratch.gradients, scratch.firstOther);
  }
  dq.store(gradient.dqkv + first * width + head * depth, width, rows, depth, factors);
}

/// What the queries [begin, end) of one head add to the block's keys.
template <typename T, int Depth>
__device__ void addQueries(const Gradient<T> &gradient, const Scratch<Depth> &scratch,
                           const Range *visible, Range queries, int64_t head, Sums<Depth> &dk,
                           Sums<Depth> &dv) {
  constexpr int kRows = Tiles<Depth>::kRows;
  const AttentionShape &shape = gradient.shape;
  int64_t depth = shape.headDim, width = shape.packedWidth(), outputs = shape.outputWidth();
  int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
  for (int64_t query = queries.begin; query < queries.end; query += kOther) {
    int64_t count = min(int64_t{kOther}, queries.end - query);
    __syncthreads(); // the tiles before these were read
    loadTile<kOther, Depth>(gradient.qkv + query * width + head * depth, width, count, depth,
                            shape.scale, scratch.firstOther);
    loadTile<kOther, Depth>(gradient.dy + query * outputs + head * depth, outputs, count, depth,
                            1.0f, scratch.secondOther);
    __syncthreads();
    float scores[kRows][2], products[kRows][2];
    tileScores<Depth>(scratch.firstOwn, scratch.firstOther, scores);
    tileScores<Depth>(scratch.secondOwn, scratch.secondOther, products);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      int64_t at = query + tx + 16 * j;
      bool exists = at < queries.end;
      float lse = exists ? gradient.lse[at * shape.heads + head] : 0.0f;
      float delta = exists ? gradient.delta[at * shape.heads + head] : 0.0f;
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        Range seen = visible[ty + 16 * i];
        float p = at >= seen.begin && at < seen.end ? expf(scores[i][j] - lse) : 0.0f;
        int to = (ty + 16 * i) * kScoreStride + tx + 16 * j;
        scratch.weights[to] = p;
        scratch.gradients[to] = p * (products[i][j] - delta);
      }
    }
    __syncthreads();
    dk.add(scratch.gradients, scratch.firstOther); // the queries there have the scale in them
    dv.add(scratch.weights, scratch.secondOther);
  }
}

template <typename T, int Depth>
__global__ __launch_bounds__(kAttentionThreads) void keyGradKernel(Gradient<T> gradient) {
  constexpr int kRows = Tiles<Depth>::kRows, kOwn = Tiles<Depth>::kOwn;
  extern __shared__ __align__(16) float memory[];
  __shared__ Range visible[kOwn];
  Scratch<Depth> scratch(memory);
  const AttentionShape &shape = gradient.shape;
  int64_t depth = shape.headDim, width = shape.packedWidth();
  int64_t kvHead = blockIdx.y, group = shape.group();
  int64_t first = static_cast<int64_t>(blockIdx.x) * kOwn;
  int64_t rows = min(int64_t{kOwn}, shape.tokens - first);
  const T *packed = gradient.qkv + first * width;
  loadTile<kOwn, Depth>(packed + shape.keyColumn(kvHead), width, rows, depth, 1.0f,
                        scratch.firstOwn);
  loadTile<kOwn, Depth>(packed + shape.valueColumn(kvHead), width, rows, depth, 1.0f,
                        scratch.secondOwn);
  Range cover = coverRows<kOwn>(first, visible, [&](int64_t row) { return queriesOf(shape, row); });
  Sums<Depth> dk, dv;
  for (int64_t head = kvHead * group; head < (kvHead + 1) * group; ++head)
    addQueries<T, Depth>(gradient, scratch, visible, cover, head, dk, dv);
  float ones[kRows];
#pragma unroll
  for (float &one : ones)
    one = 1.0f;
  T *out = gradient.dqkv + first * width;
  dk.store(out + shape.keyColumn(kvHead), width, rows, depth, ones);
  dv.store(out + shape.valueColumn(kvHead), width, rows, depth, ones);
}

template <typename T>
void runDelta(const Gradient<T> &gradient, cudaStream_t stream) {
  int64_t warps = gradient.shape.tokens * gradient.shape.heads;
  deltaKernel<T><<<static_cast<unsigned>(ceilDivide(warps, 8)), 256, 0, stream>>>(gradient);
}

template <typename T, int Depth>
void runGradient(const Gradient<T> &gradient, cudaStream_t stream) {
  const AttentionShape &shape = gradient.shape;
  auto tiles = static_cast<unsigned>(ceilDivide(shape.tokens, Tiles<Depth>::kOwn));
  runDelta(gradient, stream);
  queryGradKernel<T, Depth><<<dim3(tiles, static_cast<unsigned>(shape.heads)), kAttentionThreads,
                              kShared<Depth> * 4, stream>>>(gradient);
  keyGradKernel<T, Depth><<<dim3(tiles, static_cast<unsigned>(shape.kvHeads)), kAttentionThreads,
                            kShared<Depth> * 4, stream>>>(gradient);
}

} // namespace

Fault prepareAttentionGrad(const Launch &launch) {
  if (auto fault = checkAttention(launch, kMaxHeadDim, "CUDA"))
    return fault;
  const Tensor &qkv = launch.operands[1];
  AttentionShape shape = attentionShape(launch, qkv, launch.operands[4]);
  if (takenByHopper(shape, qkv.dtype))
    return prepareAttentionGradHopper(shape);
  if (takenByMma(shape, qkv.dtype))
    return prepareAttentionGradMma(shape);
  return withDepth(launch.attributes[2].integer, [&](auto depth) {
    constexpr int kDepth = decltype(depth)::value;
    Fault fault;
    for (const void *kernel : {reinterpret_cast<const void *>(queryGradKernel<float, kDepth>),
                               reinterpret_cast<const void *>(queryGradKernel<BFloat16, kDepth>),
                               reinterpret_cast<const void *>(keyGradKernel<float, kDepth>),
                               reinterpret_cast<const void *>(keyGradKernel<BFloat16, kDepth>)})
      if (!fault)
        fault = faultOf(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                             kShared<kDepth> * 4),
                        "cudaFuncSetAttribute");
    return fault;
  });
}

Fault runAttentionGrad(const Launch &launch) {
  std::span<const Tensor> operands = launch.operands;
  const Tensor &qkv = operands[1];
  AttentionShape shape = attentionShape(launch, qkv, operands[4]);
  if (shape.tokens == 0)
    return std::nullopt;
  if (takenByHopper(shape, qkv.dtype))
    return runAttentionGradHopper(launch, shape);
  cudaStream_t stream = contextOf(launch).stream;
  auto gradientOf = [&]<typename T>(T) {
    return Gradient<T>{shape,
                       operands[0].as<T>(),
                       qkv.as<T>(),
                       operands[2].as<T>(),
                       operands[3].as<float>(),
                       floatWorkspace(launch),
                       operands[5].as<T>()};
  };
  if (takenByMma(shape, qkv.dtype)) {
    runDelta(gradientOf(BFloat16{}), stream);
    return runAttentionGradMma(launch, shape, floatWorkspace(launch));
  }
  return withDepth(shape.headDim, [&](auto depth) {
    constexpr int kDepth = decltype(depth)::value;
    withFloatType(qkv.dtype, [&](auto type) {
      runGradient<decltype(type), kDepth>(gradientOf(type), stream);
    });
    return launchFault("attention_grad");
  });
}

} // namespace switchyard::kernels::cuda

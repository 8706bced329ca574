// router, router_grad: float32 softmax of each token's logits, top-k, weights, statistics.
// router_grad_renormalized: the gradient by renormalized weights alone, without the logits.
//
// Forward, a block routes a range of tokens, a warp a token at a time; the probabilities of its
// warps' tokens stand in shared memory (the chosen ones with their sign set), and a thread per
// expert adds them to the block's partial statistics in the order of the tokens. Backward, a warp
// computes a token; of renormalized weights, a block zeroes the rows of its tokens, then a thread
// computes a slot.
//
// Seen on an H100 (bfloat16, median of 20, 16,384 tokens): router 18 us for 8 experts, top 2, and
// 33 us for 64, top 8; its gradient 13 and 17 us, that of renormalized weights 2.4 and 3.9 us. With
// 4,096 tokens 9, 13; 5, 6; 2.1 and 2.3 us.
#include "kernels/cuda/KernelList.h"
#include "kernels/cuda/Reduce.cuh"

#include <cmath>

namespace switchyard::kernels::cuda {
namespace {

constexpr int kMostWarps = 8;
/// Probabilities that a block's shared memory holds without asking for more.
constexpr int64_t kProbabilities = 12288;

struct Shape {
  int64_t tokens = 0, microBatches = 0, experts = 0, topK = 0;
  bool renormalize = false;

  __device__ bool isInert(int32_t microBatch) const {
    return microBatch < 0 || microBatch >= microBatches;
  }
  __device__ bool isExpert(int32_t expert) const { return expert >= 0 && expert < experts; }
};

/// The largest logit and the sum of exponentials of a token, in all lanes.
struct Softmax {
  float largest, sum;
  template <typename A>
  __device__ float probability(A logit) const {
    return fabsf(expf(toFloat(logit) - largest) / sum);
  }
};

template <typename A>
__device__ Softmax softmax(const A *logits, int64_t experts) {
  int lane = threadIdx.x % 32;
  Softmax result{-INFINITY, 0};
  for (int64_t e = lane; e < experts; e += 32)
    result.largest = fmaxf(result.largest, toFloat(logits[e]));
  result.largest = warpMax(result.largest);
  for (int64_t e = lane; e < experts; e += 32)
    result.sum += expf(toFloat(logits[e]) - result.largest);
  result.sum = warpSum(result.sum);
  return result;
}

/// The expert of the largest probability that is not taken, the lowest one of equals; sets its
/// sign. NaN counts as largest.
__device__ int32_t takeLargest(float *probabilities, int64_t experts) {
  uint32_t best = 0;
  int32_t expert = INT32_MAX;
  for (int32_t e = static_cast<int32_t>(threadIdx.x % 32); e < experts; e += 32) {
    // Without a sign, floats are ordered as their bits are.
    uint32_t bits = __float_as_uint(probabilities[e]);
    if (bits >> 31)
      continue;
    uint32_t key = min(bits, 0x7fc00000u) + 1;
    if (key > best) {
      best = key;
      expert = e;
    }
  }
  uint32_t largest = __reduce_max_sync(kFullWarp, best);
  expert = __reduce_min_sync(kFullWarp, best == largest ? expert : INT32_MAX);
  if (threadIdx.x % 32 == 0)
    probabilities[expert] = __uint_as_float(__float_as_uint(probabilities[expert]) | 0x80000000u);
  __syncwarp();
  return expert;
}

/// Routes one token by one warp, and leaves its probabilities with the signs of the chosen set.
template <typename A, typename B>
__device__ void routeToken(const Shape &shape, const A *logits, B *weights, int32_t *experts,
                           float *probabilities) {
  int lane = threadIdx.x % 32;
  Softmax token = softmax(logits, shape.experts);
  for (int64_t e = lane; e < shape.experts; e += 32)
    probabilities[e] = token.probability(logits[e]);
  __syncwarp();
  int64_t chosen = shape.topK < shape.experts ? shape.topK : shape.experts;
  float sum = 0;
  for (int64_t j = 0; j < chosen; ++j) {
    int32_t expert = takeLargest(probabilities, shape.experts);
    sum += fabsf(probabilities[expert]);
    if (lane == 0)
      experts[j] = expert;
  }
  __syncwarp();
  float divisor = shape.renormalize ? sum : 1.0f;
  for (int64_t j = lane; j < shape.topK; j += 32)
    if (j < chosen) {
      weights[j] = fromFloat<B>(fabsf(probabilities[experts[j]]) / divisor);
    } else {
      weights[j] = fromFloat<B>(0);
      experts[j] = -1;
    }
}

/// A thread's sums for one expert over consecutive tokens of one micro-batch.
struct Held {
  int32_t microBatch = -1;
  float count = 0, sum = 0;

  /// Adds them to the statistics [M, 2, E] and starts anew with another micro-batch.
  __device__ void flush(const Shape &shape, float *statistics, int64_t expert, int32_t next) {
    if (microBatch >= 0) {
      float *counts = statistics + microBatch * 2 * shape.experts + expert;
      counts[0] += count;
      counts[shape.experts] += sum;
    }
    *this = {next, 0, 0};
  }
};

template <typename A, typename B>
__global__ void routerKernel(Shape shape, const A *logits, const int32_t *microBatchIds, B *weights,
                             int32_t *experts, float *partials) {
  extern __shared__ float probabilities[]; // [warps, experts]
  int warps = static_cast<int>(blockDim.x / 32), warp = static_cast<int>(threadIdx.x / 32);
  float *statistics = partials + blockIdx.x * shape.microBatches * 2 * shape.experts;
  Range tokens = blockOf(shape.tokens, gridDim.x, blockIdx.x);
  Held held;
  for (int64_t first = tokens.begin; first < tokens.end; first += warps) {
    int64_t t = first + warp;
    if (t < tokens.end) {
      if (!shape.isInert(microBatchIds[t])) {
        routeToken(shape, logits + t * shape.experts, weights + t * shape.topK,
                   experts + t * shape.topK, probabilities + warp * shape.experts);
      } else {
        for (int64_t j = threadIdx.x % 32; j < shape.topK; j += 32) {
          weights[t * shape.topK + j] = fromFloat<B>(0);
          experts[t * shape.topK + j] = -1;
        }
      }
    }
    __syncthreads();
    for (int64_t e = threadIdx.x; e < shape.experts; e += blockDim.x) {
      for (int64_t u = first; u < first + warps && u < tokens.end; ++u) {
        int32_t microBatch = microBatchIds[u];
        if (shape.isInert(microBatch))
          continue;
        if (microBatch != held.microBatch)
          held.flush(shape, statistics, e, microBatch);
        float p = probabilities[(u - first) * shape.experts + e];
        held.count += signbit(p) ? 1.0f : 0.0f;
        held.sum += roundTo<A>(fabsf(p));
      }
      if (shape.experts > blockDim.x) // another expert is next
        held.flush(shape, statistics, e, -1);
    }
    __syncthreads();
  }
  held.flush(shape, statistics, threadIdx.x, -1);
}

/// dlogits = p (g - sum p g), where g collects the gradients of each probability, in shared memory.
template <typename A, typename B>
__global__ void routerGradKernel(Shape shape, const B *dweights, const float *dstatistics,
                                 const A *logits, const int32_t *experts,
                                 const int32_t *microBatchIds, A *dlogits) {
  extern __shared__ float gradientsOfWarps[]; // [warps, experts]
  int lane = threadIdx.x % 32;
  int64_t t = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (t >= shape.tokens)
    return;
  int32_t microBatch = microBatchIds[t];
  logits += t * shape.experts;
  dlogits += t * shape.experts;
  if (shape.isInert(microBatch)) {
    for (int64_t e = lane; e < shape.experts; e += 32)
      dlogits[e] = fromFloat<A>(0);
    return;
  }
  dweights += t * shape.topK;
  experts += t * shape.topK;
  float *gradients = gradientsOfWarps + threadIdx.x / 32 * shape.experts;
  const float *dprobabilities = dstatistics + (microBatch * 2 + 1) * shape.experts;
  for (int64_t e = lane; e < shape.experts; e += 32)
    gradients[e] = dprobabilities[e];
  Softmax token = softmax(logits, shape.experts);
  float divisor = 1, shared = 0;
  if (shape.renormalize) {
    float sum = 0, weighted = 0;
    for (int64_t j = lane; j < shape.topK; j += 32)
      if (shape.isExpert(experts[j])) {
        float p = token.probability(logits[experts[j]]);
        sum += p;
        weighted += toFloat(dweights[j]) * p;
      }
    divisor = warpSum(sum);
    shared = warpSum(weighted) / divisor;
  }
  __syncwarp(); // the gradients are there
  for (int64_t j = lane; j < shape.topK; j += 32)
    if (shape.isExpert(experts[j])) // no expert is chosen twice
      gradients[experts[j]] += (toFloat(dweights[j]) - shared) / divisor;
  __syncwarp();
  float dot = 0;
  for (int64_t e = lane; e < shape.experts; e += 32)
    dot += token.probability(logits[e]) * gradients[e];
  dot = warpSum(dot);
  for (int64_t e = lane; e < shape.experts; e += 32)
    dlogits[e] = fromFloat<A>(token.probability(logits[e]) * (gradients[e] - dot));
}

/// Tokens of a block.
constexpr int64_t kTokens = 16;

/// dlogits of each slot's expert, w_j sum_i w_i (g_j - g_i), and zeros, stored `N` at once. Pair by
/// pair, as weights rounded to bfloat16 do not sum to 1: g_j - sum_i w_i g_i cancels badly where
/// one is close to 1.
template <int N, typename A, typename B>
__global__ void routerGradRenormalizedKernel(Shape shape, const B *dweights, const B *weights,
                                             const int32_t *experts, A *dlogits) {
  int64_t begin = blockIdx.x * kTokens;
  int64_t end = min(begin + kTokens, shape.tokens);
  for (int64_t i = begin * shape.experts + threadIdx.x * N; i < end * shape.experts;
       i += blockDim.x * N)
    Pack<A, N>{}.store(dlogits + i);
  __syncthreads(); // the zeros are there
  for (int64_t slot = begin * shape.topK + threadIdx.x; slot < end * shape.topK;
       slot += blockDim.x) {
    int32_t expert = experts[slot];
    if (!shape.isExpert(expert))
      continue;
    int64_t token = slot / shape.topK;
    float gradient = toFloat(dweights[slot]), sum = 0;
    for (int64_t i = token * shape.topK; i < (token + 1) * shape.topK; ++i)
      if (shape.isExpert(experts[i]))
        sum += toFloat(weights[i]) * (gradient - toFloat(dweights[i]));
    // No expert is chosen twice.
    dlogits[token * shape.experts + expert] = fromFloat<A>(toFloat(weights[slot]) * sum);
  }
}

Shape shapeOf(const Launch &launch, const Tensor &logits, const Tensor &statistics) {
  return {logits.dims[0], statistics.dims[0], statistics.dims[2], launch.attributes[0].integer,
          launch.attributes[2].integer != 0};
}

Fault checkExperts(const char *kernel, int64_t experts) {
  if (experts > kProbabilities)
    return std::string(kernel) + ": " + std::to_string(experts) + " experts are more than " +
           std::to_string(kProbabilities) + ", the most that the CUDA kernel handles";
  return std::nullopt;
}

/// Warps of a block whose tokens' probabilities fit its shared memory.
unsigned warpsFor(int64_t experts) {
  int64_t fitting = kProbabilities / (experts > 0 ? experts : 1);
  return static_cast<unsigned>(fitting < 1 ? 1 : fitting < kMostWarps ? fitting : kMostWarps);
}

} // namespace

Fault prepareRouter(const Launch &launch) {
  return checkExperts("router", launch.operands[0].dims[1]);
}

Fault prepareRouterGrad(const Launch &launch) {
  return checkExperts("router_grad", launch.operands[2].dims[1]);
}

Fault runRouter(const Launch &launch) {
  const Tensor &logits = launch.operands[0], &weights = launch.operands[2];
  const Tensor &statistics = launch.operands[4];
  Shape shape = shapeOf(launch, logits, statistics);
  float *partials = floatWorkspace(launch);
  int64_t columns = statistics.count();
  cudaStream_t stream = contextOf(launch).stream;
  if (auto fault = faultOf(cudaMemsetAsync(partials, 0, kCudaReductionBlocks * columns * 4, stream),
                           "cudaMemsetAsync"))
    return fault;
  unsigned warps = warpsFor(shape.experts);
  withFloatType(logits.dtype, [&]<typename A>(A) {
    withFloatType(weights.dtype, [&]<typename B>(B) {
      routerKernel<A, B><<<static_cast<unsigned>(kCudaReductionBlocks), warps * 32,
                           static_cast<size_t>(warps * shape.experts * 4), stream>>>(
          shape, logits.as<A>(), launch.operands[1].as<int32_t>(), weights.as<B>(),
          launch.operands[3].as<int32_t>(), partials);
    });
  });
  sumPartials(launch, partials, kCudaReductionBlocks, columns, columns, statistics.as<float>());
  return launchFault("router");
}

Fault runRouterGrad(const Launch &launch) {
  const Tensor &dweights = launch.operands[0], &logits = launch.operands[2];
  Shape shape = shapeOf(launch, logits, launch.operands[1]);
  unsigned warps = warpsFor(shape.experts);
  if (shape.tokens == 0)
    return std::nullopt;
  withFloatType(logits.dtype, [&]<typename A>(A) {
    withFloatType(dweights.dtype, [&]<typename B>(B) {
      routerGradKernel<A, B>
          <<<static_cast<unsigned>(ceilDivide(shape.tokens, warps)), warps * 32,
             static_cast<size_t>(warps * shape.experts * 4), contextOf(launch).stream>>>(
              shape, dweights.as<B>(), launch.operands[1].as<float>(), logits.as<A>(),
              launch.operands[3].as<int32_t>(), launch.operands[4].as<int32_t>(),
              launch.operands[5].as<A>());
    });
  });
  return launchFault("router_grad");
}

Fault runRouterGradRenormalized(const Launch &launch) {
  const Tensor &dweights = launch.operands[0], &weights = launch.operands[1];
  const Tensor &experts = launch.operands[2], &dlogits = launch.operands[3];
  Shape shape{.tokens = dlogits.dims[0], .experts = dlogits.dims[1], .topK = weights.dims[1]};
  if (shape.tokens == 0)
    return std::nullopt;
  withFloatType(dlogits.dtype, [&]<typename A>(A) {
    withFloatType(weights.dtype, [&]<typename B>(B) {
      bool wide = shape.experts % kPack<A> == 0 && isAligned({dlogits.data});
      withPack<kPack<A>>(wide, [&](auto pack) {
        routerGradRenormalizedKernel<decltype(pack)::value, A, B>
            <<<static_cast<unsigned>(ceilDivide(shape.tokens, kTokens)), 128, 0,
               contextOf(launch).stream>>>(shape, dweights.as<B>(), weights.as<B>(),
                                           experts.as<int32_t>(), dlogits.as<A>());
      });
    });
  });
  return launchFault("router_grad_renormalized");
}

} // namespace switchyard::kernels::cuda

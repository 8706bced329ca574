// router, router_grad: float32 softmax of each token's logits, top-k, weights, statistics.
// router_grad_renormalized: the gradient by renormalized weights alone, without the logits.
#include "kernels/cpu/BFloat16.h"
#include "kernels/cpu/KernelList.h"
#include "kernels/cpu/Rows.h"
#include "kernels/cpu/VectorMath.h"

#include <cmath>

namespace switchyard::kernels::cpu {

namespace {

struct Shape {
  int64_t microBatches = 0;
  int64_t experts = 0;
  int64_t topK = 0;
  bool renormalize = false;

  bool isExpert(int32_t expert) const { return expert >= 0 && expert < experts; }
};

/// Softmax of logits [experts] in float32. No result has its sign set, not even NaN.
template <typename T>
SWITCHYARD_VECTORIZED void softmax(const T *logits, int64_t experts, float *probabilities) {
  float largest = toFloat(logits[0]);
#pragma omp simd reduction(max : largest)
  for (int64_t e = 0; e < experts; ++e)
    largest = std::max(largest, toFloat(logits[e]));
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t e = 0; e < experts; ++e) {
    float value = fastExp(toFloat(logits[e]) - largest);
    probabilities[e] = value;
    sum += value;
  }
#pragma omp simd
  for (int64_t e = 0; e < experts; ++e)
    probabilities[e] = std::fabs(probabilities[e] / sum);
}

/// The expert of the largest probability not yet taken, the lowest one of equals. Taken ones have
/// their sign set; at least one must be left.
int64_t takeLargest(float *probabilities, int64_t experts) {
  int64_t best = -1;
  for (int64_t e = 0; e < experts; ++e)
    if (!std::signbit(probabilities[e]) && (best < 0 || probabilities[e] > probabilities[best]))
      best = e;
  probabilities[best] = -probabilities[best];
  return best;
}

/// Routes one token; `counts` and `sums` [experts] are its micro-batch's.
template <typename A, typename B>
void routeToken(const A *logits, const Shape &shape, B *weights, int32_t *experts, float *counts,
                float *sums, float *probabilities) {
  softmax(logits, shape.experts, probabilities);
  for (int64_t e = 0; e < shape.experts; ++e)
    sums[e] += roundTo<A>(probabilities[e]);
  int64_t chosen = std::min(shape.topK, shape.experts);
  float sum = 0;
  for (int64_t j = 0; j < chosen; ++j) {
    int64_t expert = takeLargest(probabilities, shape.experts);
    experts[j] = static_cast<int32_t>(expert);
    counts[expert] += 1;
    sum += std::fabs(probabilities[expert]);
  }
  float divisor = shape.renormalize ? sum : 1.0f;
  for (int64_t j = 0; j < chosen; ++j)
    weights[j] = fromFloat<B>(std::fabs(probabilities[experts[j]]) / divisor);
}

/// Routes one block of tokens; `statistics` [M, 2, E] and `probabilities` [E] belong to the block.
template <typename A, typename B>
void routeBlock(const Launch &launch, const Shape &shape, Range tokens, float *statistics,
                float *probabilities) {
  const int32_t *microBatchIds = launch.operands[1].as<int32_t>();
  std::fill_n(statistics, shape.microBatches * 2 * shape.experts, 0.0f);
  for (int64_t t = tokens.begin; t < tokens.end; ++t) {
    B *weights = launch.operands[2].as<B>() + t * shape.topK;
    int32_t *experts = launch.operands[3].as<int32_t>() + t * shape.topK;
    std::fill_n(weights, shape.topK, B{});
    std::fill_n(experts, shape.topK, -1);
    if (microBatchIds[t] < 0 || microBatchIds[t] >= shape.microBatches)
      continue;
    float *counts = statistics + microBatchIds[t] * 2 * shape.experts;
    routeToken(launch.operands[0].as<A>() + t * shape.experts, shape, weights, experts, counts,
               counts + shape.experts, probabilities);
  }
}

/// What a gradient of one token reads.
template <typename B>
struct TokenGradient {
  const B *dweights = nullptr;           // [top_k]
  const float *dprobabilities = nullptr; // [E], of the statistics
  const int32_t *experts = nullptr;      // [top_k]
};

/// dlogits = p (g - sum p g), where g collects the gradients of each probability.
template <typename A, typename B>
void routeTokenGrad(const A *logits, const Shape &shape, const TokenGradient<B> &token,
                    float *probabilities, float *gradients, A *dlogits) {
  softmax(logits, shape.experts, probabilities);
  std::copy_n(token.dprobabilities, shape.experts, gradients);
  float divisor = 1;
  float shared = 0;
  if (shape.renormalize) {
    divisor = 0;
    for (int64_t j = 0; j < shape.topK; ++j)
      if (shape.isExpert(token.experts[j])) {
        divisor += probabilities[token.experts[j]];
        shared += toFloat(token.dweights[j]) * probabilities[token.experts[j]];
      }
    shared /= divisor;
  }
  for (int64_t j = 0; j < shape.topK; ++j)
    if (shape.isExpert(token.experts[j]))
      gradients[token.experts[j]] += (toFloat(token.dweights[j]) - shared) / divisor;
  float dot = 0;
  for (int64_t e = 0; e < shape.experts; ++e)
    dot += probabilities[e] * gradients[e];
  for (int64_t e = 0; e < shape.experts; ++e)
    dlogits[e] = fromFloat<A>(probabilities[e] * (gradients[e] - dot));
}

template <typename A, typename B>
void routeBlockGrad(const Launch &launch, const Shape &shape, Range tokens, float *probabilities,
                    float *gradients) {
  const float *dstatistics = launch.operands[1].as<float>();
  const int32_t *microBatchIds = launch.operands[4].as<int32_t>();
  for (int64_t t = tokens.begin; t < tokens.end; ++t) {
    A *dlogits = launch.operands[5].as<A>() + t * shape.experts;
    if (microBatchIds[t] < 0 || microBatchIds[t] >= shape.microBatches) {
      std::fill_n(dlogits, shape.experts, A{});
      continue;
    }
    TokenGradient<B> token{launch.operands[0].as<B>() + t * shape.topK,
                           dstatistics + (microBatchIds[t] * 2 + 1) * shape.experts,
                           launch.operands[3].as<int32_t>() + t * shape.topK};
    routeTokenGrad(launch.operands[2].as<A>() + t * shape.experts, shape, token, probabilities,
                   gradients, dlogits);
  }
}

/// dlogits of one token, w_j sum_i w_i (g_j - g_i). Pair by pair, as weights rounded to bfloat16 do
/// not sum to 1: g_j - sum_i w_i g_i cancels badly where one is close to 1.
template <typename A, typename B>
void routeTokenGradRenormalized(const Shape &shape, const B *dweights, const B *weights,
                                const int32_t *experts, A *dlogits) {
  std::fill_n(dlogits, shape.experts, A{});
  for (int64_t j = 0; j < shape.topK; ++j) {
    if (!shape.isExpert(experts[j]))
      continue;
    float sum = 0;
    for (int64_t i = 0; i < shape.topK; ++i)
      if (shape.isExpert(experts[i]))
        sum += toFloat(weights[i]) * (toFloat(dweights[j]) - toFloat(dweights[i]));
    dlogits[experts[j]] = fromFloat<A>(toFloat(weights[j]) * sum);
  }
}

Shape shapeOf(const Launch &launch, const Tensor &statistics) {
  return {statistics.dims[0], statistics.dims[2], launch.attributes[0].integer,
          launch.attributes[2].integer != 0};
}

} // namespace

void runRouter(const Launch &launch) {
  const Tensor &logits = launch.operands[0];
  const Tensor &weights = launch.operands[2];
  const Tensor &statistics = launch.operands[4];
  Shape shape = shapeOf(launch, statistics);
  float *partials = floatWorkspace(launch);
  float *probabilities = partials + kReductionBlocks * statistics.count();
  withFloatType(logits.dtype, [&]<typename A>(A) {
    withFloatType(weights.dtype, [&]<typename B>(B) {
      forReductionBlocks(launch, logits.dims[0], [&](Range tokens, int64_t block) {
        routeBlock<A, B>(launch, shape, tokens, partials + block * statistics.count(),
                         probabilities + block * shape.experts);
      });
    });
  });
  sumReductionBlocks(launch, partials, statistics.count(), statistics.count(),
                     statistics.as<float>());
}

void runRouterGrad(const Launch &launch) {
  const Tensor &dweights = launch.operands[0];
  const Tensor &logits = launch.operands[2];
  Shape shape = shapeOf(launch, launch.operands[1]);
  float *scratch = floatWorkspace(launch);
  withFloatType(logits.dtype, [&]<typename A>(A) {
    withFloatType(dweights.dtype, [&]<typename B>(B) {
      forReductionBlocks(launch, logits.dims[0], [&](Range tokens, int64_t block) {
        float *probabilities = scratch + block * 2 * shape.experts;
        routeBlockGrad<A, B>(launch, shape, tokens, probabilities, probabilities + shape.experts);
      });
    });
  });
}

void runRouterGradRenormalized(const Launch &launch) {
  const Tensor &dweights = launch.operands[0], &weights = launch.operands[1];
  const Tensor &experts = launch.operands[2], &dlogits = launch.operands[3];
  Shape shape{.experts = dlogits.dims[1], .topK = weights.dims[1]};
  withFloatType(dlogits.dtype, [&]<typename A>(A) {
    withFloatType(weights.dtype, [&]<typename B>(B) {
      forRows(launch, dlogits.dims[0], shape.experts + shape.topK * shape.topK, [&](Range tokens) {
        for (int64_t t = tokens.begin; t < tokens.end; ++t)
          routeTokenGradRenormalized(
              shape, dweights.as<B>() + t * shape.topK, weights.as<B>() + t * shape.topK,
              experts.as<int32_t>() + t * shape.topK, dlogits.as<A>() + t * shape.experts);
      });
    });
  });
}

} // namespace switchyard::kernels::cpu

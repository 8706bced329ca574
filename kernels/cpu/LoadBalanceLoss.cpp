// load_balance_loss and its gradient. The statistics are a few numbers per micro-batch and layer:
// one thread, double sums.
#include "kernels/cpu/KernelList.h"

namespace switchyard::kernels::cpu {

namespace {

/// The statistics [M, 2, E] of all layers of one launch.
struct Statistics {
  std::span<const Tensor> layers;
  int64_t microBatches = 0;
  int64_t experts = 0;
  double topK = 1;

  const float *counts(const Tensor &layer, int64_t microBatch) const {
    return layer.as<float>() + microBatch * 2 * experts;
  }
  double sumOfCounts(int64_t microBatch, int64_t expert) const {
    double sum = 0;
    for (const Tensor &layer : layers)
      sum += counts(layer, microBatch)[expert];
    return sum;
  }
  double sumOfProbabilities(int64_t microBatch, int64_t expert) const {
    double sum = 0;
    for (const Tensor &layer : layers)
      sum += counts(layer, microBatch)[experts + expert];
    return sum;
  }
  /// L n: the micro-batch's tokens, once per layer.
  double layerTokens(int64_t microBatch) const {
    double slots = 0;
    for (int64_t expert = 0; expert < experts; ++expert)
      slots += sumOfCounts(microBatch, expert);
    return slots / topK;
  }
};

} // namespace

void runLoadBalanceLoss(const Launch &launch) {
  size_t layers = launch.operands.size() - 3;
  const float *weights = launch.operands[0].as<float>();
  const Tensor &expertCounts = launch.operands.back();
  Statistics statistics{launch.operands.subspan(1, layers), launch.operands[0].dims[0],
                        expertCounts.dims[1], static_cast<double>(launch.attributes[0].integer)};
  double loss = 0;
  for (int64_t m = 0; m < statistics.microBatches; ++m) {
    double layerTokens = statistics.layerTokens(m);
    if (layerTokens == 0)
      continue;
    double products = 0;
    for (int64_t e = 0; e < statistics.experts; ++e)
      products += (statistics.sumOfCounts(m, e) / layerTokens) *
                  (statistics.sumOfProbabilities(m, e) / layerTokens);
    loss += weights[m] * products * static_cast<double>(statistics.experts);
  }
  *launch.operands[layers + 1].as<float>() = static_cast<float>(loss);
  for (size_t layer = 0; layer < layers; ++layer)
    for (int64_t e = 0; e < statistics.experts; ++e) {
      double count = 0;
      for (int64_t m = 0; m < statistics.microBatches; ++m)
        count += statistics.counts(statistics.layers[layer], m)[e];
      expertCounts.as<float>()[static_cast<int64_t>(layer) * statistics.experts + e] =
          static_cast<float>(count);
    }
}

void runLoadBalanceLossGrad(const Launch &launch) {
  size_t layers = launch.operands.size() - 3;
  double dloss = *launch.operands[0].as<float>();
  const float *weights = launch.operands[1].as<float>();
  const Tensor &gradient = launch.operands.back();
  Statistics statistics{launch.operands.subspan(2, layers), gradient.dims[0], gradient.dims[2],
                        static_cast<double>(launch.attributes[0].integer)};
  int64_t experts = statistics.experts;
  for (int64_t m = 0; m < statistics.microBatches; ++m) {
    double layerTokens = statistics.layerTokens(m);
    double factor = layerTokens == 0 ? 0.0
                                     : dloss * weights[m] * static_cast<double>(experts) /
                                           (layerTokens * layerTokens);
    float *counts = gradient.as<float>() + m * 2 * experts;
    for (int64_t e = 0; e < experts; ++e) {
      counts[e] = 0;
      counts[experts + e] = static_cast<float>(factor * statistics.sumOfCounts(m, e));
    }
  }
}

} // namespace switchyard::kernels::cpu

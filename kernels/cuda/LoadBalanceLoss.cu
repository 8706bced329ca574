// load_balance_loss and its gradient: a block per micro-batch, double sums.
#include "kernels/cuda/KernelList.h"
#include "kernels/cuda/Reduce.cuh"

namespace switchyard::kernels::cuda {
namespace {

/// A launch's layers are kernel parameters, whose bytes are limited.
constexpr int kMostLayers = 448;
constexpr unsigned kThreads = 256;

/// The statistics [M, 2, E] of all layers of one launch.
struct Statistics {
  const float *layers[kMostLayers];
  int count;
  int64_t microBatches, experts;
  double topK;

  /// The sum over the layers of row 0 (counts) or 1 (probabilities).
  __device__ double sum(int64_t microBatch, int64_t row, int64_t expert) const {
    double total = 0;
    for (int layer = 0; layer < count; ++layer)
      total += layers[layer][(microBatch * 2 + row) * experts + expert];
    return total;
  }
  /// L n, the micro-batch's tokens once per layer, in every thread.
  __device__ double layerTokens(int64_t microBatch) const {
    double slots = 0;
    for (int64_t e = threadIdx.x; e < experts; e += blockDim.x)
      slots += sum(microBatch, 0, e);
    return blockSum(slots) / topK;
  }
};

/// terms[m] = aux_weights[m] * aux_m.
__global__ void termsKernel(Statistics statistics, const float *weights, double *terms) {
  int64_t m = blockIdx.x;
  double tokens = statistics.layerTokens(m), products = 0;
  for (int64_t e = threadIdx.x; e < statistics.experts && tokens > 0; e += blockDim.x)
    products += (statistics.sum(m, 0, e) / tokens) * (statistics.sum(m, 1, e) / tokens);
  products = blockSum(products);
  if (threadIdx.x == 0)
    terms[m] = weights[m] * products * static_cast<double>(statistics.experts);
}

/// The first block sums the terms; every block counts one layer's slots.
__global__ void lossKernel(Statistics statistics, const double *terms, float *loss,
                           float *expertCounts) {
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    double sum = 0;
    for (int64_t m = 0; m < statistics.microBatches; ++m)
      sum += terms[m];
    *loss = static_cast<float>(sum);
  }
  const float *layer = statistics.layers[blockIdx.x];
  for (int64_t e = threadIdx.x; e < statistics.experts; e += blockDim.x) {
    double count = 0;
    for (int64_t m = 0; m < statistics.microBatches; ++m)
      count += layer[m * 2 * statistics.experts + e];
    expertCounts[blockIdx.x * statistics.experts + e] = static_cast<float>(count);
  }
}

__global__ void gradientKernel(Statistics statistics, const float *dloss, const float *weights,
                               float *dstatistics) {
  int64_t m = blockIdx.x, experts = statistics.experts;
  double tokens = statistics.layerTokens(m);
  double factor = tokens == 0 ? 0.0
                              : static_cast<double>(*dloss) * weights[m] *
                                    static_cast<double>(experts) / (tokens * tokens);
  float *counts = dstatistics + m * 2 * experts;
  for (int64_t e = threadIdx.x; e < experts; e += blockDim.x) {
    counts[e] = 0;
    counts[experts + e] = static_cast<float>(factor * statistics.sum(m, 0, e));
  }
}

Statistics statisticsOf(std::span<const Tensor> layers, int64_t topK) {
  Statistics statistics{};
  statistics.count = static_cast<int>(layers.size());
  for (size_t layer = 0; layer < layers.size(); ++layer)
    statistics.layers[layer] = layers[layer].as<float>();
  statistics.microBatches = layers[0].dims[0];
  statistics.experts = layers[0].dims[2];
  statistics.topK = static_cast<double>(topK);
  return statistics;
}

Fault checkLayers(const Launch &launch, const char *kernel) {
  size_t layers = launch.operands.size() - 3;
  if (layers > kMostLayers)
    return std::string(kernel) + ": " + std::to_string(layers) + " layers are more than " +
           std::to_string(kMostLayers) + ", the most that the CUDA kernel handles";
  return std::nullopt;
}

} // namespace

Fault prepareLoadBalanceLoss(const Launch &launch) {
  return checkLayers(launch, "load_balance_loss");
}

Fault prepareLoadBalanceLossGrad(const Launch &launch) {
  return checkLayers(launch, "load_balance_loss_grad");
}

Fault runLoadBalanceLoss(const Launch &launch) {
  size_t layers = launch.operands.size() - 3;
  Statistics statistics =
      statisticsOf(launch.operands.subspan(1, layers), launch.attributes[0].integer);
  auto *terms = reinterpret_cast<double *>(launch.workspace.data());
  cudaStream_t stream = contextOf(launch).stream;
  if (statistics.microBatches > 0)
    termsKernel<<<static_cast<unsigned>(statistics.microBatches), kThreads, 0, stream>>>(
        statistics, launch.operands[0].as<float>(), terms);
  lossKernel<<<static_cast<unsigned>(layers), kThreads, 0, stream>>>(
      statistics, terms, launch.operands[layers + 1].as<float>(),
      launch.operands[layers + 2].as<float>());
  return launchFault("load_balance_loss");
}

Fault runLoadBalanceLossGrad(const Launch &launch) {
  size_t layers = launch.operands.size() - 3;
  Statistics statistics =
      statisticsOf(launch.operands.subspan(2, layers), launch.attributes[0].integer);
  if (statistics.microBatches == 0)
    return std::nullopt;
  gradientKernel<<<static_cast<unsigned>(statistics.microBatches), kThreads, 0,
                   contextOf(launch).stream>>>(statistics, launch.operands[0].as<float>(),
                                               launch.operands[1].as<float>(),
                                               launch.operands.back().as<float>());
  return launchFault("load_balance_loss_grad");
}

} // namespace switchyard::kernels::cuda

// Grouped GEMM on tokens where they stand: rows_of_tokens, grouped_gemm_gated_gather,
// grouped_gemm_dgrad_gated_gather and the weight gradients. On sm_90a one kernel of
// GroupedGemmHopper.cu does each product; elsewhere GroupedGemm.cu's kernels follow the row
// numbers.
//
// What the gradient of the activation and of the tokens' weights take of the product is a kernel
// behind it: it moves five times the product's results, for which the warps that store them in the
// product's own kernel are too few.
#include "kernels/cuda/GatedActivation.cuh"
#include "kernels/cuda/GroupedGemmHopper.h"
#include "kernels/cuda/KernelList.h"
#include "kernels/cuda/Reduce.cuh"

namespace switchyard::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;

unsigned blocksFor(int64_t threads) {
  return static_cast<unsigned>(ceilDivide(threads, kThreads));
}

template <typename B>
__global__ void clearRowsOfTokensKernel(int32_t *tokenOfRow, B *weightOfRow, int64_t rows) {
  int64_t row = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= rows)
    return;
  tokenOfRow[row] = -1;
  weightOfRow[row] = fromFloat<B>(0);
}

template <typename B>
__global__ void rowsOfTokensKernel(const int32_t *rowOfSlot, const B *weights, int64_t slots,
                                   int64_t topK, int32_t *tokenOfRow, B *weightOfRow) {
  int64_t slot = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  int64_t row = slot < slots ? rowOfSlot[slot] : -1;
  if (row < 0 || row >= slots)
    return;
  tokenOfRow[row] = static_cast<int32_t>(slot / topK);
  weightOfRow[row] = weights[slot];
}

/// `y` comes as p, and becomes the activated rows times their weights. A warp handles a row.
/// dgateUp may be gateUp.
template <typename T, typename B, int N>
__global__ void weightedGradKernel(const T *gateUp, const B *weightOfRow, T *dgateUp, T *y,
                                   float *dots, int64_t rows, int64_t width) {
  int64_t row = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (row >= rows)
    return;
  float weight = toFloat(weightOfRow[row]), dot = 0;
  for (int64_t i = threadIdx.x % 32 * N; i < width; i += 32 * N) {
    int64_t at = row * 2 * width + i;
    float p[N], gate[N], up[N];
    loadPack(y + row * width + i, p);
    loadPack(gateUp + at, gate);
    loadPack(gateUp + at + width, up);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      float result;
      GatedGradient gradient = gatedGradient<T>(p[j] * weight, gate[j], up[j], result);
      result = roundTo<T>(result);
      dot += p[j] * result;
      gate[j] = gradient.gate;
      up[j] = gradient.up;
      p[j] = result * weight;
    }
    storePack(dgateUp + at, gate);
    storePack(dgateUp + at + width, up);
    storePack(y + row * width + i, p);
  }
  dot = warpSum(dot);
  if (threadIdx.x % 32 == 0)
    dots[row] = dot;
}

template <typename B>
__global__ void weightsOfSlotsKernel(const float *dots, int64_t rows, const int32_t *rowOfSlot,
                                     B *dweights, int64_t slots) {
  int64_t slot = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (slot >= slots)
    return;
  int64_t row = rowOfSlot[slot];
  dweights[slot] = fromFloat<B>(row >= 0 && row < rows ? dots[row] : 0.0f);
}

} // namespace

Fault runRowsOfTokens(const Launch &launch) {
  const Tensor &rowOfSlot = launch.operands[0], &weights = launch.operands[1];
  int64_t slots = rowOfSlot.count();
  if (slots == 0)
    return std::nullopt;
  withFloatType(weights.dtype, [&]<typename B>(B) {
    auto *tokenOfRow = launch.operands[2].as<int32_t>();
    auto *weightOfRow = launch.operands[3].as<B>();
    cudaStream_t stream = contextOf(launch).stream;
    clearRowsOfTokensKernel<<<blocksFor(slots), kThreads, 0, stream>>>(tokenOfRow, weightOfRow,
                                                                       slots);
    rowsOfTokensKernel<<<blocksFor(slots), kThreads, 0, stream>>>(
        rowOfSlot.as<int32_t>(), weights.as<B>(), slots, rowOfSlot.dims[1], tokenOfRow,
        weightOfRow);
  });
  return launchFault("rows_of_tokens");
}

Fault runGroupedGemmGatedGather(const Launch &launch) {
  const Tensor *o = launch.operands.data();
  GroupedOperands operands{.a = o[0],
                           .b = o[2],
                           .groupSizes = o[3],
                           .c = o[5],
                           .gateUp = o[4],
                           .gather = Gather::A,
                           .tokens = o[1]};
  if (runsOnHopper(GroupedProduct::Gated, operands))
    return runGroupedGemmHopper(launch, GroupedProduct::Gated, operands);
  GroupedOperands product = operands;
  product.c = operands.gateUp;
  if (auto fault = runGroupedProduct(launch, GroupedProduct::Forward, product))
    return fault;
  const Tensor activation[] = {operands.gateUp, operands.c};
  return runGatedActivation({activation, {}, {}, launch.context});
}

Fault runGroupedGemmDgradGatedGather(const Launch &launch) {
  const Tensor *o = launch.operands.data();
  const Tensor &weightOfRow = o[2], &rowOfSlot = o[3], &gateUp = o[6], &dgateUp = o[7], &y = o[8];
  const Tensor &dweights = o[9];
  // The product is made where y belongs.
  if (auto fault = runGroupedProduct(
          launch, GroupedProduct::ByData,
          {.a = o[0], .b = o[4], .groupSizes = o[5], .c = y, .gather = Gather::A, .tokens = o[1]}))
    return fault;
  auto *dots = reinterpret_cast<float *>(launch.workspace.data() + kCudaGemmScratch);
  int64_t rows = y.dims[0], width = y.dims[1], slots = dweights.count();
  cudaStream_t stream = contextOf(launch).stream;
  withFloatType(weightOfRow.dtype, [&]<typename B>(B) {
    if (rows > 0)
      withFloatType(y.dtype, [&]<typename T>(T) {
        bool wide = width % kPack<T> == 0 && isAligned({gateUp.data, dgateUp.data, y.data});
        withPack<kPack<T>>(wide, [&](auto pack) {
          weightedGradKernel<T, B, decltype(pack)::value>
              <<<blocksFor(rows * 32), kThreads, 0, stream>>>(gateUp.as<T>(), weightOfRow.as<B>(),
                                                              dgateUp.as<T>(), y.as<T>(), dots,
                                                              rows, width);
        });
      });
    if (slots > 0)
      weightsOfSlotsKernel<<<blocksFor(slots), kThreads, 0, stream>>>(
          dots, rows, rowOfSlot.as<int32_t>(), dweights.as<B>(), slots);
  });
  return launchFault("grouped_gemm_dgrad_gated_gather");
}

Fault runGroupedGemmWgradGatherDy(const Launch &launch) {
  const Tensor *o = launch.operands.data();
  return runGroupedProduct(
      launch, GroupedProduct::ByWeight,
      {.a = o[0], .b = o[2], .groupSizes = o[3], .c = o[4], .gather = Gather::A, .tokens = o[1]});
}

Fault runGroupedGemmWgradGatherX(const Launch &launch) {
  const Tensor *o = launch.operands.data();
  return runGroupedProduct(
      launch, GroupedProduct::ByWeight,
      {.a = o[0], .b = o[1], .groupSizes = o[3], .c = o[4], .gather = Gather::B, .tokens = o[2]});
}

} // namespace switchyard::kernels::cuda

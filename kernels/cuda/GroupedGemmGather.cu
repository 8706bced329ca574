// Grouped GEMM on tokens where they stand: rows_of_tokens, grouped_gemm_gated_gather,
// grouped_gemm_dgrad_gated_gather and the weight gradients. On sm_90a one kernel of
// GroupedGemmHopper.cu does each product; elsewhere GroupedGemm.cu's kernels follow the row
// numbers, and what becomes of the results is a kernel behind them.
//
// The gradient of a token's weight is a dot of two rows as wide as an expert, of which a tile has a
// part: parts go to the workspace, and a last kernel adds them up, always in the same order.
#include "kernels/cuda/GatedActivation.cuh"
#include "kernels/cuda/GroupedGemmHopper.h"
#include "kernels/cuda/KernelList.h"
#include "kernels/cuda/Reduce.cuh"
#include "kernels/signatures/grouped_gemm_gather.h"

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

/// What is left to do where a product alone was made: `y` comes as p, and becomes the activated
/// rows times their weights. A warp handles a row. dgateUp may be gateUp.
template <typename T, typename B>
__global__ void weightedGradKernel(const T *gateUp, const B *weightOfRow, T *dgateUp, T *y,
                                   float *dots, int64_t rows, int64_t width) {
  int64_t row = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (row >= rows)
    return;
  float weight = toFloat(weightOfRow[row]), dot = 0;
  for (int64_t i = threadIdx.x % 32; i < width; i += 32) {
    int64_t gate = row * 2 * width + i, up = gate + width, at = row * width + i;
    float p = toFloat(y[at]), result;
    GatedGradient gradient =
        gatedGradient<T>(p * weight, toFloat(gateUp[gate]), toFloat(gateUp[up]), result);
    result = roundTo<T>(result);
    dot += p * result;
    dgateUp[gate] = fromFloat<T>(gradient.gate);
    dgateUp[up] = fromFloat<T>(gradient.up);
    y[at] = fromFloat<T>(result * weight);
  }
  dot = warpSum(dot);
  if (threadIdx.x % 32 == 0)
    dots[row] = dot;
}

/// Lanes that add up the parts of a row's dot.
constexpr int kLanesOfDot = 8;

template <typename B>
__global__ void sumDotsKernel(const float *dots, int64_t rows, int64_t parts,
                              const int32_t *rowOfSlot, B *dweights, int64_t slots) {
  int64_t slot = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kLanesOfDot;
  int64_t row = slot < slots ? rowOfSlot[slot] : -1;
  float sum = 0;
  if (row >= 0 && row < rows)
    for (int64_t i = threadIdx.x % kLanesOfDot; i < parts; i += kLanesOfDot)
      sum += dots[row * parts + i];
  sum = warpSum<kLanesOfDot>(sum);
  if (slot < slots && threadIdx.x % kLanesOfDot == 0)
    dweights[slot] = fromFloat<B>(sum);
}

/// Turns p, the product alone, into all that the op yields but dweights.
void finishProduct(const Launch &launch, const GroupedOperands &operands) {
  int64_t rows = operands.c.dims[0], width = operands.c.dims[1];
  if (rows == 0)
    return;
  withFloatType(operands.c.dtype, [&]<typename T>(T) {
    withFloatType(operands.weights.dtype, [&]<typename B>(B) {
      weightedGradKernel<T, B><<<blocksFor(rows * 32), kThreads, 0, contextOf(launch).stream>>>(
          operands.gateUp.as<T>(), operands.weights.as<B>(), operands.dgateUp.as<T>(),
          operands.c.as<T>(), operands.dots, rows, width);
    });
  });
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
  GroupedOperands operands{
      .a = o[0],
      .b = o[4],
      .groupSizes = o[5],
      .c = o[8],
      .gateUp = o[6],
      .dgateUp = o[7],
      .gather = Gather::A,
      .tokens = o[1],
      .weights = o[2],
      .dots = reinterpret_cast<float *>(launch.workspace.data() + kCudaGemmScratch)};
  int64_t parts = ceilDivide(operands.c.dims[1], kGateColumnsAtOnce);
  if (runsOnHopper(GroupedProduct::ByDataGated, operands)) {
    if (auto fault = runGroupedGemmHopper(launch, GroupedProduct::ByDataGated, operands))
      return fault;
  } else {
    if (auto fault = runGroupedProduct(launch, GroupedProduct::ByData, operands))
      return fault;
    finishProduct(launch, operands);
    parts = 1;
  }
  const Tensor &rowOfSlot = o[3], &dweights = o[9];
  int64_t slots = dweights.count();
  if (slots > 0)
    withFloatType(dweights.dtype, [&]<typename B>(B) {
      sumDotsKernel<<<blocksFor(slots * kLanesOfDot), kThreads, 0, contextOf(launch).stream>>>(
          operands.dots, operands.rows(), parts, rowOfSlot.as<int32_t>(), dweights.as<B>(), slots);
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

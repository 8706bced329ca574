// Grouped GEMM on tokens where they stand: rows_of_tokens, grouped_gemm_gated_gather and the weight
// gradients; GroupedGemmWeighted.cu has the gradient by data. On sm_90a one kernel of
// GroupedGemmHopper.cu does each; elsewhere GroupedGemm.cu's kernels follow the row numbers.
#include "kernels/cuda/GroupedGemmHopper.h"
#include "kernels/cuda/KernelList.h"
#include "kernels/cuda/Values.cuh"

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

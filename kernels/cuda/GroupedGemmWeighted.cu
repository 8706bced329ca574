// grouped_gemm_dgrad_gated_weighted and grouped_gemm_dgrad_gated_gather: the gradient by data of
// rows that are weighted behind the experts, on through the activation, with the weights' own
// gradients.
//
// The gradient of a weight is a dot of two rows as wide as an expert. A kernel that makes them
// leaves it in parts in the workspace, and a last one adds these up, always in the same order.
//
// On sm_90a the activation's gradient is part of the product's kernel. Where tokens are gathered it
// is a kernel behind it: the warps that store would be too few beside those that copy tokens.
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
      GatedGradient gradient =
          gatedGradient<T>(p[j] * weight, gate[j], up[j], sigmoid<T>(gate[j]), result);
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

/// Lanes that add up the parts of a row's dot.
constexpr int kLanesOfDot = 8;

template <typename B>
__global__ void weightsOfSlotsKernel(const float *dots, int64_t rows, int64_t parts,
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

/// The activation's gradient of the product alone, which stands in operands.c.
void finish(const Launch &launch, const GroupedOperands &operands) {
  const Tensor &y = operands.c, &gateUp = operands.gateUp, &dgateUp = operands.dgateUp;
  int64_t rows = y.dims[0], width = y.dims[1];
  if (rows == 0)
    return;
  withFloatType(y.dtype, [&]<typename T>(T) {
    withFloatType(operands.weights.dtype, [&]<typename B>(B) {
      bool wide = width % kPack<T> == 0 && isAligned({gateUp.data, dgateUp.data, y.data});
      withPack<kPack<T>>(wide, [&](auto pack) {
        weightedGradKernel<T, B, decltype(pack)::value>
            <<<blocksFor(rows * 32), kThreads, 0, contextOf(launch).stream>>>(
                gateUp.as<T>(), operands.weights.as<B>(), dgateUp.as<T>(), y.as<T>(), operands.dots,
                rows, width);
      });
    });
  });
}

Fault run(const Launch &launch, GroupedOperands operands, const Tensor &rowOfSlot,
          const Tensor &dweights) {
  operands.dots = reinterpret_cast<float *>(launch.workspace.data() + kCudaGemmScratch);
  int64_t rows = operands.c.dims[0], parts = 1, slots = dweights.count();
  if (operands.gather == Gather::None && runsOnHopper(GroupedProduct::ByDataGated, operands)) {
    if (auto fault = runGroupedGemmHopper(launch, GroupedProduct::ByDataGated, operands))
      return fault;
    parts = ceilDivide(operands.c.dims[1], kColumnsOfPart);
  } else {
    if (auto fault = runGroupedProduct(launch, GroupedProduct::ByData, operands))
      return fault;
    finish(launch, operands);
  }
  if (slots > 0)
    withFloatType(dweights.dtype, [&]<typename B>(B) {
      weightsOfSlotsKernel<<<blocksFor(slots * kLanesOfDot), kThreads, 0,
                             contextOf(launch).stream>>>(
          operands.dots, rows, parts, rowOfSlot.as<int32_t>(), dweights.as<B>(), slots);
    });
  return launchFault("gradient by data of weighted rows");
}

} // namespace

Fault runGroupedGemmDgradGatedWeighted(const Launch &launch) {
  const Tensor *o = launch.operands.data();
  return run(launch,
             {.a = o[0],
              .b = o[3],
              .groupSizes = o[4],
              .c = o[7],
              .gateUp = o[5],
              .dgateUp = o[6],
              .weights = o[1]},
             o[2], o[8]);
}

Fault runGroupedGemmDgradGatedGather(const Launch &launch) {
  const Tensor *o = launch.operands.data();
  return run(launch,
             {.a = o[0],
              .b = o[4],
              .groupSizes = o[5],
              .c = o[8],
              .gateUp = o[6],
              .dgateUp = o[7],
              .gather = Gather::A,
              .tokens = o[1],
              .weights = o[2]},
             o[3], o[9]);
}

} // namespace switchyard::kernels::cuda

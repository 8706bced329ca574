// grouped_gemm_wgrad_squared: on sm_90a the warps that store a gradient in bfloat16 sum its squares
// on the way, a part each, and two more kernels add these up, always in the same order. Elsewhere
// the gradient is read again.
#include "kernels/cuda/GroupedGemmHopper.h"
#include "kernels/cuda/KernelList.h"
#include "kernels/cuda/Reduce.cuh"

#include <algorithm>

namespace switchyard::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;

__global__ void sumPartsKernel(const float *parts, int64_t count, float *sums) {
  Range range = blockOf(count, gridDim.x, blockIdx.x);
  float sum = 0;
  for (int64_t i = range.begin + threadIdx.x; i < range.end; i += kThreads)
    sum += parts[i];
  sum = blockSum(sum);
  if (threadIdx.x == 0)
    sums[blockIdx.x] = sum;
}

} // namespace

Fault runGroupedGemmWgradSquared(const Launch &launch) {
  const Tensor *o = launch.operands.data();
  const Tensor &dw = o[3], &squares = o[4];
  GroupedOperands operands{.a = o[0], .b = o[1], .groupSizes = o[2], .c = dw};
  if (dw.dtype != DType::BF16 || !runsOnHopper(GroupedProduct::ByWeight, operands)) {
    if (auto fault =
            runGroupedGemmWgrad({launch.operands.first(4), {}, launch.workspace, launch.context}))
      return fault;
    return runSumOfSquares({launch.operands.last(2), {}, launch.workspace, launch.context});
  }
  int64_t parts =
      dw.dims[0] * ceilDivide(dw.dims[1], kRowsOfPart) * ceilDivide(dw.dims[2], kColumnsOfPart);
  operands.squares = reinterpret_cast<float *>(launch.workspace.data() + kCudaGemmScratch);
  if (auto fault = runGroupedGemmHopper(launch, GroupedProduct::ByWeight, operands))
    return fault;
  int64_t blocks = std::clamp<int64_t>(ceilDivide(parts, kThreads * 4), 1, kSquaredSums);
  float *sums = operands.squares + parts;
  cudaStream_t stream = contextOf(launch).stream;
  sumPartsKernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(operands.squares, parts,
                                                                         sums);
  sumPartsKernel<<<1, kThreads, 0, stream>>>(sums, blocks, squares.as<float>());
  return launchFault("grouped_gemm_wgrad_squared");
}

} // namespace switchyard::kernels::cuda

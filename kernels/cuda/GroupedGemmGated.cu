// grouped_gemm_gated and grouped_gemm_dgrad_gated: a grouped GEMM whose results go through the
// activation, or its gradient, on their way to memory. On sm_90a one kernel of GroupedGemmHopper.cu
// does it; elsewhere the two kernels that the op stands for run one after the other. The bits are
// the same.
//
// For the gradient the warps that store move five times what its product alone stores. Seen on an
// H100 (ms in bfloat16, medians of 10, random routing; T,D,F,E,K as moe-bench has them): one kernel
// 1.82 and 1.55, with rows' weights 1.90 and 1.57, the product 1.46 and 1.48, for
// 32768,2048,1024,64,8 and 32768,4096,1024,64,4. The first one moves 4.0 GB.
#include "kernels/cuda/GroupedGemmHopper.h"
#include "kernels/cuda/KernelList.h"

namespace switchyard::kernels::cuda {
namespace {

/// A launch of the same context and workspace with other operands.
Launch launchOf(const Launch &launch, std::span<const Tensor> operands) {
  return {operands, {}, launch.workspace, launch.context};
}

} // namespace

Fault runGroupedGemmGated(const Launch &launch) {
  const Tensor *o = launch.operands.data();
  GroupedOperands operands{.a = o[0], .b = o[1], .groupSizes = o[2], .c = o[4], .gateUp = o[3]};
  if (runsOnHopper(GroupedProduct::Gated, operands))
    return runGroupedGemmHopper(launch, GroupedProduct::Gated, operands);
  if (auto fault = runGroupedGemm(launchOf(launch, launch.operands.first(4))))
    return fault;
  return runGatedActivation(launchOf(launch, launch.operands.last(2)));
}

Fault runGroupedGemmDgradGated(const Launch &launch) {
  const Tensor *o = launch.operands.data();
  GroupedOperands operands{
      .a = o[0], .b = o[1], .groupSizes = o[2], .c = o[5], .gateUp = o[3], .dgateUp = o[4]};
  if (runsOnHopper(GroupedProduct::ByDataGated, operands))
    return runGroupedGemmHopper(launch, GroupedProduct::ByDataGated, operands);
  // The product is made where y belongs, which then takes its place.
  const Tensor product[] = {o[0], o[1], o[2], o[5]}, gradient[] = {o[5], o[3], o[4]};
  if (auto fault = runGroupedGemmDgrad(launchOf(launch, product)))
    return fault;
  return runGatedActivationGradAgain(launchOf(launch, gradient));
}

} // namespace switchyard::kernels::cuda

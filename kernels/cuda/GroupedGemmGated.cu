// grouped_gemm_gated and grouped_gemm_dgrad_gated: a grouped GEMM whose results go through the
// activation, or its gradient, on their way to memory. On sm_90a one kernel of GroupedGemmHopper.cu
// does it; elsewhere the two kernels that the op stands for run one after the other. The bits are
// the same.
//
// For the gradient the warps that store move five times what its product alone stores. The next
// tile hides this where it takes long, which is where much is contracted; else the launch waits for
// these warps, and two kernels are faster. Seen on an H200 (TFLOP/s of the product in bfloat16,
// medians of 20, random routing; T,D,F,E,K as moe-bench has them, D is contracted by data):
//
//                                    one kernel          product alone
//                                    forward  by data    forward  by data
//   Mixtral, 16384,4096,14336,8,2    662      627        680      681
//   OLMoE, 32768,2048,1024,64,8      650      443        753      640
//   24576,1536,256,128,8             648      335        664      585
//
// In the same run whole layers took, forward, 17.37, 5.92 and 1.34 ms with one kernel, and 17.92,
// 6.19 and 1.43 ms with two, which is why one is always taken there; backward 35.88, 11.98 and
// 2.42 ms with one, 36.42, 11.74 and 2.30 ms with two, which did not make the activated rows again.
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

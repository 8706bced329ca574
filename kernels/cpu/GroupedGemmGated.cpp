// grouped_gemm_gated and grouped_gemm_dgrad_gated: the two kernels that each stands for, one after
// the other.
#include "kernels/cpu/KernelList.h"

namespace switchyard::kernels::cpu {
namespace {

/// A launch of the same context and workspace with other operands.
Launch launchOf(const Launch &launch, std::span<const Tensor> operands) {
  return {operands, {}, launch.workspace, launch.context};
}

} // namespace

std::optional<std::string> prepareGroupedGemmGated(const Launch &launch) {
  return prepareGroupedGemm(launchOf(launch, launch.operands.first(4)));
}

void runGroupedGemmGated(const Launch &launch) {
  runGroupedGemm(launchOf(launch, launch.operands.first(4)));
  runGatedActivation(launchOf(launch, launch.operands.last(2)));
}

std::optional<std::string> prepareGroupedGemmDgradGated(const Launch &launch) {
  return prepareGroupedGemmDgrad(launch);
}

void runGroupedGemmDgradGated(const Launch &launch) {
  // The product is made where y belongs, which then takes its place.
  const Tensor *o = launch.operands.data();
  const Tensor product[] = {o[0], o[1], o[2], o[5]}, gradient[] = {o[5], o[3], o[4]};
  runGroupedGemmDgrad(launchOf(launch, product));
  runGatedActivationGradAgain(launchOf(launch, gradient));
}

} // namespace switchyard::kernels::cpu

// grouped_gemm_gated, grouped_gemm_dgrad_gated and grouped_gemm_dgrad_gated_weighted: the kernels
// that each stands for, one after the other.
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

std::optional<std::string> prepareGroupedGemmDgradGatedWeighted(const Launch &launch) {
  const Tensor *o = launch.operands.data();
  const Tensor product[] = {o[0], o[3], o[4], o[7]};
  return prepareGroupedGemmDgrad(launchOf(launch, product));
}

void runGroupedGemmDgradGatedWeighted(const Launch &launch) {
  // The product is made where y belongs, which takes its place when the weights' gradient is done.
  const Tensor *o = launch.operands.data();
  const Tensor product[] = {o[0], o[3], o[4], o[7]}, weights[] = {o[7], o[5], o[2], o[8]},
               gradient[] = {o[7], o[1], o[5], o[6]};
  runGroupedGemmDgrad(launchOf(launch, product));
  runGatedActivationDots(launchOf(launch, weights));
  runGatedActivationGradWeighted(launchOf(launch, gradient));
}

} // namespace switchyard::kernels::cpu

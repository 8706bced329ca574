// Grouped GEMM on tokens where they stand: grouped_gemm_gated_gather and the weight gradients;
// GroupedGemmWeighted.cu has the gradient by data. On sm_90a one kernel of GroupedGemmHopper.cu
// does each; elsewhere GroupedGemm.cu's kernels follow the row numbers.
#include "kernels/cuda/GroupedGemmHopper.h"
#include "kernels/cuda/KernelList.h"

namespace switchyard::kernels::cuda {
namespace {

/// A gradient by weight of dy's tokens, or of x's; `accumulates`: added to what there is.
Fault runGatheringDy(const Launch &launch, bool accumulates) {
  const Tensor *o = launch.operands.data();
  return runGroupedProduct(launch, GroupedProduct::ByWeight,
                           {.a = o[0],
                            .b = o[2],
                            .groupSizes = o[3],
                            .c = o[4],
                            .accumulates = accumulates,
                            .gather = Gather::A,
                            .tokens = o[1]});
}

Fault runGatheringX(const Launch &launch, bool accumulates) {
  const Tensor *o = launch.operands.data();
  return runGroupedProduct(launch, GroupedProduct::ByWeight,
                           {.a = o[0],
                            .b = o[1],
                            .groupSizes = o[3],
                            .c = o[4],
                            .accumulates = accumulates,
                            .gather = Gather::B,
                            .tokens = o[2]});
}

} // namespace

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
  return runGatheringDy(launch, false);
}

Fault runGroupedGemmWgradGatherDyAccumulate(const Launch &launch) {
  return runGatheringDy(launch, true);
}

Fault runGroupedGemmWgradGatherX(const Launch &launch) {
  return runGatheringX(launch, false);
}

Fault runGroupedGemmWgradGatherXAccumulate(const Launch &launch) {
  return runGatheringX(launch, true);
}

} // namespace switchyard::kernels::cuda

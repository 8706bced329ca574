// Grouped GEMM on tokens where they stand: grouped_gemm_gated_gather and the weight gradients;
// GroupedGemmWeighted.cu has the gradient by data. On sm_90a one kernel of GroupedGemmHopper.cu
// does each; elsewhere GroupedGemm.cu's kernels follow the row numbers.
#include "kernels/cuda/GroupedGemmHopper.h"
#include "kernels/cuda/KernelList.h"

namespace switchyard::kernels::cuda {
namespace {

/// A gradient by weight where operand `gather` are tokens, dy or x, with token_of_row behind it;
/// `accumulates`: added to what there is.
Fault runGathering(const Launch &launch, Gather gather, bool accumulates) {
  const Tensor *o = launch.operands.data();
  bool isDy = gather == Gather::A;
  return runGroupedProduct(launch, GroupedProduct::ByWeight,
                           {.a = o[0],
                            .b = isDy ? o[2] : o[1],
                            .groupSizes = o[3],
                            .c = o[4],
                            .accumulates = accumulates,
                            .gather = gather,
                            .tokens = isDy ? o[1] : o[2]});
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
  return runGathering(launch, Gather::A, false);
}

Fault runGroupedGemmWgradGatherDyAccumulate(const Launch &launch) {
  return runGathering(launch, Gather::A, true);
}

Fault runGroupedGemmWgradGatherX(const Launch &launch) {
  return runGathering(launch, Gather::B, false);
}

Fault runGroupedGemmWgradGatherXAccumulate(const Launch &launch) {
  return runGathering(launch, Gather::B, true);
}

} // namespace switchyard::kernels::cuda

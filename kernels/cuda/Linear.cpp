// linear, linear_dgrad, linear_wgrad: a product of cuBLASLt each.
//
// Seen on an H200 (median of 20): Mixtral's fused q, k, v with 16,384 tokens in bfloat16 793
// TFLOP/s, by weight 799; with 4,096 tokens in float32 50 and 54.
#include "kernels/cuda/Gemm.h"
#include "kernels/cuda/KernelList.h"

namespace switchyard::kernels::cuda {
namespace {

GemmShape forward(const Launch &launch) {
  const Tensor &x = launch.operands[0], &w = launch.operands[1];
  return {x.dims[0], w.dims[0], w.dims[1], x.dtype, x.dtype, false, true, false};
}

GemmShape byData(const Launch &launch) {
  const Tensor &dy = launch.operands[0], &w = launch.operands[1];
  return {dy.dims[0], w.dims[1], w.dims[0], dy.dtype, dy.dtype, false, false, false};
}

GemmShape byWeight(const Launch &launch) {
  const Tensor &dy = launch.operands[0], &x = launch.operands[1], &dw = launch.operands[2];
  return {dy.dims[1], x.dims[1], dy.dims[0], dy.dtype, dw.dtype, true, false, false};
}

Fault run(const Launch &launch, const GemmShape &shape) {
  const Context &context = contextOf(launch);
  return context.gemms->run(context.stream, shape, launch.operands[0].data, launch.operands[1].data,
                            launch.operands[2].data, launch.workspace.data());
}

} // namespace

Fault prepareLinear(const Launch &launch) {
  return contextOf(launch).gemms->prepare(forward(launch));
}

Fault runLinear(const Launch &launch) {
  return run(launch, forward(launch));
}

Fault prepareLinearDgrad(const Launch &launch) {
  return contextOf(launch).gemms->prepare(byData(launch));
}

Fault runLinearDgrad(const Launch &launch) {
  return run(launch, byData(launch));
}

Fault prepareLinearWgrad(const Launch &launch) {
  return contextOf(launch).gemms->prepare(byWeight(launch));
}

Fault runLinearWgrad(const Launch &launch) {
  return run(launch, byWeight(launch));
}

} // namespace switchyard::kernels::cuda

// rms_norm, rms_norm_grad: whole rows of NormRows.
#include "kernels/cuda/KernelList.h"
#include "kernels/cuda/NormRows.h"

namespace switchyard::kernels::cuda {
namespace {

NormRows wholeRows(const Launch &launch, const Tensor &x, const Tensor &w, float *dw) {
  NormRows shape;
  shape.rows = x.dims[0];
  shape.width = x.dims[1];
  shape.eps = static_cast<float>(launch.attributes[0].real);
  shape.part[0] = {0, shape.width, w.data, dw};
  return shape;
}

} // namespace

Fault runRmsNorm(const Launch &launch) {
  const Tensor &x = launch.operands[0];
  normRows(launch, wholeRows(launch, x, launch.operands[1], nullptr), x, launch.operands[2]);
  return launchFault("rms_norm");
}

Fault prepareRmsNormGrad(const Launch &launch) {
  return prepareNormRowsGrad(launch.operands[1].dtype);
}

Fault runRmsNormGrad(const Launch &launch) {
  const Tensor &dy = launch.operands[0], &x = launch.operands[1];
  normRowsGrad(launch, wholeRows(launch, x, launch.operands[2], launch.operands[4].as<float>()), dy,
               x, launch.operands[3]);
  return launchFault("rms_norm_grad");
}

} // namespace switchyard::kernels::cuda

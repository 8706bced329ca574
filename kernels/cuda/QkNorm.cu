// qk_norm, qk_norm_grad: the query part and the key part of packed rows [q | k | v] by NormRows.
#include "kernels/cuda/KernelList.h"
#include "kernels/cuda/NormRows.h"

namespace switchyard::kernels::cuda {
namespace {

NormRows packedRows(const Launch &launch, const Tensor &qkv) {
  int64_t headDim = launch.attributes[2].integer;
  int64_t query = launch.attributes[0].integer * headDim;
  int64_t key = launch.attributes[1].integer * headDim;
  NormRows shape;
  shape.rows = qkv.dims[0];
  shape.width = query + 2 * key;
  shape.eps = static_cast<float>(launch.attributes[3].real);
  shape.parts = 2;
  shape.part[0] = {0, query, nullptr, nullptr};
  shape.part[1] = {query, key, nullptr, nullptr};
  return shape;
}

} // namespace

Fault runQkNorm(const Launch &launch) {
  const Tensor &qkv = launch.operands[0];
  NormRows shape = packedRows(launch, qkv);
  shape.part[0].weight = launch.operands[1].data;
  shape.part[1].weight = launch.operands[2].data;
  normRows(launch, shape, qkv, launch.operands[3]);
  return launchFault("qk_norm");
}

Fault prepareQkNormGrad(const Launch &launch) {
  return prepareNormRowsGrad(launch.operands[1].dtype);
}

Fault runQkNormGrad(const Launch &launch) {
  const Tensor &dy = launch.operands[0], &qkv = launch.operands[1];
  NormRows shape = packedRows(launch, qkv);
  for (int p = 0; p < 2; ++p) {
    shape.part[p].weight = launch.operands[2 + p].data;
    shape.part[p].dweight = launch.operands[5 + p].as<float>();
  }
  normRowsGrad(launch, shape, dy, qkv, launch.operands[4]);
  return launchFault("qk_norm_grad");
}

} // namespace switchyard::kernels::cuda

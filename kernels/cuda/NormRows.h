// RMSNorm of parts of rows and its gradients, shared by rms_norm and qk_norm.
#pragma once

#include "kernels/cuda/Kernels.h"

namespace switchyard::kernels::cuda {

/// Columns [offset, offset + width) of a row, normalized by themselves.
struct NormPart {
  int64_t offset = 0;
  int64_t width = 0;
  const void *weight = nullptr; // [width]
  float *dweight = nullptr;     // [width], of the gradient alone
};

/// Rows [rows, width] whose first columns are the parts; the columns after them are copied.
struct NormRows {
  int64_t rows = 0;
  int64_t width = 0;
  float eps = 0;
  int parts = 1;
  NormPart part[2];
};

/// y = cast(x / rms) * weight by parts; y may be x.
void normRows(const Launch &launch, const NormRows &shape, const Tensor &x, const Tensor &y);

/// Before the first normRowsGrad of rows of this dtype: what a graph's capture does not allow.
Fault prepareNormRowsGrad(DType dtype);

/// dx = the gradient by x, and each part's dweight; dx may be dy. The workspace holds
/// [kCudaReductionBlocks, columns of all parts] float32.
void normRowsGrad(const Launch &launch, const NormRows &shape, const Tensor &dy, const Tensor &x,
                  const Tensor &dx);

} // namespace switchyard::kernels::cuda

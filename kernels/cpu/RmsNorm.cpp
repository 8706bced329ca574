// rms_norm, rms_norm_grad. A row belongs to one thread; the weight's gradient is summed in fixed
// blocks of rows.
#include "kernels/cpu/KernelList.h"
#include "kernels/cpu/RmsRow.h"
#include "kernels/cpu/Rows.h"
#include "kernels/cpu/VectorMath.h"

namespace switchyard::kernels::cpu {

namespace {

template <typename T>
SWITCHYARD_VECTORIZED void normRows(const T *x, const T *w, T *y, int64_t width, float eps,
                                    Range rows) {
  for (int64_t row = rows.begin; row < rows.end; ++row)
    rmsRow(x + row * width, w, y + row * width, width, eps);
}

template <typename T>
SWITCHYARD_VECTORIZED void normRowsGrad(const T *dy, const T *x, const T *w, T *dx, float *dw,
                                        int64_t width, float eps, Range rows) {
  std::fill(dw, dw + width, 0.0f);
  for (int64_t row = rows.begin; row < rows.end; ++row)
    rmsRowGrad(dy + row * width, x + row * width, w, dx + row * width, dw, width, eps);
}

} // namespace

void runRmsNorm(const Launch &launch) {
  const Tensor &x = launch.operands[0];
  const Tensor &w = launch.operands[1];
  const Tensor &y = launch.operands[2];
  int64_t width = x.dims[1];
  float eps = static_cast<float>(launch.attributes[0].real);
  withFloatType(x.dtype, [&]<typename T>(T) {
    forRows(launch, x.dims[0], width,
            [&](Range rows) { normRows(x.as<T>(), w.as<T>(), y.as<T>(), width, eps, rows); });
  });
}

void runRmsNormGrad(const Launch &launch) {
  const Tensor &dy = launch.operands[0];
  const Tensor &x = launch.operands[1];
  const Tensor &w = launch.operands[2];
  const Tensor &dx = launch.operands[3];
  const Tensor &dw = launch.operands[4];
  int64_t width = x.dims[1];
  float eps = static_cast<float>(launch.attributes[0].real);
  float *partials = floatWorkspace(launch);
  withFloatType(x.dtype, [&]<typename T>(T) {
    forReductionBlocks(launch, x.dims[0], [&](Range rows, int64_t block) {
      normRowsGrad(dy.as<T>(), x.as<T>(), w.as<T>(), dx.as<T>(), partials + block * width, width,
                   eps, rows);
    });
  });
  sumReductionBlocks(launch, partials, width, width, dw.as<float>());
}

} // namespace switchyard::kernels::cpu

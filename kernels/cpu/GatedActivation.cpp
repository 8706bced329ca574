// gated_activation (silu) and its gradient, over rows [gate | up].
#include "kernels/cpu/BFloat16.h"
#include "kernels/cpu/KernelList.h"
#include "kernels/cpu/Rows.h"
#include "kernels/cpu/VectorMath.h"

namespace switchyard::kernels::cpu {

namespace {

template <typename T>
SWITCHYARD_VECTORIZED void siluRows(const T *gateUp, T *y, int64_t width, Range rows) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const T *gate = gateUp + row * 2 * width;
    const T *up = gate + width;
    T *to = y + row * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      float g = toFloat(gate[i]);
      to[i] = fromFloat<T>(roundTo<T>(g * fastSigmoid(g)) * toFloat(up[i]));
    }
  }
}

/// dgateUp may be gateUp. `Again`: dy becomes what siluRows has as y.
template <typename T, bool Again>
SWITCHYARD_VECTORIZED void siluRowsGrad(T *dy, const T *gateUp, T *dgateUp, int64_t width,
                                        Range rows) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    T *gradient = dy + row * width;
    const T *gate = gateUp + row * 2 * width;
    const T *up = gate + width;
    T *dgate = dgateUp + row * 2 * width;
    T *dup = dgate + width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      float g = toFloat(gate[i]);
      float d = toFloat(gradient[i]);
      float u = toFloat(up[i]);
      float sigmoid = fastSigmoid(g);
      dgate[i] = fromFloat<T>(d * u * sigmoid * (1.0f + g * (1.0f - sigmoid)));
      float activated = roundTo<T>(g * sigmoid);
      dup[i] = fromFloat<T>(d * activated);
      if constexpr (Again)
        gradient[i] = fromFloat<T>(activated * u);
    }
  }
}

template <bool Again>
void runGradient(const Launch &launch) {
  const Tensor &dy = launch.operands[0];
  const Tensor &gateUp = launch.operands[1];
  const Tensor &dgateUp = launch.operands[2];
  withFloatType(dy.dtype, [&]<typename T>(T) {
    forRows(launch, dy.dims[0], dy.dims[1], [&](Range rows) {
      siluRowsGrad<T, Again>(dy.as<T>(), gateUp.as<T>(), dgateUp.as<T>(), dy.dims[1], rows);
    });
  });
}

} // namespace

void runGatedActivation(const Launch &launch) {
  const Tensor &gateUp = launch.operands[0];
  const Tensor &y = launch.operands[1];
  withFloatType(gateUp.dtype, [&]<typename T>(T) {
    forRows(launch, y.dims[0], y.dims[1],
            [&](Range rows) { siluRows(gateUp.as<T>(), y.as<T>(), y.dims[1], rows); });
  });
}

void runGatedActivationGrad(const Launch &launch) {
  runGradient<false>(launch);
}

void runGatedActivationGradAgain(const Launch &launch) {
  runGradient<true>(launch);
}

} // namespace switchyard::kernels::cpu

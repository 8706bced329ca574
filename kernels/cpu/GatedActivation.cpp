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

/// What gated_activation_grad makes of `weight` by a row of dy. dgateUp may be gateUp. `Again`: dy
/// becomes `weight` by what siluRows has as y.
template <typename T, bool Again>
[[gnu::always_inline]] inline void siluRowGrad(T *dy, const T *gateUp, T *dgateUp, int64_t width,
                                               float weight) {
  const T *gate = gateUp, *up = gate + width;
  T *dgate = dgateUp, *dup = dgate + width;
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    float g = toFloat(gate[i]);
    float d = weight * toFloat(dy[i]);
    float u = toFloat(up[i]);
    float sigmoid = fastSigmoid(g);
    dgate[i] = fromFloat<T>(d * u * sigmoid * (1.0f + g * (1.0f - sigmoid)));
    float activated = roundTo<T>(g * sigmoid);
    dup[i] = fromFloat<T>(d * activated);
    if constexpr (Again)
      dy[i] = fromFloat<T>(weight * roundTo<T>(activated * u));
  }
}

template <typename T, bool Again>
SWITCHYARD_VECTORIZED void siluRowsGrad(T *dy, const T *gateUp, T *dgateUp, int64_t width,
                                        Range rows) {
  for (int64_t row = rows.begin; row < rows.end; ++row)
    siluRowGrad<T, Again>(dy + row * width, gateUp + row * 2 * width, dgateUp + row * 2 * width,
                          width, 1.0f);
}

template <typename T, typename B>
SWITCHYARD_VECTORIZED void siluRowsGradWeighted(T *dy, const B *weights, const T *gateUp,
                                                T *dgateUp, int64_t width, Range rows) {
  for (int64_t row = rows.begin; row < rows.end; ++row)
    siluRowGrad<T, true>(dy + row * width, gateUp + row * 2 * width, dgateUp + row * 2 * width,
                         width, toFloat(weights[row]));
}

/// dots[slot] = the sum of what siluRows has as y, times dy, over the slot's row; 0 for a slot of
/// none of the `count` rows.
template <typename T, typename B>
SWITCHYARD_VECTORIZED void siluDots(const T *dy, const T *gateUp, int64_t width, int64_t count,
                                    const int32_t *rowOfSlot, B *dots, Range slots) {
  for (int64_t slot = slots.begin; slot < slots.end; ++slot) {
    int64_t row = rowOfSlot[slot];
    float sum = 0;
    if (row >= 0 && row < count) {
      const T *gradient = dy + row * width, *gate = gateUp + row * 2 * width, *up = gate + width;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < width; ++i) {
        float g = toFloat(gate[i]);
        float activated = roundTo<T>(g * fastSigmoid(g));
        sum += toFloat(gradient[i]) * roundTo<T>(activated * toFloat(up[i]));
      }
    }
    dots[slot] = fromFloat<B>(sum);
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

void runGatedActivationGradWeighted(const Launch &launch) {
  const Tensor &dy = launch.operands[0];
  const Tensor &weights = launch.operands[1];
  const Tensor &gateUp = launch.operands[2];
  const Tensor &dgateUp = launch.operands[3];
  withFloatType(dy.dtype, [&]<typename T>(T) {
    withFloatType(weights.dtype, [&]<typename B>(B) {
      forRows(launch, dy.dims[0], dy.dims[1], [&](Range rows) {
        siluRowsGradWeighted(dy.as<T>(), weights.as<const B>(), gateUp.as<const T>(),
                             dgateUp.as<T>(), dy.dims[1], rows);
      });
    });
  });
}

void runGatedActivationDots(const Launch &launch) {
  const Tensor &dy = launch.operands[0];
  const Tensor &gateUp = launch.operands[1];
  const Tensor &rowOfSlot = launch.operands[2];
  const Tensor &dots = launch.operands[3];
  withFloatType(dy.dtype, [&]<typename T>(T) {
    withFloatType(dots.dtype, [&]<typename B>(B) {
      forRows(launch, dots.count(), dy.dims[1], [&](Range slots) {
        siluDots(dy.as<const T>(), gateUp.as<const T>(), dy.dims[1], dy.dims[0],
                 rowOfSlot.as<const int32_t>(), dots.as<B>(), slots);
      });
    });
  });
}

} // namespace switchyard::kernels::cpu

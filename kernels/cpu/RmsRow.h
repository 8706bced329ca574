// RMSNorm of one row and its gradient, shared by rms_norm and qk_norm.
#pragma once

#include "kernels/cpu/BFloat16.h"

#include <cmath>

namespace switchyard::kernels::cpu {

/// 1 / sqrt(mean(x^2) + eps) of x [n].
template <typename T>
[[gnu::always_inline]] inline float rmsScale(const T *x, int64_t n, float eps) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    float value = toFloat(x[i]);
    sum += value * value;
  }
  return 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
}

/// y = cast(x * scale) * w; y may be x.
template <typename T>
[[gnu::always_inline]] inline void rmsRow(const T *x, const T *w, T *y, int64_t n, float eps) {
  float scale = rmsScale(x, n, eps);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i)
    y[i] = fromFloat<T>(roundTo<T>(toFloat(x[i]) * scale) * toFloat(w[i]));
}

/// dx = scale * (dy w - xhat mean(dy w xhat)) with xhat = x * scale, and dw += dy cast(xhat). dx
/// may be dy.
template <typename T>
[[gnu::always_inline]] inline void rmsRowGrad(const T *dy, const T *x, const T *w, T *dx, float *dw,
                                              int64_t n, float eps) {
  float scale = rmsScale(x, n, eps);
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < n; ++i) {
    float gradient = toFloat(dy[i]);
    float normalized = toFloat(x[i]) * scale;
    dw[i] += gradient * roundTo<T>(normalized);
    dot += gradient * toFloat(w[i]) * normalized;
  }
  float mean = dot / static_cast<float>(n);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    float normalized = toFloat(x[i]) * scale;
    dx[i] = fromFloat<T>(scale * (toFloat(dy[i]) * toFloat(w[i]) - normalized * mean));
  }
}

} // namespace switchyard::kernels::cpu

// silu of a gate times the other half, and its gradient, element by element. Products and sums that
// could become one fused operation are written out, so that every kernel gets the same bits.
#pragma once

#include "kernels/cuda/Values.cuh"

namespace switchyard::kernels::cuda {

/// 1 / (1 + e^-x). For bfloat16 by the device's approximations of 2^x and 1 / x, which are within a
/// few units in the last place of float32.
template <typename T>
__device__ float sigmoid(float x) {
  if constexpr (sizeof(T) == 4)
    return 1.0f / (1.0f + expf(-x));
  float power, result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(__fmul_rn(x, -1.44269504f)));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(__fadd_rn(1.0f, power)));
  return result;
}

/// silu(gate) * up, silu(gate) rounded to T.
template <typename T>
__device__ float gated(float gate, float up) {
  return __fmul_rn(roundTo<T>(__fmul_rn(gate, sigmoid<T>(gate))), up);
}

struct GatedGradient {
  float gate, up;
};

/// The gradient by both halves, and what gated(gate, up) is; `s` is sigmoid<T>(gate).
template <typename T>
__device__ GatedGradient gatedGradient(float dy, float gate, float up, float s, float &y) {
  float activated = roundTo<T>(__fmul_rn(gate, s));
  float slope = __fmul_rn(s, __fmaf_rn(gate, __fadd_rn(1.0f, -s), 1.0f));
  y = __fmul_rn(activated, up);
  return {__fmul_rn(__fmul_rn(dy, up), slope), __fmul_rn(dy, activated)};
}

} // namespace switchyard::kernels::cuda

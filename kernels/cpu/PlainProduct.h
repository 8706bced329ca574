// Products of bfloat16 matrices on a CPU for which oneDNN has none, one without AVX-512: slower by
// far, but a plan in bfloat16 can be tried and tested on any CPU.
#pragma once

#include "kernels/cpu/Gemm.h"

namespace switchyard::kernels::cpu {

/// Computes GemmCache::run's product of `shape.input` bfloat16 on the calling thread.
void runPlainProduct(const GemmShape &shape, const void *a, const void *b, void *c);

} // namespace switchyard::kernels::cpu

// Elementary functions that compilers vectorize, and the mark for functions whose loops they
// should.
//
// glibc's expf is a call per element. These are branch-free polynomials: a loop over one of them,
// under `#pragma omp simd`, becomes vector code. The results of a loop do not depend on where it
// was cut, up to the contraction of products and sums into fused ones; kernels therefore cut their
// loops at the same places whatever the number of threads.
#pragma once

#include <bit>
#include <cstdint>

/// On a function definition: compiled for AVX-512, AVX2 and the baseline, chosen when the program
/// is loaded. What it calls profits only where it is inlined. Use it on functions of internal
/// linkage that do at least some hundred operations a call. Not under ThreadSanitizer, whose own
/// calls in the functions that choose come before it is loaded.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define SWITCHYARD_VECTORIZED                                                                      \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SWITCHYARD_VECTORIZED
#endif

namespace switchyard::kernels::cpu {

/// e^x within 1 unit in the last place, subnormal results included; infinity above 88.73, 0 below
/// -104, NaN for NaN.
inline float fastExp(float x) {
  x = x < -104.0f ? -104.0f : x;
  x = x > 89.0f ? 89.0f : x;
  // Adding 1.5 * 2^23 leaves the nearest integer of x / ln 2 in the low bits of the sum.
  constexpr float kRound = 12582912.0f;
  float shifted = x * 1.44269504f + kRound;
  float n = shifted - kRound;
  // ln 2 in two parts, the first with so few bits that n * it is exact.
  float r = x - n * 0.693145752f;
  r = r - n * 1.42860677e-06f;
  float p = 1.98412698e-4f;
  p = p * r + 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * (r * r) + r;
  p = p + 1.0f;
  // 2^n as a product of two powers: n reaches 128 and -150, past what one exponent can hold.
  int32_t exponent =
      static_cast<int32_t>(std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kRound));
  int32_t half = exponent >> 1;
  float first = std::bit_cast<float>((static_cast<uint32_t>(half) + 127u) << 23);
  float second = std::bit_cast<float>(
      (static_cast<uint32_t>(exponent) - static_cast<uint32_t>(half) + 127u) << 23);
  return p * first * second;
}

/// 1 / (1 + e^-x).
inline float fastSigmoid(float x) {
  return 1.0f / (1.0f + fastExp(-x));
}

/// sin x and cos x, each within 1 unit in the last place for |x| below 10^6 and within 10^-6 for
/// any |x| below 2^31.
inline void fastSinCos(float x, float &sine, float &cosine) {
  constexpr double kRound = 6755399441055744.0; // 1.5 * 2^52
  double angle = x;
  double shifted = angle * 0.63661977236758134 + kRound;
  double n = shifted - kRound;
  double r = angle - n * 1.5707963267948966;
  r = r - n * 6.123233995736766e-17;
  double r2 = r * r;
  double s = -2.5052108385441720e-08;
  s = s * r2 + 2.7557319223985893e-06;
  s = s * r2 - 1.9841269841269841e-04;
  s = s * r2 + 8.3333333333333332e-03;
  s = s * r2 - 1.6666666666666666e-01;
  s = s * (r2 * r) + r;
  double c = -2.7557319223985888e-07;
  c = c * r2 + 2.4801587301587302e-05;
  c = c * r2 - 1.3888888888888889e-03;
  c = c * r2 + 4.1666666666666664e-02;
  c = c * r2 - 0.5;
  c = c * r2 + 1.0;
  uint64_t quadrant = std::bit_cast<uint64_t>(shifted);
  bool odd = (quadrant & 1u) != 0;
  double sineSize = odd ? c : s;
  double cosineSize = odd ? s : c;
  uint64_t sineSign = (quadrant & 2u) << 62;
  uint64_t cosineSign = ((quadrant + 1u) & 2u) << 62;
  sine = static_cast<float>(std::bit_cast<double>(std::bit_cast<uint64_t>(sineSize) ^ sineSign));
  cosine =
      static_cast<float>(std::bit_cast<double>(std::bit_cast<uint64_t>(cosineSize) ^ cosineSign));
}

} // namespace switchyard::kernels::cpu

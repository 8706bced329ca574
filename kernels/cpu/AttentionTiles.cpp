#include "kernels/cpu/AttentionTiles.h"

#include "kernels/cpu/VectorMath.h"

#include <limits>

namespace switchyard::kernels::cpu {

namespace {

/// 16 floats, wherever they lie; the compiler splits it where registers are narrower.
typedef float Vector __attribute__((vector_size(64), aligned(4), may_alias));
constexpr int64_t kVector = 16;
static_assert(kLanes == 2 * kVector, "tiles are one or two vectors wide");

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// `Count` rows from `r`: their elements are broadcast, the lanes are vectors.
template <int Vectors, int Count>
[[gnu::always_inline]] inline void scoreRows(RowMatrix rows, int64_t r, int64_t depth,
                                             const float *lanesT, float *scores) {
  Vector sums[Count][Vectors] = {};
  const float *row = rows.data + r * rows.stride;
  for (int64_t c = 0; c < depth; ++c)
    for (int v = 0; v < Vectors; ++v) {
      Vector lane = *reinterpret_cast<const Vector *>(lanesT + c * kLanes + v * kVector);
      for (int i = 0; i < Count; ++i)
        sums[i][v] += row[i * rows.stride + c] * lane;
    }
  for (int i = 0; i < Count; ++i)
    for (int v = 0; v < Vectors; ++v)
      *reinterpret_cast<Vector *>(scores + (r + i) * kLanes + v * kVector) = sums[i][v];
}

template <int Vectors>
[[gnu::always_inline]] inline void scoreTile(RowMatrix rows, const TileRows &visible, int64_t depth,
                                             const float *lanesT, float *scores) {
  int64_t r = visible.begin;
  for (; r + 4 <= visible.end; r += 4)
    scoreRows<Vectors, 4>(rows, r, depth, lanesT, scores);
  for (; r < visible.end; ++r)
    scoreRows<Vectors, 1>(rows, r, depth, lanesT, scores);
}

/// `Count` columns from `c`.
template <int Vectors, int Count>
[[gnu::always_inline]] inline void accumulateColumns(RowMatrix rows, const TileRows &visible,
                                                     int64_t c, const float *weights,
                                                     float *sumsT) {
  Vector sums[Count][Vectors];
  for (int i = 0; i < Count; ++i)
    for (int v = 0; v < Vectors; ++v)
      sums[i][v] = *reinterpret_cast<const Vector *>(sumsT + (c + i) * kLanes + v * kVector);
  for (int64_t r = visible.begin; r < visible.end; ++r) {
    const float *row = rows.data + r * rows.stride + c;
    for (int v = 0; v < Vectors; ++v) {
      Vector weight = *reinterpret_cast<const Vector *>(weights + r * kLanes + v * kVector);
      for (int i = 0; i < Count; ++i)
        sums[i][v] += row[i] * weight;
    }
  }
  for (int i = 0; i < Count; ++i)
    for (int v = 0; v < Vectors; ++v)
      *reinterpret_cast<Vector *>(sumsT + (c + i) * kLanes + v * kVector) = sums[i][v];
}

template <int Vectors>
[[gnu::always_inline]] inline void accumulateTile(RowMatrix rows, const TileRows &visible,
                                                  int64_t depth, const float *weights,
                                                  float *sumsT) {
  int64_t c = 0;
  for (; c + 4 <= depth; c += 4)
    accumulateColumns<Vectors, 4>(rows, visible, c, weights, sumsT);
  for (; c < depth; ++c)
    accumulateColumns<Vectors, 1>(rows, visible, c, weights, sumsT);
}

/// Sets what row `r` does not see to `value`.
template <int Vectors>
[[gnu::always_inline]] inline void maskRow(Band band, int64_t r, float value, float *row) {
  constexpr int32_t kUsed = Vectors * kVector;
  int64_t first = std::clamp<int64_t>(r + band.low, 0, kUsed);
  int64_t last = std::clamp<int64_t>(r + band.high, 0, kUsed);
  if (first == 0 && last == kUsed)
    return;
  int32_t from = static_cast<int32_t>(first);
  int32_t to = static_cast<int32_t>(last);
#pragma omp simd
  for (int32_t l = 0; l < kUsed; ++l)
    row[l] = l >= from && l < to ? row[l] : value;
}

template <int Vectors>
[[gnu::always_inline]] inline void softmaxTile(const TileRows &visible, int64_t depth,
                                               float *scores, float *maxima, float *sums,
                                               float *sumsT) {
  constexpr int64_t kUsed = Vectors * kVector;
  float largest[kUsed];
  float shrink[kUsed];
  float total[kUsed];
  std::copy_n(maxima, kUsed, largest);
  for (int64_t r = visible.begin; r < visible.end; ++r) {
    float *row = scores + r * kLanes;
    maskRow<Vectors>(visible.band, r, -kInfinity, row);
#pragma omp simd
    for (int64_t l = 0; l < kUsed; ++l)
      largest[l] = row[l] > largest[l] ? row[l] : largest[l];
  }
  // A lane that has seen no row yet keeps maximum -inf; subtracting 0 instead gives exp(-inf) = 0.
#pragma omp simd
  for (int64_t l = 0; l < kUsed; ++l) {
    float subtracted = largest[l] == -kInfinity ? 0.0f : largest[l];
    shrink[l] = fastExp(maxima[l] - subtracted);
    maxima[l] = largest[l];
    largest[l] = subtracted;
    total[l] = sums[l] * shrink[l];
  }
  for (int64_t r = visible.begin; r < visible.end; ++r) {
    float *row = scores + r * kLanes;
#pragma omp simd
    for (int64_t l = 0; l < kUsed; ++l) {
      row[l] = fastExp(row[l] - largest[l]);
      total[l] += row[l];
    }
  }
  std::copy_n(total, kUsed, sums);
  for (int64_t c = 0; c < depth; ++c)
#pragma omp simd
    for (int64_t l = 0; l < kUsed; ++l)
      sumsT[c * kLanes + l] *= shrink[l];
}

template <int Vectors>
[[gnu::always_inline]] inline void laneGradientTile(const TileRows &visible, const float *scores,
                                                    const float *lse, const float *delta,
                                                    float *gradients) {
  for (int64_t r = visible.begin; r < visible.end; ++r) {
    const float *score = scores + r * kLanes;
    float *gradient = gradients + r * kLanes;
#pragma omp simd
    for (int64_t l = 0; l < Vectors * kVector; ++l)
      gradient[l] = fastExp(score[l] - lse[l]) * (gradient[l] - delta[l]);
    maskRow<Vectors>(visible.band, r, 0.0f, gradient);
  }
}

template <int Vectors>
[[gnu::always_inline]] inline void rowGradientTile(const TileRows &visible, float *scores,
                                                   const float *lse, const float *delta,
                                                   float *gradients) {
  for (int64_t r = visible.begin; r < visible.end; ++r) {
    float *score = scores + r * kLanes;
    float *gradient = gradients + r * kLanes;
#pragma omp simd
    for (int64_t l = 0; l < Vectors * kVector; ++l) {
      score[l] = fastExp(score[l] - lse[r]);
      gradient[l] = score[l] * (gradient[l] - delta[r]);
    }
    maskRow<Vectors>(visible.band, r, 0.0f, score);
    maskRow<Vectors>(visible.band, r, 0.0f, gradient);
  }
}

SWITCHYARD_VECTORIZED void widenRows(const BFloat16 *x, int64_t stride, int64_t rows, int64_t depth,
                                     float *copy) {
  for (int64_t r = 0; r < rows; ++r)
#pragma omp simd
    for (int64_t c = 0; c < depth; ++c)
      copy[r * depth + c] = toFloat(x[r * stride + c]);
}

} // namespace

TileRows visibleRows(int64_t rows, int64_t lanes, Band band) {
  // Row r sees lanes r + low to r + high - 1.
  TileRows visible;
  visible.begin = std::clamp<int64_t>(1 - band.high, 0, rows);
  visible.end = std::clamp<int64_t>(lanes - band.low, visible.begin, rows);
  visible.band = band;
  return visible;
}

SWITCHYARD_VECTORIZED void tileScores(RowMatrix rows, const TileRows &visible, int64_t depth,
                                      const float *lanesT, int64_t lanes, float *scores) {
  if (lanes <= kVector)
    scoreTile<1>(rows, visible, depth, lanesT, scores);
  else
    scoreTile<2>(rows, visible, depth, lanesT, scores);
}

SWITCHYARD_VECTORIZED void tileAccumulate(RowMatrix rows, const TileRows &visible, int64_t depth,
                                          const float *weights, int64_t lanes, float *sumsT) {
  if (lanes <= kVector)
    accumulateTile<1>(rows, visible, depth, weights, sumsT);
  else
    accumulateTile<2>(rows, visible, depth, weights, sumsT);
}

SWITCHYARD_VECTORIZED void tileSoftmax(const TileRows &visible, int64_t depth, int64_t lanes,
                                       float *scores, float *maxima, float *sums, float *sumsT) {
  if (lanes <= kVector)
    softmaxTile<1>(visible, depth, scores, maxima, sums, sumsT);
  else
    softmaxTile<2>(visible, depth, scores, maxima, sums, sumsT);
}

SWITCHYARD_VECTORIZED void laneGradients(const TileRows &visible, int64_t lanes,
                                         const float *scores, const float *lse, const float *delta,
                                         float *gradients) {
  if (lanes <= kVector)
    laneGradientTile<1>(visible, scores, lse, delta, gradients);
  else
    laneGradientTile<2>(visible, scores, lse, delta, gradients);
}

SWITCHYARD_VECTORIZED void rowGradients(const TileRows &visible, int64_t lanes, float *scores,
                                        const float *lse, const float *delta, float *gradients) {
  if (lanes <= kVector)
    rowGradientTile<1>(visible, scores, lse, delta, gradients);
  else
    rowGradientTile<2>(visible, scores, lse, delta, gradients);
}

template <typename T>
void loadLanes(const T *x, int64_t stride, int64_t lanes, int64_t depth, float factor,
               float *tile) {
  for (int64_t c = 0; c < depth; ++c)
    std::fill(tile + c * kLanes + lanes, tile + (c + 1) * kLanes, 0.0f);
  for (int64_t l = 0; l < lanes; ++l)
    for (int64_t c = 0; c < depth; ++c)
      tile[c * kLanes + l] = factor * toFloat(x[l * stride + c]);
}

template <typename T>
void storeLanes(const float *tile, const float *factors, int64_t lanes, int64_t depth, T *x,
                int64_t stride) {
  for (int64_t l = 0; l < lanes; ++l)
    for (int64_t c = 0; c < depth; ++c)
      x[l * stride + c] = fromFloat<T>(factors[l] * tile[c * kLanes + l]);
}

template void loadLanes(const float *, int64_t, int64_t, int64_t, float, float *);
template void loadLanes(const BFloat16 *, int64_t, int64_t, int64_t, float, float *);
template void storeLanes(const float *, const float *, int64_t, int64_t, float *, int64_t);
template void storeLanes(const float *, const float *, int64_t, int64_t, BFloat16 *, int64_t);

RowMatrix loadRows(const float *x, int64_t stride, int64_t, int64_t, float *) {
  return {x, stride};
}

RowMatrix loadRows(const BFloat16 *x, int64_t stride, int64_t rows, int64_t depth, float *copy) {
  widenRows(x, stride, rows, depth, copy);
  return {copy, depth};
}

} // namespace switchyard::kernels::cpu

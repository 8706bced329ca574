// rotary: rotates the query and key heads of packed rows by their positions' angles.
#include "kernels/cpu/BFloat16.h"
#include "kernels/cpu/KernelList.h"
#include "kernels/cpu/Rows.h"
#include "kernels/cpu/VectorMath.h"

#include <cmath>

namespace switchyard::kernels::cpu {

namespace {

/// Frequencies handled at once: their sines and cosines stand on the stack.
constexpr int64_t kFrequencies = 64;

struct Shape {
  int64_t heads = 0; // query and key heads
  int64_t headDim = 0;
  int64_t width = 0; // of a packed row
  double theta = 1;
  float direction = 1; // -1 rotates back
};

/// 1 / theta^(2 i / head_dim) as transformers computes it: each step rounded to float32.
float inverseFrequency(const Shape &shape, int64_t i) {
  float exponent = static_cast<float>(2 * i) / static_cast<float>(shape.headDim);
  float power =
      static_cast<float>(std::pow(static_cast<double>(static_cast<float>(shape.theta)), exponent));
  return 1.0f / power;
}

/// Columns [first, first + count) of each head's halves. The angle is one float32 product, as in
/// transformers; products and sum of the rotation are float32, rounded once.
template <typename T>
SWITCHYARD_VECTORIZED void rotateRows(const T *qkv, const int32_t *positions, T *y,
                                      const Shape &shape, const float *frequencies, int64_t first,
                                      int64_t count, Range rows) {
  int64_t half = shape.headDim / 2;
  float sines[kFrequencies];
  float cosines[kFrequencies];
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    float position = static_cast<float>(positions[t]);
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      fastSinCos(position * frequencies[i], sines[i], cosines[i]);
      sines[i] = shape.direction * roundTo<T>(sines[i]);
      cosines[i] = roundTo<T>(cosines[i]);
    }
    for (int64_t head = 0; head < shape.heads; ++head) {
      int64_t offset = t * shape.width + head * shape.headDim + first;
      const T *from = qkv + offset;
      T *to = y + offset;
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) {
        float low = toFloat(from[i]);
        float high = toFloat(from[half + i]);
        to[i] = fromFloat<T>(low * cosines[i] - high * sines[i]);
        to[half + i] = fromFloat<T>(high * cosines[i] + low * sines[i]);
      }
    }
  }
}

/// What no angle turns: the values, and the last column of an odd head.
template <typename T>
void copyRest(const T *qkv, T *y, const Shape &shape, Range rows) {
  int64_t turned = shape.heads * shape.headDim;
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    const T *from = qkv + t * shape.width;
    T *to = y + t * shape.width;
    std::copy(from + turned, from + shape.width, to + turned);
    if (shape.headDim % 2 != 0)
      for (int64_t head = 1; head <= shape.heads; ++head)
        to[head * shape.headDim - 1] = from[head * shape.headDim - 1];
  }
}

template <typename T>
void rotate(const T *qkv, const int32_t *positions, T *y, const Shape &shape, Range rows) {
  int64_t half = shape.headDim / 2;
  float frequencies[kFrequencies];
  for (int64_t first = 0; first < half; first += kFrequencies) {
    int64_t count = std::min(kFrequencies, half - first);
    for (int64_t i = 0; i < count; ++i)
      frequencies[i] = inverseFrequency(shape, first + i);
    rotateRows(qkv, positions, y, shape, frequencies, first, count, rows);
  }
  if (qkv != y)
    copyRest(qkv, y, shape, rows);
}

} // namespace

void runRotary(const Launch &launch) {
  const Tensor &qkv = launch.operands[0];
  const Tensor &positions = launch.operands[1];
  const Tensor &y = launch.operands[2];
  Shape shape;
  shape.heads = launch.attributes[0].integer + launch.attributes[1].integer;
  shape.headDim = launch.attributes[2].integer;
  shape.width = qkv.dims[1];
  shape.theta = launch.attributes[3].real;
  shape.direction = launch.attributes[4].integer != 0 ? -1.0f : 1.0f;
  withFloatType(qkv.dtype, [&]<typename T>(T) {
    forRows(launch, qkv.dims[0], shape.width, [&](Range rows) {
      rotate(qkv.as<T>(), positions.as<int32_t>(), y.as<T>(), shape, rows);
    });
  });
}

} // namespace switchyard::kernels::cpu

#include "kernels/cpu/PlainProduct.h"

#include "kernels/cpu/BFloat16.h"
#include "kernels/cpu/VectorMath.h"

#include <algorithm>

namespace switchyard::kernels::cpu {
namespace {

constexpr int64_t kColumns = 512; // whose sums are on the stack
constexpr int64_t kLanes = 16;    // partial sums of a dot

/// Row `i` of the operands: element k of it stands at a[k * step].
struct Row {
  const BFloat16 *a;
  int64_t step;
};

/// sums[j] = sum_k row[k] b[k, j] for b [depth, width]. Always added in the order of k.
SWITCHYARD_VECTORIZED
void multiplyRow(Row row, const BFloat16 *b, int64_t depth, int64_t width, int64_t count,
                 float *sums) {
  std::fill_n(sums, count, 0.0f);
  for (int64_t k = 0; k < depth; ++k) {
    float factor = toFloat(row.a[k * row.step]);
    const BFloat16 *line = b + k * width;
#pragma omp simd
    for (int64_t j = 0; j < count; ++j)
      sums[j] += factor * toFloat(line[j]);
  }
}

/// The sum of row[k] b[k], in kLanes parts that are then added in order.
SWITCHYARD_VECTORIZED
float dot(Row row, const BFloat16 *b, int64_t depth) {
  float parts[kLanes] = {};
  int64_t whole = depth / kLanes * kLanes;
  for (int64_t k = 0; k < whole; k += kLanes)
#pragma omp simd
    for (int64_t i = 0; i < kLanes; ++i)
      parts[i] += toFloat(row.a[(k + i) * row.step]) * toFloat(b[k + i]);
  float sum = 0;
  for (float part : parts)
    sum += part;
  for (int64_t k = whole; k < depth; ++k)
    sum += toFloat(row.a[k * row.step]) * toFloat(b[k]);
  return sum;
}

} // namespace

void runPlainProduct(const GemmShape &shape, const void *a, const void *b, void *c) {
  const auto *left = static_cast<const BFloat16 *>(a), *right = static_cast<const BFloat16 *>(b);
  float sums[kColumns];
  for (int64_t i = 0; i < shape.m; ++i) {
    Row row = shape.transposeA ? Row{left + i, shape.m} : Row{left + i * shape.k, 1};
    for (int64_t first = 0; first < shape.n; first += kColumns) {
      int64_t count = std::min(kColumns, shape.n - first);
      if (shape.transposeB)
        for (int64_t j = 0; j < count; ++j)
          sums[j] = dot(row, right + (first + j) * shape.k, shape.k);
      else
        multiplyRow(row, right + first, shape.k, shape.n, count, sums);
      withFloatType(shape.output, [&]<typename T>(T) {
        T *to = static_cast<T *>(c) + i * shape.n + first;
        for (int64_t j = 0; j < count; ++j)
          to[j] = fromFloat<T>(sums[j] + (shape.accumulate ? toFloat(to[j]) : 0.0f));
      });
    }
  }
}

} // namespace switchyard::kernels::cpu

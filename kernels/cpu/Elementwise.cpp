// add, scale, constant, accumulate, cast, gather_rows, sum.
#include "kernels/cpu/BFloat16.h"
#include "kernels/cpu/KernelList.h"
#include "kernels/cpu/Rows.h"
#include "kernels/cpu/VectorMath.h"

namespace switchyard::kernels::cpu {

namespace {

template <typename T>
SWITCHYARD_VECTORIZED void addRange(const T *a, const T *b, T *y, Range range) {
#pragma omp simd
  for (int64_t i = range.begin; i < range.end; ++i)
    y[i] = fromFloat<T>(toFloat(a[i]) + toFloat(b[i]));
}

template <typename T>
SWITCHYARD_VECTORIZED void scaleRange(const T *x, float factor, T *y, Range range) {
#pragma omp simd
  for (int64_t i = range.begin; i < range.end; ++i)
    y[i] = fromFloat<T>(toFloat(x[i]) * factor);
}

template <typename B, typename A>
SWITCHYARD_VECTORIZED void accumulateRange(B *accumulator, const A *value, Range range) {
#pragma omp simd
  for (int64_t i = range.begin; i < range.end; ++i)
    accumulator[i] = fromFloat<B>(toFloat(accumulator[i]) + toFloat(value[i]));
}

template <typename B, typename A>
SWITCHYARD_VECTORIZED void castRange(const A *x, B *y, Range range) {
#pragma omp simd
  for (int64_t i = range.begin; i < range.end; ++i)
    y[i] = fromFloat<B>(toFloat(x[i]));
}

} // namespace

void runAdd(const Launch &launch) {
  const Tensor &a = launch.operands[0];
  const Tensor &b = launch.operands[1];
  const Tensor &y = launch.operands[2];
  withFloatType(a.dtype, [&]<typename T>(T) {
    forRows(launch, a.count(), 1,
            [&](Range range) { addRange(a.as<T>(), b.as<T>(), y.as<T>(), range); });
  });
}

void runScale(const Launch &launch) {
  const Tensor &x = launch.operands[0];
  const Tensor &y = launch.operands[1];
  float factor = static_cast<float>(launch.attributes[0].real);
  withFloatType(x.dtype, [&]<typename T>(T) {
    forRows(launch, x.count(), 1,
            [&](Range range) { scaleRange(x.as<T>(), factor, y.as<T>(), range); });
  });
}

void runConstant(const Launch &launch) {
  const Tensor &y = launch.operands[0];
  float value = static_cast<float>(launch.attributes[0].real);
  withFloatType(y.dtype, [&]<typename T>(T) {
    forRows(launch, y.count(), 1, [&](Range range) {
      std::fill(y.as<T>() + range.begin, y.as<T>() + range.end, fromFloat<T>(value));
    });
  });
}

void runAccumulate(const Launch &launch) {
  const Tensor &accumulator = launch.operands[0];
  const Tensor &value = launch.operands[1];
  withFloatType(accumulator.dtype, [&]<typename B>(B) {
    withFloatType(value.dtype, [&]<typename A>(A) {
      forRows(launch, value.count(), 1,
              [&](Range range) { accumulateRange(accumulator.as<B>(), value.as<A>(), range); });
    });
  });
}

void runCast(const Launch &launch) {
  const Tensor &x = launch.operands[0];
  const Tensor &y = launch.operands[1];
  withFloatType(x.dtype, [&]<typename A>(A) {
    withFloatType(y.dtype, [&]<typename B>(B) {
      forRows(launch, x.count(), 1, [&](Range range) { castRange(x.as<A>(), y.as<B>(), range); });
    });
  });
}

// A row outside [0, T) is zero.
void runGatherRows(const Launch &launch) {
  const Tensor &x = launch.operands[0];
  const int32_t *selected = launch.operands[1].as<int32_t>();
  const Tensor &y = launch.operands[2];
  int64_t width = y.dims[1];
  withFloatType(x.dtype, [&]<typename T>(T) {
    forRows(launch, y.dims[0], width, [&](Range rows) {
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        T *to = y.as<T>() + row * width;
        if (selected[row] >= 0 && selected[row] < x.dims[0])
          std::copy_n(x.as<T>() + selected[row] * width, width, to);
        else
          std::fill_n(to, width, T{});
      }
    });
  });
}

void runSum(const Launch &launch) {
  float sum = 0;
  for (const Tensor &term : launch.operands.first(launch.operands.size() - 1))
    sum += *term.as<float>();
  *launch.operands.back().as<float>() = sum;
}

} // namespace switchyard::kernels::cpu

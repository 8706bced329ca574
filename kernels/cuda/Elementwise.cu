// add, scale, constant, accumulate, cast, gather_rows, sum.
//
// Seen on an H200 (bfloat16, median of 20; a copy reaches 4.3 TB/s): add of [16384, 4096] 4.1
// TB/s, accumulate of 2^29 elements into float32 3.8 TB/s.
#include "kernels/cuda/Elements.cuh"
#include "kernels/cuda/KernelList.h"

namespace switchyard::kernels::cuda {
namespace {

template <typename T>
struct Add {
  const T *a, *b;
  T *y;
  template <int N>
  __device__ void apply(int64_t i) const {
    float left[N], right[N];
    loadPack(a + i, left);
    loadPack(b + i, right);
#pragma unroll
    for (int j = 0; j < N; ++j)
      left[j] += right[j];
    storePack(y + i, left);
  }
};

template <typename T>
struct Scale {
  const T *x;
  T *y;
  float factor;
  template <int N>
  __device__ void apply(int64_t i) const {
    float values[N];
    loadPack(x + i, values);
#pragma unroll
    for (int j = 0; j < N; ++j)
      values[j] *= factor;
    storePack(y + i, values);
  }
};

template <typename T>
struct Constant {
  T *y;
  float value;
  template <int N>
  __device__ void apply(int64_t i) const {
    float values[N];
#pragma unroll
    for (int j = 0; j < N; ++j)
      values[j] = value;
    storePack(y + i, values);
  }
};

template <typename B, typename A>
struct Accumulate {
  B *accumulator;
  const A *value;
  template <int N>
  __device__ void apply(int64_t i) const {
    float sum[N], term[N];
    loadPack(accumulator + i, sum);
    loadPack(value + i, term);
#pragma unroll
    for (int j = 0; j < N; ++j)
      sum[j] += term[j];
    storePack(accumulator + i, sum);
  }
};

template <typename A, typename B>
struct Cast {
  const A *x;
  B *y;
  template <int N>
  __device__ void apply(int64_t i) const {
    float values[N];
    loadPack(x + i, values);
    storePack(y + i, values);
  }
};

/// y[row] = x[selected[row]], zero where there is no such row. A block per row.
template <typename T, int N>
__global__ void gatherRowsKernel(const T *x, int64_t xRows, const int32_t *selected, T *y,
                                 int64_t width) {
  int64_t row = blockIdx.x;
  int32_t from = selected[row];
  bool exists = from >= 0 && from < xRows;
  for (int64_t i = threadIdx.x * N; i < width; i += blockDim.x * N) {
    float values[N] = {};
    if (exists)
      loadPack(x + from * width + i, values);
    storePack(y + row * width + i, values);
  }
}

/// The scalars of one launch: more than fit are added by further launches.
struct Terms {
  static constexpr int kMost = 256;
  const float *terms[kMost];
  int count;
};

__global__ void sumKernel(Terms terms, float *y, bool first) {
  float sum = first ? 0.0f : *y;
  for (int i = 0; i < terms.count; ++i)
    sum += *terms.terms[i];
  *y = sum;
}

} // namespace

Fault runAdd(const Launch &launch) {
  const Tensor &a = launch.operands[0], &b = launch.operands[1], &y = launch.operands[2];
  withFloatType(a.dtype, [&]<typename T>(T) {
    forElements<kPack<T>>(launch, Add<T>{a.as<T>(), b.as<T>(), y.as<T>()}, a.count(),
                          isAligned({a.data, b.data, y.data}));
  });
  return launchFault("add");
}

Fault runScale(const Launch &launch) {
  const Tensor &x = launch.operands[0], &y = launch.operands[1];
  float factor = static_cast<float>(launch.attributes[0].real);
  withFloatType(x.dtype, [&]<typename T>(T) {
    forElements<kPack<T>>(launch, Scale<T>{x.as<T>(), y.as<T>(), factor}, x.count(),
                          isAligned({x.data, y.data}));
  });
  return launchFault("scale");
}

Fault runConstant(const Launch &launch) {
  const Tensor &y = launch.operands[0];
  float value = static_cast<float>(launch.attributes[0].real);
  withFloatType(y.dtype, [&]<typename T>(T) {
    forElements<kPack<T>>(launch, Constant<T>{y.as<T>(), value}, y.count(), isAligned({y.data}));
  });
  return launchFault("constant");
}

Fault runAccumulate(const Launch &launch) {
  const Tensor &accumulator = launch.operands[0], &value = launch.operands[1];
  withFloatType(accumulator.dtype, [&]<typename B>(B) {
    withFloatType(value.dtype, [&]<typename A>(A) {
      constexpr int kWide = kPack<A> > kPack<B> ? kPack<A> : kPack<B>;
      forElements<kWide>(launch, Accumulate<B, A>{accumulator.as<B>(), value.as<A>()},
                         value.count(), isAligned({accumulator.data, value.data}));
    });
  });
  return launchFault("accumulate");
}

Fault runCast(const Launch &launch) {
  const Tensor &x = launch.operands[0], &y = launch.operands[1];
  withFloatType(x.dtype, [&]<typename A>(A) {
    withFloatType(y.dtype, [&]<typename B>(B) {
      constexpr int kWide = kPack<A> > kPack<B> ? kPack<A> : kPack<B>;
      forElements<kWide>(launch, Cast<A, B>{x.as<A>(), y.as<B>()}, x.count(),
                         isAligned({x.data, y.data}));
    });
  });
  return launchFault("cast");
}

Fault runGatherRows(const Launch &launch) {
  const Tensor &x = launch.operands[0], &selected = launch.operands[1], &y = launch.operands[2];
  int64_t rows = y.dims[0], width = y.dims[1];
  if (rows == 0)
    return std::nullopt;
  withFloatType(x.dtype, [&]<typename T>(T) {
    bool wide = width % kPack<T> == 0 && isAligned({x.data, y.data});
    withPack<kPack<T>>(wide, [&](auto pack) {
      constexpr int kN = decltype(pack)::value;
      gatherRowsKernel<T, kN>
          <<<static_cast<unsigned>(rows), threadsFor(width / kN), 0, contextOf(launch).stream>>>(
              x.as<T>(), x.dims[0], selected.as<int32_t>(), y.as<T>(), width);
    });
  });
  return launchFault("gather_rows");
}

Fault runSum(const Launch &launch) {
  std::span<const Tensor> inputs = launch.operands.first(launch.operands.size() - 1);
  float *y = launch.operands.back().as<float>();
  for (size_t first = 0; first < inputs.size(); first += Terms::kMost) {
    Terms terms{};
    terms.count = static_cast<int>(std::min<size_t>(Terms::kMost, inputs.size() - first));
    for (int i = 0; i < terms.count; ++i)
      terms.terms[i] = inputs[first + i].as<float>();
    sumKernel<<<1, 1, 0, contextOf(launch).stream>>>(terms, y, first == 0);
  }
  return launchFault("sum");
}

} // namespace switchyard::kernels::cuda

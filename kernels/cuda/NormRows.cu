// RMSNorm of parts of rows. Forward, a block computes a row. Backward, kCudaReductionBlocks blocks
// compute a range of rows each; a thread owns columns, sums their weight gradients in shared memory
// (in the workspace if they are too many), and the blocks' sums are added in order.
#include "kernels/cuda/NormRows.h"
#include "kernels/cuda/Reduce.cuh"

namespace switchyard::kernels::cuda {
namespace {

/// Weight gradients that fit a block's shared memory without asking for more.
constexpr int64_t kSharedColumns = 8192;

/// 1 / sqrt(mean(x^2) + eps) of x [width], in every thread.
template <typename T, int N>
__device__ float rmsScale(const T *x, int64_t width, float eps) {
  float sum = 0;
  for (int64_t i = threadIdx.x * N; i < width; i += blockDim.x * N) {
    float values[N];
    loadPack(x + i, values);
#pragma unroll
    for (int j = 0; j < N; ++j)
      sum += values[j] * values[j];
  }
  return 1.0f / sqrtf(blockSum(sum) / static_cast<float>(width) + eps);
}

/// Copies the columns that belong to no part.
template <typename T, int N>
__device__ void copyRest(const NormRows &shape, const T *from, T *to) {
  const NormPart &last = shape.part[shape.parts - 1];
  for (int64_t i = last.offset + last.width + threadIdx.x * N; i < shape.width; i += blockDim.x * N)
    *reinterpret_cast<Pack<T, N> *>(to + i) = *reinterpret_cast<const Pack<T, N> *>(from + i);
}

template <typename T, int N>
__global__ void normRowsKernel(NormRows shape, const T *x, T *y) {
  const T *from = x + blockIdx.x * shape.width;
  T *to = y + blockIdx.x * shape.width;
  for (int p = 0; p < shape.parts; ++p) {
    const NormPart &part = shape.part[p];
    const T *weight = static_cast<const T *>(part.weight);
    float scale = rmsScale<T, N>(from + part.offset, part.width, shape.eps);
    for (int64_t i = threadIdx.x * N; i < part.width; i += blockDim.x * N) {
      float values[N], weights[N];
      loadPack(from + part.offset + i, values);
      loadPack(weight + i, weights);
#pragma unroll
      for (int j = 0; j < N; ++j)
        values[j] = roundTo<T>(values[j] * scale) * weights[j];
      storePack(to + part.offset + i, values);
    }
  }
  copyRest<T, N>(shape, from, to);
}

/// dx = scale (dy w - xhat mean(dy w xhat)) with xhat = x scale; sums += dy cast(xhat).
template <typename T, int N>
__device__ void normPartGrad(const NormPart &part, float eps, const T *dy, const T *x, T *dx,
                             float *sums) {
  const T *weight = static_cast<const T *>(part.weight);
  float scale = rmsScale<T, N>(x, part.width, eps);
  float dot = 0;
  for (int64_t i = threadIdx.x * N; i < part.width; i += blockDim.x * N) {
    float gradients[N], values[N], weights[N];
    loadPack(dy + i, gradients);
    loadPack(x + i, values);
    loadPack(weight + i, weights);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      float normalized = values[j] * scale;
      sums[i + j] += gradients[j] * roundTo<T>(normalized);
      dot += gradients[j] * weights[j] * normalized;
    }
  }
  float mean = blockSum(dot) / static_cast<float>(part.width);
  for (int64_t i = threadIdx.x * N; i < part.width; i += blockDim.x * N) {
    float gradients[N], values[N], weights[N];
    loadPack(dy + i, gradients);
    loadPack(x + i, values);
    loadPack(weight + i, weights);
#pragma unroll
    for (int j = 0; j < N; ++j)
      gradients[j] = scale * (gradients[j] * weights[j] - values[j] * scale * mean);
    storePack(dx + i, gradients);
  }
}

template <typename T, int N>
__global__ void normRowsGradKernel(NormRows shape, int64_t columns, const T *dy, const T *x, T *dx,
                                   float *partials) {
  extern __shared__ float shared[];
  float *partial = partials + blockIdx.x * columns;
  float *sums = columns <= kSharedColumns ? shared : partial;
  // A thread clears, sums and stores the columns of its packs, so that no barrier is needed.
  auto forOwned = [&](const auto &body) {
    int64_t first = 0;
    for (int p = 0; p < shape.parts; ++p) {
      for (int64_t i = threadIdx.x * N; i < shape.part[p].width; i += blockDim.x * N)
        for (int j = 0; j < N; ++j)
          body(first + i + j);
      first += shape.part[p].width;
    }
  };
  forOwned([&](int64_t column) { sums[column] = 0; });
  Range rows = blockOf(shape.rows, gridDim.x, blockIdx.x);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    int64_t at = row * shape.width;
    int64_t first = 0;
    for (int p = 0; p < shape.parts; ++p) {
      const NormPart &part = shape.part[p];
      normPartGrad<T, N>(part, shape.eps, dy + at + part.offset, x + at + part.offset,
                         dx + at + part.offset, sums + first);
      first += part.width;
    }
    copyRest<T, N>(shape, dy + at, dx + at);
  }
  if (sums != partial)
    forOwned([&](int64_t column) { partial[column] = sums[column]; });
}

/// Whether every part begins and ends at a multiple of `n` elements.
bool isWide(const NormRows &shape, int n) {
  bool wide = shape.width % n == 0;
  for (int p = 0; p < shape.parts; ++p)
    wide = wide && shape.part[p].offset % n == 0 && shape.part[p].width % n == 0 &&
           isAligned({shape.part[p].weight});
  return wide;
}

} // namespace

void normRows(const Launch &launch, const NormRows &shape, const Tensor &x, const Tensor &y) {
  if (shape.rows == 0)
    return;
  withFloatType(x.dtype, [&]<typename T>(T) {
    bool wide = isWide(shape, kPack<T>) && isAligned({x.data, y.data});
    withPack<kPack<T>>(wide, [&](auto pack) {
      constexpr int kN = decltype(pack)::value;
      normRowsKernel<T, kN>
          <<<static_cast<unsigned>(shape.rows), threadsFor(ceilDivide(shape.width, kN), 512), 0,
             contextOf(launch).stream>>>(shape, x.as<T>(), y.as<T>());
    });
  });
}

void normRowsGrad(const Launch &launch, const NormRows &shape, const Tensor &dy, const Tensor &x,
                  const Tensor &dx) {
  int64_t columns = 0;
  for (int p = 0; p < shape.parts; ++p)
    columns += shape.part[p].width;
  float *partials = floatWorkspace(launch);
  withFloatType(x.dtype, [&]<typename T>(T) {
    bool wide = isWide(shape, kPack<T>) && isAligned({dy.data, x.data, dx.data});
    withPack<kPack<T>>(wide, [&](auto pack) {
      constexpr int kN = decltype(pack)::value;
      int64_t shared = columns <= kSharedColumns ? columns * 4 : 0;
      normRowsGradKernel<T, kN><<<static_cast<unsigned>(kCudaReductionBlocks),
                                  threadsFor(ceilDivide(shape.width, kN), 512),
                                  static_cast<size_t>(shared), contextOf(launch).stream>>>(
          shape, columns, dy.as<T>(), x.as<T>(), dx.as<T>(), partials);
    });
  });
  for (int p = 0; p < shape.parts; ++p) {
    const NormPart &part = shape.part[p];
    sumPartials(launch, partials, kCudaReductionBlocks, columns, part.width, part.dweight);
    partials += part.width;
  }
}

} // namespace switchyard::kernels::cuda

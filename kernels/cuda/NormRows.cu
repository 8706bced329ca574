// RMSNorm of parts of rows. A thread holds a row's packs at its columns in registers, so that a row
// is read once. Forward, a block computes a row. Backward, kCudaReductionBlocks blocks compute a
// range of rows each; a thread sums its columns' weight gradients in registers, and the blocks'
// sums are added in order. Rows too long for that are read twice, their sums kept in the workspace.
//
// Seen on an H200 (bfloat16, median of 20, 16,384 tokens; a copy reaches 4.3 TB/s): rms_norm 2.3
// TB/s for D = 4096 and 2.2 for 2048, its gradient 2.3 and 2.3, qk_norm 2.6 and 3.0. At 4,096
// tokens 1.3 to 2.3 TB/s: a block's barriers show.
#include "kernels/cuda/NormRows.h"
#include "kernels/cuda/Reduce.cuh"

namespace switchyard::kernels::cuda {
namespace {

/// Packs of a row that a thread holds. Forward, it takes as many again of longer rows, in rounds.
constexpr int kForwardPacks = 4;
constexpr int kBackwardPacks = 2;
constexpr int64_t kMostThreads = 512;

/// The packs of a thread in one round: `Count` of N elements, blockDim.x packs apart from `first`
/// on; zeros past the end.
template <typename T, int N, int Count>
struct Packs {
  Pack<T, N> packs[Count] = {};

  __device__ Packs(const T *from, int64_t first, int64_t width) {
#pragma unroll
    for (int k = 0; k < Count; ++k)
      if (at(first, k) < width)
        packs[k] = *reinterpret_cast<const Pack<T, N> *>(from + at(first, k));
  }
  static __device__ int64_t at(int64_t first, int k) {
    return first + (static_cast<int64_t>(k) * blockDim.x + threadIdx.x) * N;
  }
  __device__ float value(int k, int j) const { return toFloat(packs[k].values[j]); }
};

/// Elements of a row that a block holds in one round.
template <int N, int Count>
__device__ int64_t roundWidth() {
  return static_cast<int64_t>(blockDim.x) * N * Count;
}

/// Copies the columns that belong to no part.
template <typename T, int N>
__device__ void copyRest(const NormRows &shape, const T *from, T *to) {
  const NormPart &last = shape.part[shape.parts - 1];
  for (int64_t i = last.offset + last.width + threadIdx.x * N; i < shape.width; i += blockDim.x * N)
    *reinterpret_cast<Pack<T, N> *>(to + i) = *reinterpret_cast<const Pack<T, N> *>(from + i);
}

template <typename T, int N>
__device__ void normPart(const NormPart &part, float eps, const T *x, T *y) {
  using Held = Packs<T, N, kForwardPacks>;
  int64_t round = roundWidth<N, kForwardPacks>();
  Held held(x, 0, part.width), weights(static_cast<const T *>(part.weight), 0, part.width);
  float sum = 0;
  auto addSquares = [&](const Held &values) {
#pragma unroll
    for (int k = 0; k < kForwardPacks; ++k)
#pragma unroll
      for (int j = 0; j < N; ++j)
        sum += values.value(k, j) * values.value(k, j);
  };
  addSquares(held);
  for (int64_t first = round; first < part.width; first += round)
    addSquares(Held(x, first, part.width));
  float scale = 1.0f / sqrtf(blockSum(sum) / static_cast<float>(part.width) + eps);
  for (int64_t first = 0; first < part.width; first += round) {
    if (first > 0) {
      held = Held(x, first, part.width);
      weights = Held(static_cast<const T *>(part.weight), first, part.width);
    }
#pragma unroll
    for (int k = 0; k < kForwardPacks; ++k) {
      if (Held::at(first, k) >= part.width)
        continue;
      float results[N];
#pragma unroll
      for (int j = 0; j < N; ++j)
        results[j] = roundTo<T>(held.value(k, j) * scale) * weights.value(k, j);
      storePack(y + Held::at(first, k), results);
    }
  }
}

template <typename T, int N>
__global__ void normRowsKernel(NormRows shape, const T *x, T *y) {
  const T *from = x + blockIdx.x * shape.width;
  T *to = y + blockIdx.x * shape.width;
  for (int p = 0; p < shape.parts; ++p)
    normPart<T, N>(shape.part[p], shape.eps, from + shape.part[p].offset,
                   to + shape.part[p].offset);
  if (from != to)
    copyRest<T, N>(shape, from, to);
}

/// The sums over a row that its gradient needs: x^2, and dy w x.
struct RowSums {
  float squares;
  float products;
};

__device__ RowSums blockRowSums(float squares, float products) {
  return combineWarps(RowSums{warpSum(squares), warpSum(products)},
                      [](const RowSums &a, const RowSums &b) {
                        return RowSums{a.squares + b.squares, a.products + b.products};
                      });
}

/// What turns a row's gradients into dx = scale (dy w - x scale mean).
struct RowFactors {
  float scale, mean;
  __device__ RowFactors(const RowSums &sums, int64_t width, float eps)
      : scale(1.0f / sqrtf(sums.squares / static_cast<float>(width) + eps)),
        mean(scale * sums.products / static_cast<float>(width)) {}
  __device__ float dx(float gradient, float weight, float x) const {
    return scale * (gradient * weight - x * scale * mean);
  }
};

/// The gradient of one part of rows that a block holds. dx may be dy.
template <typename T, int N>
__device__ void heldPartGrad(const NormRows &shape, const NormPart &part, Range rows, const T *dy,
                             const T *x, T *dx, float *partial) {
  using Held = Packs<T, N, kBackwardPacks>;
  Held weights(static_cast<const T *>(part.weight), 0, part.width);
  float dweights[kBackwardPacks][N] = {};
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    int64_t at = row * shape.width + part.offset;
    Held gradients(dy + at, 0, part.width), values(x + at, 0, part.width);
    float squares = 0, products = 0;
#pragma unroll
    for (int k = 0; k < kBackwardPacks; ++k)
#pragma unroll
      for (int j = 0; j < N; ++j) {
        float value = values.value(k, j);
        squares += value * value;
        products += gradients.value(k, j) * weights.value(k, j) * value;
      }
    RowFactors factors(blockRowSums(squares, products), part.width, shape.eps);
#pragma unroll
    for (int k = 0; k < kBackwardPacks; ++k) {
      float results[N];
#pragma unroll
      for (int j = 0; j < N; ++j) {
        float gradient = gradients.value(k, j), value = values.value(k, j);
        dweights[k][j] += gradient * roundTo<T>(value * factors.scale);
        results[j] = factors.dx(gradient, weights.value(k, j), value);
      }
      if (Held::at(0, k) < part.width)
        storePack(dx + at + Held::at(0, k), results);
    }
  }
#pragma unroll
  for (int k = 0; k < kBackwardPacks; ++k)
    for (int j = 0; j < N; ++j)
      if (Held::at(0, k) < part.width)
        partial[Held::at(0, k) + j] = dweights[k][j];
}

/// The same for rows of any width. A thread clears and sums the columns of its packs alone.
template <typename T, int N>
__device__ void longPartGrad(const NormRows &shape, const NormPart &part, Range rows, const T *dy,
                             const T *x, T *dx, float *partial) {
  const T *weight = static_cast<const T *>(part.weight);
  auto forPacks = [&](const auto &body) {
    for (int64_t i = threadIdx.x * N; i < part.width; i += blockDim.x * N)
      body(i);
  };
  forPacks([&](int64_t i) {
    for (int j = 0; j < N; ++j)
      partial[i + j] = 0;
  });
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    int64_t at = row * shape.width + part.offset;
    float gradients[N], values[N], weights[N], squares = 0, products = 0;
    forPacks([&](int64_t i) {
      loadPack(dy + at + i, gradients);
      loadPack(x + at + i, values);
      loadPack(weight + i, weights);
      for (int j = 0; j < N; ++j) {
        squares += values[j] * values[j];
        products += gradients[j] * weights[j] * values[j];
      }
    });
    RowFactors factors(blockRowSums(squares, products), part.width, shape.eps);
    forPacks([&](int64_t i) {
      loadPack(dy + at + i, gradients);
      loadPack(x + at + i, values);
      loadPack(weight + i, weights);
      for (int j = 0; j < N; ++j) {
        partial[i + j] += gradients[j] * roundTo<T>(values[j] * factors.scale);
        gradients[j] = factors.dx(gradients[j], weights[j], values[j]);
      }
      storePack(dx + at + i, gradients);
    });
  }
}

template <typename T, int N>
__global__ __launch_bounds__(kMostThreads) void normRowsGradKernel(NormRows shape, int64_t columns,
                                                                   const T *dy, const T *x, T *dx,
                                                                   float *partials) {
  float *partial = partials + blockIdx.x * columns;
  Range rows = blockOf(shape.rows, gridDim.x, blockIdx.x);
  for (int p = 0; p < shape.parts; ++p) {
    const NormPart &part = shape.part[p];
    if (part.width <= roundWidth<N, kBackwardPacks>())
      heldPartGrad<T, N>(shape, part, rows, dy, x, dx, partial);
    else
      longPartGrad<T, N>(shape, part, rows, dy, x, dx, partial);
    partial += part.width;
  }
  for (int64_t row = rows.begin; row < rows.end && dy != dx; ++row)
    copyRest<T, N>(shape, dy + row * shape.width, dx + row * shape.width);
}

/// Threads for a block that holds the widest part, `packs` packs of n elements each.
unsigned threadsOf(const NormRows &shape, int n, int packs) {
  int64_t widest = 0;
  for (int p = 0; p < shape.parts; ++p)
    widest = widest < shape.part[p].width ? shape.part[p].width : widest;
  return threadsFor(ceilDivide(widest, int64_t{n} * packs), kMostThreads);
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
          <<<static_cast<unsigned>(shape.rows), threadsOf(shape, kN, kForwardPacks), 0,
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
      normRowsGradKernel<T, kN>
          <<<static_cast<unsigned>(kCudaReductionBlocks), threadsOf(shape, kN, kBackwardPacks), 0,
             contextOf(launch).stream>>>(shape, columns, dy.as<T>(), x.as<T>(), dx.as<T>(),
                                         partials);
    });
  });
  for (int p = 0; p < shape.parts; ++p) {
    const NormPart &part = shape.part[p];
    sumPartials(launch, partials, kCudaReductionBlocks, columns, part.width, part.dweight);
    partials += part.width;
  }
}

} // namespace switchyard::kernels::cuda

// RMSNorm of parts of rows. A thread holds a row's packs at its columns in registers, so that a row
// is read once. Forward, a warp computes a row, or a block a long one. Backward,
// kCudaReductionBlocks blocks compute a range of rows each, the next rows on their way meanwhile; a
// thread sums its columns' weight gradients in registers, and the blocks' sums are added in order.
// Rows too long for that are read twice, their sums kept in the workspace.
//
// Seen on an H200 (bfloat16, median of 20, 16,384 tokens; a copy reaches 4.3 TB/s): rms_norm 3.5
// TB/s for D = 4096 and 2048, its gradient 3.1 and 3.2; qk_norm of OLMoE's rows 3.7 and 3.6. With
// 4,096 tokens rms_norm 2.5 TB/s (27 us) for D = 4096, its gradient 2.1 (47 us).
#include "kernels/cuda/NormRows.h"
#include "kernels/cuda/Reduce.cuh"

#include <cuda_pipeline.h>

namespace switchyard::kernels::cuda {
namespace {

/// Packs of a row that a thread holds. Forward, a warp holds rows of up to kWarpPacks packs a lane,
/// a block longer ones, in rounds of kForwardPacks packs a thread.
constexpr int kWarpPacks = 16;
constexpr int kForwardPacks = 4;
constexpr int kBackwardPacks = 2;
constexpr int64_t kMostThreads = 512;
/// Rows that a warp of the forward kernel stands beside in its block.
constexpr int kRowsPerBlock = 4;

/// The threads that share a row.
struct Warp {
  static __device__ int64_t size() { return 32; }
  static __device__ int64_t member() { return threadIdx.x % 32; }
  static __device__ float sum(float value) { return warpSum(value); }
};
struct Block {
  static __device__ int64_t size() { return blockDim.x; }
  static __device__ int64_t member() { return threadIdx.x; }
  static __device__ float sum(float value) { return blockSum(value); }
};

/// The packs of a thread in one round: `Count` of N elements, a group's size apart from `first` on;
/// zeros past the end.
template <typename Group, typename T, int N, int Count>
struct Packs {
  Pack<T, N> packs[Count] = {};

  Packs() = default;
  __device__ Packs(const T *from, int64_t first, int64_t width) {
#pragma unroll
    for (int k = 0; k < Count; ++k)
      if (at(first, k) < width)
        packs[k] = Pack<T, N>::load(from + at(first, k));
  }
  static __device__ int64_t at(int64_t first, int k) {
    return first + (k * Group::size() + Group::member()) * N;
  }
  __device__ float value(int k, int j) const { return packs[k].value(j); }
  __device__ void forgetValues() {
#pragma unroll
    for (Pack<T, N> &pack : packs)
      pack.forgetValues();
  }
};

/// Copies the columns that belong to no part.
template <typename Group, typename T, int N>
__device__ void copyRest(const NormRows &shape, const T *from, T *to) {
  const NormPart &last = shape.part[shape.parts - 1];
  for (int64_t i = last.offset + last.width + Group::member() * N; i < shape.width;
       i += Group::size() * N)
    Pack<T, N>::load(from + i).store(to + i);
}

template <typename Group, typename T, int N, int Count>
__device__ void normPart(const NormPart &part, float eps, const T *x, T *y) {
  using Held = Packs<Group, T, N, Count>;
  int64_t round = Group::size() * N * Count;
  Held held(x, 0, part.width);
  float sum = 0;
  auto addSquares = [&](const Held &values) {
#pragma unroll
    for (int k = 0; k < Count; ++k)
#pragma unroll
      for (int j = 0; j < N; ++j)
        sum += values.value(k, j) * values.value(k, j);
  };
  addSquares(held);
  for (int64_t first = round; first < part.width; first += round)
    addSquares(Held(x, first, part.width));
  float scale = 1.0f / sqrtf(Group::sum(sum) / static_cast<float>(part.width) + eps);
  held.forgetValues();
  for (int64_t first = 0; first < part.width; first += round) {
    if (first > 0)
      held = Held(x, first, part.width);
#pragma unroll
    for (int k = 0; k < Count; ++k) {
      int64_t at = Held::at(first, k);
      if (at >= part.width)
        continue;
      float results[N];
      loadPack(static_cast<const T *>(part.weight) + at, results);
#pragma unroll
      for (int j = 0; j < N; ++j)
        results[j] *= roundTo<T>(held.value(k, j) * scale);
      storePack(y + at, results);
    }
  }
}

template <typename Group, typename T, int N, int Count>
__device__ void normRow(const NormRows &shape, const T *from, T *to) {
  for (int p = 0; p < shape.parts; ++p)
    normPart<Group, T, N, Count>(shape.part[p], shape.eps, from + shape.part[p].offset,
                                 to + shape.part[p].offset);
  if (from != to)
    copyRest<Group, T, N>(shape, from, to);
}

template <typename T, int N>
__global__ void normRowsKernel(const __grid_constant__ NormRows shape, const T *x, T *y) {
  int64_t at = blockIdx.x * shape.width;
  normRow<Block, T, N, kForwardPacks>(shape, x + at, y + at);
}

template <typename T, int N, int Count>
__global__ __launch_bounds__(kRowsPerBlock *
                             32) void normShortRowsKernel(const __grid_constant__ NormRows shape,
                                                          const T *x, T *y) {
  int64_t row = static_cast<int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.x / 32;
  if (row < shape.rows)
    normRow<Warp, T, N, Count>(shape, x + row * shape.width, y + row * shape.width);
}

/// The sums over a row that its gradient needs: x^2, and dy w x.
struct RowSums {
  float squares;
  float products;
};

/// The sums over the block's threads, in all of them; one barrier. Calls take turns between two
/// `turn`s: a thread that writes a turn again has passed the other's barrier after all had read it.
__device__ RowSums blockRowSums(float squares, float products, int turn) {
  __shared__ RowSums values[2][kMostThreads / 32];
  RowSums sums{warpSum(squares), warpSum(products)};
  if (threadIdx.x % 32 == 0)
    values[turn][threadIdx.x / 32] = sums;
  __syncthreads();
  sums = values[turn][0];
  for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) {
    sums.squares += values[turn][warp].squares;
    sums.products += values[turn][warp].products;
  }
  return sums;
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

/// Rows of dy and x on their way to shared memory, kAhead of them: a thread fetches the packs that
/// it will read itself, so that no barrier is needed between the two.
template <typename T, int N>
class RowsAhead {
public:
  static constexpr int kAhead = 2;
  static constexpr size_t kBytes = kAhead * 2 * kBackwardPacks * sizeof(Pack<T, N>); // a thread's
  using Held = Packs<Block, T, N, kBackwardPacks>;

  __device__ RowsAhead(const T *dy, const T *x, int64_t stride, int64_t width)
      : from_{dy, x}, stride_(stride), width_(width) {
    extern __shared__ int4 staged[];
    packs_ = reinterpret_cast<T *>(staged) + threadIdx.x * N;
  }

  /// Starts to fetch `row`, if it comes before `end`. Each call is one group of copies.
  __device__ void fetch(int64_t row, int64_t end) {
#pragma unroll
    for (int tensor = 0; tensor < 2; ++tensor)
#pragma unroll
      for (int k = 0; k < kBackwardPacks; ++k)
        if (row < end && Held::at(0, k) < width_)
          __pipeline_memcpy_async(packOf(row, tensor, k),
                                  from_[tensor] + row * stride_ + Held::at(0, k),
                                  sizeof(Pack<T, N>));
    __pipeline_commit();
  }
  /// The packs of dy (0) or x (1), after kAhead - 1 further calls of fetch at most.
  __device__ Held take(int64_t row, int tensor) {
    __pipeline_wait_prior(kAhead - 1);
    Held held;
#pragma unroll
    for (int k = 0; k < kBackwardPacks; ++k)
      if (Held::at(0, k) < width_)
        held.packs[k] = Pack<T, N>::load(packOf(row, tensor, k));
    return held;
  }

private:
  __device__ T *packOf(int64_t row, int tensor, int k) {
    return packs_ + ((row % kAhead * 2 + tensor) * kBackwardPacks + k) * blockDim.x * N;
  }
  const T *from_[2];
  int64_t stride_, width_;
  T *packs_;
};

/// The gradient of one part of rows that a block holds. dx may be dy.
template <typename T, int N>
__device__ void heldPartGrad(const NormRows &shape, const NormPart &part, Range rows, const T *dy,
                             const T *x, T *dx, float *partial) {
  using Ahead = RowsAhead<T, N>;
  using Held = typename Ahead::Held;
  Ahead ahead(dy + part.offset, x + part.offset, shape.width, part.width);
  for (int i = 0; i < Ahead::kAhead; ++i)
    ahead.fetch(rows.begin + i, rows.end);
  Held weights(static_cast<const T *>(part.weight), 0, part.width);
  float dweights[kBackwardPacks][N] = {};
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    Held gradients = ahead.take(row, 0), values = ahead.take(row, 1);
    float squares = 0, products = 0;
#pragma unroll
    for (int k = 0; k < kBackwardPacks; ++k)
#pragma unroll
      for (int j = 0; j < N; ++j) {
        float value = values.value(k, j);
        squares += value * value;
        products += gradients.value(k, j) * weights.value(k, j) * value;
      }
    RowFactors factors(blockRowSums(squares, products, row % 2), part.width, shape.eps);
    ahead.fetch(row + Ahead::kAhead, rows.end); // where this row lay
    gradients.forgetValues();
    values.forgetValues();
    weights.forgetValues();
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
        storePack(dx + row * shape.width + part.offset + Held::at(0, k), results);
    }
  }
#pragma unroll
  for (int k = 0; k < kBackwardPacks; ++k)
    if (Held::at(0, k) < part.width)
      for (int j = 0; j < N; ++j)
        partial[Held::at(0, k) + j] = dweights[k][j];
  __syncthreads(); // the next part's sums start at either turn
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
    RowFactors factors(blockRowSums(squares, products, row % 2), part.width, shape.eps);
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
  __syncthreads(); // the next part's sums start at either turn
}

template <typename T, int N>
__global__ __launch_bounds__(kMostThreads,
                             2) void normRowsGradKernel(const __grid_constant__ NormRows shape,
                                                        int64_t columns, const T *dy, const T *x,
                                                        T *dx, float *partials) {
  float *partial = partials + blockIdx.x * columns;
  Range rows = blockOf(shape.rows, gridDim.x, blockIdx.x);
  for (int p = 0; p < shape.parts; ++p) {
    const NormPart &part = shape.part[p];
    bool held = part.width <= static_cast<int64_t>(blockDim.x) * N * kBackwardPacks;
    if constexpr (sizeof(Pack<T, N>) < 4) // less than an asynchronous copy moves
      held = false;
    else if (held)
      heldPartGrad<T, N>(shape, part, rows, dy, x, dx, partial);
    if (!held)
      longPartGrad<T, N>(shape, part, rows, dy, x, dx, partial);
    partial += part.width;
  }
  for (int64_t row = rows.begin; row < rows.end && dy != dx; ++row)
    copyRest<Block, T, N>(shape, dy + row * shape.width, dx + row * shape.width);
}

int64_t widestPart(const NormRows &shape) {
  int64_t widest = 0;
  for (int p = 0; p < shape.parts; ++p)
    widest = widest < shape.part[p].width ? shape.part[p].width : widest;
  return widest;
}

/// Threads for a block that holds the widest part, `packs` packs of n elements each.
unsigned threadsOf(const NormRows &shape, int n, int packs) {
  return threadsFor(ceilDivide(widestPart(shape), int64_t{n} * packs), kMostThreads);
}

/// Whether every part begins and ends at a multiple of `n` elements.
bool isWide(const NormRows &shape, int n) {
  bool wide = shape.width % n == 0;
  for (int p = 0; p < shape.parts; ++p)
    wide = wide && shape.part[p].offset % n == 0 && shape.part[p].width % n == 0 &&
           isAligned({shape.part[p].weight});
  return wide;
}

/// Runs the kernel for rows whose widest part is `needed` packs a lane, at most kWarpPacks.
template <typename T, int N, int Count = 1>
void normShortRows(const Launch &launch, const NormRows &shape, int64_t needed, const T *x, T *y) {
  if constexpr (Count < kWarpPacks)
    if (needed > Count)
      return normShortRows<T, N, Count * 2>(launch, shape, needed, x, y);
  normShortRowsKernel<T, N, Count>
      <<<static_cast<unsigned>(ceilDivide(shape.rows, kRowsPerBlock)), kRowsPerBlock * 32, 0,
         contextOf(launch).stream>>>(shape, x, y);
}

} // namespace

void normRows(const Launch &launch, const NormRows &shape, const Tensor &x, const Tensor &y) {
  if (shape.rows == 0)
    return;
  withFloatType(x.dtype, [&]<typename T>(T) {
    bool wide = isWide(shape, kPack<T>) && isAligned({x.data, y.data});
    int64_t needed = ceilDivide(widestPart(shape), 32 * kPack<T>);
    if (wide && needed <= kWarpPacks)
      return normShortRows<T, kPack<T>>(launch, shape, needed, x.as<T>(), y.as<T>());
    withPack<kPack<T>>(wide, [&](auto pack) {
      constexpr int kN = decltype(pack)::value;
      normRowsKernel<T, kN>
          <<<static_cast<unsigned>(shape.rows), threadsOf(shape, kN, kForwardPacks), 0,
             contextOf(launch).stream>>>(shape, x.as<T>(), y.as<T>());
    });
  });
}

Fault prepareNormRowsGrad(DType dtype) {
  return withFloatType(dtype, [&]<typename T>(T) {
    Fault fault;
    auto set = [&](auto kernel, cudaFuncAttribute attribute, size_t value) {
      if (!fault)
        fault = faultOf(cudaFuncSetAttribute(kernel, attribute, static_cast<int>(value)),
                        "cudaFuncSetAttribute");
    };
    for (bool wide : {true, false})
      withPack<kPack<T>>(wide, [&](auto pack) {
        constexpr int kN = decltype(pack)::value;
        set(normRowsGradKernel<T, kN>, cudaFuncAttributeMaxDynamicSharedMemorySize,
            kMostThreads * RowsAhead<T, kN>::kBytes);
        // Several blocks run side by side if memory goes to what they share, not to the cache.
        set(normRowsGradKernel<T, kN>, cudaFuncAttributePreferredSharedMemoryCarveout,
            cudaSharedmemCarveoutMaxShared);
      });
    return fault;
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
      unsigned threads = threadsOf(shape, kN, kBackwardPacks);
      normRowsGradKernel<T, kN><<<static_cast<unsigned>(kCudaReductionBlocks), threads,
                                  threads * RowsAhead<T, kN>::kBytes, contextOf(launch).stream>>>(
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

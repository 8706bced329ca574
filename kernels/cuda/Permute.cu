// permute, unpermute and their gradients, also with an addend; rows_of_tokens. A row number outside
// [0, T k) makes its slot inert, as -1 does.
//
// A block handles a token and its k rows, so that each row of T is read or written once. What
// writes rows also notes in the workspace which slot a row has; a second kernel clears the rows of
// no slot. The notes need no initial value: a row is filled if the slot noted for it names it
// (the sparse sets of Briggs and Torczon, 1993).
//
// Seen on an H200 (bfloat16, median of 20, 16,384 tokens; a copy reaches 4.3 TB/s): Mixtral's rows:
// permute 3.6 TB/s, permute_grad and unpermute 4.0, unpermute_grad 3.8; OLMoE's: 3.1, 4.1 and 3.9.
#include "kernels/cuda/Elements.cuh"
#include "kernels/cuda/KernelList.h"
#include "kernels/cuda/Reduce.cuh"

namespace switchyard::kernels::cuda {
namespace {

/// The row of a slot, or -1.
__device__ inline int64_t rowOf(const int32_t *rowOfSlot, int64_t slots, int64_t slot) {
  int32_t row = rowOfSlot[slot];
  return row >= 0 && row < slots ? row : -1;
}

/// Packs of a token that a thread holds.
constexpr int kHeld = 4;
/// Rows that one warp checks for their slot.
constexpr int kRowsPerWarp = 8;
constexpr unsigned kClearThreads = 256;

/// Threads of a block for a token of `packs` packs, of which a thread holds up to `held`.
unsigned threadsOf(int64_t packs, int held) {
  return threadsFor(ceilDivide(packs, held));
}

/// Notes the slots of a token's rows.
__device__ void noteSlots(const int32_t *rowOfSlot, int64_t slots, int64_t token, int64_t topK,
                          int32_t *slotOfRow) {
  for (int64_t slot = token * topK + threadIdx.x; slot < (token + 1) * topK; slot += blockDim.x)
    if (int64_t row = rowOf(rowOfSlot, slots, slot); row >= 0)
      slotOfRow[row] = static_cast<int32_t>(slot);
}

/// Clears the rows that no slot has.
template <typename T, int N>
__global__ void clearRowsKernel(const int32_t *rowOfSlot, const int32_t *slotOfRow, int64_t count,
                                T *rows, int64_t width) {
  int64_t warp = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  int lane = static_cast<int>(threadIdx.x % 32);
  int64_t first = warp * kRowsPerWarp, row = first + lane;
  bool missing = lane < kRowsPerWarp && row < count;
  if (missing) {
    int64_t slot = slotOfRow[row];
    missing = slot < 0 || slot >= count || rowOfSlot[slot] != row;
  }
  for (unsigned left = __ballot_sync(kFullWarp, missing); left != 0; left &= left - 1) {
    T *to = rows + (first + __ffs(static_cast<int>(left)) - 1) * width;
    for (int64_t i = lane * N; i < width; i += 32 * N)
      Pack<T, N>{}.store(to + i);
  }
}

template <int N, typename T>
void clearRows(const Launch &launch, const Tensor &rowOfSlot, const int32_t *slotOfRow,
               const Tensor &rows) {
  int64_t count = rowOfSlot.count();
  int64_t blocks = ceilDivide(count, kRowsPerWarp * (kClearThreads / 32));
  clearRowsKernel<T, N>
      <<<static_cast<unsigned>(blocks), kClearThreads, 0, contextOf(launch).stream>>>(
          rowOfSlot.as<int32_t>(), slotOfRow, count, rows.as<T>(), rows.dims[1]);
}

template <typename T, int N>
__global__ void permuteKernel(const T *x, const int32_t *rowOfSlot, int64_t topK, T *rows,
                              int32_t *slotOfRow, int64_t width) {
  int64_t token = blockIdx.x, slots = gridDim.x * topK, step = blockDim.x * N;
  for (int64_t first = threadIdx.x * N; first < width; first += kHeld * step) {
    Pack<T, N> held[kHeld];
#pragma unroll
    for (int k = 0; k < kHeld; ++k)
      if (first + k * step < width)
        held[k] = Pack<T, N>::load(x + token * width + first + k * step);
    for (int64_t slot = token * topK; slot < (token + 1) * topK; ++slot) {
      int64_t row = rowOf(rowOfSlot, slots, slot);
      if (row < 0)
        continue;
#pragma unroll
      for (int k = 0; k < kHeld; ++k)
        if (first + k * step < width)
          held[k].store(rows + row * width + first + k * step);
    }
  }
  noteSlots(rowOfSlot, slots, token, topK, slotOfRow);
}

/// Rows of a token that a thread has on their way at once.
constexpr int kSummedAtOnce = 4;

/// y[t] = x[t] + sum_j weight(t, j) rows[row(t, j)], the sum in top-k order and rounded before, as
/// if it had been stored; x may be null, or y. Without weights they are 1.
/// With fewer than five blocks of a multiprocessor too few rows would be on their way.
template <typename T, typename B, int N>
__global__ __launch_bounds__(256, 5) void unpermuteKernel(const T *rows, const B *weights,
                                                          const int32_t *rowOfSlot, int64_t topK,
                                                          const T *x, T *y, int64_t width) {
  int64_t token = blockIdx.x, slots = gridDim.x * topK, end = (token + 1) * topK;
  for (int64_t i = threadIdx.x * N; i < width; i += blockDim.x * N) {
    Pack<T, N> addend;
    if (x)
      addend = Pack<T, N>::load(x + token * width + i);
    float sums[N] = {};
    for (int64_t slot = token * topK; slot < end; slot += kSummedAtOnce) {
      int64_t row[kSummedAtOnce];
#pragma unroll
      for (int r = 0; r < kSummedAtOnce; ++r)
        row[r] = slot + r < end ? rowOf(rowOfSlot, slots, slot + r) : -1;
      Pack<T, N> values[kSummedAtOnce];
      float weight[kSummedAtOnce];
#pragma unroll
      for (int r = 0; r < kSummedAtOnce; ++r)
        if (row[r] >= 0) {
          values[r] = Pack<T, N>::load(rows + row[r] * width + i);
          weight[r] = weights ? toFloat(weights[slot + r]) : 1.0f;
        }
#pragma unroll
      for (int r = 0; r < kSummedAtOnce; ++r)
        if (row[r] >= 0) {
#pragma unroll
          for (int j = 0; j < N; ++j)
            sums[j] += weight[r] * values[r].value(j);
        }
    }
    if (x) {
#pragma unroll
      for (int j = 0; j < N; ++j)
        sums[j] = addend.value(j) + roundTo<T>(sums[j]);
    }
    storePack(y + token * width + i, sums);
  }
}

/// Packs of dy that a thread of the gradient holds, and slots whose dots a block sums at once.
constexpr int kHeldGradients = 2;
constexpr int kSlotsAtOnce = 32;
/// Rows that a thread has on their way at once.
constexpr int kRowsAtOnce = 2;

/// drows[row(t, j)] = weight(t, j) dy[t] for the slots from `first` on, kSlotsAtOnce at most, whose
/// dots of dy[t] with their rows go warp by warp into `dots`.
template <typename T, typename B, int N>
__device__ void gradientOfSlots(const T *dy, const T *__restrict__ rows, const B *weights,
                                const int32_t *rowOfSlot, int64_t slots, Range some, T *drows,
                                int64_t width, float (*dots)[kSlotsAtOnce]) {
  int64_t step = blockDim.x * N;
  for (int64_t start = 0; start < width; start += kHeldGradients * step) {
    int64_t first = start + threadIdx.x * N;
    Pack<T, N> gradients[kHeldGradients];
#pragma unroll
    for (int k = 0; k < kHeldGradients; ++k)
      if (first + k * step < width)
        gradients[k] = Pack<T, N>::load(dy + first + k * step);
    for (int64_t slot = some.begin; slot < some.end; slot += kRowsAtOnce) {
      Pack<T, N> values[kRowsAtOnce][kHeldGradients];
      int64_t row[kRowsAtOnce];
#pragma unroll
      for (int r = 0; r < kRowsAtOnce; ++r) {
        row[r] = slot + r < some.end ? rowOf(rowOfSlot, slots, slot + r) : -1;
#pragma unroll
        for (int k = 0; k < kHeldGradients; ++k)
          if (row[r] >= 0 && first + k * step < width)
            values[r][k] = Pack<T, N>::load(rows + row[r] * width + first + k * step);
      }
#pragma unroll
      for (int r = 0; r < kRowsAtOnce; ++r) {
        if (slot + r >= some.end)
          break;
        float weight = toFloat(weights[slot + r]), dot = 0;
#pragma unroll
        for (int k = 0; k < kHeldGradients; ++k) {
          float results[N];
#pragma unroll
          for (int j = 0; j < N; ++j) {
            dot += gradients[k].value(j) * values[r][k].value(j);
            results[j] = gradients[k].value(j) * weight;
          }
          if (row[r] >= 0 && first + k * step < width)
            storePack(drows + row[r] * width + first + k * step, results);
        }
        dot = warpSum(dot);
        float &sum = dots[threadIdx.x / 32][slot + r - some.begin];
        if (threadIdx.x % 32 == 0)
          sum = (start > 0 ? sum : 0.0f) + dot;
      }
    }
  }
}

template <typename T, typename B, int N>
__global__ void unpermuteGradKernel(const T *dy, const T *rows, const B *weights,
                                    const int32_t *rowOfSlot, int64_t topK, T *drows, B *dweights,
                                    int32_t *slotOfRow, int64_t width) {
  __shared__ float dots[8][kSlotsAtOnce];
  int64_t token = blockIdx.x, slots = gridDim.x * topK, end = (token + 1) * topK;
  for (int64_t first = token * topK; first < end; first += kSlotsAtOnce) {
    Range some{first, min(first + kSlotsAtOnce, end)};
    gradientOfSlots<T, B, N>(dy + token * width, rows, weights, rowOfSlot, slots, some, drows,
                             width, dots);
    __syncthreads();
    if (int64_t slot = first + threadIdx.x; slot < some.end) {
      float sum = 0;
      for (unsigned warp = 0; warp < blockDim.x / 32; ++warp)
        sum += dots[warp][threadIdx.x];
      dweights[slot] = fromFloat<B>(sum);
    }
    __syncthreads(); // the dots were read
  }
  noteSlots(rowOfSlot, slots, token, topK, slotOfRow);
}

template <typename T, typename B>
Fault combine(const Launch &launch, const Tensor &rows, const B *weights, const Tensor &rowOfSlot,
              const Tensor *x, const Tensor &y, const char *kernel) {
  int64_t tokens = y.dims[0], width = y.dims[1];
  const T *addend = x ? x->as<T>() : nullptr;
  if (tokens == 0)
    return std::nullopt;
  bool wide = width % kPack<T> == 0 && isAligned({rows.data, addend, y.data});
  withPack<kPack<T>>(wide, [&](auto pack) {
    constexpr int kN = decltype(pack)::value;
    unpermuteKernel<T, B, kN>
        <<<static_cast<unsigned>(tokens), threadsFor(width / kN), 0, contextOf(launch).stream>>>(
            rows.as<T>(), weights, rowOfSlot.as<int32_t>(), rowOfSlot.dims[1], addend, y.as<T>(),
            width);
  });
  return launchFault(kernel);
}

/// permute_grad, or permute_grad_add where there is an x.
Fault permuteGrad(const Launch &launch, const Tensor *x, const Tensor &dx, const char *kernel) {
  const Tensor &drows = launch.operands[0], &rowOfSlot = launch.operands[1];
  return withFloatType(dx.dtype, [&]<typename T>(T) {
    return combine<T, float>(launch, drows, nullptr, rowOfSlot, x, dx, kernel);
  });
}

/// unpermute, or unpermute_add where there is an x.
Fault unpermute(const Launch &launch, const Tensor *x, const Tensor &y, const char *kernel) {
  const Tensor &rows = launch.operands[0], &weights = launch.operands[1];
  const Tensor &rowOfSlot = launch.operands[2];
  return withFloatType(y.dtype, [&]<typename T>(T) {
    return withFloatType(weights.dtype, [&]<typename B>(B) {
      return combine<T, B>(launch, rows, weights.as<B>(), rowOfSlot, x, y, kernel);
    });
  });
}

/// Threads of a block of rows_of_tokens, of a row or a slot each.
constexpr unsigned kSlotThreads = 256;

template <typename B>
__global__ void clearRowsOfTokensKernel(int32_t *tokenOfRow, B *weightOfRow, int64_t rows) {
  int64_t row = static_cast<int64_t>(blockIdx.x) * kSlotThreads + threadIdx.x;
  if (row >= rows)
    return;
  tokenOfRow[row] = -1;
  weightOfRow[row] = fromFloat<B>(0);
}

template <typename B>
__global__ void rowsOfTokensKernel(const int32_t *rowOfSlot, const B *weights, int64_t slots,
                                   int64_t topK, int32_t *tokenOfRow, B *weightOfRow) {
  int64_t slot = static_cast<int64_t>(blockIdx.x) * kSlotThreads + threadIdx.x;
  int64_t row = slot < slots ? rowOf(rowOfSlot, slots, slot) : -1;
  if (row < 0)
    return;
  tokenOfRow[row] = static_cast<int32_t>(slot / topK);
  weightOfRow[row] = weights[slot];
}

} // namespace

Fault runPermute(const Launch &launch) {
  const Tensor &x = launch.operands[0], &rowOfSlot = launch.operands[1];
  const Tensor &rows = launch.operands[2];
  int64_t width = x.dims[1];
  auto *slotOfRow = reinterpret_cast<int32_t *>(launch.workspace.data());
  if (rows.dims[0] == 0)
    return std::nullopt;
  withFloatType(x.dtype, [&]<typename T>(T) {
    bool wide = width % kPack<T> == 0 && isAligned({x.data, rows.data});
    withPack<kPack<T>>(wide, [&](auto pack) {
      constexpr int kN = decltype(pack)::value;
      permuteKernel<T, kN><<<static_cast<unsigned>(x.dims[0]), threadsOf(width / kN, kHeld), 0,
                             contextOf(launch).stream>>>(
          x.as<T>(), rowOfSlot.as<int32_t>(), rowOfSlot.dims[1], rows.as<T>(), slotOfRow, width);
      clearRows<kN, T>(launch, rowOfSlot, slotOfRow, rows);
    });
  });
  return launchFault("permute");
}

Fault runPermuteGrad(const Launch &launch) {
  return permuteGrad(launch, nullptr, launch.operands[2], "permute_grad");
}

Fault runPermuteGradAdd(const Launch &launch) {
  return permuteGrad(launch, &launch.operands[2], launch.operands[3], "permute_grad_add");
}

Fault runRowsOfTokens(const Launch &launch) {
  const Tensor &rowOfSlot = launch.operands[0], &weights = launch.operands[1];
  int64_t slots = rowOfSlot.count();
  if (slots == 0)
    return std::nullopt;
  auto blocks = static_cast<unsigned>(ceilDivide(slots, kSlotThreads));
  withFloatType(weights.dtype, [&]<typename B>(B) {
    auto *tokenOfRow = launch.operands[2].as<int32_t>();
    auto *weightOfRow = launch.operands[3].as<B>();
    cudaStream_t stream = contextOf(launch).stream;
    clearRowsOfTokensKernel<<<blocks, kSlotThreads, 0, stream>>>(tokenOfRow, weightOfRow, slots);
    rowsOfTokensKernel<<<blocks, kSlotThreads, 0, stream>>>(
        rowOfSlot.as<int32_t>(), weights.as<B>(), slots, rowOfSlot.dims[1], tokenOfRow,
        weightOfRow);
  });
  return launchFault("rows_of_tokens");
}

Fault runUnpermute(const Launch &launch) {
  return unpermute(launch, nullptr, launch.operands[3], "unpermute");
}

Fault runUnpermuteAdd(const Launch &launch) {
  return unpermute(launch, &launch.operands[3], launch.operands[4], "unpermute_add");
}

Fault runUnpermuteGrad(const Launch &launch) {
  const Tensor &dy = launch.operands[0], &rows = launch.operands[1];
  const Tensor &weights = launch.operands[2], &rowOfSlot = launch.operands[3];
  const Tensor &drows = launch.operands[4], &dweights = launch.operands[5];
  int64_t width = dy.dims[1];
  auto *slotOfRow = reinterpret_cast<int32_t *>(launch.workspace.data());
  if (rows.dims[0] == 0)
    return std::nullopt;
  withFloatType(dy.dtype, [&]<typename T>(T) {
    withFloatType(weights.dtype, [&]<typename B>(B) {
      bool wide = width % kPack<T> == 0 && isAligned({dy.data, rows.data, drows.data});
      withPack<kPack<T>>(wide, [&](auto pack) {
        constexpr int kN = decltype(pack)::value;
        unpermuteGradKernel<T, B, kN>
            <<<static_cast<unsigned>(dy.dims[0]), threadsOf(width / kN, kHeldGradients), 0,
               contextOf(launch).stream>>>(dy.as<T>(), rows.as<T>(), weights.as<B>(),
                                           rowOfSlot.as<int32_t>(), rowOfSlot.dims[1],
                                           drows.as<T>(), dweights.as<B>(), slotOfRow, width);
        clearRows<kN, T>(launch, rowOfSlot, slotOfRow, drows);
      });
    });
  });
  return launchFault("unpermute_grad");
}

} // namespace switchyard::kernels::cuda

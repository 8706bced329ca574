// Grouped GEMM: each expert's rows times its matrix, and the gradients.
//
// GroupedGemmHopper.cu has the kernels for bfloat16 on sm_90a; these here are for the rest: other
// devices, float32, and rows that do not begin at multiples of 16 bytes. A block computes a tile of
// the result: of a group's rows by data, of an expert's matrix by weight. Group sizes stay on the
// device: the grid is as large as any sizes can need, and a block finds its own tile. bfloat16 goes
// through the tensor cores (mma by way of nvcuda::wmma) from a pipeline of cp.async stages; float32
// through FMA. Any extents: what a tile has too much is zero.
//
// Seen on an H200 (bfloat16, gate and up together, median of 20, 16,384 tokens): Mixtral forward
// 156 TFLOP/s, by data 166, by weight 152; OLMoE 148, 155 and 147.
#include "kernels/cuda/GroupedGemmHopper.h"
#include "kernels/cuda/Groups.cuh"
#include "kernels/cuda/KernelList.h"

#include <cuda_pipeline.h>
#include <mma.h>

namespace switchyard::kernels::cuda {
namespace {

/// A matrix in memory: element (r, c) at data[r * stride + c]; what is outside is zero.
template <typename T>
struct Matrix {
  const T *data;
  int64_t stride;
  int64_t rows, columns;
};

/// C [m, n] = A [m, k] B [k, n]. A and B lie in memory with k along the columns, or along the rows
/// if transposed so.
template <typename T, typename C>
struct Product {
  Matrix<T> a, b;
  C *c;
  int64_t cStride, m, n, k;
};

constexpr int kThreads = 256;

namespace tensor {
constexpr int kM = 128, kN = 128, kK = 32, kStages = 3;
constexpr int kSkew = 8; // keeps rows of a tile in different banks

/// Elements of a stage's tile: rows of the contiguous dimension, padded.
template <bool AlongK, int Outer>
constexpr int kTile = AlongK ? Outer * (kK + kSkew) : kK * (Outer + kSkew);

/// Starts to fetch a tile of ROWS x COLUMNS from (row, column). Packs of 8 go by cp.async.
template <int ROWS, int COLUMNS, bool Packed>
__device__ void fetch(const Matrix<BFloat16> &from, int64_t row, int64_t column, BFloat16 *tile) {
  if constexpr (Packed) {
    constexpr int kPacks = COLUMNS / 8;
    for (int i = threadIdx.x; i < ROWS * kPacks; i += kThreads) {
      int r = i / kPacks, c = i % kPacks * 8;
      bool inside = row + r < from.rows && column + c < from.columns;
      const BFloat16 *source =
          inside ? from.data + (row + r) * from.stride + column + c : from.data;
      __pipeline_memcpy_async(tile + r * (COLUMNS + kSkew) + c, source, 16, inside ? 0 : 16);
    }
  } else {
    for (int i = threadIdx.x; i < ROWS * COLUMNS; i += kThreads) {
      int r = i / COLUMNS, c = i % COLUMNS;
      bool inside = row + r < from.rows && column + c < from.columns;
      tile[r * (COLUMNS + kSkew) + c] =
          inside ? from.data[(row + r) * from.stride + column + c] : fromFloat<BFloat16>(0);
    }
  }
}

template <bool AlongK, int Outer, bool Packed>
__device__ void fetchOperand(const Matrix<BFloat16> &from, int64_t outer, int64_t k,
                             BFloat16 *tile) {
  if constexpr (AlongK)
    fetch<Outer, kK, Packed>(from, outer, k, tile);
  else
    fetch<kK, Outer, Packed>(from, k, outer, tile);
}

/// Bytes of shared memory.
template <bool AAlongK, bool BAlongK>
constexpr int kShared = kStages * (kTile<AAlongK, kM> + kTile<BAlongK, kN>)*2;

/// Stores a 16 x 16 piece of the result that a warp has staged.
template <typename C>
__device__ void storePiece(const float *staged, C *c, int64_t stride, int64_t rows,
                           int64_t columns) {
  for (int i = threadIdx.x % 32; i < 256; i += 32)
    if (i / 16 < rows && i % 16 < columns)
      c[i / 16 * stride + i % 16] = fromFloat<C>(staged[i / 16 * 20 + i % 16]);
}

/// Tile (row, column) of the product; AlongK says whether an operand has k along its columns.
template <bool AAlongK, bool BAlongK, bool Packed, typename C>
__device__ void multiply(const Product<BFloat16, C> &product, int64_t row, int64_t column) {
  namespace wmma = nvcuda::wmma;
  extern __shared__ __align__(128) unsigned char memory[];
  auto *shared = reinterpret_cast<BFloat16 *>(memory);
  constexpr int kTileA = kTile<AAlongK, kM>, kStage = kTileA + kTile<BAlongK, kN>;
  constexpr int kStrideA = (AAlongK ? kK : kM) + kSkew, kStrideB = (BAlongK ? kK : kN) + kSkew;
  using LayoutA = std::conditional_t<AAlongK, wmma::row_major, wmma::col_major>;
  using LayoutB = std::conditional_t<BAlongK, wmma::col_major, wmma::row_major>;
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> sums[4][2];
  for (auto &line : sums)
    for (auto &sum : line)
      wmma::fill_fragment(sum, 0.0f);
  int warp = threadIdx.x / 32, warpRow = warp / 4 * 64, warpColumn = warp % 4 * 32;

  int64_t steps = (product.k + kK - 1) / kK;
  auto start = [&](int64_t step) {
    if (step < steps) {
      BFloat16 *stage = shared + step % kStages * kStage;
      fetchOperand<AAlongK, kM, Packed>(product.a, row, step * kK, stage);
      fetchOperand<BAlongK, kN, Packed>(product.b, column, step * kK, stage + kTileA);
    }
    __pipeline_commit();
  };
  for (int step = 0; step < kStages - 1; ++step)
    start(step);
  for (int64_t step = 0; step < steps; ++step) {
    __pipeline_wait_prior(kStages - 2);
    __syncthreads(); // this stage is there, and the one before it was read
    start(step + kStages - 1);
    const BFloat16 *a = shared + step % kStages * kStage, *b = a + kTileA;
#pragma unroll
    for (int k = 0; k < kK; k += 16) {
      wmma::fragment<wmma::matrix_b, 16, 16, 16, BFloat16, LayoutB> right[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        int n = warpColumn + j * 16;
        wmma::load_matrix_sync(right[j], b + (BAlongK ? n * kStrideB + k : k * kStrideB + n),
                               kStrideB);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        int m = warpRow + i * 16;
        wmma::fragment<wmma::matrix_a, 16, 16, 16, BFloat16, LayoutA> left;
        wmma::load_matrix_sync(left, a + (AAlongK ? m * kStrideA + k : k * kStrideA + m), kStrideA);
#pragma unroll
        for (int j = 0; j < 2; ++j)
          wmma::mma_sync(sums[i][j], left, right[j], sums[i][j]);
      }
    }
  }
  __pipeline_wait_prior(0);
  __syncthreads(); // the stages are free to hold the result
  float *staged = reinterpret_cast<float *>(memory) + warp * 16 * 20;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      int64_t r = row + warpRow + i * 16, c = column + warpColumn + j * 16;
      wmma::store_matrix_sync(staged, sums[i][j], 20, wmma::mem_row_major);
      __syncwarp();
      storePiece(staged, product.c + r * product.cStride + c, product.cStride, product.m - r,
                 product.n - c);
      __syncwarp();
    }
}
} // namespace tensor

namespace scalar {
constexpr int kM = 64, kN = 64, kK = 16;

template <bool AlongK>
__device__ void fetch(const Matrix<float> &from, int64_t outer, int64_t k,
                      float (&tile)[kK][kM + 4]) {
  for (int i = threadIdx.x; i < kM * kK; i += kThreads) {
    int o = AlongK ? i / kK : i % kM, l = AlongK ? i % kK : i / kM;
    int64_t r = AlongK ? outer + o : k + l, c = AlongK ? k + l : outer + o;
    tile[l][o] = r < from.rows && c < from.columns ? from.data[r * from.stride + c] : 0.0f;
  }
}

template <bool AAlongK, bool BAlongK, bool Packed>
__device__ void multiply(const Product<float, float> &product, int64_t row, int64_t column) {
  __shared__ __align__(16) float a[kK][kM + 4], b[kK][kN + 4];
  int ty = threadIdx.x / 16 * 4, tx = threadIdx.x % 16 * 4;
  float sums[4][4] = {};
  for (int64_t k = 0; k < product.k; k += kK) {
    __syncthreads(); // the tiles before these were read
    fetch<AAlongK>(product.a, row, k, a);
    fetch<BAlongK>(product.b, column, k, b);
    __syncthreads();
#pragma unroll
    for (int l = 0; l < kK; ++l) {
      float4 left = *reinterpret_cast<const float4 *>(&a[l][ty]);
      float4 right = *reinterpret_cast<const float4 *>(&b[l][tx]);
      float x[4] = {left.x, left.y, left.z, left.w}, y[4] = {right.x, right.y, right.z, right.w};
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          sums[i][j] += x[i] * y[j];
    }
  }
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j)
      if (row + ty + i < product.m && column + tx + j < product.n)
        product.c[(row + ty + i) * product.cStride + column + tx + j] = sums[i][j];
}
} // namespace scalar

template <typename T>
constexpr int kTileRows = std::is_same_v<T, float> ? scalar::kM : tensor::kM;
template <typename T>
constexpr int kTileColumns = std::is_same_v<T, float> ? scalar::kN : tensor::kN;

template <bool AAlongK, bool BAlongK, bool Packed, typename T, typename C>
__device__ void multiply(const Product<T, C> &product, int64_t row, int64_t column) {
  if constexpr (std::is_same_v<T, float>)
    scalar::multiply<AAlongK, BAlongK, Packed>(product, row, column);
  else
    tensor::multiply<AAlongK, BAlongK, Packed>(product, row, column);
}

/// The operands of a launch: rows [R, k], weights [E, n, k] (or [E, k, n]) and y [R, n].
template <typename T>
struct ByRows {
  const T *x, *w;
  const int32_t *sizes;
  T *y;
  int64_t rows, experts, n, k;
};

/// Blocks along x are tiles of columns, along y tiles of all groups' rows.
template <typename T, bool WeightAlongK, bool Packed>
__global__ __launch_bounds__(kThreads) void byRowsKernel(ByRows<T> operands) {
  GroupTile tile =
      findTile(operands.sizes, operands.experts, operands.rows, blockIdx.y, kTileRows<T>);
  int64_t n = operands.n, k = operands.k;
  int64_t column = static_cast<int64_t>(blockIdx.x) * kTileColumns<T>;
  if (tile.expert < 0)
    return;
  int64_t height = tile.end - tile.begin;
  T *y = operands.y + tile.begin * n;
  if (tile.expert == operands.experts) {
    for (int64_t i = threadIdx.x; i < height * kTileColumns<T>; i += kThreads)
      if (column + i % kTileColumns<T> < n)
        y[i / kTileColumns<T> * n + column + i % kTileColumns<T>] = fromFloat<T>(0);
    return;
  }
  const T *w = operands.w + tile.expert * n * k;
  Product<T, T> product{{operands.x + tile.begin * k, k, height, k},
                        WeightAlongK ? Matrix<T>{w, k, n, k} : Matrix<T>{w, n, k, n},
                        y,
                        n,
                        height,
                        n,
                        k};
  multiply<true, WeightAlongK, Packed>(product, 0, column);
}

/// dw [E, n, k] = dy_e^T x_e. Blocks along x are tiles of a matrix, along y experts.
template <typename T, typename W, bool Packed>
__global__ __launch_bounds__(kThreads) void byWeightKernel(const T *dy, const T *x,
                                                           const int32_t *sizes, W *dw,
                                                           int64_t rows, int64_t n, int64_t k) {
  GroupTile group = findGroup(sizes, gridDim.y, rows, blockIdx.y);
  int64_t across = (k + kTileColumns<T> - 1) / kTileColumns<T>;
  int64_t height = group.end - group.begin;
  Product<T, W> product{{dy + group.begin * n, n, height, n},
                        {x + group.begin * k, k, height, k},
                        dw + group.expert * n * k,
                        k,
                        n,
                        k,
                        height};
  multiply<false, false, Packed>(product, blockIdx.x / across * kTileRows<T>,
                                 blockIdx.x % across * kTileColumns<T>);
}

/// Whether rows of these widths can be fetched in packs.
bool isPacked(const Launch &launch, int64_t n, int64_t k) {
  return n % 8 == 0 && k % 8 == 0 && isAligned({launch.operands[0].data, launch.operands[1].data});
}

/// Lets a kernel have the shared memory of its tiles.
template <bool AAlongK, bool BAlongK, typename Function>
Fault raiseShared(Function *kernel) {
  return faultOf(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      tensor::kShared<AAlongK, BAlongK>),
                 "cudaFuncSetAttribute");
}

template <typename T, bool AAlongK, bool BAlongK>
constexpr size_t kSharedBytes =
    std::is_same_v<T, float> ? 0 : static_cast<size_t>(tensor::kShared<AAlongK, BAlongK>);

template <bool WeightAlongK>
Fault prepareByRows(const Launch &) {
  if (auto fault = prepareGroupedGemmHopper())
    return fault;
  if (auto fault = raiseShared<true, WeightAlongK>(byRowsKernel<BFloat16, WeightAlongK, true>))
    return fault;
  return raiseShared<true, WeightAlongK>(byRowsKernel<BFloat16, WeightAlongK, false>);
}

/// y = x w^T by groups where the weights have k along their columns, else y = x w.
template <bool WeightAlongK>
Fault runByRows(const Launch &launch, const char *kernel) {
  constexpr auto kProduct = WeightAlongK ? GroupedProduct::Forward : GroupedProduct::ByData;
  if (runsOnHopper(launch, kProduct))
    return runGroupedGemmHopper(launch, kProduct);
  const Tensor &x = launch.operands[0], &w = launch.operands[1], &y = launch.operands[3];
  int64_t rows = x.dims[0], experts = w.dims[0], k = x.dims[1], n = y.dims[1];
  if (rows == 0 || n == 0)
    return std::nullopt;
  withFloatType(x.dtype, [&]<typename T>(T) {
    ByRows<T> operands{
        x.as<T>(), w.as<T>(), launch.operands[2].as<int32_t>(), y.as<T>(), rows, experts, n, k};
    dim3 grid(static_cast<unsigned>(ceilDivide(n, kTileColumns<T>)),
              static_cast<unsigned>(mostTiles(experts, rows, kTileRows<T>)));
    auto *function = isPacked(launch, n, k) ? byRowsKernel<T, WeightAlongK, true>
                                            : byRowsKernel<T, WeightAlongK, false>;
    function<<<grid, kThreads, kSharedBytes<T, true, WeightAlongK>, contextOf(launch).stream>>>(
        operands);
  });
  return launchFault(kernel);
}

template <typename T, typename W>
void runByWeight(const Launch &launch) {
  const Tensor &dy = launch.operands[0], &x = launch.operands[1], &dw = launch.operands[3];
  int64_t n = dy.dims[1], k = x.dims[1];
  dim3 grid(static_cast<unsigned>(ceilDivide(n, kTileRows<T>) * ceilDivide(k, kTileColumns<T>)),
            static_cast<unsigned>(dw.dims[0]));
  auto *function =
      isPacked(launch, n, k) ? byWeightKernel<T, W, true> : byWeightKernel<T, W, false>;
  function<<<grid, kThreads, kSharedBytes<T, false, false>, contextOf(launch).stream>>>(
      dy.as<T>(), x.as<T>(), launch.operands[2].as<int32_t>(), dw.as<W>(), dy.dims[0], n, k);
}

} // namespace

Fault prepareGroupedGemm(const Launch &launch) {
  return prepareByRows<true>(launch);
}

Fault runGroupedGemm(const Launch &launch) {
  return runByRows<true>(launch, "grouped_gemm");
}

Fault prepareGroupedGemmDgrad(const Launch &launch) {
  return prepareByRows<false>(launch);
}

Fault runGroupedGemmDgrad(const Launch &launch) {
  return runByRows<false>(launch, "grouped_gemm_dgrad");
}

Fault prepareGroupedGemmWgrad(const Launch &) {
  if (auto fault = prepareGroupedGemmHopper())
    return fault;
  if (auto fault = raiseShared<false, false>(byWeightKernel<BFloat16, float, true>))
    return fault;
  if (auto fault = raiseShared<false, false>(byWeightKernel<BFloat16, float, false>))
    return fault;
  if (auto fault = raiseShared<false, false>(byWeightKernel<BFloat16, BFloat16, true>))
    return fault;
  return raiseShared<false, false>(byWeightKernel<BFloat16, BFloat16, false>);
}

Fault runGroupedGemmWgrad(const Launch &launch) {
  if (runsOnHopper(launch, GroupedProduct::ByWeight))
    return runGroupedGemmHopper(launch, GroupedProduct::ByWeight);
  const Tensor &dw = launch.operands[3];
  if (dw.count() == 0)
    return std::nullopt;
  if (launch.operands[0].dtype == DType::F32)
    runByWeight<float, float>(launch);
  else if (dw.dtype == DType::F32)
    runByWeight<BFloat16, float>(launch);
  else
    runByWeight<BFloat16, BFloat16>(launch);
  return launchFault("grouped_gemm_wgrad");
}

} // namespace switchyard::kernels::cuda

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

/// A matrix in memory: element (r, c) at data[r * stride + c]; what is outside is zero. Of tokens,
/// its row r is row ofRow[r] of `tokens` many in memory.
template <typename T>
struct Matrix {
  const T *data;
  int64_t stride;
  int64_t rows, columns;
  const int32_t *ofRow;
  int64_t tokens;

  /// The address of element (r, c), or null if it is outside.
  __device__ const T *at(int64_t r, int64_t c) const {
    bool isInside = r < rows && c < columns;
    if (isInside && ofRow) {
      r = ofRow[r];
      isInside = r >= 0 && r < tokens;
    }
    return isInside ? data + r * stride + c : nullptr;
  }
};

/// C [m, n] = A [m, k] B [k, n]. A and B lie in memory with k along the columns, or along the rows
/// if transposed so.
template <typename T, typename C>
struct Product {
  Matrix<T> a, b;
  C *c;
  int64_t cStride, m, n, k;
  bool accumulates = false; // adds to C
};

/// Rounds a sum into `c`, or adds it to what is there.
template <typename C>
__device__ void storeSum(C &c, float sum, bool accumulates) {
  c = fromFloat<C>(accumulates ? toFloat(c) + sum : sum);
}

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
      const BFloat16 *source = from.at(row + r, column + c);
      __pipeline_memcpy_async(tile + r * (COLUMNS + kSkew) + c, source ? source : from.data, 16,
                              source ? 0 : 16);
    }
  } else {
    for (int i = threadIdx.x; i < ROWS * COLUMNS; i += kThreads) {
      int r = i / COLUMNS, c = i % COLUMNS;
      const BFloat16 *source = from.at(row + r, column + c);
      tile[r * (COLUMNS + kSkew) + c] = source ? *source : fromFloat<BFloat16>(0);
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
__device__ void storePiece(const float *staged, C *c, int64_t stride, int64_t rows, int64_t columns,
                           bool accumulates) {
  for (int i = threadIdx.x % 32; i < 256; i += 32)
    if (i / 16 < rows && i % 16 < columns)
      storeSum(c[i / 16 * stride + i % 16], staged[i / 16 * 20 + i % 16], accumulates);
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
                 product.n - c, product.accumulates);
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
    const float *source = AlongK ? from.at(outer + o, k + l) : from.at(k + l, outer + o);
    tile[l][o] = source ? *source : 0.0f;
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
        storeSum(product.c[(row + ty + i) * product.cStride + column + tx + j], sums[i][j],
                 product.accumulates);
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

/// Rows [R, width] from row `begin` on, or those of their tokens.
template <typename T>
struct Rows {
  const T *data;
  int64_t width;
  const int32_t *ofRow;
  int64_t tokens;

  __device__ Matrix<T> from(int64_t begin, int64_t height) const {
    if (ofRow)
      return {data, width, height, width, ofRow + begin, tokens};
    return {data + begin * width, width, height, width, nullptr, 0};
  }
};

template <typename T>
Rows<T> rowsOf(const GroupedOperands &operands, Gather operand) {
  const Tensor &tensor = operand == Gather::A ? operands.a : operands.b;
  bool isGathered = operands.gather == operand;
  return {tensor.as<T>(), tensor.dims[1], isGathered ? operands.tokens.as<int32_t>() : nullptr,
          tensor.dims[0]};
}

/// The operands of a launch: rows [R, k], weights [E, n, k] (or [E, k, n]) and y [R, n].
template <typename T>
struct ByRows {
  Rows<T> x;
  const T *w;
  const int32_t *sizes;
  T *y;
  int64_t rows, experts, n;
};

/// Blocks along x are tiles of columns, along y tiles of all groups' rows.
template <typename T, bool WeightAlongK, bool Packed>
__global__ __launch_bounds__(kThreads) void byRowsKernel(ByRows<T> operands) {
  GroupTile tile =
      findTile(operands.sizes, operands.experts, operands.rows, blockIdx.y, kTileRows<T>);
  int64_t n = operands.n, k = operands.x.width;
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
  Product<T, T> product{
      operands.x.from(tile.begin, height),
      {w, WeightAlongK ? k : n, WeightAlongK ? n : k, WeightAlongK ? k : n, nullptr, 0},
      y,
      n,
      height,
      n,
      k};
  multiply<true, WeightAlongK, Packed>(product, 0, column);
}

/// dw [E, n, k] = dy_e^T x_e. Blocks along x are tiles of a matrix, along y experts.
template <typename T, typename W, bool Packed>
__global__ __launch_bounds__(kThreads) void byWeightKernel(Rows<T> dy, Rows<T> x,
                                                           const int32_t *sizes, W *dw,
                                                           int64_t rows, bool accumulates) {
  GroupTile group = findGroup(sizes, gridDim.y, rows, blockIdx.y);
  int64_t n = dy.width, k = x.width;
  int64_t across = (k + kTileColumns<T> - 1) / kTileColumns<T>;
  int64_t height = group.end - group.begin;
  Product<T, W> product{dy.from(group.begin, height),
                        x.from(group.begin, height),
                        dw + group.expert * n * k,
                        k,
                        n,
                        k,
                        height,
                        accumulates};
  multiply<false, false, Packed>(product, blockIdx.x / across * kTileRows<T>,
                                 blockIdx.x % across * kTileColumns<T>);
}

/// Whether rows of these widths can be fetched in packs.
bool isPacked(const GroupedOperands &operands, int64_t n, int64_t k) {
  return n % 8 == 0 && k % 8 == 0 && isAligned({operands.a.data, operands.b.data});
}

template <typename T, bool AAlongK, bool BAlongK>
constexpr size_t kSharedBytes =
    std::is_same_v<T, float> ? 0 : static_cast<size_t>(tensor::kShared<AAlongK, BAlongK>);

/// y = x w^T by groups where the weights have k along their columns, else y = x w.
template <bool WeightAlongK>
void runByRows(const Launch &launch, const GroupedOperands &operands) {
  int64_t rows = operands.rows(), experts = operands.b.dims[0];
  int64_t k = operands.a.dims[1], n = operands.c.dims[1];
  if (rows == 0 || n == 0)
    return;
  withFloatType(operands.a.dtype, [&]<typename T>(T) {
    ByRows<T> byRows{rowsOf<T>(operands, Gather::A),
                     operands.b.as<T>(),
                     operands.groupSizes.as<int32_t>(),
                     operands.c.as<T>(),
                     rows,
                     experts,
                     n};
    dim3 grid(static_cast<unsigned>(ceilDivide(n, kTileColumns<T>)),
              static_cast<unsigned>(mostTiles(experts, rows, kTileRows<T>)));
    auto *function = isPacked(operands, n, k) ? byRowsKernel<T, WeightAlongK, true>
                                              : byRowsKernel<T, WeightAlongK, false>;
    function<<<grid, kThreads, kSharedBytes<T, true, WeightAlongK>, contextOf(launch).stream>>>(
        byRows);
  });
}

template <typename T, typename W>
void runByWeight(const Launch &launch, const GroupedOperands &operands) {
  const Tensor &dw = operands.c;
  int64_t n = dw.dims[1], k = dw.dims[2];
  if (dw.count() == 0)
    return;
  dim3 grid(static_cast<unsigned>(ceilDivide(n, kTileRows<T>) * ceilDivide(k, kTileColumns<T>)),
            static_cast<unsigned>(dw.dims[0]));
  auto *function =
      isPacked(operands, n, k) ? byWeightKernel<T, W, true> : byWeightKernel<T, W, false>;
  Rows<T> dy = rowsOf<T>(operands, Gather::A), x = rowsOf<T>(operands, Gather::B);
  function<<<grid, kThreads, kSharedBytes<T, false, false>, contextOf(launch).stream>>>(
      dy, x, operands.groupSizes.as<int32_t>(), dw.as<W>(), operands.rows(), operands.accumulates);
}

/// Lets a kernel have the shared memory of its tiles.
template <bool AAlongK, bool BAlongK, typename Function>
Fault raiseShared(Function *kernel) {
  return faultOf(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      tensor::kShared<AAlongK, BAlongK>),
                 "cudaFuncSetAttribute");
}

template <bool Packed>
Fault raiseAllShared() {
  if (auto fault = raiseShared<true, true>(byRowsKernel<BFloat16, true, Packed>))
    return fault;
  if (auto fault = raiseShared<true, false>(byRowsKernel<BFloat16, false, Packed>))
    return fault;
  if (auto fault = raiseShared<false, false>(byWeightKernel<BFloat16, float, Packed>))
    return fault;
  return raiseShared<false, false>(byWeightKernel<BFloat16, BFloat16, Packed>);
}

/// The operands of grouped_gemm and its gradients.
GroupedOperands operandsOf(const Launch &launch) {
  const Tensor *o = launch.operands.data();
  GroupedOperands operands;
  operands.a = o[0];
  operands.b = o[1];
  operands.groupSizes = o[2];
  operands.c = o[3];
  return operands;
}

} // namespace

Fault prepareGroupedGemm(const Launch &) {
  if (auto fault = prepareGroupedGemmHopper())
    return fault;
  if (auto fault = raiseAllShared<true>())
    return fault;
  return raiseAllShared<false>();
}

Fault runGroupedProduct(const Launch &launch, GroupedProduct product,
                        const GroupedOperands &operands) {
  if (runsOnHopper(product, operands))
    return runGroupedGemmHopper(launch, product, operands);
  switch (product) {
  case GroupedProduct::Forward:
    runByRows<true>(launch, operands);
    break;
  case GroupedProduct::ByData:
    runByRows<false>(launch, operands);
    break;
  default:
    if (operands.a.dtype == DType::F32)
      runByWeight<float, float>(launch, operands);
    else if (operands.c.dtype == DType::F32)
      runByWeight<BFloat16, float>(launch, operands);
    else
      runByWeight<BFloat16, BFloat16>(launch, operands);
  }
  return launchFault("grouped GEMM");
}

Fault runGroupedGemm(const Launch &launch) {
  return runGroupedProduct(launch, GroupedProduct::Forward, operandsOf(launch));
}

Fault runGroupedGemmDgrad(const Launch &launch) {
  return runGroupedProduct(launch, GroupedProduct::ByData, operandsOf(launch));
}

Fault runGroupedGemmWgrad(const Launch &launch) {
  return runGroupedProduct(launch, GroupedProduct::ByWeight, operandsOf(launch));
}

Fault runGroupedGemmWgradAccumulate(const Launch &launch) {
  GroupedOperands operands = operandsOf(launch);
  operands.accumulates = true;
  return runGroupedProduct(launch, GroupedProduct::ByWeight, operands);
}

} // namespace switchyard::kernels::cuda

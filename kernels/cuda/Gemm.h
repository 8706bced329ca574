// Dense matrix products through cuBLASLt, chosen ahead.
//
// The algorithm is the first of cuBLASLt's own heuristic for the shape (never a timing), among
// those whose partial sums, if any, are added in a fixed order. float32 products use no TF32.
#pragma once

#include "kernels/cuda/Kernels.h"

#include <compare>
#include <cublasLt.h>
#include <map>

namespace switchyard::kernels::cuda {

/// C [m, n] = A [m, k] B [k, n], all row-major; A or B may be stored transposed. C is of dtype
/// `cType`; with `accumulate` the product is added to it. `strideA` elements lie between A's rows
/// as they are stored; 0: they follow one another.
struct GemmShape {
  int64_t m = 0, n = 0, k = 0;
  DType dtype = DType::F32;
  DType cType = DType::F32;
  bool transposeA = false, transposeB = false, accumulate = false;
  int64_t strideA = 0;
  auto operator<=>(const GemmShape &) const = default;
};

/// The products of one rank.
class GemmCache {
public:
  GemmCache() = default;
  ~GemmCache();
  GemmCache(const GemmCache &) = delete;
  GemmCache &operator=(const GemmCache &) = delete;

  /// Chooses the algorithm for `shape`, within kCudaGemmScratch bytes of scratch.
  Fault prepare(const GemmShape &shape);

  /// Enqueues a product that was prepared; `scratch` has kCudaGemmScratch bytes.
  Fault run(cudaStream_t stream, const GemmShape &shape, const void *a, const void *b, void *c,
            void *scratch) const;

private:
  struct Product {
    cublasLtMatmulDesc_t description = nullptr;
    cublasLtMatrixLayout_t first = nullptr, second = nullptr, result = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
  };
  Fault describe(const GemmShape &shape, Product &product);

  cublasLtHandle_t handle_ = nullptr;
  std::map<GemmShape, Product> products_;
};

} // namespace switchyard::kernels::cuda

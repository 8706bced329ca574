#include "kernels/cuda/Gemm.h"

#include "kernels/signatures/Workspace.h"

namespace switchyard::kernels::cuda {
namespace {

cudaDataType_t typeOf(DType dtype) {
  return dtype == DType::BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

Fault libraryFault(cublasStatus_t status, const char *call, const GemmShape &shape) {
  if (status == CUBLAS_STATUS_SUCCESS)
    return std::nullopt;
  return std::string(call) + " for the product " + std::string(name(shape.dtype)) + " [" +
         std::to_string(shape.m) + ", " + std::to_string(shape.k) + "] x [" +
         std::to_string(shape.k) + ", " + std::to_string(shape.n) +
         "]: " + cublasLtGetStatusString(status) + " (" + cublasLtGetStatusName(status) + ")";
}

bool isEmpty(const GemmShape &shape) {
  return shape.m == 0 || shape.n == 0 || shape.k == 0;
}

/// A cuBLASLt matrix is column-major: a row-major [rows, columns] is its [columns, rows]. `stride`
/// as GemmShape's.
cublasStatus_t createLayout(cublasLtMatrixLayout_t &layout, DType dtype, int64_t rows,
                            int64_t columns, int64_t stride = 0) {
  return cublasLtMatrixLayoutCreate(&layout, typeOf(dtype), static_cast<uint64_t>(columns),
                                    static_cast<uint64_t>(rows), stride > 0 ? stride : columns);
}

} // namespace

GemmCache::~GemmCache() {
  for (auto &[shape, product] : products_) {
    cublasLtMatrixLayoutDestroy(product.first);
    cublasLtMatrixLayoutDestroy(product.second);
    cublasLtMatrixLayoutDestroy(product.result);
    cublasLtMatmulDescDestroy(product.description);
  }
  if (handle_)
    cublasLtDestroy(handle_);
}

// C^T = B^T A^T: to a column-major library, B is the first operand and A the second.
Fault GemmCache::describe(const GemmShape &shape, Product &product) {
  auto transposed = [](bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; };
  cublasOperation_t first = transposed(shape.transposeB), second = transposed(shape.transposeA);
  auto set = [&](cublasLtMatmulDescAttributes_t attribute, cublasOperation_t value) {
    return cublasLtMatmulDescSetAttribute(product.description, attribute, &value, sizeof value);
  };
  cublasStatus_t status =
      cublasLtMatmulDescCreate(&product.description, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  if (status == CUBLAS_STATUS_SUCCESS)
    status = set(CUBLASLT_MATMUL_DESC_TRANSA, first);
  if (status == CUBLAS_STATUS_SUCCESS)
    status = set(CUBLASLT_MATMUL_DESC_TRANSB, second);
  if (status == CUBLAS_STATUS_SUCCESS)
    status = createLayout(product.first, shape.dtype, shape.transposeB ? shape.n : shape.k,
                          shape.transposeB ? shape.k : shape.n);
  if (status == CUBLAS_STATUS_SUCCESS)
    status = createLayout(product.second, shape.dtype, shape.transposeA ? shape.k : shape.m,
                          shape.transposeA ? shape.m : shape.k, shape.strideA);
  if (status == CUBLAS_STATUS_SUCCESS)
    status = createLayout(product.result, shape.cType, shape.m, shape.n);
  return libraryFault(status, "describing", shape);
}

Fault GemmCache::prepare(const GemmShape &shape) {
  if (isEmpty(shape) || products_.contains(shape))
    return std::nullopt;
  if (!handle_)
    if (auto fault = libraryFault(cublasLtCreate(&handle_), "cublasLtCreate", shape))
      return fault;
  Product &product = products_[shape];
  Fault fault = describe(shape, product);
  cublasLtMatmulPreference_t preference = nullptr;
  if (!fault)
    fault = libraryFault(cublasLtMatmulPreferenceCreate(&preference),
                         "cublasLtMatmulPreferenceCreate", shape);
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  if (!fault) {
    uint64_t scratch = kCudaGemmScratch;
    // Partial sums are added in float32, by a kernel of their own.
    uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &scratch, sizeof scratch);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                         &reductions, sizeof reductions);
    fault = libraryFault(cublasLtMatmulAlgoGetHeuristic(
                             handle_, product.description, product.first, product.second,
                             product.result, product.result, preference, 1, &found, &count),
                         "cublasLtMatmulAlgoGetHeuristic", shape);
    cublasLtMatmulPreferenceDestroy(preference);
  }
  if (!fault && count == 0)
    fault = libraryFault(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic", shape);
  product.algorithm = found.algo;
  return fault;
}

Fault GemmCache::run(cudaStream_t stream, const GemmShape &shape, const void *a, const void *b,
                     void *c, void *scratch) const {
  if (isEmpty(shape)) {
    int64_t bytes = shape.accumulate ? 0 : shape.m * shape.n * byteSize(shape.cType);
    if (bytes == 0)
      return std::nullopt;
    return faultOf(cudaMemsetAsync(c, 0, static_cast<size_t>(bytes), stream), "cudaMemsetAsync");
  }
  auto found = products_.find(shape);
  if (found == products_.end())
    return libraryFault(CUBLAS_STATUS_NOT_INITIALIZED, "running, not prepared,", shape);
  const Product &product = found->second;
  float one = 1, beta = shape.accumulate ? 1 : 0;
  return libraryFault(cublasLtMatmul(handle_, product.description, &one, b, product.first, a,
                                     product.second, &beta, c, product.result, c, product.result,
                                     &product.algorithm, scratch, kCudaGemmScratch, stream),
                      "cublasLtMatmul", shape);
}

} // namespace switchyard::kernels::cuda

#include "kernels/cuda/TensorMap.h"

#include <cudaTypedefs.h>

namespace switchyard::kernels::cuda {

Fault describeTensor(CUtensorMap &map, DType dtype, const void *data, const int64_t (&dims)[3],
                     const int64_t (&strides)[2], const int64_t (&box)[3]) {
  void *entry = nullptr;
  cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
  cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
                                                       cudaEnableDefault, &found);
#else
  cudaError_t error =
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &found);
#endif
  if (auto fault = faultOf(error, "cudaGetDriverEntryPoint"))
    return fault;
  if (found != cudaDriverEntryPointSuccess)
    return "the CUDA driver has no cuTensorMapEncodeTiled; it is older than CUDA 12";
  const cuuint64_t counts[] = {static_cast<cuuint64_t>(dims[0]), static_cast<cuuint64_t>(dims[1]),
                               static_cast<cuuint64_t>(dims[2])};
  const cuuint64_t bytes[] = {static_cast<cuuint64_t>(strides[0]),
                              static_cast<cuuint64_t>(strides[1])};
  const cuuint32_t moved[] = {static_cast<cuuint32_t>(box[0]), static_cast<cuuint32_t>(box[1]),
                              static_cast<cuuint32_t>(box[2])};
  const cuuint32_t steps[] = {1, 1, 1};
  const bool isBf16 = dtype == DType::BF16;
  CUresult result = reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(entry)(
      &map, isBf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 3,
      const_cast<void *>(data), counts, bytes, moved, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      isBf16 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    return "cuTensorMapEncodeTiled: error " + std::to_string(result) + " for a tensor of " +
           std::to_string(dims[0]) + " x " + std::to_string(dims[1]) + " x " +
           std::to_string(dims[2]);
  return std::nullopt;
}

} // namespace switchyard::kernels::cuda

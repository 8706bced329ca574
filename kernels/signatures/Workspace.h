// Workspace bounds that several signatures share.
#pragma once

#include "kernels/signatures/Signature.h"

namespace switchyard::kernels {

/// Reductions over rows are cut into this many blocks at most, whatever the number of threads, and
/// the blocks' partial sums are added in order: the result does not depend on the thread count.
inline constexpr int64_t kReductionBlocks = 32;

/// Scratch of one thread's GEMM call; a library that wants more at load is refused.
inline constexpr int64_t kGemmScratchPerThread = 1 << 20;

/// The same on a GPU: enough blocks to fill it.
inline constexpr int64_t kCudaReductionBlocks = 512;

/// Scratch of a cuBLASLt product on a GPU.
inline constexpr int64_t kCudaGemmScratch = 32 << 20;

constexpr int64_t reductionBlocks(Target target) {
  return target.kind == Target::Kind::Cuda ? kCudaReductionBlocks : kReductionBlocks;
}

constexpr int64_t gemmWorkspace(const Dims &, Target target) {
  return target.kind == Target::Kind::Cuda ? kCudaGemmScratch
                                           : target.threads * kGemmScratchPerThread;
}

/// Rows of one tile of a weight's gradient [N, K] on a CPU: an eighth of N, from 32 to 256.
constexpr int64_t weightGradientTileRows(int64_t n) {
  int64_t eighth = (n / 8 + 15) / 16 * 16;
  int64_t rows = eighth < 32 ? 32 : eighth > 256 ? 256 : eighth;
  return n < 1 ? 1 : n < rows ? n : rows;
}

/// Each thread's tile of a weight's gradient, on a CPU, in float32.
constexpr int64_t weightGradientTiles(const Dims &dims, Target target) {
  return target.threads * weightGradientTileRows(dims["N"]) * dims["K"] * 4;
}

/// GEMM scratch; on a CPU also, where the gradient dw is narrower than the float32 sum, each
/// thread's tile of the sum.
constexpr int64_t weightGradientWorkspace(const Dims &dims, Target target) {
  int64_t bytes = gemmWorkspace(dims, target);
  if (target.kind == Target::Kind::Cuda || dims.elementBytes(DTypeRule::F32OrA) == 4)
    return bytes;
  return bytes + weightGradientTiles(dims, target);
}

/// Partial sums [reductionBlocks, D] in float32 of `Tensors` vectors of D elements.
template <int Tensors>
constexpr int64_t rowReductionWorkspace(const Dims &dims, Target target) {
  return reductionBlocks(target) * Tensors * dims["D"] * 4;
}

} // namespace switchyard::kernels

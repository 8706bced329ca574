// Kernels over the elements of tensors of one shape: a thread handles a pack of them.
#pragma once

#include "kernels/cuda/Values.cuh"

#include <algorithm>

namespace switchyard::kernels::cuda {

/// op.apply<N>(i) computes elements [i, i + N).
template <int N, typename Op>
__global__ void elementsKernel(Op op, int64_t count) {
  int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  int64_t packs = count / N;
  for (int64_t pack = thread; pack < packs; pack += threads)
    op.template apply<N>(pack * N);
  if (packs * N + thread < count) // fewer than N are left
    op.template apply<1>(packs * N + thread);
}

/// Runs op over `count` elements, N at a time, or one at a time if not `wide`.
template <int N, typename Op>
void forElements(const Launch &launch, const Op &op, int64_t count, bool wide,
                 int64_t maxBlocks = int64_t{1} << 30) {
  constexpr unsigned kThreads = 256;
  if (count == 0)
    return;
  withPack<N>(wide, [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    int64_t blocks = ceilDivide(ceilDivide(count, kWidth), kThreads);
    elementsKernel<kWidth, Op><<<static_cast<unsigned>(std::min(blocks, maxBlocks)), kThreads, 0,
                                 contextOf(launch).stream>>>(op, count);
  });
}

} // namespace switchyard::kernels::cuda

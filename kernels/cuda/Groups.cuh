// The rows of the experts of a grouped GEMM, one group after the other; the sizes are data on the
// device. A plan is untrusted: negative sizes count as 0 and no group reaches past the last row.
#pragma once

#include "kernels/cuda/Reduce.cuh"

namespace switchyard::kernels::cuda {

/// A tile of rows of one group; expert == E stands for the rows past the last group, -1 for none.
struct GroupTile {
  int64_t expert = -1;
  int64_t begin = 0;
  int64_t end = 0;
};

/// Inclusive sums over the lanes.
__device__ inline int64_t warpScan(int64_t value) {
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    int64_t other = __shfl_up_sync(kFullWarp, value, offset);
    value += threadIdx.x % 32 >= static_cast<unsigned>(offset) ? other : 0;
  }
  return value;
}

/// Visits the experts 32 at a time, a lane each; all lanes of one warp call it. visit(expert,
/// begin, end, valid) with the group's rows; the lane after the last expert sees the rows past the
/// last group.
template <typename Visit>
__device__ void visitGroups(const int32_t *sizes, int64_t experts, int64_t rows,
                            const Visit &visit) {
  int64_t first = 0;
  for (int64_t at = 0; at <= experts; at += 32) {
    int64_t expert = at + threadIdx.x % 32;
    int64_t size = expert < experts ? max(sizes[expert], 0) : expert == experts ? rows : 0;
    int64_t last = first + warpScan(size);
    visit(expert, min(last - size, rows), min(last, rows), expert <= experts);
    first = __shfl_sync(kFullWarp, last, 31);
  }
}

/// Tile `tile` of all groups' tiles of at most `height` rows. All threads of the block call it.
__device__ inline GroupTile findTile(const int32_t *sizes, int64_t experts, int64_t rows,
                                     int64_t tile, int64_t height) {
  __shared__ GroupTile found;
  if (threadIdx.x < 32) {
    if (threadIdx.x == 0)
      found = GroupTile{};
    __syncwarp();
    int64_t before = 0;
    visitGroups(sizes, experts, rows, [&](int64_t expert, int64_t begin, int64_t end, bool valid) {
      int64_t tiles = valid ? (end - begin + height - 1) / height : 0;
      int64_t after = before + warpScan(tiles);
      if (tile >= after - tiles && tile < after) {
        int64_t start = begin + (tile - (after - tiles)) * height;
        found = {expert, start, min(start + height, end)};
      }
      before = __shfl_sync(kFullWarp, after, 31);
    });
  }
  __syncthreads();
  return found;
}

/// The rows of one expert. All threads of the block call it.
__device__ inline GroupTile findGroup(const int32_t *sizes, int64_t experts, int64_t rows,
                                      int64_t expert) {
  __shared__ GroupTile found;
  if (threadIdx.x < 32)
    visitGroups(sizes, experts, rows, [&](int64_t other, int64_t begin, int64_t end, bool) {
      if (other == expert)
        found = {expert, begin, end};
    });
  __syncthreads();
  return found;
}

/// The most tiles that findTile finds.
constexpr int64_t mostTiles(int64_t experts, int64_t rows, int64_t height) {
  return rows == 0 ? 0 : ceilDivide(rows, height) + experts + 1;
}

} // namespace switchyard::kernels::cuda

// What attention and its gradient on a Hopper GPU share: bfloat16 tiles that the copy engine brings
// into shared memory, products of a warpgroup over them, which rows see which.
//
// A tile is R packed rows of one head, head_dim = D elements: D / 64 pieces, each R lines of 128
// bytes, swizzled. Tiles are cut from all T rows, not from segments: rows of several segments may
// share one, and each row carries the range that it sees. So the number of blocks does not depend
// on segments, which the host does not know.
#pragma once

#include "kernels/cuda/AttentionFragments.cuh"
#include "kernels/cuda/Hopper.cuh"
#include "kernels/cuda/Values.cuh"
#include "kernels/signatures/AttentionLaunch.h"

#include <climits>

namespace switchyard::kernels::cuda {

/// A block: one warpgroup whose first thread fetches tiles, two that compute, of kGroupRows rows.
inline constexpr int kHopperThreads = 384;
inline constexpr int kGroupRows = 64;
inline constexpr int kBlockRows = 2 * kGroupRows;

/// A tensor [rows, columns] as the copy engine sees it: pieces of 64 columns, of which a head has
/// head_dim / 64; a box is `boxRows` rows of a head.
Fault makeTileMap(CUtensorMap &map, const void *data, int64_t rows, int64_t columns,
                  int64_t boxRows, int64_t headDim);

/// Bytes of a tile.
template <int Rows, int Depth>
constexpr uint32_t kTileBytes = Rows * Depth * 2;

/// c = own other^T, the warpgroup's 64 rows of a tile of OwnRows rows against a tile of
/// OtherRows = 2 * Sums rows.
template <int OwnRows, int Depth, int Sums>
__device__ void scoreTiles(float (&c)[Sums], uint32_t own, uint32_t other) {
  constexpr int kOtherRows = 2 * Sums;
#pragma unroll
  for (int step = 0; step < Depth / 16; ++step) {
    uint32_t piece = step / 4, along = step % 4 * 32;
    hopper::multiply<false, false>(c, hopper::describe(own + piece * OwnRows * 128 + along, 0),
                                   hopper::describe(other + piece * kOtherRows * 128 + along, 0),
                                   step > 0);
  }
}

/// sums [64, Depth] += weights [64, Rows] other [Rows, Depth], the weights in bfloat16 pairs as
/// packWeights gives them.
template <int Rows, int Depth, int Sums>
__device__ void addProduct(float (&sums)[Sums], const uint32_t (&weights)[Rows / 4],
                           uint32_t other) {
  static_assert(2 * Sums == Depth);
#pragma unroll
  for (int step = 0; step < Rows / 16; ++step)
    hopper::multiplyRegisters(sums, weights + 4 * step,
                              hopper::describe(other + step * 2048, Rows * 128));
}

/// The ranges of a set of rows together: their union, and the range that all of them see.
struct Cover {
  int begin, end;       // the smallest begin, the largest end, of rows that see anything
  int allBegin, allEnd; // the largest begin, the smallest end
  __device__ bool full(int first, int count) const {
    return first >= allBegin && first + count <= allEnd;
  }
};

__device__ inline Cover join(const Cover &a, const Cover &b) {
  return {min(a.begin, b.begin), max(a.end, b.end), max(a.allBegin, b.allBegin),
          min(a.allEnd, b.allEnd)};
}

/// The cover of a warp's rows, in all of its lanes.
__device__ inline Cover coverOfWarp(Seen own) {
  bool any = own.begin < own.end;
  Cover cover{any ? own.begin : INT_MAX, any ? own.end : 0, own.begin, own.end};
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    cover = join(cover, {__shfl_xor_sync(0xffffffffu, cover.begin, offset),
                         __shfl_xor_sync(0xffffffffu, cover.end, offset),
                         __shfl_xor_sync(0xffffffffu, cover.allBegin, offset),
                         __shfl_xor_sync(0xffffffffu, cover.allEnd, offset)});
  return cover;
}

/// The covers of the block's two warpgroups' rows. `seen` [kBlockRows] is what each row sees. All
/// threads call it; it synchronizes the block.
__device__ inline void coverGroups(const Seen *seen, Cover (&groups)[2]) {
  __shared__ Cover warps[4];
  if (threadIdx.x < kBlockRows) {
    Cover cover = coverOfWarp(seen[threadIdx.x]);
    if (threadIdx.x % 32 == 0)
      warps[threadIdx.x / 32] = cover;
  }
  __syncthreads();
  groups[0] = join(warps[0], warps[1]);
  groups[1] = join(warps[2], warps[3]);
}

/// What each row sees, [rows], and the covers of each kGroupRows of them.
struct Ranges {
  Seen *rows = nullptr;
  Cover *groups = nullptr;
};

/// A block's next tile of its own rows, in shared memory: which, -1 after the last, and what its
/// two groups of rows see.
struct Work {
  int item;
  Cover groups[2];
};

/// The tiles of all heads, `heads` for each tile of rows, the last rows first: they see the most
/// keys. Blocks take them in order, the first by their index and then from a counter. Every tile's
/// result is its own, whichever block takes it.
struct Schedule {
  int items = 0;
  int heads = 0;
  unsigned *taken = nullptr;

  __device__ int head(int item) const { return item % heads; }
  __device__ int tile(int item) const { return (items - 1 - item) / heads; }
  __device__ Work work(int item, const Cover *groups) const {
    if (item >= items)
      return {-1, {}};
    return {item, {groups[2 * tile(item)], groups[2 * tile(item) + 1]}};
  }
  __device__ int next() const { return static_cast<int>(gridDim.x + atomicAdd(taken, 1u)); }
};

/// The shared memory of a block: OwnTiles tiles of its own rows, and a ring of Stages stages of two
/// tiles of OtherRows rows.
template <int Depth, int OwnTiles, int OtherRows, int Stages>
struct Layout {
  static constexpr int kStages = Stages;
  static constexpr uint32_t kOwn = kTileBytes<kBlockRows, Depth>;
  static constexpr uint32_t kOther = kTileBytes<OtherRows, Depth>;
  static constexpr uint32_t kTiles = OwnTiles * kOwn + 2 * kStages * kOther;
  /// Shared memory to ask for; the tiles are aligned to 1024 bytes inside.
  static constexpr uint32_t kBytes = 1024 + kTiles;

  uint32_t base;
  __device__ uint32_t own(int i) const { return base + i * kOwn; }
  __device__ uint32_t other(int stage, int i) const {
    return base + OwnTiles * kOwn + (2 * stage + i) * kOther;
  }
};

__device__ inline uint32_t alignedBase(const uint8_t *memory) {
  return (hopper::sharedAddress(memory) + 1023) / 1024 * 1024;
}

/// The barriers of a block: its own tiles came, and were used if others follow; stage s came, was
/// used. What uses a stage are the warps that compute; its own tiles, and what is beside them in
/// shared memory, their threads.
template <int Stages>
struct Barriers {
  static constexpr int kWords = 2 + 2 * Stages;
  static constexpr unsigned kWarps = 8;
  uint32_t base;
  __device__ uint32_t own() const { return base; }
  __device__ uint32_t ownUsed() const { return base + 8; }
  __device__ uint32_t full(int stage) const { return base + 16 + 8 * stage; }
  __device__ uint32_t empty(int stage) const { return base + 16 + 8 * (Stages + stage); }
  __device__ void create() const {
    hopper::initBarrier(own(), 1);
    hopper::initBarrier(ownUsed(), 32 * kWarps);
    for (int stage = 0; stage < Stages; ++stage) {
      hopper::initBarrier(full(stage), 1);
      hopper::initBarrier(empty(stage), kWarps);
    }
    hopper::fenceBarrierInit();
  }
};

/// A warp arrives at `barrier`.
__device__ inline void release(uint32_t barrier) {
  __syncwarp();
  if (threadIdx.x % 32 == 0)
    hopper::arrive(barrier);
}

__device__ inline float2 loadShared(uint32_t address) {
  float2 value;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(value.x), "=f"(value.y) : "r"(address));
  return value;
}

/// A box of 64 elements x the map's rows x the head's pieces.
__device__ inline hopper::Box boxAt(int64_t row, int64_t column) {
  return {0, static_cast<int>(row), static_cast<int>(column) / 64};
}

} // namespace switchyard::kernels::cuda

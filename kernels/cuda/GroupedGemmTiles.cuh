// The device's part of GroupedGemmHopper.cu: from group sizes to tiles, from tiles to stages in
// shared memory, from stages to sums, from sums to results. Only code for sm_90a may call it.
#pragma once

#include "kernels/cuda/GroupedGemmHopper.h"
#include "kernels/cuda/Groups.cuh"
#include "kernels/cuda/Hopper.cuh"

namespace switchyard::kernels::cuda::grouped {

inline constexpr int kTileM = 128, kTileN = 256, kTileK = 64, kStages = 4;
inline constexpr int kLine = 128; // bytes that the copy engine swizzles
inline constexpr int kBoxBytes = 64 * kLine;
inline constexpr int kBytesA = kTileM * kTileK * 2, kBytesB = kTileN * kTileK * 2;
inline constexpr int kStageBytes = kBytesA + kBytesB;
inline constexpr int kWarpgroup = 128, kConsumers = 2, kBlock = (1 + kConsumers) * kWarpgroup;
inline constexpr int kWarps = kWarpgroup / 32;   // of a warpgroup
inline constexpr int kStoringWarps = kWarps - 1; // of gated results, beside the one that fetches
inline constexpr int kSlots = 4;                 // of the queue
inline constexpr int kBand = 16;

template <GroupedProduct P>
inline constexpr bool kByRows = P != GroupedProduct::ByWeight;
template <GroupedProduct P>
inline constexpr bool kIsGated = P == GroupedProduct::Gated || P == GroupedProduct::ByDataGated;
/// Whether an expert's matrix has what is contracted along its rows.
template <GroupedProduct P>
inline constexpr bool kWeightAlongK = P == GroupedProduct::Forward || P == GroupedProduct::Gated;
/// Of the result. A gated tile has the gate's columns and, behind them, the same of the other half.
template <GroupedProduct P>
inline constexpr int kTileColumns = P == GroupedProduct::Gated ? kTileN / 2 : kTileN;

/// What the tiles are of: rows of x (or dy) by an expert's matrix, or an expert's matrix by weight.
struct Arguments {
  const int32_t *sizes;
  int *taken; // tiles that blocks took after their first; 0 before the launch
  int rows, experts;
  int height;  // of an expert's result by weight
  int columns; // of the result, or of half of it where that is [gate | up]
  int depth;   // of the contraction by rows
};

/// What shared memory holds: stages, staged results, barriers, the queue, two tables of the groups.
template <GroupedProduct P>
struct Shared {
  static constexpr int kStagedBytes = (kIsGated<P> ? 32 : 16) * kLine; // of a warp's results
  static constexpr int kHandovers = kIsGated<P> ? kConsumers * kWarps : 0;
  static constexpr int kStagedAt = kStages * kStageBytes;
  static constexpr int kBarriersAt = kStagedAt + kConsumers * kWarps * kStagedBytes;
  static constexpr int kQueueAt = kBarriersAt + (kStages + kSlots + kHandovers) * 16;
  static constexpr int kTablesAt = kQueueAt + kSlots * 4;
  static constexpr int kMaxExperts = kIsGated<P> ? 320 : 2048;

  static constexpr int bytes(int experts) { return kTablesAt + (2 * experts + 4) * 4; }
  static_assert(kTablesAt + (2 * kMaxExperts + 4) * 4 <= 227 * 1024);
};

/// One tile of the result.
struct Tile {
  int expert;
  int row, rowEnd; // in the rows of x by rows, else in an expert's matrix
  int column;
  int k, kEnd; // what is contracted
};

/// The groups' first rows and first tiles.
struct Groups {
  int *row, *tile;
};

/// Fills in the groups and the end of all tiles, by all threads. The group after the last expert
/// has the rows that no expert has.
template <GroupedProduct P>
__device__ void findGroups(const Arguments &args, Groups groups) {
  int32_t *sizes = groups.tile; // until the tiles are known
  for (int i = threadIdx.x; i < args.experts; i += kBlock)
    sizes[i] = args.sizes[i];
  __syncthreads();
  if (threadIdx.x >= 32)
    return;
  int64_t before = 0;
  int across = (args.columns + kTileColumns<P> - 1) / kTileColumns<P>;
  visitGroups(sizes, args.experts, args.rows,
              [&](int64_t expert, int64_t begin, int64_t end, bool valid) {
                int64_t height = kByRows<P> ? end - begin : expert < args.experts ? args.height : 0;
                int64_t tiles = valid ? (height + kTileM - 1) / kTileM * across : 0;
                int64_t after = before + warpScan(tiles);
                if (valid) {
                  groups.row[expert] = static_cast<int>(begin);
                  groups.tile[expert] = static_cast<int>(after - tiles);
                }
                before = __shfl_sync(kFullWarp, after, 31);
              });
  if (threadIdx.x == 0) {
    groups.row[args.experts + 1] = args.rows;
    groups.tile[args.experts + 1] = static_cast<int>(before);
  }
}

/// A tile of a group. Tiles go down bands of about kBand rows of tiles, then to the next column, so
/// that what one wave of blocks fetches is small and stays in L2.
template <GroupedProduct P>
__device__ Tile tileOf(const Arguments &args, Groups groups, int group, int index) {
  int begin = groups.row[group], end = groups.row[group + 1];
  int height = kByRows<P> ? end - begin : args.height;
  int tiles = (height + kTileM - 1) / kTileM;
  int across = (args.columns + kTileColumns<P> - 1) / kTileColumns<P>;
  int bands = max(1, (tiles + kBand / 2) / kBand), band = (tiles + bands - 1) / bands;
  index -= groups.tile[group];
  int first = index / (band * across) * band;
  int high = min(band, tiles - first);
  index -= first * across;
  Tile tile;
  tile.expert = group;
  tile.row = (kByRows<P> ? begin : 0) + (first + index % high) * kTileM;
  tile.rowEnd = kByRows<P> ? end : args.height;
  tile.column = index / high * kTileColumns<P>;
  tile.k = kByRows<P> ? 0 : begin;
  tile.kEnd = !kByRows<P> ? end : group < args.experts ? args.depth : 0;
  return tile;
}

/// The stages in shared memory, each with a barrier that waits for its bytes and one that waits for
/// all who read them.
struct Ring {
  uint32_t memory, barriers;
  int stage = 0;
  uint32_t parity = 0;

  __device__ uint32_t full() const { return barriers + stage * 16; }
  __device__ uint32_t empty() const { return full() + 8; }
  __device__ uint32_t a() const { return memory + stage * kStageBytes; }
  __device__ uint32_t b() const { return a() + kBytesA; }
  __device__ void advance() {
    stage = stage + 1 == kStages ? 0 : stage + 1;
    parity ^= stage == 0;
  }
};

/// The tiles of a block, on their way from the thread that fetches to those that multiply. A number
/// past the last tile ends them.
struct Queue {
  uint32_t memory, barriers;
  int slot = 0;
  uint32_t parity = 0;

  __device__ uint32_t full() const { return barriers + slot * 16; }
  __device__ uint32_t empty() const { return full() + 8; }
  __device__ void advance() {
    slot = slot + 1 == kSlots ? 0 : slot + 1;
    parity ^= slot == 0;
  }
  /// By one thread.
  __device__ void put(int tile) {
    hopper::wait(empty(), parity ^ 1);
    hopper::storeShared(memory + slot * 4, tile);
    hopper::arrive(full());
    advance();
  }
  /// By whole warps.
  __device__ int take() {
    hopper::wait(full(), parity);
    int tile = hopper::loadShared(memory + slot * 4);
    __syncwarp();
    if (threadIdx.x % 32 == 0)
      hopper::arrive(empty());
    advance();
    return tile;
  }
};

/// Columns of B that one copy moves.
template <GroupedProduct P>
inline constexpr int kBoxColumns = kWeightAlongK<P> ? kTileColumns<P> : 64;

/// Fetches A and B of a tile into a stage, for the contraction from k.
template <GroupedProduct P>
__device__ void fetch(const Arguments &args, const Tile &tile, int k, const Ring &ring,
                      const CUtensorMap &a, const CUtensorMap &b) {
  hopper::arriveExpecting(ring.full(), kStageBytes);
  for (int row = 0; row < kTileM; row += 64) {
    hopper::Box at =
        kByRows<P> ? hopper::Box{k, tile.row + row, 0} : hopper::Box{tile.row + row, k, 0};
    hopper::load(ring.a() + row * kLine, a, at, ring.full());
  }
  for (int i = 0; i < kTileN; i += kBoxColumns<P>) {
    int next = P == GroupedProduct::Gated && i > 0 ? args.columns : i;
    int column = tile.column + next, expert = kByRows<P> ? tile.expert : 0;
    hopper::Box at =
        kWeightAlongK<P> ? hopper::Box{k, column, expert} : hopper::Box{column, k, expert};
    hopper::load(ring.b() + i * kLine, b, at, ring.full());
  }
}

/// Takes tiles and fetches all their stages; one thread calls it.
template <GroupedProduct P>
__device__ void produce(const Arguments &args, const CUtensorMap &a, const CUtensorMap &b,
                        Groups groups, Ring ring, Queue queue) {
  int tiles = groups.tile[args.experts + 1], group = 0;
  for (int index = blockIdx.x, next; index < tiles; index = next) {
    queue.put(index);
    next = gridDim.x + atomicAdd(args.taken, 1); // is on its way while this tile is fetched
    while (index >= groups.tile[group + 1])
      ++group;
    Tile tile = tileOf<P>(args, groups, group, index);
    for (int k = tile.k; k < tile.kEnd; k += kTileK, ring.advance()) {
      hopper::wait(ring.empty(), ring.parity ^ 1);
      fetch<P>(args, tile, k, ring, a, b);
    }
  }
  queue.put(tiles);
}

/// Tells the thread that fetches that this warp has read a stage.
__device__ __forceinline__ void release(const Ring &ring) {
  if (threadIdx.x % 32 == 0)
    hopper::arrive(ring.empty());
}

/// Zeroes the rows from `rows` on of both operands in a stage, by the warpgroups that multiply.
__device__ __forceinline__ void clearRows(const Ring &ring, int rows) {
  constexpr int kPacks = kLine / 16, kThreads = kConsumers * kWarpgroup;
  int thread = threadIdx.x - kWarpgroup, packs = (kTileK - rows) * kPacks;
  for (int box = 0; box < kStageBytes / kBoxBytes; ++box)
    for (int i = thread; i < packs; i += kThreads)
      hopper::clearShared(ring.a() + box * kBoxBytes + rows * kLine + i * 16);
  hopper::fenceAsyncProxy();
  hopper::syncNamed(1, kThreads);
}

/// Sums [64, 256] of a tile over [begin, end) of the contraction, added to `sums` if `add`: the
/// rows of warpgroup `half` of it.
template <GroupedProduct P>
__device__ __forceinline__ void multiply(float (&sums)[128], int begin, int end, bool add, int half,
                                         Ring &ring) {
  constexpr bool kAcrossA = !kByRows<P>, kAcrossB = !kWeightAlongK<P>;
  // A contraction of 16 is 32 bytes along a line, or 16 lines.
  constexpr uint64_t kStepA = (kAcrossA ? 16 * kLine : 32) >> 4;
  constexpr uint64_t kStepB = (kAcrossB ? 16 * kLine : 32) >> 4;
  Ring read = ring;
  for (int k = begin; k < end; k += kTileK) {
    hopper::wait(ring.full(), ring.parity);
    if (!kByRows<P> && end - k < kTileK)
      clearRows(ring, end - k);
    uint64_t a = hopper::describe(ring.a() + half * kBoxBytes, kBoxBytes);
    uint64_t b = hopper::describe(ring.b(), kBoxBytes);
    hopper::fenceProducts();
#pragma unroll
    for (int i = 0; i < 4; ++i)
      hopper::multiply64x256<kAcrossA, kAcrossB>(sums, a + i * kStepA, b + i * kStepB,
                                                 add || k > begin || i > 0);
    hopper::commitProducts();
    if (k > begin) {
      hopper::waitProducts<1>();
      release(read);
      read.advance();
    }
    ring.advance();
  }
  hopper::waitProducts<0>();
  if (begin < end)
    release(read);
}

/// Leaves out what a warpgroup without rows need not multiply.
__device__ __forceinline__ void skip(const Tile &tile, Ring &ring) {
  for (int k = tile.k; k < tile.kEnd; k += kTileK, ring.advance()) {
    hopper::wait(ring.full(), ring.parity);
    release(ring);
  }
}

/// The epilogue: rounds sums and stores them by whole lines of 128 bytes, which a warp gathers in
/// shared memory.
template <typename C>
struct Store {
  C *result;
  int stride;

  static constexpr int kColumns = kLine / sizeof(C); // of a line

  /// Puts columns [first, first + kColumns) of a warp's 16 rows into `staged`. The packs of 16
  /// bytes of a line are swizzled, against conflicts of banks.
  __device__ __forceinline__ static void stage(const float (&sums)[128], int first,
                                               uint32_t staged) {
    int lane = threadIdx.x % 32;
    if constexpr (sizeof(C) == 2) {
      uint32_t line = staged + (lane % 16) * kLine + ((lane / 16 ^ lane % 8) << 4);
#pragma unroll
      for (int i = 0; i < kColumns; i += 16) {
        uint32_t packs[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          int at = (first + i) / 2 + j * 2;
          __nv_bfloat162 pack = __floats2bfloat162_rn(sums[at], sums[at + 1]);
          packs[j] = *reinterpret_cast<uint32_t *>(&pack);
        }
        hopper::storeMatrices(line ^ i * 2, packs);
      }
    } else {
#pragma unroll
      for (int i = 0; i < kColumns; i += 8)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          int line = lane / 4 + h * 8, pack = i / 4 + lane % 4 / 2, at = (first + i) / 2 + h * 2;
          uint32_t to = staged + line * kLine + ((pack ^ line % 8) << 4) + lane % 2 * 8;
          hopper::storeShared(to, float2{sums[at], sums[at + 1]});
        }
    }
  }

  /// Sums as multiply64x256 leaves them, of 64 rows from `row` and columns from `column`; what is
  /// past the ends is not stored. `firstRow` is the result's where the expert's rows count from 0.
  __device__ __forceinline__ void operator()(const float (&sums)[128], int64_t firstRow, int row,
                                             int rowEnd, int column, uint32_t staged) const {
    int lane = threadIdx.x % 32;
    row += threadIdx.x % kWarpgroup / 32 * 16 + lane / 8;
    column += lane % 8 * (kColumns / 8);
    C *to = result + (firstRow + row) * stride + column;
#pragma unroll
    for (int first = 0; first < kTileN; first += kColumns) {
      __syncwarp(); // the columns before these were read
      stage(sums, first, staged);
      __syncwarp();
#pragma unroll
      for (int i = 0; i < 16; i += 4) {
        int line = i + lane / 8;
        uint4 pack = hopper::loadPack(staged + line * kLine + ((lane % 8 ^ line % 8) << 4));
        if (row + i < rowEnd && column + first < stride)
          *reinterpret_cast<uint4 *>(to + static_cast<int64_t>(i) * stride + first) = pack;
      }
    }
  }
};

/// Multiplies and stores the rows of warpgroup `half` of all tiles.
template <GroupedProduct P, typename Epilogue>
__device__ __forceinline__ void consume(const Arguments &args, const Epilogue &epilogue,
                                        Groups groups, int half, Ring ring, Queue queue) {
  uint32_t staged = ring.memory + Shared<P>::kStagedAt +
                    (threadIdx.x - kWarpgroup) / 32 * Shared<P>::kStagedBytes;
  int tiles = groups.tile[args.experts + 1], group = 0;
  for (int index = queue.take(); index < tiles; index = queue.take()) {
    while (index >= groups.tile[group + 1])
      ++group;
    Tile tile = tileOf<P>(args, groups, group, index);
    int row = tile.row + half * 64;
    if (kByRows<P> && row >= tile.rowEnd) {
      skip(tile, ring);
      continue;
    }
    float sums[128];
    if (tile.k >= tile.kEnd)
#pragma unroll
      for (float &sum : sums)
        sum = 0;
    multiply<P>(sums, tile.k, tile.kEnd, false, half, ring);
    int64_t firstRow = kByRows<P> ? 0 : static_cast<int64_t>(tile.expert) * args.height;
    epilogue(sums, firstRow, row, tile.rowEnd, tile.column, staged);
  }
}

} // namespace switchyard::kernels::cuda::grouped

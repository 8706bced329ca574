// What gated products have beside GroupedGemmTiles.cuh: results that go through the activation, or
// its gradient, before they are stored. Only code for sm_90a may call it.
//
// To store them takes longer than for plain results, so warps of their own do it while the next
// tile is multiplied: those beside the one that fetches. The warps that multiply hand over their
// rows, rounded, in shared memory. There is room for half of a tile; the other half waits in
// registers until the middle of the next tile.
#pragma once

#include "kernels/cuda/GatedActivation.cuh"
#include "kernels/cuda/GroupedGemmTiles.cuh"

namespace switchyard::kernels::cuda::grouped {

/// Half of a warp's results: 16 rows by two pieces of kPiece columns.
inline constexpr int kPiece = kLine / 2;
inline constexpr int kPieceBytes = 16 * kLine;
using Half = uint32_t[32];

/// Results on their way from a warp that multiplies to the one that stores: a place in shared
/// memory, with a barrier that waits until they are there and one that waits until they were read.
struct Handover {
  uint32_t memory, barriers, parity;

  __device__ uint32_t full() const { return barriers; }
  __device__ uint32_t empty() const { return barriers + 8; }

  /// By the whole warp that multiplies. The packs of 16 bytes of a line are swizzled, against
  /// conflicts of banks.
  __device__ __forceinline__ void put(const Half &half) {
    hopper::wait(empty(), parity ^ 1);
    int lane = threadIdx.x % 32;
    uint32_t line = memory + (lane % 16) * kLine + ((lane / 16 ^ lane % 8) << 4);
#pragma unroll
    for (int i = 0; i < 32; i += 4) {
      const uint32_t packs[4] = {half[i], half[i + 1], half[i + 2], half[i + 3]};
      hopper::storeMatrices((line ^ i % 16 * 8) + i / 16 * kPieceBytes, packs);
    }
    __syncwarp();
    if (lane == 0)
      hopper::arrive(full());
    parity ^= 1;
  }
  /// By the whole warp that stores: waits for results, and lets the next ones come.
  __device__ void await() const { hopper::wait(full(), parity); }
  __device__ void release() const {
    __syncwarp();
    if (threadIdx.x % 32 == 0)
      hopper::arrive(empty());
  }
  /// The lane's pack of columns [lane % 8 * 8, ...) of row `line` of a piece.
  __device__ Pack<BFloat16, 8> take(int piece, int line) const {
    int lane = threadIdx.x % 32;
    uint4 words = hopper::loadPack(memory + piece * kPieceBytes + line * kLine +
                                   ((lane % 8 ^ line % 8) << 4));
    return {{words.x, words.y, words.z, words.w}};
  }
};

/// The handover of warp `warp` of multiplying warpgroup `half`. `parity`: how many it handed over
/// before, modulo 2.
template <GroupedProduct P>
__device__ Handover handoverOf(const Ring &ring, int half, int warp, uint32_t parity) {
  int i = half * kWarps + warp;
  return {ring.memory + Shared<P>::kStagedAt + i * Shared<P>::kStagedBytes,
          ring.barriers + (kStages + kSlots + i) * 16, parity};
}

/// Where the first column of piece `piece` of half `half` of a tile's results stands among the
/// sums. A half of gated results has the same columns of gate and up.
template <GroupedProduct P>
constexpr int pieceColumn(int half, int piece) {
  return P == GroupedProduct::Gated ? piece * kTileColumns<P> + half * kPiece
                                    : (2 * half + piece) * kPiece;
}

__device__ inline uint32_t roundPair(float low, float high) {
  __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<uint32_t *>(&pair);
}

/// Rounds half of the sums.
template <GroupedProduct P, int Index>
__device__ __forceinline__ void roundHalf(const float (&sums)[128], Half &half) {
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    int at = pieceColumn<P>(Index, i / 16) / 2 + i % 16 * 2;
    half[i] = roundPair(sums[at], sums[at + 1]);
  }
}

/// Multiplies the rows of warpgroup `half` of all tiles and hands them over.
template <GroupedProduct P>
__device__ __forceinline__ void consumeGated(const Arguments &args, Groups groups, int half,
                                             Ring ring, Queue queue) {
  Handover handover = handoverOf<P>(ring, half, threadIdx.x % kWarpgroup / 32, 0);
  Half held;
  bool isHeld = false;
  int tiles = groups.tile[args.experts + 1], group = 0;
  for (int index = queue.take(); index < tiles; index = queue.take()) {
    while (index >= groups.tile[group + 1])
      ++group;
    Tile tile = tileOf<P>(args, groups, group, index);
    if (tile.row + half * 64 >= tile.rowEnd) {
      if (isHeld)
        handover.put(held);
      isHeld = false;
      skip(tile, ring);
      continue;
    }
    float sums[128];
    if (tile.k >= tile.kEnd)
#pragma unroll
      for (float &sum : sums)
        sum = 0;
    int middle =
        min(tile.k + (tile.kEnd - tile.k + 2 * kTileK - 1) / (2 * kTileK) * kTileK, tile.kEnd);
    multiply<P>(sums, tile.k, middle, false, half, ring);
    if (isHeld)
      handover.put(held);
    multiply<P>(sums, middle, tile.kEnd, true, half, ring);
    roundHalf<P, 0>(sums, held);
    handover.put(held);
    roundHalf<P, 1>(sums, held);
    isHeld = true;
  }
  if (isHeld)
    handover.put(held);
}

/// Where a warp stores half of its results: rows `row` + lane / 8 + 0, 4, 8 and 12 below `rowEnd`,
/// columns `column` + lane % 8 * 8 below the width, which is that of half a row [gate | up].
struct Place {
  int row, rowEnd, column;
};

/// Stores [gate | up] and the gated result.
struct GatedStore {
  BFloat16 *gateUp, *y;
  int width;

  __device__ void operator()(const Handover &from, Place place) const {
    constexpr int kLines = 4;
    int lane = threadIdx.x % 32, column = place.column + lane % 8 * 8;
    Pack<BFloat16, 8> gate[kLines], up[kLines];
    from.await();
#pragma unroll
    for (int i = 0; i < kLines; ++i) {
      gate[i] = from.take(0, 4 * i + lane / 8);
      up[i] = from.take(1, 4 * i + lane / 8);
    }
    from.release();
#pragma unroll
    for (int i = 0; i < kLines; ++i) {
      int64_t row = place.row + 4 * i + lane / 8;
      if (row >= place.rowEnd || column >= width)
        continue;
      gate[i].store(gateUp + row * 2 * width + column);
      up[i].store(gateUp + row * 2 * width + width + column);
      float result[8];
#pragma unroll
      for (int j = 0; j < 8; ++j)
        result[j] = gated<BFloat16>(gate[i].value(j), up[i].value(j));
      storePack(y + row * width + column, result);
    }
  }
};

/// Takes what is handed over as the gradient of the gated result, and stores that of [gate | up]
/// and the result itself. dgateUp may be gateUp.
struct GatedGradStore {
  const BFloat16 *gateUp;
  BFloat16 *dgateUp, *y;
  int width;

  __device__ void operator()(const Handover &from, Place place) const {
    constexpr int kLines = 4;
    int lane = threadIdx.x % 32, row = place.row + lane / 8, column = place.column + lane % 8 * 8;
    Pack<BFloat16, 8> gate[kLines], up[kLines];
    // Asked for before they are needed: a piece ahead.
    auto fetch = [&](int i, int at) {
      if (row + 4 * i >= place.rowEnd || at >= width)
        return;
      const BFloat16 *line = gateUp + static_cast<int64_t>(row + 4 * i) * 2 * width + at;
      gate[i] = Pack<BFloat16, 8>::load(line);
      up[i] = Pack<BFloat16, 8>::load(line + width);
    };
#pragma unroll
    for (int i = 0; i < kLines; ++i)
      fetch(i, column);
    from.await();
#pragma unroll 1
    for (int piece = 0; piece < 2; ++piece, column += kPiece) {
#pragma unroll
      for (int i = 0; i < kLines; ++i) {
        Pack<BFloat16, 8> dy = from.take(piece, 4 * i + lane / 8);
        Pack<BFloat16, 8> dgate, dup, result;
#pragma unroll
        for (int j = 0; j < 8; j += 2) {
          float results[2];
          GatedGradient gradients[2];
          for (int h = 0; h < 2; ++h)
            gradients[h] = gatedGradient<BFloat16>(dy.value(j + h), gate[i].value(j + h),
                                                   up[i].value(j + h), results[h]);
          dgate.words[j / 2] = roundPair(gradients[0].gate, gradients[1].gate);
          dup.words[j / 2] = roundPair(gradients[0].up, gradients[1].up);
          result.words[j / 2] = roundPair(results[0], results[1]);
        }
        if (piece == 0)
          fetch(i, column + kPiece);
        if (row + 4 * i >= place.rowEnd || column >= width)
          continue;
        int64_t line = static_cast<int64_t>(row + 4 * i) * width;
        dgate.store(dgateUp + 2 * line + column);
        dup.store(dgateUp + 2 * line + width + column);
        result.store(y + line + column);
      }
    }
    from.release();
  }
};

/// Stores what is handed over of all tiles, in turns with the other warps that store.
template <GroupedProduct P, typename Epilogue>
__device__ __forceinline__ void storeGated(const Arguments &args, const Epilogue &epilogue,
                                           Groups groups, const Ring &ring, Queue queue) {
  int next = threadIdx.x / 32 - 1; // the next warp whose results are this one's
  uint32_t parities = 0;           // a bit of each multiplying warpgroup
  int tiles = groups.tile[args.experts + 1], group = 0;
  for (int index = queue.take(); index < tiles; index = queue.take()) {
    while (index >= groups.tile[group + 1])
      ++group;
    Tile tile = tileOf<P>(args, groups, group, index);
#pragma unroll 1
    for (int i = 0; i < 2 * kConsumers; ++i) { // halves of columns, in each halves of rows
      int row = tile.row + i % kConsumers * 64;
      int column = tile.column + i / kConsumers * (kTileColumns<P> / 2);
      if (row >= tile.rowEnd)
        continue;
#pragma unroll 1
      for (; next < kWarps; next += kStoringWarps)
        epilogue(handoverOf<P>(ring, i % kConsumers, next, parities >> i % kConsumers & 1),
                 Place{row + next * 16, tile.rowEnd, column});
      next -= kWarps;
      parities ^= 1 << i % kConsumers;
    }
  }
}

} // namespace switchyard::kernels::cuda::grouped

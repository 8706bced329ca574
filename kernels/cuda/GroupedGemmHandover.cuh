// The results of a grouped GEMM on sm_90a, from the warps that multiply to memory. Only code for
// sm_90a may call it.
//
// To store results takes time in which nothing is multiplied, so warps of their own do it while the
// next tile is multiplied. The warps that multiply hand over their rows, rounded, in shared memory.
// There is room for 128 columns, half of a wide tile; the last 128 wait in registers until the
// middle of the next tile. Results in float32 need twice the room: the warps that multiplied them
// store them.
#pragma once

#include "kernels/cuda/GroupedGemmStages.cuh"
#include "kernels/cuda/Reduce.cuh"

namespace switchyard::kernels::cuda::grouped {

/// What a warp hands over at once, half of its results in a wide tile: 16 rows by two pieces of
/// kPiece columns.
inline constexpr int kPiece = kLine / 2;
inline constexpr int kPieceBytes = 16 * kLine;
using Half = uint32_t[32];

/// Results on their way from a warp that multiplies to one that stores: a place in shared memory,
/// with a barrier that waits until they are there and one that waits until they were read. A
/// barrier has one bit to tell results from those before them. `InTurn`: warps that store take
/// turns, so that none has seen all that came before; the number of the last results stands beside
/// the barriers. It is stored while others wait for it, which racecheck reports.
template <bool InTurn>
struct Handover {
  uint32_t memory, barriers, number; // from 1

  __device__ uint32_t full() const { return barriers; }
  __device__ uint32_t empty() const { return barriers + 8; }
  __device__ uint32_t last() const { return barriers + kConsumers * kWarps * 16; }

  /// By the whole warp that multiplies. The packs of 16 bytes of a line are swizzled, against
  /// conflicts of banks.
  __device__ __forceinline__ void put(const Half &half) {
    hopper::wait(empty(), number & 1);
    int lane = threadIdx.x % 32;
    uint32_t line = memory + (lane % 16) * kLine + ((lane / 16 ^ lane % 8) << 4);
#pragma unroll
    for (int i = 0; i < 32; i += 4) {
      const uint32_t packs[4] = {half[i], half[i + 1], half[i + 2], half[i + 3]};
      hopper::storeMatrices((line ^ i % 16 * 8) + i / 16 * kPieceBytes, packs);
    }
    __syncwarp();
    if (lane == 0) {
      if constexpr (InTurn)
        hopper::storeShared(last(), number);
      hopper::arrive(full());
    }
    ++number;
  }
  /// By the whole warp that stores: waits for results, and lets the next ones come.
  __device__ void await() const {
    do
      hopper::wait(full(), ~number & 1);
    while (InTurn && hopper::loadShared(last()) < number);
  }
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

/// Handover `number`, from 1, of warp `warp` of multiplying warpgroup `half`.
template <typename K>
__device__ Handover<K::kInTurn> handoverOf(const Ring<K> &ring, int half, int warp,
                                           uint32_t number) {
  int i = half * kWarps + warp;
  return {ring.memory + Shared<K>::kStagedAt + i * Shared<K>::kStagedBytes,
          ring.barriers + (Shared<K>::kHandoverBarrier + i) * 16, number};
}

/// Where the first column of piece `piece` of half `half` of a tile's results stands among the
/// sums. A half of gated results has the same columns of gate and up.
template <typename K>
constexpr int pieceColumn(int half, int piece) {
  return K::kIsGated ? piece * K::kTileColumns + half * kPiece : (2 * half + piece) * kPiece;
}

__device__ inline uint32_t roundPair(float low, float high) {
  __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<uint32_t *>(&pair);
}

/// Rounds half of the sums.
template <typename K, int Index>
__device__ __forceinline__ void roundHalf(const typename K::Sums &sums, Half &half) {
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    int at = pieceColumn<K>(Index, i / 16) / 2 + i % 16 * 2;
    half[i] = roundPair(sums[at], sums[at + 1]);
  }
}

/// Sums of nothing.
template <int Count>
__device__ __forceinline__ void clearSums(const Tile &tile, float (&sums)[Count]) {
  if (tile.k >= tile.kEnd)
#pragma unroll
    for (float &sum : sums)
      sum = 0;
}

/// Multiplies the rows of warpgroup `half` of all tiles and hands them over.
template <typename K>
__device__ __forceinline__ void consume(const Arguments &args, int half, Ring<K> ring,
                                        Queue queue) {
  auto handover = handoverOf<K>(ring, half, threadIdx.x % kWarpgroup / 32, 1);
  Half held;
  bool isHeld = false;
  forTiles(queue, [&](const Tile &tile) {
    if (!isThere<K>(args, tile, half)) {
      if (isHeld)
        handover.put(held);
      isHeld = false;
      skip(tile, ring);
      return;
    }
    typename K::Sums sums;
    clearSums(tile, sums);
    int middle =
        min(tile.k + (tile.kEnd - tile.k + 2 * kTileK - 1) / (2 * kTileK) * kTileK, tile.kEnd);
    multiply<K>(sums, tile.k, middle, false, half, ring);
    if (isHeld)
      handover.put(held);
    multiply<K>(sums, middle, tile.kEnd, true, half, ring);
    roundHalf<K, 0>(sums, held);
    if constexpr (K::kParts == 2) {
      handover.put(held);
      roundHalf<K, 1>(sums, held);
    }
    isHeld = true;
  });
  if (isHeld)
    handover.put(held);
}

/// Where a warp stores half of its results: rows `row` + lane / 8 + 0, 4, 8 and 12 below `rowEnd`,
/// which count from row `first` of the result; columns `column` + lane % 8 * 8 below the width,
/// which is that of half a row where that is [gate | up].
struct Place {
  int64_t first;
  int row, rowEnd, column;
};

/// What is handed over to one of the warps that store, of all tiles. Those that have much to do
/// with it take turns. Else each place in shared memory belongs to one of them, which takes less.
template <typename K>
class Handovers {
public:
  __device__ Handovers(const Arguments &args, int warp, const Ring<K> &ring, const Queue &queue)
      : args_(args), ring_(ring), queue_(queue), warp_(warp),
        from_(K::kInTurn ? kWarps - K::kStoring + warp : kWarps) {}

  /// Goes on to the next one, by the whole warp; false if there is none.
  __device__ bool next() {
    for (from_ += K::kStoring; from_ >= kWarps;
         from_ = K::kInTurn ? from_ - kWarps : (warp_ + half() * 2) % K::kStoring) {
      do {
        if (++part_ == K::kParts * kConsumers) {
          tile_ = queue_.take();
          if (tile_.isNone)
            return false;
          part_ = 0;
        }
      } while (!isThere<K>(args_, tile_, half()));
      counts_[0] += half() ^ 1;
      counts_[1] += half();
    }
    return true;
  }
  __device__ Handover<K::kInTurn> handover() const {
    return handoverOf<K>(ring_, half(), from_, half() ? counts_[1] : counts_[0]);
  }
  __device__ Place place() const {
    return {K::kByRows ? 0 : static_cast<int64_t>(tile_.expert) * args_.height,
            tile_.row + half() * 64 + from_ * 16, tile_.rowEnd,
            tile_.column + part_ / kConsumers * (K::kTileColumns / K::kParts)};
  }

private:
  /// The multiplying warpgroup.
  __device__ int half() const { return part_ % kConsumers; }

  const Arguments &args_;
  const Ring<K> &ring_;
  Queue queue_;
  Tile tile_;
  int warp_;
  int part_ = K::kParts * kConsumers - 1; // of the tile: halves of columns, in each halves of rows
  int from_;                              // the warp that hands over
  uint32_t counts_[kConsumers] = {}; // of what each of a warpgroup's warps handed over, with this
};

/// Stores what is handed over of all tiles.
template <typename K>
__device__ __forceinline__ void store(const Arguments &args, const typename K::Epilogue &epilogue,
                                      int warp, const Ring<K> &ring, const Queue &queue) {
  Handovers<K> own(args, warp, ring, queue);
  if constexpr (K::kReadsGateUp)
    epilogue.storeAll(own);
  else
    while (own.next())
      epilogue(own.handover(), own.place());
}

/// Stores results in bfloat16; `Squared`: and of each part the sum of its squares.
template <bool Squared>
struct StoreRounded {
  static constexpr bool kHandsOver = true;
  BFloat16 *result;
  int width;
  float *squares; // [rows / kRowsOfPart rounded up in each expert, width / kColumnsOfPart likewise]
  int height;     // of an expert's result

  __device__ void operator()(const Handover<false> &from, Place place) const {
    constexpr int kLines = kRowsOfPart / 4;
    static_assert(2 * kPiece == kColumnsOfPart);
    int lane = threadIdx.x % 32;
    Pack<BFloat16, 8> packs[2][kLines];
    from.await();
#pragma unroll
    for (int i = 0; i < 2 * kLines; ++i)
      packs[i / kLines][i % kLines] = from.take(i / kLines, i % kLines * 4 + lane / 8);
    from.release();
    [[maybe_unused]] float sum = 0;
#pragma unroll
    for (int i = 0; i < 2 * kLines; ++i) {
      int row = place.row + i % kLines * 4 + lane / 8;
      int column = place.column + i / kLines * kPiece + lane % 8 * 8;
      if (row >= place.rowEnd || column >= width)
        continue;
      const Pack<BFloat16, 8> &pack = packs[i / kLines][i % kLines];
      pack.store(result + (place.first + row) * width + column);
      if constexpr (Squared)
#pragma unroll
        for (int j = 0; j < 8; ++j)
          sum += pack.value(j) * pack.value(j);
    }
    if constexpr (Squared) {
      sum = warpSum(sum);
      int64_t down = ceilDivide(height, kRowsOfPart), across = ceilDivide(width, kColumnsOfPart);
      int64_t part = (place.first / height * down + place.row / kRowsOfPart) * across +
                     place.column / kColumnsOfPart;
      if (lane == 0 && place.row < place.rowEnd && place.column < width)
        squares[part] = sum;
    }
  }
};
using Store = StoreRounded<false>;

/// Stores results by the warps that multiplied them, before they are rounded: by lines of 128 bytes
/// in float32, which a warp gathers in shared memory. `Adds`: adds them to what is there, which is
/// asked for while the last products are made, as far as there is room.
template <typename T, bool Adds>
struct StoreSums {
  static constexpr bool kHandsOver = false, kAdds = Adds;
  static constexpr int kColumns = kLine / 4; // of a line
  static constexpr int kLines = 16 / 4;      // of a lane, of a warp's rows
  static constexpr int kAhead = !Adds ? 1 : sizeof(T) == 4 ? 2 : 4;
  using Old = Pack<T, 4>[kLines];
  T *result;
  int width;

  /// Where a lane's elements of columns [0, kColumns) are, and which of its rows there are.
  struct Lane {
    T *to;
    int row, rowEnd, column;
  };
  __device__ Lane laneOf(const Place &place) const {
    int lane = threadIdx.x % 32;
    int row = place.row + static_cast<int>(threadIdx.x) % kWarpgroup / 32 * 16 + lane / 8;
    int column = place.column + lane % 8 * (kColumns / 8);
    return {result + (place.first + row) * width + column, row, place.rowEnd, column};
  }
  __device__ bool isThere(const Lane &lane, int first, int i) const {
    return lane.row + 4 * i < lane.rowEnd && lane.column + first < width;
  }
  /// Asks for what columns [first, first + kColumns) are added to.
  __device__ __forceinline__ void ask(const Lane &lane, int first, Old &old) const {
#pragma unroll
    for (int i = 0; i < kLines; ++i)
      if (isThere(lane, first, i))
        old[i] = Pack<T, 4>::load(lane.to + static_cast<int64_t>(4 * i) * width + first);
  }

  /// Puts columns [first, first + kColumns) of a warp's 16 rows into `staged`. The packs of 16
  /// bytes of a line are swizzled, against conflicts of banks.
  template <int Count>
  __device__ __forceinline__ static void stage(const float (&sums)[Count], int first,
                                               uint32_t staged) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kColumns; i += 8)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        int line = lane / 4 + h * 8, pack = i / 4 + lane % 4 / 2, at = (first + i) / 2 + h * 2;
        uint32_t to = staged + line * kLine + ((pack ^ line % 8) << 4) + lane % 2 * 8;
        hopper::storeShared(to, float2{sums[at], sums[at + 1]});
      }
  }

  /// Sums as hopper::multiply leaves them; `ahead` has what the first columns are added to.
  template <int Count>
  __device__ __forceinline__ void operator()(const float (&sums)[Count], uint32_t staged,
                                             const Lane &lane, Old (&ahead)[kAhead]) const {
    constexpr int kWidth = 2 * Count;
#pragma unroll
    for (int first = 0; first < kWidth; first += kColumns) {
      [[maybe_unused]] Old &old = ahead[first / kColumns % kAhead];
      __syncwarp(); // the columns before these were read
      stage(sums, first, staged);
      __syncwarp();
#pragma unroll
      for (int i = 0; i < kLines; ++i) {
        int line = 4 * i + static_cast<int>(threadIdx.x) % 32 / 8, pack = threadIdx.x % 8;
        uint4 words = hopper::loadPack(staged + line * kLine + ((pack ^ line % 8) << 4));
        if (!isThere(lane, first, i))
          continue;
        float values[4] = {__uint_as_float(words.x), __uint_as_float(words.y),
                           __uint_as_float(words.z), __uint_as_float(words.w)};
        if constexpr (Adds)
#pragma unroll
          for (int j = 0; j < 4; ++j)
            values[j] += old[i].value(j);
        storePack(lane.to + static_cast<int64_t>(4 * i) * width + first, values);
      }
      if (Adds && first + kAhead * kColumns < kWidth)
        ask(lane, first + kAhead * kColumns, old);
    }
  }
};

/// Multiplies and stores the rows of warpgroup `half` of all tiles.
template <typename K>
__device__ __forceinline__ void consumeAndStore(const Arguments &args,
                                                const typename K::Epilogue &epilogue, int half,
                                                Ring<K> ring, Queue queue) {
  uint32_t staged = ring.memory + Shared<K>::kStagedAt +
                    (threadIdx.x - kWarpgroup) / 32 * Shared<K>::kStagedBytes;
  forTiles(queue, [&](const Tile &tile) {
    if (!isThere<K>(args, tile, half))
      return skip(tile, ring);
    using Epilogue = typename K::Epilogue;
    if (Epilogue::kAdds && tile.k >= tile.kEnd)
      return; // nothing is added
    int64_t first = K::kByRows ? 0 : static_cast<int64_t>(tile.expert) * args.height;
    auto lane = epilogue.laneOf(Place{first, tile.row + half * 64, tile.rowEnd, tile.column});
    typename Epilogue::Old ahead[Epilogue::kAhead];
    typename K::Sums sums;
    clearSums(tile, sums);
    if constexpr (Epilogue::kAdds) {
      int stages = (tile.kEnd - tile.k + kTileK - 1) / kTileK;
      int last = tile.k + max(stages - K::kStages, 0) * kTileK;
      multiply<K>(sums, tile.k, last, false, half, ring);
#pragma unroll
      for (int i = 0; i < Epilogue::kAhead; ++i)
        epilogue.ask(lane, i * Epilogue::kColumns, ahead[i]);
      multiply<K>(sums, last, tile.kEnd, last > tile.k, half, ring);
    } else {
      multiply<K>(sums, tile.k, tile.kEnd, false, half, ring);
    }
    epilogue(sums, staged, lane, ahead);
  });
}

} // namespace switchyard::kernels::cuda::grouped

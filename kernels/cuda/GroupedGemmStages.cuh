// The stages of a grouped GEMM on sm_90a: pieces of A and B on their way from memory, through a
// ring in shared memory, to the tensor cores. Only code for sm_90a may call it.
#pragma once

#include "kernels/cuda/GroupedGemmTiles.cuh"

namespace switchyard::kernels::cuda::grouped {

/// The stages: one is full when its bytes are there, and empty when all have read it, in both
/// blocks of the cluster. A further barrier of each waits for packs that are copied.
template <typename K>
struct Ring : SharedRing<K::kStages> {
  __device__ uint32_t copied() const { return this->full() + K::kStages * 16; }
  __device__ uint32_t a() const { return this->memory + this->stage * K::kStageBytes; }
  __device__ uint32_t b() const { return a() + kBytesA; }
};

/// Has A and B of a tile copied into a stage, for the contraction from k, but for what is gathered;
/// one thread calls it. Of what the tiles share, this block's half goes to both.
template <typename K>
__device__ __forceinline__ void fetch(const Arguments &args, const Tile &tile, int k,
                                      const Ring<K> &ring, int rank, const CUtensorMap &a,
                                      const CUtensorMap &b) {
  constexpr bool kFetchesA = K::kGather != Gather::A, kFetchesB = K::kGather != Gather::B;
  constexpr int kBoxesA = kTileM / 64, kBoxesB = K::kTileN / K::kBoxColumns;
  auto fetchA = [&](int i, auto load) {
    int row = tile.row + i * 64;
    load(ring.a() + i * kBoxBytes, a, K::kByRows ? hopper::Box{k, row, 0} : hopper::Box{row, k, 0},
         ring.full());
  };
  auto fetchB = [&](int i, auto load) {
    int expert = K::kByRows ? tile.expert : 0;
    int column = tile.column + (K::kIsGated ? i * args.columns : i * K::kBoxColumns);
    load(ring.b() + i * K::kBoxColumns * kLine, b,
         K::kWeightAlongK ? hopper::Box{k, column, expert} : hopper::Box{column, k, expert},
         ring.full());
  };
  auto fetchAll = [&]<int Boxes>(std::integral_constant<int, Boxes>, auto fetchOne) {
#pragma unroll
    for (int i = 0; i < Boxes; ++i)
      fetchOne(i, hopper::load);
  };
  auto fetchHalf = [&]<int Boxes>(std::integral_constant<int, Boxes>, auto fetchOne) {
#pragma unroll
    for (int i = 0; i < Boxes / kCluster; ++i)
      fetchOne(rank * (Boxes / kCluster) + i, hopper::loadToBoth);
  };
  std::integral_constant<int, kFetchesA ? kBoxesA : 0> boxesA;
  std::integral_constant<int, kFetchesB ? kBoxesB : 0> boxesB;
  hopper::arriveExpecting(ring.full(), (kFetchesA ? kBytesA : 0) + (kFetchesB ? K::kBytesB : 0));
  if (tile.sharesB) {
    fetchAll(boxesA, fetchA);
    fetchHalf(boxesB, fetchB);
  } else {
    fetchHalf(boxesA, fetchA);
    fetchAll(boxesB, fetchB);
  }
}

/// Copies the rows of tokens, a pack of 16 bytes at a time, as the copy engine would: in lines of
/// 128 bytes, swizzled. It belongs to a lane of the warps that fetch: pack `lane % 8` of every
/// kStep-th line. By rows, a tile's lines are 128 rows.
template <typename K, bool ByRows = K::kByRows>
struct Gatherer {
  static constexpr int kStep = K::kFetching * 32 / 8;
  static constexpr uint32_t kNone = ~uint32_t{0};
  uint32_t first[kTileM / kStep]; // pack of each row

  __device__ void begin(const Arguments &args, const Tile &tile) {
#pragma unroll
    for (int i = 0; i < kTileM / kStep; ++i) {
      int row = tile.row + static_cast<int>(threadIdx.x) / 8 + i * kStep;
      uint32_t token = row < tile.rowEnd ? args.tokens.ofRow[row] : kNone;
      first[i] = token < args.tokens.count ? token * args.tokens.packs : kNone;
    }
  }
  __device__ void copy(const Arguments &args, const Tile &, int k, const Ring<K> &ring) {
    uint32_t line = threadIdx.x / 8, pack = threadIdx.x % 8, at = k / 8 + pack;
    bool isInside = at < args.tokens.packs;
    const BFloat16 *from = args.tokens.data + static_cast<int64_t>(at) * 8;
#pragma unroll
    for (int i = 0; i < kTileM / kStep; ++i) {
      uint32_t to = ring.a() + (line + i * kStep) * kLine + ((pack ^ (line + i * kStep) % 8) << 4);
      hopper::copyAsync(to, from + static_cast<uint64_t>(first[i]) * 8,
                        isInside && first[i] != kNone);
    }
  }
};

/// By weight, lines are the 64 rows of a stage, in each piece of 64 columns. A lane asks for the
/// token of one of its warp's 32 lines two stages ahead.
template <typename K>
struct Gatherer<K, false> {
  static constexpr int kBoxes = (K::kGather == Gather::A ? kTileM : K::kTileN) / 64;
  static constexpr int kLines = 8; // of a lane, every eighth
  static_assert(K::kFetching * 32 == kTileK);
  uint32_t ahead[2];

  __device__ uint32_t ask(const Arguments &args, const Tile &tile, int k) const {
    int lane = threadIdx.x % 32;
    int row = k + static_cast<int>(threadIdx.x) / 32 * 4 + lane / 4 * 8 + lane % 4;
    return row < tile.kEnd ? args.tokens.ofRow[row] : ~uint32_t{0};
  }
  __device__ void begin(const Arguments &args, const Tile &tile) {
    ahead[0] = ask(args, tile, tile.k);
    ahead[1] = ask(args, tile, tile.k + kTileK);
  }
  __device__ void copy(const Arguments &args, const Tile &tile, int k, const Ring<K> &ring) {
    uint32_t own = ahead[0];
    ahead[0] = ahead[1];
    ahead[1] = ask(args, tile, k + 2 * kTileK);
    uint32_t line = threadIdx.x / 8, pack = threadIdx.x % 8;
    uint32_t start = (K::kGather == Gather::A ? tile.row : tile.column) / 8 + pack;
    uint32_t to =
        (K::kGather == Gather::A ? ring.a() : ring.b()) + line * kLine + ((pack ^ line % 8) << 4);
#pragma unroll
    for (int i = 0; i < kLines; ++i) {
      uint32_t token = __shfl_sync(kFullWarp, own, i * 4 + line % 4);
      const BFloat16 *from =
          args.tokens.data + (static_cast<uint64_t>(token) * args.tokens.packs + start) * 8;
      bool isToken = token < args.tokens.count;
#pragma unroll
      for (int box = 0; box < kBoxes; ++box)
        hopper::copyAsync(to + box * kBoxBytes + i * 8 * kLine, from + box * 64,
                          isToken && start + box * 8 < args.tokens.packs);
    }
  }
};

/// Fetches all stages of this block's tiles: by one thread of the warp that does so, or, where
/// packs are copied, by all threads of two. One thread of the cluster finds the tiles, each while
/// the one before it is fetched.
template <typename K>
__device__ __forceinline__ void produce(const Arguments &args, const CUtensorMap &a,
                                        const CUtensorMap &b, Ring<K> ring, Queue queue,
                                        const GroupTable &table) {
  int rank = hopper::clusterRank();
  Scheduler<K> scheduler(args, table);
  Queue found = queue;
  auto find = [&](bool isFirst) {
    if (isFirst && rank == 0)
      scheduler.putNext(found);
  };
  auto forStages = [&](const Tile &tile, bool isFirst, const auto &body) {
    for (int k = tile.k; k < tile.kEnd; k += kTileK, ring.next()) {
      hopper::wait(ring.empty(), ring.parity ^ 1);
      body(k);
      find(isFirst && k == tile.k);
    }
    find(isFirst && tile.k >= tile.kEnd);
  };
  if constexpr (K::kGathers) {
    bool isFirst = threadIdx.x == 0;
    Gatherer<K> gatherer;
    find(isFirst);
    forTiles(queue, [&](const Tile &tile) {
      gatherer.begin(args, tile);
      forStages(tile, isFirst, [&](int k) {
        if (threadIdx.x < 32 && hopper::elect())
          fetch<K>(args, tile, k, ring, rank, a, b);
        gatherer.copy(args, tile, k, ring);
        hopper::arriveAfterCopies(ring.copied());
      });
    });
  } else if (hopper::elect()) {
    find(true);
    for (Tile tile = queue.takeAlone(); !tile.isNone; tile = queue.takeAlone())
      forStages(tile, true, [&](int k) { fetch<K>(args, tile, k, ring, rank, a, b); });
  }
}

/// Says of all stages that their packs are there, by a warp: they were not written by the copy
/// engine, and the fence that this takes would hold up those who multiply, or those who copy.
template <typename K>
__device__ __forceinline__ void announce(Ring<K> ring, Queue queue) {
  forTiles(queue, [&](const Tile &tile) {
    for (int k = tile.k; k < tile.kEnd; k += kTileK, ring.next()) {
      hopper::wait(ring.copied(), ring.parity);
      hopper::fenceAsyncProxy();
      if (threadIdx.x % 32 == 0)
        hopper::arrive(ring.full());
    }
  });
}

/// Tells both blocks' fetching warps that this warp has read a stage.
template <typename K>
__device__ __forceinline__ void release(const Ring<K> &ring) {
  if (int lane = threadIdx.x % 32; lane < kCluster)
    hopper::arriveCluster(hopper::addressIn(lane, ring.empty()));
}

/// Zeroes the rows from `rows` on of both operands in a stage, by the warpgroups that multiply. Of
/// what is gathered they are zero.
template <typename K>
__device__ __forceinline__ void clearRows(const Ring<K> &ring, int rows) {
  constexpr int kPacks = kLine / 16, kThreads = kConsumers * kWarpgroup;
  int thread = threadIdx.x - kWarpgroup, packs = (kTileK - rows) * kPacks;
  constexpr int kFirst = K::kGather == Gather::A ? kBytesA / kBoxBytes : 0;
  constexpr int kEnd = (K::kGather == Gather::B ? kBytesA : K::kStageBytes) / kBoxBytes;
  for (int box = kFirst; box < kEnd; ++box)
    for (int i = thread; i < packs; i += kThreads)
      hopper::clearShared(ring.a() + box * kBoxBytes + rows * kLine + i * 16);
  hopper::fenceAsyncProxy();
  hopper::syncNamed(1, kThreads);
}

/// Sums [64, kTileN] of a tile over [begin, end) of the contraction, added to `sums` if `add`: the
/// rows of warpgroup `half` of it.
template <typename K>
__device__ __forceinline__ void multiply(typename K::Sums &sums, int begin, int end, bool add,
                                         int half, Ring<K> &ring) {
  constexpr bool kAcrossA = !K::kByRows, kAcrossB = !K::kWeightAlongK;
  // A contraction of 16 is 32 bytes along a line, or 16 lines.
  constexpr uint64_t kStepA = (kAcrossA ? 16 * kLine : 32) >> 4;
  constexpr uint64_t kStepB = (kAcrossB ? 16 * kLine : 32) >> 4;
  Ring<K> read = ring;
  for (int k = begin; k < end; k += kTileK) {
    hopper::wait(ring.full(), ring.parity);
    if (!K::kByRows && end - k < kTileK)
      clearRows<K>(ring, end - k);
    uint64_t a = hopper::describe(ring.a() + half * kBoxBytes, kBoxBytes);
    uint64_t b = hopper::describe(ring.b(), kBoxBytes);
    hopper::fenceProducts();
#pragma unroll
    for (int i = 0; i < 4; ++i)
      hopper::multiply<kAcrossA, kAcrossB>(sums, a + i * kStepA, b + i * kStepB,
                                           add || k > begin || i > 0);
    hopper::commitProducts();
    if (k > begin) {
      hopper::waitProducts<1>();
      release(read);
      read.next();
    }
    ring.next();
  }
  hopper::waitProducts<0>();
  if (begin < end)
    release(read);
}

/// Leaves out what a warpgroup without rows need not multiply.
template <typename K>
__device__ __forceinline__ void skip(const Tile &tile, Ring<K> &ring) {
  for (int k = tile.k; k < tile.kEnd; k += kTileK, ring.next()) {
    hopper::wait(ring.full(), ring.parity);
    release(ring);
  }
}

} // namespace switchyard::kernels::cuda::grouped

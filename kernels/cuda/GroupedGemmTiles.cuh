// The tiles of a grouped GEMM on sm_90a: what shared memory holds for one, which there are for
// these group sizes, and in which order they come.
//
// Two blocks, a cluster, compute two tiles at a time that share rows or columns. What they share,
// each fetches half of, for both: so less goes through L2, which is what limits such products.
#pragma once

#include "kernels/cuda/GroupedGemm.h"
#include "kernels/cuda/Groups.cuh"
#include "kernels/cuda/Hopper.cuh"
#include "kernels/cuda/Reduce.cuh"

namespace switchyard::kernels::cuda::grouped {

inline constexpr int kTileM = 128, kTileK = 64;
inline constexpr int kCluster = 2;
inline constexpr int kLine = 128; // bytes that the copy engine swizzles
inline constexpr int kBoxBytes = 64 * kLine;
inline constexpr int kBytesA = kTileM * kTileK * 2;
inline constexpr int kWarpgroup = 128, kConsumers = 2, kBlock = (1 + kConsumers) * kWarpgroup;
inline constexpr int kWarps = kWarpgroup / 32;    // of a warpgroup
inline constexpr int kSlots = 4, kSlotBytes = 32; // of the queue
inline constexpr int kBand = 16, kFewRows = 256;  // of tiles; of a group
inline constexpr int kTabled = 256;               // groups in the table

/// One of the kernels: the product, which operand's rows are tokens, what becomes of results, and
/// the columns of a tile, 256 or 128.
template <GroupedProduct P, Gather G, typename E, int Columns = 256>
struct Kind {
  using Epilogue = E;
  static constexpr int kTileN = Columns;
  static constexpr int kBytesB = kTileN * kTileK * 2, kStageBytes = kBytesA + kBytesB;
  static constexpr int kStages = kTileN == 256 ? 4 : 6;
  using Sums = float[kTileN / 2]; // of a thread that multiplies
  /// How often a warp that multiplies hands over a tile's results, 128 columns at once.
  static constexpr int kParts = kTileN / 128;
  static constexpr Gather kGather = G;
  static constexpr bool kByRows = P != GroupedProduct::ByWeight;
  static constexpr bool kIsGated = P == GroupedProduct::Gated;
  /// Whether an expert's matrix has what is contracted along its rows.
  static constexpr bool kWeightAlongK = P == GroupedProduct::Forward || kIsGated;
  static constexpr bool kReadsGateUp = P == GroupedProduct::ByDataGated;
  /// Of the result. A gated tile has the gate's columns and, behind them, the same of the other
  /// half.
  static constexpr int kTileColumns = kIsGated ? kTileN / 2 : kTileN;
  /// Columns of B that one copy moves.
  static constexpr int kBoxColumns = kWeightAlongK ? kTileN / 2 : 64;
  /// Whether the tiles of a cluster share rows. B can't be shared where its rows are tokens.
  static constexpr bool kPairsColumns = G == Gather::B;

  /// Warps of the warpgroup beside those that multiply: some fetch; where they copy packs, one says
  /// so; the others store.
  static constexpr bool kGathers = G != Gather::None, kHandsOver = E::kHandsOver;
  static constexpr int kFetching = kGathers ? 2 : 1, kAnnouncing = kGathers;
  static constexpr int kStoring = kHandsOver ? kWarps - kFetching - kAnnouncing : 0;
  /// Whether those that store take turns: where they have much to do.
  static constexpr bool kInTurn = kReadsGateUp;
  /// Registers of a thread that does not multiply, and of one that does.
  static constexpr int kFewest = kReadsGateUp ? 136 : kHandsOver ? 104 : kGathers ? 72 : 56;
  static constexpr int kMost = (504 - kFewest) / 2;
};

/// Tokens that stand where they stand.
struct Tokens {
  const BFloat16 *data; // [count, 8 packs]
  const int32_t *ofRow;
  uint32_t count, packs;
};

/// What the tiles are of: rows of x (or dy) by an expert's matrix, or an expert's matrix by weight.
struct Arguments {
  const int32_t *sizes;
  int *taken; // pairs of tiles that clusters took after their first; 0 before the launch. Null:
              // they take turns
  int rows, experts;
  int height;  // of an expert's result by weight
  int columns; // of the result, or of half of it where that is [gate | up]
  int depth;   // of the contraction by rows
  Tokens tokens;
};

/// What shared memory holds: stages, staged results, barriers, the queue, the table of groups.
template <typename K>
struct Shared {
  static constexpr int kStagedBytes = (K::kHandsOver ? 32 : 16) * kLine; // of a warp's results
  static constexpr int kHandovers = K::kHandsOver ? kConsumers * kWarps : 0;
  static constexpr int kStagedAt = K::kStages * K::kStageBytes;
  static constexpr int kBarriersAt = kStagedAt + kConsumers * kWarps * kStagedBytes;
  /// Barriers are by twos, of stages, of packs that are copied, of the queue, of handovers; behind
  /// them, as far apart, the handovers' numbers.
  static constexpr int kSlotBarrier = 2 * K::kStages, kHandoverBarrier = kSlotBarrier + kSlots;
  static constexpr int kNumber = kHandoverBarrier + kHandovers;
  static constexpr int kQueueAt = kBarriersAt + (kNumber + kHandovers) * 16;
  static constexpr int kTableAt = kQueueAt + kSlots * kSlotBytes;
  static constexpr int kBytes = kTableAt + kTabled * 8;
  static_assert(kBytes <= 227 * 1024);
};

/// One tile of the result. Of the two of a cluster, the second may begin behind the result's end.
struct Tile {
  int expert = 0;
  int row = 0, rowEnd = 0; // in the rows of x by rows, else in an expert's matrix
  int column = 0;
  int k = 0, kEnd = 0; // what is contracted
  int sharesB = 0; // with the cluster's other tile, which has other rows; else A, and other columns
  int isNone = 0;  // behind the last one
};
static_assert(sizeof(Tile) == kSlotBytes);

/// Whether the rows of warpgroup `half` of a tile are computed. By weight they go together, as the
/// warpgroups clear shared memory together.
template <typename K>
__device__ bool isThere(const Arguments &args, const Tile &tile, int half) {
  return tile.row + (K::kByRows ? half * 64 : 0) < tile.rowEnd && tile.column < args.columns;
}

/// The tiles of a cluster: that of its first block, and how far behind it the other's begins.
struct Pair {
  Tile first;
  int rows, columns;
};

/// The rows of an expert.
struct Group {
  int expert, begin, end;

  /// Rows and columns of tiles.
  template <typename K>
  __device__ unsigned down(const Arguments &args) const {
    int height = K::kByRows ? end - begin : expert < args.experts ? args.height : 0;
    return static_cast<unsigned>((height + kTileM - 1) / kTileM);
  }
  template <typename K>
  __device__ static unsigned across(const Arguments &args) {
    return static_cast<unsigned>((args.columns + K::kTileColumns - 1) / K::kTileColumns);
  }
  /// Two rows of tiles are pairs, and two tiles of a row that is left; or the other way round.
  template <typename K>
  __device__ unsigned pairs(const Arguments &args) const {
    unsigned along = across<K>(args), by = down<K>(args);
    if constexpr (K::kPairsColumns)
      return along / 2 * by + along % 2 * ((by + 1) / 2);
    return by / 2 * along + by % 2 * ((along + 1) / 2);
  }
};

/// Pair `left` of a group. Pairs go down bands of about kBand rows of tiles, two columns of tiles
/// at a time, so that what one wave of blocks fetches is small and stays in L2. Where at most
/// kFewRows are contracted by weight, all that is fetched does, and bands are of two: memory takes
/// whole rows of the result faster.
template <typename K>
__device__ Pair pairOf(const Arguments &args, const Group &group, unsigned left) {
  unsigned down = group.down<K>(args), across = group.across<K>(args);
  unsigned wanted = K::kByRows || group.end - group.begin > kFewRows ? kBand : 2;
  unsigned bands = max(1U, (down + wanted / 2) / wanted);
  unsigned band = ((down + bands - 1) / bands + 1) & ~1U; // even, so that only the last may be odd
  unsigned before = left / (band / 2 * across);
  unsigned top = before * band, high = min(band, down - top);
  left -= top / 2 * across;
  // Two columns have as many pairs of tiles as rows; one that is left has fewer.
  unsigned two = left / high, column = two * 2, row = left - two * high;
  bool isWhole = column + 1 < across;
  bool sharesB = !isWhole;
  if constexpr (K::kPairsColumns) {
    row = isWhole ? row : 2 * row;
  } else {
    unsigned half = high / 2;
    sharesB = row < (isWhole ? 2 * half : half);
    bool isSecond = sharesB && row >= half;
    column += isSecond ? 1 : 0;
    row = sharesB ? (row - (isSecond ? half : 0)) * 2 : high - 1;
  }
  Pair pair;
  pair.first = {.expert = group.expert,
                .row = (K::kByRows ? group.begin : 0) + static_cast<int>(top + row) * kTileM,
                .rowEnd = K::kByRows ? group.end : args.height,
                .column = static_cast<int>(column) * K::kTileColumns,
                .k = K::kByRows ? 0 : group.begin,
                .kEnd = !K::kByRows                   ? group.end
                        : group.expert < args.experts ? args.depth
                                                      : 0,
                .sharesB = sharesB,
                .isNone = 0};
  pair.rows = sharesB ? kTileM : 0;
  pair.columns = sharesB ? 0 : K::kTileColumns;
  return pair;
}

/// A ring in shared memory, whose stages have a barrier each that waits until they are full and one
/// that waits until they are empty.
template <int Stages>
struct SharedRing : hopper::Ring<Stages> {
  uint32_t memory, barriers;

  __device__ uint32_t full() const { return barriers + this->stage * 16; }
  __device__ uint32_t empty() const { return full() + 8; }
};

/// Tiles on their way from the thread that finds them to all warps of both blocks.
struct Queue : SharedRing<kSlots> {
  /// By one thread of the cluster's first block.
  __device__ __forceinline__ void put(Pair pair) {
    hopper::wait(empty(), parity ^ 1);
#pragma unroll
    for (int rank = 0; rank < kCluster; ++rank) {
      const Tile &tile = pair.first;
      uint32_t to = hopper::addressIn(rank, memory + stage * kSlotBytes);
      uint32_t barrier = hopper::addressIn(rank, full());
      hopper::arriveExpectingCluster(barrier, kSlotBytes);
      hopper::storeAsync(to, {tile.expert, tile.row, tile.rowEnd, tile.column}, barrier);
      hopper::storeAsync(to + 16, {tile.k, tile.kEnd, tile.sharesB, tile.isNone}, barrier);
      pair.first.row += pair.rows;
      pair.first.column += pair.columns;
    }
    next();
  }
  /// By a thread that stands for its warp.
  __device__ Tile takeAlone() {
    hopper::wait(full(), parity);
    uint4 low = hopper::loadPack(memory + stage * kSlotBytes);
    uint4 high = hopper::loadPack(memory + stage * kSlotBytes + 16);
    hopper::arriveCluster(hopper::addressIn(0, empty()));
    next();
    return {static_cast<int>(low.x),  static_cast<int>(low.y),  static_cast<int>(low.z),
            static_cast<int>(low.w),  static_cast<int>(high.x), static_cast<int>(high.y),
            static_cast<int>(high.z), static_cast<int>(high.w)};
  }
  /// By whole warps.
  __device__ Tile take() {
    Queue after = *this;
    Tile tile;
    if (threadIdx.x % 32 == 0)
      tile = after.takeAlone();
    next();
    auto ofFirst = [](int value) { return __shfl_sync(kFullWarp, value, 0); };
    return {ofFirst(tile.expert), ofFirst(tile.row),  ofFirst(tile.rowEnd),  ofFirst(tile.column),
            ofFirst(tile.k),      ofFirst(tile.kEnd), ofFirst(tile.sharesB), ofFirst(tile.isNone)};
  }
};

/// Calls body(tile) for this block's tiles, by whole warps.
template <typename Body>
__device__ __forceinline__ void forTiles(Queue &queue, const Body &body) {
  for (Tile tile = queue.take(); !tile.isNone; tile = queue.take())
    body(tile);
}

/// A table, in shared memory, of where the first kTabled groups end, that of the rows that no
/// expert has among them. To add it up group by group, between two tiles, took 90 ns for each.
struct GroupTable {
  struct End {
    unsigned pairs; // of tiles, up to the group's end
    int row;
  };
  uint32_t memory;

  __device__ End operator[](int group) const {
    uint2 words = hopper::loadWords(memory + group * sizeof(End));
    return {words.x, static_cast<int>(words.y)};
  }
  __device__ static int size(const Arguments &args) { return min(args.experts + 1, kTabled); }
  /// By a whole warp.
  template <typename K>
  __device__ void fill(const Arguments &args) const {
    int64_t before = 0; // these 32
    visitGroups(args.sizes, min(args.experts, kTabled), args.rows,
                [&](int64_t expert, int64_t begin, int64_t end, bool valid) {
                  Group group{static_cast<int>(expert), static_cast<int>(begin),
                              static_cast<int>(end)};
                  int64_t pairs = before + warpScan(valid ? group.pairs<K>(args) : 0);
                  if (expert < size(args))
                    hopper::storeShared(
                        memory + group.expert * sizeof(End),
                        uint2{static_cast<unsigned>(pairs), static_cast<unsigned>(group.end)});
                  before = __shfl_sync(kFullWarp, pairs, 31);
                });
    __syncwarp();
  }
};

/// Finds the cluster's tiles, one pair at a time: where clusters are free, they take the next pair.
/// Belongs to one thread, which waits for nobody: what it does for a tile delays those it fetches.
/// A plan is untrusted: negative sizes count as 0 and no group reaches past the last row. The group
/// after the last expert has the rows that no expert has.
template <typename K>
class Scheduler {
public:
  __device__ Scheduler(const Arguments &args, const GroupTable &table)
      : args_(args), table_(table), tabled_(GroupTable::size(args)), next_(blockIdx.x / kCluster) {}

  /// Puts the next pair, or that there is none.
  __device__ __forceinline__ void putNext(Queue &queue) {
    unsigned pair = next_, clusters = gridDim.x / kCluster;
    // Is on its way until it is needed.
    next_ = args_.taken ? clusters + static_cast<unsigned>(atomicAdd(args_.taken, 1))
                        : next_ + clusters;
    while (group_.expert + 8 < tabled_ && table_[group_.expert + 8].pairs <= pair)
      endAt(group_.expert + 8, table_[group_.expert + 8]);
    while (pair >= after_ && group_.expert < args_.experts)
      advance();
    queue.put(pair < after_ ? pairOf<K>(args_, group_, pair - before_)
                            : Pair{Tile{.isNone = 1}, 0, 0});
  }

private:
  __device__ void advance() {
    int expert = group_.expert + 1;
    group_.begin = group_.end;
    before_ = after_;
    if (expert < tabled_)
      return endAt(expert, table_[expert]);
    int left = args_.rows - group_.end;
    group_.expert = expert;
    group_.end += expert < args_.experts ? min(max(args_.sizes[expert], 0), left) : left;
    after_ += group_.pairs<K>(args_);
  }
  __device__ void endAt(int expert, const GroupTable::End &end) {
    group_.expert = expert;
    group_.end = end.row;
    after_ = end.pairs;
  }

  const Arguments &args_;
  GroupTable table_;
  int tabled_; // groups in the table
  Group group_{-1, 0, 0};
  unsigned before_ = 0, after_ = 0; // pairs of the groups before this one, and with it
  unsigned next_;
};

} // namespace switchyard::kernels::cuda::grouped

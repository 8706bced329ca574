// attention_grad on a Hopper GPU in bfloat16, for heads of 64 or 128: AttentionGrad.cu's two
// kernels with wgmma for products and the copy engine for tiles (FlashAttention-3, Shah et al.
// 2024). A block has one key tile of 128 rows and goes over the queries that see it, 64 at a time
// and one query head of the group after the other; or one query tile, and goes over its keys.
//
// The scores are formed twice, seven products where one kernel with atomic or ordered sums of dq
// would need five: nothing is summed in an order that depends on timing, no dq in float32 is kept,
// and the key heads' sums over their group stay in registers.
//
// Seen on an H200 (head_dim 128, median of 15, counted as five products of what the mask leaves;
// Mixtral's 32 query and 8 key heads, OLMoE's 16 and 16), beside cuDNN 9.14 as AttentionHopper.cu
// says and torch 2.11's scaled_dot_product_attention, the better one of its backends:
//
//                               Mixtral: ours    cuDNN   torch  OLMoE: ours   cuDNN   torch
//     4 segments of 4,096     482 TFLOP/s 2.85 ms  451    467    448   1.53    454    435
//       with a window of 1,024           387 1.55  342           351   0.86    340
//     16 segments of 256                 132 0.16   88     70     97   0.11     90     52
//     64 segments of 217                 132 0.55   91            104   0.35    97
//
// torch's and cuDNN's figures are of their usual backward, whose sums' order depends on timing.
// cuDNN 9.14's deterministic one keeps the gradients of all scores in memory (segments * heads *
// longest * longest * 2 bytes: 4.3 GB for the first row, and 65 GiB where only T bounds a segment,
// as here); it reaches 414, 176, 100 and 103 on Mixtral's.
#include "kernels/cuda/AttentionHopper.h"

#include "kernels/cuda/AttentionHopper.cuh"
#include "kernels/cuda/AttentionTiles.cuh"
#include "kernels/cuda/TensorMap.h"
#include "kernels/signatures/attention.h"

namespace switchyard::kernels::cuda {
namespace {

/// What all three kernels read, and where they write.
struct Gradient {
  AttentionShape shape;
  int64_t padded = 0;           // rows of a head in lse and delta
  const BFloat16 *dy = nullptr; // [T, heads * head_dim]
  const BFloat16 *y = nullptr;  // as dy
  const float *rowLse = nullptr;
  float *lse = nullptr;    // [heads, padded], times log2(e); infinite where a row sees nothing
  float *delta = nullptr;  // [heads, padded], behind lse
  Seen *keys = nullptr;    // [padded], of each query
  Seen *queries = nullptr; // [padded], of each key
  BFloat16 *dqkv = nullptr;
};

/// A key tile's block: keys and values; queries and dy come by 64. A query tile's: queries and dy;
/// keys and values come by 128.
template <int Depth>
struct QueryLayout : Layout<Depth, 2, 64, 3> {
  using Tiles = Layout<Depth, 2, 64, 3>;
  static constexpr uint32_t kStatistics = 2 * 64 * 4; // lse and delta of a stage's queries
  static constexpr uint32_t kBytes = Tiles::kBytes + Tiles::kStages * kStatistics;
  __device__ uint32_t statistics(int stage) const {
    return this->base + Tiles::kTiles + stage * kStatistics;
  }
};
template <int Depth>
using KeyLayout = Layout<Depth, 2, kBlockRows, 2>;

/// The rows that one block prepares.
constexpr int kPreparedRows = 32;

/// delta = rowsum(dy * y), lse by heads, and what each row sees. A block per 32 rows and head.
template <int Depth>
__global__ __launch_bounds__(256) void prepareRows(Gradient gradient) {
  constexpr int kLanes = Depth / 8;
  const AttentionShape &shape = gradient.shape;
  __shared__ float deltas[kPreparedRows];
  int64_t head = blockIdx.y, first = static_cast<int64_t>(blockIdx.x) * kPreparedRows;
  int lane = threadIdx.x % kLanes;
#pragma unroll
  for (int r = threadIdx.x / kLanes; r < kPreparedRows; r += 256 / kLanes) {
    float sum = 0;
    if (first + r < shape.tokens) {
      float a[8], b[8];
      int64_t at = ((first + r) * shape.heads + head) * Depth + lane * 8;
      loadPack<8>(gradient.dy + at, a);
      loadPack<8>(gradient.y + at, b);
#pragma unroll
      for (int i = 0; i < 8; ++i)
        sum += a[i] * b[i];
    }
    sum = warpSum<kLanes>(sum);
    if (lane == 0)
      deltas[r] = sum;
  }
  __syncthreads();
  if (threadIdx.x >= kPreparedRows)
    return;
  int64_t row = first + threadIdx.x;
  Range keys = keysOf(shape, row);
  bool any = keys.begin < keys.end;
  gradient.delta[head * gradient.padded + row] = any ? deltas[threadIdx.x] : 0.0f;
  gradient.lse[head * gradient.padded + row] =
      any ? gradient.rowLse[row * shape.heads + head] * kLog2E : INFINITY;
  if (head == 0) {
    Range queries = any ? queriesOf(shape, row) : Range{row, row};
    gradient.keys[row] = {static_cast<int>(keys.begin), static_cast<int>(keys.end)};
    gradient.queries[row] = {static_cast<int>(queries.begin), static_cast<int>(queries.end)};
  }
}

/// The queries that a key tile goes over: `count` tiles of 64 from `begin`, for each head.
struct QueryTiles {
  int begin, count;
  __device__ explicit QueryTiles(const Cover &cover)
      : begin(cover.begin < cover.end ? cover.begin : 0),
        count(cover.begin < cover.end ? (cover.end - begin + 63) / 64 : 0) {}
};

/// Weights p = exp2(factor * score - lse), 0 where the key row (by columns) does not see: in place
/// of the scores.
template <bool Masked>
__device__ void weighColumns(float (&scores)[32], uint32_t lse, float factor, int firstColumn,
                             const Seen (&seen)[2]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    float2 shift = loadShared(lse + (8 * i + columnOfThread()) * 4);
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float &score = scores[4 * i + 2 * half + j];
        score = exp2Fast(score * factor - (j == 0 ? shift.x : shift.y));
        int column = firstColumn + 8 * i + columnOfThread() + j;
        if (Masked && (column < seen[half].begin || column >= seen[half].end))
          score = 0;
      }
  }
}

/// One tile of queries: dv += p^T dy, dk += ds^T q.
template <int Depth>
__device__ void addQueryTile(const QueryLayout<Depth> &layout, int stage, int group, int query,
                             bool full, float factor, const Seen (&seen)[2], float (&dk)[Depth / 2],
                             float (&dv)[Depth / 2]) {
  float scores[32], products[32];
  uint32_t weights[16], gradients[16];
  uint32_t offset = group * kGroupRows * 128;
  hopper::fenceProducts();
  scoreTiles<kBlockRows, Depth>(scores, layout.own(0) + offset, layout.other(stage, 0));
  hopper::commitProducts();
  scoreTiles<kBlockRows, Depth>(products, layout.own(1) + offset, layout.other(stage, 1));
  hopper::commitProducts();
  hopper::waitProducts<1>();
  uint32_t statistics = layout.statistics(stage);
  if (full)
    weighColumns<false>(scores, statistics, factor, query, seen);
  else
    weighColumns<true>(scores, statistics, factor, query, seen);
  packWeights(scores, weights);
  hopper::waitProducts<0>();
  hopper::fenceProducts();
  addProduct<64, Depth>(dv, weights, layout.other(stage, 1));
  hopper::commitProducts();
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    float2 delta = loadShared(statistics + 64 * 4 + (8 * i + columnOfThread()) * 4);
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int j = 0; j < 2; ++j)
        products[4 * i + 2 * half + j] =
            scores[4 * i + 2 * half + j] *
            (products[4 * i + 2 * half + j] - (j == 0 ? delta.x : delta.y));
  }
  packWeights(products, gradients);
  hopper::fenceProducts();
  addProduct<64, Depth>(dk, gradients, layout.other(stage, 0));
  hopper::commitProducts();
  hopper::waitProducts<0>();
}

/// What the copy engine knows: qkv by boxes of 128 and of 64 rows, dy by 64, and for each row, head
/// and which of lse and delta it is, a statistic.
struct KeyGradMaps {
  CUtensorMap wide, narrow, dy, statistics;
};

/// Fetches a block's keys and values, then the queries and dy of each tile.
template <int Depth>
__device__ void fetchQueries(const KeyGradMaps &maps, const AttentionShape &shape,
                             const QueryLayout<Depth> &layout,
                             const Barriers<QueryLayout<Depth>::kStages> &barriers, int64_t first,
                             int64_t kvHead, QueryTiles tiles) {
  constexpr int kStages = QueryLayout<Depth>::kStages;
  using L = QueryLayout<Depth>;
  hopper::arriveExpecting(barriers.own(), 2 * L::kOwn);
  hopper::load(layout.own(0), maps.wide, boxAt(first, shape.keyColumn(kvHead)), barriers.own());
  hopper::load(layout.own(1), maps.wide, boxAt(first, shape.valueColumn(kvHead)), barriers.own());
  hopper::Ring<kStages> ring;
  for (int64_t head = kvHead * shape.group(); head < (kvHead + 1) * shape.group(); ++head)
    for (int tile = 0; tile < tiles.count; ++tile) {
      int query = tiles.begin + 64 * tile;
      hopper::wait(barriers.empty(ring.stage), ring.parity ^ 1);
      uint32_t full = barriers.full(ring.stage);
      hopper::arriveExpecting(full, 2 * L::kOther + L::kStatistics);
      hopper::load(layout.other(ring.stage, 0), maps.narrow, boxAt(query, head * Depth), full);
      hopper::load(layout.other(ring.stage, 1), maps.dy, boxAt(query, head * Depth), full);
      hopper::load(layout.statistics(ring.stage), maps.statistics,
                   {query, static_cast<int>(head), 0}, full);
      ring.next();
    }
}

template <int Depth>
__global__ __launch_bounds__(kHopperThreads,
                             1) void keyGrad(const __grid_constant__ KeyGradMaps maps,
                                             Gradient gradient) {
#ifdef SWITCHYARD_HOPPER
  using L = QueryLayout<Depth>;
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t barrierWords[Barriers<L::kStages>::kWords];
  const AttentionShape &shape = gradient.shape;
  L layout{{alignedBase(memory)}};
  Barriers<L::kStages> barriers{hopper::sharedAddress(barrierWords)};
  int64_t kvHead = blockIdx.x, first = static_cast<int64_t>(blockIdx.y) * kBlockRows;
  if (threadIdx.x == 0)
    barriers.create();
  Cover groups[2];
  coverGroups(gradient.queries + first, groups);
  QueryTiles tiles(join(groups[0], groups[1]));
  int group = static_cast<int>(threadIdx.x / 128) - 1;
  if (group < 0) {
    hopper::lowerRegisters<24>();
    if (threadIdx.x < 32 && hopper::elect())
      fetchQueries<Depth>(maps, shape, layout, barriers, first, kvHead, tiles);
    return;
  }
  hopper::raiseRegisters<240>();
  Cover cover = group == 0 ? groups[0] : groups[1];
  int64_t row = first + group * kGroupRows;
  Seen seen[2] = {gradient.queries[row + rowOfThread()], gradient.queries[row + rowOfThread() + 8]};
  float factor = shape.scale * kLog2E;
  float dk[Depth / 2] = {}, dv[Depth / 2] = {};
  hopper::wait(barriers.own(), 0);
  hopper::Ring<L::kStages> ring;
  int heads = static_cast<int>(shape.group());
  for (int head = 0; head < heads; ++head)
    for (int tile = 0; tile < tiles.count; ++tile) {
      int query = tiles.begin + 64 * tile;
      hopper::wait(barriers.full(ring.stage), ring.parity);
      if (query < cover.end && query + 64 > cover.begin)
        addQueryTile<Depth>(layout, ring.stage, group, query, cover.full(query, 64), factor, seen,
                            dk, dv);
      release(barriers.empty(ring.stage));
      ring.next();
    }
  int64_t width = shape.packedWidth();
  BFloat16 *out = gradient.dqkv + row * width;
  int rows = static_cast<int>(min(int64_t{kGroupRows}, shape.tokens - row));
  storeRows(dk, {shape.scale, shape.scale}, out + shape.keyColumn(kvHead), width, rows);
  storeRows(dv, {1, 1}, out + shape.valueColumn(kvHead), width, rows);
#else
  __trap();
#endif
}

/// Fetches a block's queries and dy, then the keys and values of each tile.
template <int Depth>
__device__ void fetchKeys(const CUtensorMap &qkvMap, const CUtensorMap &dyMap,
                          const AttentionShape &shape, const KeyLayout<Depth> &layout,
                          const Barriers<KeyLayout<Depth>::kStages> &barriers, int64_t first,
                          int64_t head, const Cover &cover) {
  using L = KeyLayout<Depth>;
  hopper::arriveExpecting(barriers.own(), 2 * L::kOwn);
  hopper::load(layout.own(0), qkvMap, boxAt(first, head * Depth), barriers.own());
  hopper::load(layout.own(1), dyMap, boxAt(first, head * Depth), barriers.own());
  int64_t kvHead = head / shape.group();
  hopper::Ring<L::kStages> ring;
  for (int key = cover.begin; key < cover.end; key += kBlockRows) {
    hopper::wait(barriers.empty(ring.stage), ring.parity ^ 1);
    uint32_t full = barriers.full(ring.stage);
    hopper::arriveExpecting(full, 2 * L::kOther);
    hopper::load(layout.other(ring.stage, 0), qkvMap, boxAt(key, shape.keyColumn(kvHead)), full);
    hopper::load(layout.other(ring.stage, 1), qkvMap, boxAt(key, shape.valueColumn(kvHead)), full);
    ring.next();
  }
}

/// One tile of keys: dq += ds k. `lse` and `delta` are those of the thread's two rows.
template <int Depth>
__device__ void addKeyTile(const KeyLayout<Depth> &layout, int stage, int group, int key, bool full,
                           float factor, const Seen (&seen)[2], const float (&lse)[2],
                           const float (&delta)[2], float (&dq)[Depth / 2]) {
  float scores[64], products[64];
  uint32_t gradients[32];
  uint32_t offset = group * kGroupRows * 128;
  hopper::fenceProducts();
  scoreTiles<kBlockRows, Depth>(scores, layout.own(0) + offset, layout.other(stage, 0));
  hopper::commitProducts();
  scoreTiles<kBlockRows, Depth>(products, layout.own(1) + offset, layout.other(stage, 1));
  hopper::commitProducts();
  hopper::waitProducts<1>();
#pragma unroll
  for (int i = 0; i < 64; ++i)
    scores[i] = exp2Fast(scores[i] * factor - lse[i / 2 % 2]);
  if (!full) {
#pragma unroll
    for (int i = 0; i < 64; ++i) {
      int column = key + i / 4 * 8 + columnOfThread() + i % 2;
      if (column < seen[i / 2 % 2].begin || column >= seen[i / 2 % 2].end)
        scores[i] = 0;
    }
  }
  hopper::waitProducts<0>();
#pragma unroll
  for (int i = 0; i < 64; ++i)
    products[i] = scores[i] * (products[i] - delta[i / 2 % 2]);
  packWeights(products, gradients);
  hopper::fenceProducts();
  addProduct<kBlockRows, Depth>(dq, gradients, layout.other(stage, 0));
  hopper::commitProducts();
  hopper::waitProducts<0>();
}

template <int Depth>
__global__ __launch_bounds__(kHopperThreads,
                             1) void queryGrad(const __grid_constant__ CUtensorMap qkvMap,
                                               const __grid_constant__ CUtensorMap dyMap,
                                               Gradient gradient) {
#ifdef SWITCHYARD_HOPPER
  using L = KeyLayout<Depth>;
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t barrierWords[Barriers<L::kStages>::kWords];
  const AttentionShape &shape = gradient.shape;
  L layout{alignedBase(memory)};
  Barriers<L::kStages> barriers{hopper::sharedAddress(barrierWords)};
  // Late tiles have the most keys: they start first.
  int64_t head = blockIdx.x;
  int64_t first = static_cast<int64_t>(gridDim.y - 1 - blockIdx.y) * kBlockRows;
  if (threadIdx.x == 0)
    barriers.create();
  Cover groups[2];
  coverGroups(gradient.keys + first, groups);
  Cover both = join(groups[0], groups[1]);
  int group = static_cast<int>(threadIdx.x / 128) - 1;
  if (group < 0) {
    hopper::lowerRegisters<24>();
    if (threadIdx.x < 32 && hopper::elect())
      fetchKeys<Depth>(qkvMap, dyMap, shape, layout, barriers, first, head, both);
    return;
  }
  hopper::raiseRegisters<240>();
  Cover cover = group == 0 ? groups[0] : groups[1];
  int64_t row = first + group * kGroupRows;
  Seen seen[2];
  float lse[2], delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int64_t at = row + rowOfThread() + 8 * half;
    seen[half] = gradient.keys[at];
    lse[half] = gradient.lse[head * gradient.padded + at];
    delta[half] = gradient.delta[head * gradient.padded + at];
  }
  float factor = shape.scale * kLog2E;
  float dq[Depth / 2] = {};
  hopper::wait(barriers.own(), 0);
  hopper::Ring<L::kStages> ring;
  for (int key = both.begin; key < both.end; key += kBlockRows) {
    hopper::wait(barriers.full(ring.stage), ring.parity);
    if (key < cover.end && key + kBlockRows > cover.begin)
      addKeyTile<Depth>(layout, ring.stage, group, key, cover.full(key, kBlockRows), factor, seen,
                        lse, delta, dq);
    release(barriers.empty(ring.stage));
    ring.next();
  }
  int64_t width = shape.packedWidth();
  int rows = static_cast<int>(min(int64_t{kGroupRows}, shape.tokens - row));
  storeRows(dq, {shape.scale, shape.scale}, gradient.dqkv + row * width + head * Depth, width,
            rows);
#else
  __trap();
#endif
}

template <int Depth>
Fault runGradient(const Launch &launch, const Gradient &gradient) {
  const AttentionShape &shape = gradient.shape;
  cudaStream_t stream = contextOf(launch).stream;
  KeyGradMaps maps;
  CUtensorMap wideDy;
  const void *qkv = launch.operands[1].data, *dy = launch.operands[0].data;
  Fault fault = makeTileMap(maps.wide, qkv, shape.tokens, shape.packedWidth(), kBlockRows, Depth);
  if (!fault)
    fault = makeTileMap(maps.narrow, qkv, shape.tokens, shape.packedWidth(), 64, Depth);
  if (!fault)
    fault = makeTileMap(maps.dy, dy, shape.tokens, shape.outputWidth(), 64, Depth);
  if (!fault)
    fault =
        describeTensor(maps.statistics, DType::F32, gradient.lse, {gradient.padded, shape.heads, 2},
                       {gradient.padded * 4, gradient.padded * 4 * shape.heads}, {64, 1, 2});
  if (!fault)
    fault = makeTileMap(wideDy, dy, shape.tokens, shape.outputWidth(), kBlockRows, Depth);
  if (fault)
    return fault;
  auto tiles = static_cast<unsigned>(ceilDivide(shape.tokens, kBlockRows));
  auto heads = static_cast<unsigned>(shape.heads), kvHeads = static_cast<unsigned>(shape.kvHeads);
  prepareRows<Depth>
      <<<dim3(static_cast<unsigned>(gradient.padded / kPreparedRows), heads), 256, 0, stream>>>(
          gradient);
  keyGrad<Depth><<<dim3(kvHeads, tiles), kHopperThreads, QueryLayout<Depth>::kBytes, stream>>>(
      maps, gradient);
  queryGrad<Depth><<<dim3(heads, tiles), kHopperThreads, KeyLayout<Depth>::kBytes, stream>>>(
      maps.wide, wideDy, gradient);
  return launchFault("attention_grad");
}

template <int Depth>
Fault prepareGradient() {
  Fault fault =
      faultOf(cudaFuncSetAttribute(keyGrad<Depth>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   QueryLayout<Depth>::kBytes),
              "cudaFuncSetAttribute");
  if (!fault)
    fault =
        faultOf(cudaFuncSetAttribute(queryGrad<Depth>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     KeyLayout<Depth>::kBytes),
                "cudaFuncSetAttribute");
  return fault;
}

} // namespace

Fault prepareAttentionGradHopper(const AttentionShape &shape) {
  return shape.headDim == 64 ? prepareGradient<64>() : prepareGradient<128>();
}

Fault runAttentionGradHopper(const Launch &launch, const AttentionShape &shape) {
  Gradient gradient;
  gradient.shape = shape;
  gradient.padded = attentionRows(shape.tokens);
  gradient.dy = launch.operands[0].as<BFloat16>();
  gradient.y = launch.operands[2].as<BFloat16>();
  gradient.rowLse = launch.operands[3].as<float>();
  gradient.dqkv = launch.operands[5].as<BFloat16>();
  int64_t statistics = shape.heads * gradient.padded;
  gradient.lse = reinterpret_cast<float *>(launch.workspace.data());
  gradient.delta = gradient.lse + statistics;
  gradient.keys = reinterpret_cast<Seen *>(gradient.delta + statistics);
  gradient.queries = gradient.keys + gradient.padded;
  return shape.headDim == 64 ? runGradient<64>(launch, gradient)
                             : runGradient<128>(launch, gradient);
}

} // namespace switchyard::kernels::cuda

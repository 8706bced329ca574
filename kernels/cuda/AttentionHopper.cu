// attention on a Hopper GPU in bfloat16, for heads of 64 or 128 (FlashAttention-3, Shah et al.
// 2024): a block takes tiles of 128 queries of one head and goes over the keys that they see, 128
// at a time. Each of two warpgroups has 64 queries; while its product with the values runs, the
// next scores become weights, and while it stores a tile's results, the next tile is on its way.
//
// Seen on an H200 (head_dim 128, median of 15, of what the mask leaves; Mixtral's 32 query and 8
// key heads, OLMoE's 16 and 16), beside cuDNN 9.14 on the same packed rows (ragged offsets, lse
// [T, heads]) and torch 2.11's scaled_dot_product_attention, the better one of its backends:
//
//                               Mixtral: ours    cuDNN   torch  OLMoE: cuDNN   torch
//     4 segments of 4,096     594 TFLOP/s 0.93 ms  555    578           530     508
//       with a window of 1,024           470 0.51  476                  444
//     16 segments of 256                 144 0.060 148    116           103      69
//     64 segments of 217                 142 0.20  153                  132
//
// cuDNN's forward was right with empty segments anywhere, with inert rows (which it leaves as they
// are), and when its captured graph was replayed with other boundaries; it needs no bound on a
// segment but T. It is not used: it is no faster, its deterministic backward does not fit
// (AttentionGradHopper.cu), and results would depend on a library's presence and version.
#include "kernels/cuda/AttentionHopper.h"

#include "kernels/cuda/AttentionHopper.cuh"
#include "kernels/cuda/AttentionTiles.cuh"
#include "kernels/cuda/TensorMap.h"
#include "kernels/signatures/attention.h"

namespace switchyard::kernels::cuda {
namespace {

/// The queries; keys and values by 128.
template <int Depth>
using ForwardLayout = Layout<Depth, 1, kBlockRows, Depth == 128 ? 3 : 4>;

/// Hands the next work to the warps that compute, once they are done with the last one; `parity`
/// starts as 0. The caller then arrives at own().
template <int Stages>
__device__ void handOver(const Barriers<Stages> &barriers, uint32_t &parity, const Work &next,
                         Work &shared) {
  hopper::wait(barriers.ownUsed(), parity ^ 1);
  parity ^= 1;
  shared = next;
}

/// What each query sees; nothing past the last token.
__global__ __launch_bounds__(256) void findKeys(AttentionShape shape, Ranges keys, int64_t rows,
                                                unsigned *taken) {
  __shared__ Cover covers[8];
  int64_t row = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  Range range = keysOf(shape, row);
  Seen seen{static_cast<int>(range.begin), static_cast<int>(range.end)};
  if (row < rows)
    keys.rows[row] = seen;
  Cover cover = coverOfWarp(seen);
  if (threadIdx.x % 32 == 0)
    covers[threadIdx.x / 32] = cover;
  __syncthreads();
  if (threadIdx.x % kGroupRows == 0 && row < rows)
    keys.groups[row / kGroupRows] = join(covers[threadIdx.x / 32], covers[threadIdx.x / 32 + 1]);
  if (row == 0)
    *taken = 0;
}

struct Forward {
  AttentionShape shape;
  Schedule schedule;
  Ranges keys;
  BFloat16 *y = nullptr;
  float *lse = nullptr;
};

/// Fetches the queries of each of the block's tiles, then the keys and values that they see.
template <int Depth>
__device__ void fetch(const CUtensorMap &map, const Forward &forward,
                      const ForwardLayout<Depth> &layout,
                      const Barriers<ForwardLayout<Depth>::kStages> &barriers, Work &shared) {
  using L = ForwardLayout<Depth>;
  const AttentionShape &shape = forward.shape;
  const Schedule &schedule = forward.schedule;
  hopper::Ring<L::kStages> ring;
  uint32_t parity = 0;
  int item = static_cast<int>(blockIdx.x);
  while (true) {
    Work work = schedule.work(item, forward.keys.groups);
    handOver(barriers, parity, work, shared);
    if (work.item < 0) {
      hopper::arrive(barriers.own());
      return;
    }
    int head = schedule.head(item);
    int64_t first = static_cast<int64_t>(schedule.tile(item)) * kBlockRows;
    hopper::arriveExpecting(barriers.own(), L::kOwn);
    hopper::load(layout.own(0), map, boxAt(first, int64_t{head} * Depth), barriers.own());
    item = schedule.next();
    int64_t kvHead = head / shape.group();
    Cover cover = join(work.groups[0], work.groups[1]);
    for (int key = cover.begin; key < cover.end; key += kBlockRows) {
      hopper::wait(barriers.empty(ring.stage), ring.parity ^ 1);
      uint32_t full = barriers.full(ring.stage);
      hopper::arriveExpecting(full, 2 * L::kOther);
      hopper::load(layout.other(ring.stage, 0), map, boxAt(key, shape.keyColumn(kvHead)), full);
      hopper::load(layout.other(ring.stage, 1), map, boxAt(key, shape.valueColumn(kvHead)), full);
      ring.next();
    }
  }
}

/// The tiles [begin, end) of the block's that a warpgroup's queries see.
struct KeyTiles {
  int count, begin, end;
  __device__ KeyTiles(const Cover &both, const Cover &own) : count(0), begin(0), end(0) {
    if (both.begin < both.end)
      count = (both.end - both.begin + kBlockRows - 1) / kBlockRows;
    if (own.begin < own.end) {
      begin = (own.begin - both.begin) / kBlockRows;
      end = (own.end - both.begin + kBlockRows - 1) / kBlockRows;
    }
  }
};

/// A warpgroup's queries over its keys. The product with a tile's values is left to the next tile's
/// turn, and to the end.
template <int Depth>
__device__ void addTiles(const ForwardLayout<Depth> &layout,
                         const Barriers<ForwardLayout<Depth>::kStages> &barriers, int group,
                         int firstKey, const KeyTiles &tiles, const Cover &cover, float factor,
                         const Seen (&seen)[2], hopper::Ring<ForwardLayout<Depth>::kStages> &ring,
                         Softmax<Depth> &softmax) {
  uint32_t queries = layout.own(0) + group * kGroupRows * 128;
  float scores[64], shrink[2];
  uint32_t weights[32];
  auto skip = [&](int count) {
    for (int i = 0; i < count; ++i, ring.next()) {
      hopper::wait(barriers.full(ring.stage), ring.parity);
      release(barriers.empty(ring.stage));
    }
  };
  skip(tiles.begin == tiles.end ? tiles.count : tiles.begin);
  if (tiles.begin == tiles.end) {
    hopper::arrive(barriers.ownUsed());
    return;
  }
  hopper::wait(barriers.full(ring.stage), ring.parity);
  hopper::fenceProducts();
  scoreTiles<kBlockRows, Depth>(scores, queries, layout.other(ring.stage, 0));
  hopper::commitProducts();
  hopper::waitProducts<0>();
  int key = firstKey + tiles.begin * kBlockRows;
  softmax.weigh(scores, key, cover.full(key, kBlockRows), factor, seen, shrink);
  packWeights(scores, weights);
  int last = ring.stage; // whose values are not added yet
  ring.next();
  for (int tile = tiles.begin + 1; tile < tiles.end; ++tile) {
    hopper::wait(barriers.full(ring.stage), ring.parity);
    hopper::fenceProducts();
    scoreTiles<kBlockRows, Depth>(scores, queries, layout.other(ring.stage, 0));
    hopper::commitProducts();
    addProduct<kBlockRows, Depth>(softmax.sums, weights, layout.other(last, 1));
    hopper::commitProducts();
    hopper::waitProducts<1>();
    key += kBlockRows;
    softmax.weigh(scores, key, cover.full(key, kBlockRows), factor, seen, shrink);
    hopper::waitProducts<0>();
    release(barriers.empty(last));
    softmax.rescale(shrink);
    packWeights(scores, weights);
    last = ring.stage;
    ring.next();
  }
  hopper::arrive(barriers.ownUsed());
  hopper::fenceProducts();
  addProduct<kBlockRows, Depth>(softmax.sums, weights, layout.other(last, 1));
  hopper::commitProducts();
  hopper::waitProducts<0>();
  release(barriers.empty(last));
  skip(tiles.count - tiles.end);
}

/// A warpgroup's 64 queries of a tile.
template <int Depth>
__device__ void attend(const Forward &forward, const ForwardLayout<Depth> &layout,
                       const Barriers<ForwardLayout<Depth>::kStages> &barriers, int group,
                       const Work &work, hopper::Ring<ForwardLayout<Depth>::kStages> &ring) {
  const AttentionShape &shape = forward.shape;
  int64_t head = forward.schedule.head(work.item);
  int64_t row = int64_t{forward.schedule.tile(work.item)} * kBlockRows + group * kGroupRows;
  Seen seen[2] = {forward.keys.rows[row + rowOfThread()],
                  forward.keys.rows[row + rowOfThread() + 8]};
  Cover both = join(work.groups[0], work.groups[1]);
  Cover cover = group == 0 ? work.groups[0] : work.groups[1];
  Softmax<Depth> softmax;
  addTiles<Depth>(layout, barriers, group, both.begin, KeyTiles(both, cover), cover,
                  shape.scale * kLog2E, seen, ring, softmax);
  int rows = static_cast<int>(min(int64_t{kGroupRows}, shape.tokens - row));
  float factors[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float total = warpSum<4>(softmax.total[half]);
    factors[half] = total > 0 ? 1.0f / total : 0.0f;
    int own = rowOfThread() + 8 * half;
    if (threadIdx.x % 4 == 0 && own < rows)
      forward.lse[(row + own) * shape.heads + head] =
          total > 0 ? softmax.largest[half] * shape.scale + logf(total) : 0.0f;
  }
  storeRows(softmax.sums, factors, forward.y + row * shape.outputWidth() + head * Depth,
            shape.outputWidth(), rows);
}

template <int Depth>
__global__ __launch_bounds__(kHopperThreads,
                             1) void attentionHopper(const __grid_constant__ CUtensorMap map,
                                                     Forward forward) {
#ifdef SWITCHYARD_HOPPER
  using L = ForwardLayout<Depth>;
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t barrierWords[Barriers<L::kStages>::kWords];
  __shared__ Work shared;
  L layout{alignedBase(memory)};
  Barriers<L::kStages> barriers{hopper::sharedAddress(barrierWords)};
  if (threadIdx.x == 0)
    barriers.create();
  __syncthreads();
  int group = static_cast<int>(threadIdx.x / 128) - 1;
  if (group < 0) {
    hopper::lowerRegisters<40>();
    if (threadIdx.x < 32 && hopper::elect())
      fetch<Depth>(map, forward, layout, barriers, shared);
    return;
  }
  hopper::raiseRegisters<232>();
  hopper::Ring<L::kStages> ring;
  for (uint32_t parity = 0;; parity ^= 1) {
    hopper::wait(barriers.own(), parity);
    Work work = shared;
    if (work.item < 0)
      return;
    attend<Depth>(forward, layout, barriers, group, work, ring);
  }
#else
  __trap(); // takenByHopper does not let it come here
#endif
}

template <int Depth>
Fault prepare() {
  return faultOf(cudaFuncSetAttribute(attentionHopper<Depth>,
                                      cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      ForwardLayout<Depth>::kBytes),
                 "cudaFuncSetAttribute");
}

/// The number of blocks for `items` tiles: one for each multiprocessor at most.
Fault countBlocks(int64_t items, unsigned &blocks) {
  int device = 0, processors = 0;
  Fault fault = faultOf(cudaGetDevice(&device), "cudaGetDevice");
  if (!fault)
    fault = faultOf(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
                    "cudaDeviceGetAttribute");
  blocks = static_cast<unsigned>(items < processors ? items : processors);
  return fault;
}

template <int Depth>
Fault run(const Launch &launch, const Forward &forward) {
  const AttentionShape &shape = forward.shape;
  cudaStream_t stream = contextOf(launch).stream;
  CUtensorMap map;
  if (auto fault = makeTileMap(map, launch.operands[0].data, shape.tokens, shape.packedWidth(),
                               kBlockRows, Depth))
    return fault;
  unsigned blocks = 0;
  if (auto fault = countBlocks(forward.schedule.items, blocks))
    return fault;
  int64_t rows = attentionRows(shape.tokens);
  findKeys<<<static_cast<unsigned>(ceilDivide(rows, 256)), 256, 0, stream>>>(
      shape, forward.keys, rows, forward.schedule.taken);
  attentionHopper<Depth>
      <<<blocks, kHopperThreads, ForwardLayout<Depth>::kBytes, stream>>>(map, forward);
  return launchFault("attention");
}

} // namespace

Fault makeTileMap(CUtensorMap &map, const void *data, int64_t rows, int64_t columns,
                  int64_t boxRows, int64_t headDim) {
  return describeTensor(map, DType::BF16, data, {64, rows, columns / 64}, {columns * 2, 128},
                        {64, boxRows, headDim / 64});
}

bool takenByHopper(const AttentionShape &shape, DType dtype) {
  if (dtype != DType::BF16 || (shape.headDim != 64 && shape.headDim != 128) || !(shape.scale > 0) ||
      ceilDivide(shape.tokens, kBlockRows) * shape.heads > INT_MAX / kBlockRows)
    return false;
  int device = 0, major = 0;
  cudaFuncAttributes attributes{};
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         major == 9 && cudaFuncGetAttributes(&attributes, attentionHopper<128>) == cudaSuccess &&
         attributes.ptxVersion == 90; // not for an older device's code, compiled by the driver
}

Fault prepareAttentionHopper(const AttentionShape &shape) {
  return shape.headDim == 64 ? prepare<64>() : prepare<128>();
}

Fault runAttentionHopper(const Launch &launch, const AttentionShape &shape) {
  Forward forward;
  forward.shape = shape;
  forward.y = launch.operands[2].as<BFloat16>();
  forward.lse = launch.operands[3].as<float>();
  int64_t rows = attentionRows(shape.tokens);
  forward.keys.rows = reinterpret_cast<Seen *>(launch.workspace.data());
  forward.keys.groups = reinterpret_cast<Cover *>(forward.keys.rows + rows);
  forward.schedule.items = static_cast<int>(ceilDivide(shape.tokens, kBlockRows) * shape.heads);
  forward.schedule.heads = static_cast<int>(shape.heads);
  forward.schedule.taken = reinterpret_cast<unsigned *>(forward.keys.groups + rows / kGroupRows);
  return shape.headDim == 64 ? run<64>(launch, forward) : run<128>(launch, forward);
}

} // namespace switchyard::kernels::cuda

// attention on a Hopper GPU in bfloat16, for heads of 64 or 128 (FlashAttention-3, Shah et al.
// 2024): a block has a tile of 128 queries of one head and goes over the keys that they see, 128 at
// a time. Each of two warpgroups has 64 queries; while its product with the values runs, the next
// scores become weights.
#include "kernels/cuda/AttentionHopper.h"

#include "kernels/cuda/AttentionHopper.cuh"
#include "kernels/cuda/AttentionTiles.cuh"
#include "kernels/signatures/attention.h"

namespace switchyard::kernels::cuda {
namespace {

/// The queries; keys and values by 128.
template <int Depth>
using ForwardLayout = Layout<Depth, 1, kBlockRows, Depth == 128 ? 3 : 4>;

/// What each query sees; nothing past the last token.
__global__ __launch_bounds__(256) void findKeys(AttentionShape shape, Seen *keys, int64_t rows) {
  int64_t row = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (row >= rows)
    return;
  Range range = keysOf(shape, row);
  keys[row] = {static_cast<int>(range.begin), static_cast<int>(range.end)};
}

/// The running softmax of a thread's two rows and its part of their sums over the values.
template <int Depth>
struct Softmax {
  float largest[2] = {-INFINITY, -INFINITY};
  float total[2] = {}; // of the thread's columns alone
  float sums[Depth / 2] = {};

  /// Scores to weights exp(score - largest), 0 where a query does not see; returns in `shrink` what
  /// older sums are to be multiplied by.
  __device__ void weigh(float (&scores)[64], int key, bool full, float factor,
                        const Seen (&seen)[2], float (&shrink)[2]) {
    if (!full) {
#pragma unroll
      for (int i = 0; i < 64; ++i) {
        int column = key + i / 4 * 8 + columnOfThread() + i % 2;
        if (column < seen[i / 2 % 2].begin || column >= seen[i / 2 % 2].end)
          scores[i] = -INFINITY;
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float next = largest[half];
#pragma unroll
      for (int i = 0; i < 32; ++i)
        next = fmaxf(next, scores[i / 2 * 4 + 2 * half + i % 2]);
      next = warpMax<4>(next);
      float shift = next == -INFINITY ? 0.0f : next * factor; // no score yet: all weights are 0
      shrink[half] = exp2Fast(largest[half] * factor - shift);
      largest[half] = next;
      float sum = 0;
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        float &score = scores[i / 2 * 4 + 2 * half + i % 2];
        score = exp2Fast(score * factor - shift);
        sum += score;
      }
      total[half] = total[half] * shrink[half] + sum;
    }
  }

  __device__ void rescale(const float (&shrink)[2]) {
#pragma unroll
    for (int i = 0; i < Depth / 2; ++i)
      sums[i] *= shrink[i / 2 % 2];
  }
};

struct Forward {
  AttentionShape shape;
  const Seen *keys = nullptr;
  BFloat16 *y = nullptr;
  float *lse = nullptr;
};

/// Fetches a block's queries, then the keys and values of each tile.
template <int Depth>
__device__ void fetch(const CUtensorMap &map, const AttentionShape &shape,
                      const ForwardLayout<Depth> &layout,
                      const Barriers<ForwardLayout<Depth>::kStages> &barriers, int64_t first,
                      int64_t head, const Cover &cover) {
  using L = ForwardLayout<Depth>;
  hopper::arriveExpecting(barriers.own(), L::kOwn);
  hopper::load(layout.own(0), map, boxAt(first, head * Depth), barriers.own());
  int64_t kvHead = head / shape.group();
  Ring<L::kStages> ring;
  for (int key = cover.begin; key < cover.end; key += kBlockRows) {
    hopper::wait(barriers.empty(ring.stage), ring.parity ^ 1);
    uint32_t full = barriers.full(ring.stage);
    hopper::arriveExpecting(full, 2 * L::kOther);
    hopper::load(layout.other(ring.stage, 0), map, boxAt(key, shape.keyColumn(kvHead)), full);
    hopper::load(layout.other(ring.stage, 1), map, boxAt(key, shape.valueColumn(kvHead)), full);
    ring.next();
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
                         const Seen (&seen)[2], Softmax<Depth> &softmax) {
  uint32_t queries = layout.own(0) + group * kGroupRows * 128;
  float scores[64], shrink[2];
  uint32_t weights[32];
  Ring<ForwardLayout<Depth>::kStages> ring;
  auto skip = [&](int count) {
    for (int i = 0; i < count; ++i, ring.next()) {
      hopper::wait(barriers.full(ring.stage), ring.parity);
      release(barriers.empty(ring.stage));
    }
  };
  skip(tiles.begin == tiles.end ? tiles.count : tiles.begin);
  if (tiles.begin == tiles.end)
    return;
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
  hopper::fenceProducts();
  addProduct<kBlockRows, Depth>(softmax.sums, weights, layout.other(last, 1));
  hopper::commitProducts();
  hopper::waitProducts<0>();
  release(barriers.empty(last));
  skip(tiles.count - tiles.end);
}

/// A warpgroup's 64 queries from `row` on.
template <int Depth>
__device__ void attend(const Forward &forward, const ForwardLayout<Depth> &layout,
                       const Barriers<ForwardLayout<Depth>::kStages> &barriers, int group,
                       int64_t row, int64_t head, const Cover &both, const Cover &cover) {
  const AttentionShape &shape = forward.shape;
  Seen seen[2] = {forward.keys[row + rowOfThread()], forward.keys[row + rowOfThread() + 8]};
  Softmax<Depth> softmax;
  hopper::wait(barriers.own(), 0);
  addTiles<Depth>(layout, barriers, group, both.begin, KeyTiles(both, cover), cover,
                  shape.scale * kLog2E, seen, softmax);
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
  __shared__ uint64_t barrierWords[1 + 2 * L::kStages];
  L layout{alignedBase(memory)};
  Barriers<L::kStages> barriers{hopper::sharedAddress(barrierWords)};
  // Late tiles have the most keys: they start first.
  int64_t head = blockIdx.x;
  int64_t first = static_cast<int64_t>(gridDim.y - 1 - blockIdx.y) * kBlockRows;
  if (threadIdx.x == 0)
    barriers.create();
  Cover groups[2];
  coverGroups(forward.keys + first, groups);
  Cover both = join(groups[0], groups[1]);
  int group = static_cast<int>(threadIdx.x / 128) - 1;
  if (group < 0) {
    hopper::lowerRegisters<24>();
    if (threadIdx.x == 0)
      fetch<Depth>(map, forward.shape, layout, barriers, first, head, both);
  } else {
    hopper::raiseRegisters<240>();
    Cover cover = group == 0 ? groups[0] : groups[1];
    attend<Depth>(forward, layout, barriers, group, first + group * kGroupRows, head, both, cover);
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

template <int Depth>
Fault run(const Launch &launch, const Forward &forward, Seen *keys) {
  const AttentionShape &shape = forward.shape;
  cudaStream_t stream = contextOf(launch).stream;
  CUtensorMap map;
  if (auto fault = makeTileMap(map, launch.operands[0].data, shape.tokens, shape.packedWidth(),
                               kBlockRows, Depth))
    return fault;
  int64_t rows = attentionRows(shape.tokens);
  findKeys<<<static_cast<unsigned>(ceilDivide(rows, 256)), 256, 0, stream>>>(shape, keys, rows);
  attentionHopper<Depth><<<dim3(static_cast<unsigned>(shape.heads),
                                static_cast<unsigned>(ceilDivide(shape.tokens, kBlockRows))),
                           kHopperThreads, ForwardLayout<Depth>::kBytes, stream>>>(map, forward);
  return launchFault("attention");
}

} // namespace

Fault makeTileMap(CUtensorMap &map, const void *data, int64_t rows, int64_t columns,
                  int64_t boxRows, int64_t headDim) {
  void *entry = nullptr;
  cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
  cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
                                                       cudaEnableDefault, &found);
#else
  cudaError_t error =
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &found);
#endif
  if (auto fault = faultOf(error, "cudaGetDriverEntryPoint"))
    return fault;
  if (found != cudaDriverEntryPointSuccess)
    return "the CUDA driver has no cuTensorMapEncodeTiled; it is older than CUDA 12";
  cuuint64_t dims[] = {64, static_cast<cuuint64_t>(rows), static_cast<cuuint64_t>(columns / 64)};
  cuuint64_t strides[] = {static_cast<cuuint64_t>(columns * 2), 128};
  cuuint32_t box[] = {64, static_cast<cuuint32_t>(boxRows), static_cast<cuuint32_t>(headDim / 64)};
  cuuint32_t steps[] = {1, 1, 1};
  CUresult result = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry)(
      &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<void *>(data), dims, strides, box,
      steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    return "cuTensorMapEncodeTiled for [" + std::to_string(rows) + ", " + std::to_string(columns) +
           "]: CUDA error " + std::to_string(static_cast<int>(result));
  return std::nullopt;
}

bool takenByHopper(const AttentionShape &shape, DType dtype) {
  if (dtype != DType::BF16 || (shape.headDim != 64 && shape.headDim != 128) || !(shape.scale > 0) ||
      shape.tokens > INT_MAX / 2)
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
  auto *keys = reinterpret_cast<Seen *>(launch.workspace.data());
  Forward forward{shape, keys, launch.operands[2].as<BFloat16>(), launch.operands[3].as<float>()};
  return shape.headDim == 64 ? run<64>(launch, forward, keys) : run<128>(launch, forward, keys);
}

} // namespace switchyard::kernels::cuda

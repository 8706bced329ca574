// attention and attention_grad in bfloat16 on the tensor cores that all GPUs since Ampere have
// (mma.m16n8k16; FlashAttention-2, Dao 2023), for heads of up to 128 in multiples of 8: what
// AttentionHopper.cu does not take. A block of four warps has 64 rows of one head, and goes over
// the rows that they see, a tile at a time, the next one on its way while one is computed with.
//
// As in AttentionGrad.cu one kernel computes dq, one dk and dv: no two blocks add to the same
// place.
#include "kernels/cuda/AttentionMma.h"

#include "kernels/cuda/AttentionFragments.cuh"
#include "kernels/cuda/AttentionTiles.cuh"

namespace switchyard::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kRows = 64; // of a block

/// Elements from one row of a tile in shared memory to the next: eight rows lie in different banks.
template <int Depth>
constexpr int kStride = Depth + 8;

__device__ inline uint32_t sharedAddress(const void *pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

/// 16 bytes from global into shared memory, later; zeros if not `exists`.
__device__ inline void copyAsync(BFloat16 *to, const BFloat16 *from, bool exists) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(sharedAddress(to)), "l"(from),
               "r"(exists ? 16 : 0)
               : "memory");
}
__device__ inline void commitCopies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits until at most `Pending` committed groups are on their way.
template <int Pending>
__device__ void waitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

/// tile [Rows, Depth] = `rows` rows of `depth` elements, zeros around them.
template <int Rows, int Depth>
__device__ void copyTile(BFloat16 *tile, const BFloat16 *x, int64_t stride, int64_t rows,
                         int64_t depth) {
#pragma unroll
  for (int i = threadIdx.x; i < Rows * Depth / 8; i += kThreads) {
    int row = i / (Depth / 8), column = i % (Depth / 8) * 8;
    bool exists = row < rows && column < depth;
    copyAsync(tile + row * kStride<Depth> + column, exists ? x + row * stride + column : x, exists);
  }
}

/// Four 8 x 8 matrices; lane i gives the address of line i % 8 of matrix i / 8.
__device__ inline void loadMatrices(uint32_t (&to)[4], const BFloat16 *from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(sharedAddress(from)));
}
/// The same, each matrix transposed.
__device__ inline void loadTransposed(uint32_t (&to)[4], const BFloat16 *from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(sharedAddress(from)));
}

/// c [16, 8] += a [16, 16] b [8, 16]^T, of a warp.
__device__ inline void multiply(float *c, const uint32_t *a, uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
               "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// The warp's 16 rows of a tile of kRows, 16 columns from `column` on, as a first operand.
template <int Depth>
__device__ void loadOwn(uint32_t (&to)[4], const BFloat16 *tile, int column) {
  int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  loadMatrices(to, tile + (16 * warp + lane % 16) * kStride<Depth> + column + lane / 16 * 8);
}

/// scores [16, 2 * Sums] of a warp = own other^T.
template <int Depth, int Sums>
__device__ void scoreRows(float (&scores)[Sums], const BFloat16 *own, const BFloat16 *other) {
  int lane = static_cast<int>(threadIdx.x % 32);
  const BFloat16 *from = other + (lane % 8 + lane / 16 * 8) * kStride<Depth> + lane / 8 % 2 * 8;
#pragma unroll
  for (float &score : scores)
    score = 0;
#pragma unroll
  for (int step = 0; step < Depth / 16; ++step) {
    uint32_t a[4], b[4];
    loadOwn<Depth>(a, own, 16 * step);
#pragma unroll
    for (int i = 0; i < Sums / 8; ++i) { // 16 of the other rows
      loadMatrices(b, from + 16 * i * kStride<Depth> + 16 * step);
      multiply(scores + 8 * i, a, b[0], b[1]);
      multiply(scores + 8 * i + 4, a, b[2], b[3]);
    }
  }
}

/// sums [16, Depth] of a warp += weights [16, 4 * Packs] other [4 * Packs, Depth].
template <int Depth, int Packs>
__device__ void addRows(float (&sums)[Depth / 2], const uint32_t (&weights)[Packs],
                        const BFloat16 *other) {
  int lane = static_cast<int>(threadIdx.x % 32);
  const BFloat16 *from = other + lane % 16 * kStride<Depth> + lane / 16 * 8;
#pragma unroll
  for (int step = 0; step < Packs / 4; ++step)
#pragma unroll
    for (int i = 0; i < Depth / 16; ++i) {
      uint32_t b[4];
      loadTransposed(b, from + 16 * step * kStride<Depth> + 16 * i);
      multiply(sums + 8 * i, weights + 4 * step, b[0], b[1]);
      multiply(sums + 8 * i + 4, weights + 4 * step, b[2], b[3]);
    }
}

/// What a thread's two rows see.
struct SeenRows {
  Seen rows[2];
  __device__ explicit SeenRows(const Range *visible) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Range range = visible[rowOfThread() + 8 * half];
      rows[half] = {static_cast<int>(range.begin), static_cast<int>(range.end)};
    }
  }
  __device__ bool sees(int half, int column) const {
    return column >= rows[half].begin && column < rows[half].end;
  }
};

/// Waits for the block's copies and threads; whether all its rows see all of [first, first +
/// count).
__device__ inline bool arriveAndCheck(const Range *visible, int64_t first, int64_t count) {
  bool full = threadIdx.x >= kRows ||
              (visible[threadIdx.x].begin <= first && visible[threadIdx.x].end >= first + count);
  return __syncthreads_and(full) != 0;
}

template <int Depth>
__global__ __launch_bounds__(kThreads) void attentionMma(AttentionShape shape, const BFloat16 *qkv,
                                                         BFloat16 *y, float *lse) {
  constexpr int kKeys = 64;
  extern __shared__ __align__(16) BFloat16 tiles[];
  __shared__ Range visible[kRows];
  constexpr int kTile = kRows * kStride<Depth>;
  BFloat16 *queries = tiles, *others = tiles + kTile; // stages of keys and values
  int64_t depth = shape.headDim, width = shape.packedWidth();
  int64_t head = blockIdx.x, kvHead = head / shape.group();
  int64_t first = static_cast<int64_t>(gridDim.y - 1 - blockIdx.y) * kRows;
  int64_t rows = min(int64_t{kRows}, shape.tokens - first);
  Range cover = coverRows<kRows>(first, visible, [&](int64_t row) { return keysOf(shape, row); });
  auto fetch = [&](int64_t key, int stage) {
    int64_t count = min(int64_t{kKeys}, cover.end - key);
    const BFloat16 *packed = qkv + key * width;
    BFloat16 *to = others + 2 * stage * kTile;
    copyTile<kKeys, Depth>(to, packed + shape.keyColumn(kvHead), width, count, depth);
    copyTile<kKeys, Depth>(to + kTile, packed + shape.valueColumn(kvHead), width, count, depth);
    commitCopies();
  };
  copyTile<kRows, Depth>(queries, qkv + first * width + head * depth, width, rows, depth);
  if (cover.begin < cover.end)
    fetch(cover.begin, 0);
  SeenRows seen(visible);
  Softmax<Depth> softmax;
  float factor = shape.scale * kLog2E;
  int stage = 0;
  for (int64_t key = cover.begin; key < cover.end; key += kKeys, stage ^= 1) {
    if (key + kKeys < cover.end) {
      fetch(key + kKeys, stage ^ 1);
      waitCopies<1>();
    } else {
      waitCopies<0>();
    }
    bool full = arriveAndCheck(visible, key, kKeys);
    const BFloat16 *keys = others + 2 * stage * kTile;
    float scores[kKeys / 2], shrink[2];
    uint32_t weights[kKeys / 4];
    scoreRows<Depth>(scores, queries, keys);
    softmax.weigh(scores, static_cast<int>(key), full, factor, seen.rows, shrink);
    softmax.rescale(shrink);
    packWeights(scores, weights);
    addRows<Depth>(softmax.sums, weights, keys + kTile);
    __syncthreads(); // the tiles were read
  }
  float factors[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float total = warpSum<4>(softmax.total[half]);
    factors[half] = total > 0 ? 1.0f / total : 0.0f;
    int own = rowOfThread() + 8 * half;
    if (threadIdx.x % 4 == 0 && own < rows)
      lse[(first + own) * shape.heads + head] =
          total > 0 ? softmax.largest[half] * shape.scale + logf(total) : 0.0f;
  }
  waitCopies<0>();
  storeRows(softmax.sums, factors, y + first * shape.outputWidth() + head * depth,
            shape.outputWidth(), static_cast<int>(rows), static_cast<int>(depth));
}

struct Gradient {
  AttentionShape shape;
  const BFloat16 *dy = nullptr;
  const BFloat16 *qkv = nullptr;
  const float *lse = nullptr;   // [T, heads]
  const float *delta = nullptr; // [T, heads]
  BFloat16 *dqkv = nullptr;
};

template <int Depth>
__global__ __launch_bounds__(kThreads) void queryGradMma(Gradient gradient) {
  constexpr int kKeys = 32;
  extern __shared__ __align__(16) BFloat16 tiles[];
  __shared__ Range visible[kRows];
  constexpr int kTile = kRows * kStride<Depth>, kOther = kKeys * kStride<Depth>;
  const AttentionShape &shape = gradient.shape;
  BFloat16 *queries = tiles, *dys = tiles + kTile, *others = tiles + 2 * kTile;
  int64_t depth = shape.headDim, width = shape.packedWidth(), outputs = shape.outputWidth();
  int64_t head = blockIdx.x, kvHead = head / shape.group();
  int64_t first = static_cast<int64_t>(gridDim.y - 1 - blockIdx.y) * kRows;
  int64_t rows = min(int64_t{kRows}, shape.tokens - first);
  Range cover = coverRows<kRows>(first, visible, [&](int64_t row) { return keysOf(shape, row); });
  auto fetch = [&](int64_t key, int stage) {
    int64_t count = min(int64_t{kKeys}, cover.end - key);
    const BFloat16 *packed = gradient.qkv + key * width;
    BFloat16 *to = others + 2 * stage * kOther;
    copyTile<kKeys, Depth>(to, packed + shape.keyColumn(kvHead), width, count, depth);
    copyTile<kKeys, Depth>(to + kOther, packed + shape.valueColumn(kvHead), width, count, depth);
    commitCopies();
  };
  copyTile<kRows, Depth>(queries, gradient.qkv + first * width + head * depth, width, rows, depth);
  copyTile<kRows, Depth>(dys, gradient.dy + first * outputs + head * depth, outputs, rows, depth);
  if (cover.begin < cover.end)
    fetch(cover.begin, 0);
  SeenRows seen(visible);
  float lse[2], delta[2], dq[Depth / 2] = {};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int own = rowOfThread() + 8 * half;
    int64_t at = (first + own) * shape.heads + head;
    lse[half] = own < rows ? gradient.lse[at] * kLog2E : 0.0f;
    delta[half] = own < rows ? gradient.delta[at] : 0.0f;
  }
  float factor = shape.scale * kLog2E;
  int stage = 0;
  for (int64_t key = cover.begin; key < cover.end; key += kKeys, stage ^= 1) {
    if (key + kKeys < cover.end) {
      fetch(key + kKeys, stage ^ 1);
      waitCopies<1>();
    } else {
      waitCopies<0>();
    }
    bool full = arriveAndCheck(visible, key, kKeys);
    const BFloat16 *keys = others + 2 * stage * kOther;
    float scores[kKeys / 2], products[kKeys / 2];
    uint32_t gradients[kKeys / 4];
    scoreRows<Depth>(scores, queries, keys);
    scoreRows<Depth>(products, dys, keys + kOther);
#pragma unroll
    for (int i = 0; i < kKeys / 2; ++i) {
      int half = i / 2 % 2, column = static_cast<int>(key) + i / 4 * 8 + columnOfThread() + i % 2;
      float weight = exp2Fast(scores[i] * factor - lse[half]);
      products[i] = full || seen.sees(half, column) ? weight * (products[i] - delta[half]) : 0.0f;
    }
    packWeights(products, gradients);
    addRows<Depth>(dq, gradients, keys);
    __syncthreads(); // the tiles were read
  }
  waitCopies<0>();
  storeRows(dq, {shape.scale, shape.scale}, gradient.dqkv + first * width + head * depth, width,
            static_cast<int>(rows), static_cast<int>(depth));
}

/// A tile of queries on its way: queries, dy, and their lse and delta.
template <int Depth>
struct QueryStage {
  static constexpr int kQueries = 32;
  BFloat16 queries[kQueries * kStride<Depth>], dys[kQueries * kStride<Depth>];
  float lse[kQueries], delta[kQueries];
};

template <int Depth>
__device__ void fetchQueries(QueryStage<Depth> &to, const Gradient &gradient, int64_t query,
                             int64_t end, int64_t head) {
  constexpr int kQueries = QueryStage<Depth>::kQueries;
  const AttentionShape &shape = gradient.shape;
  int64_t depth = shape.headDim, width = shape.packedWidth(), outputs = shape.outputWidth();
  int64_t count = min(int64_t{kQueries}, end - query);
  copyTile<kQueries, Depth>(to.queries, gradient.qkv + query * width + head * depth, width, count,
                            depth);
  copyTile<kQueries, Depth>(to.dys, gradient.dy + query * outputs + head * depth, outputs, count,
                            depth);
  if (threadIdx.x < kQueries) {
    bool exists = threadIdx.x < count;
    int64_t at = (query + threadIdx.x) * shape.heads + head;
    to.lse[threadIdx.x] = exists ? gradient.lse[at] * kLog2E : 0.0f;
    to.delta[threadIdx.x] = exists ? gradient.delta[at] : 0.0f;
  }
  commitCopies();
}

/// What a tile of queries adds to the block's keys.
template <int Depth>
__device__ void addQueries(const QueryStage<Depth> &from, const BFloat16 *keys, int64_t query,
                           bool full, const SeenRows &seen, float factor, float (&dk)[Depth / 2],
                           float (&dv)[Depth / 2]) {
  constexpr int kQueries = QueryStage<Depth>::kQueries;
  float scores[kQueries / 2], products[kQueries / 2];
  uint32_t weights[kQueries / 4];
  scoreRows<Depth>(scores, keys, from.queries);
#pragma unroll
  for (int i = 0; i < kQueries / 2; ++i) {
    int column = i / 4 * 8 + columnOfThread() + i % 2;
    bool sees = full || seen.sees(i / 2 % 2, static_cast<int>(query) + column);
    scores[i] = sees ? exp2Fast(scores[i] * factor - from.lse[column]) : 0.0f;
  }
  packWeights(scores, weights);
  addRows<Depth>(dv, weights, from.dys);
  scoreRows<Depth>(products, keys + kRows * kStride<Depth>, from.dys);
#pragma unroll
  for (int i = 0; i < kQueries / 2; ++i)
    products[i] = scores[i] * (products[i] - from.delta[i / 4 * 8 + columnOfThread() + i % 2]);
  packWeights(products, weights);
  addRows<Depth>(dk, weights, from.queries);
}

template <int Depth>
__global__ __launch_bounds__(kThreads) void keyGradMma(Gradient gradient) {
  constexpr int kQueries = QueryStage<Depth>::kQueries;
  extern __shared__ __align__(16) BFloat16 tiles[];
  __shared__ Range visible[kRows];
  constexpr int kTile = kRows * kStride<Depth>;
  const AttentionShape &shape = gradient.shape;
  auto *stages = reinterpret_cast<QueryStage<Depth> *>(tiles + 2 * kTile);
  int64_t depth = shape.headDim, width = shape.packedWidth();
  int64_t kvHead = blockIdx.x, first = static_cast<int64_t>(blockIdx.y) * kRows;
  int64_t rows = min(int64_t{kRows}, shape.tokens - first);
  const BFloat16 *packed = gradient.qkv + first * width;
  Range cover =
      coverRows<kRows>(first, visible, [&](int64_t row) { return queriesOf(shape, row); });
  copyTile<kRows, Depth>(tiles, packed + shape.keyColumn(kvHead), width, rows, depth);
  copyTile<kRows, Depth>(tiles + kTile, packed + shape.valueColumn(kvHead), width, rows, depth);
  int64_t head = kvHead * shape.group(), lastHead = head + shape.group(), query = cover.begin;
  bool any = cover.begin < cover.end;
  if (any)
    fetchQueries(stages[0], gradient, query, cover.end, head);
  SeenRows seen(visible);
  float dk[Depth / 2] = {}, dv[Depth / 2] = {}, factor = shape.scale * kLog2E;
  for (int stage = 0; any; stage ^= 1) {
    int64_t nextQuery = query + kQueries, nextHead = head;
    if (nextQuery >= cover.end) {
      nextQuery = cover.begin;
      ++nextHead;
    }
    any = nextHead < lastHead;
    if (any) {
      fetchQueries(stages[stage ^ 1], gradient, nextQuery, cover.end, nextHead);
      waitCopies<1>();
    } else {
      waitCopies<0>();
    }
    bool full = arriveAndCheck(visible, query, kQueries);
    addQueries<Depth>(stages[stage], tiles, query, full, seen, factor, dk, dv);
    __syncthreads(); // the tiles were read
    query = nextQuery;
    head = nextHead;
  }
  waitCopies<0>();
  BFloat16 *out = gradient.dqkv + first * width;
  auto count = static_cast<int>(rows), columns = static_cast<int>(depth);
  storeRows(dk, {shape.scale, shape.scale}, out + shape.keyColumn(kvHead), width, count, columns);
  storeRows(dv, {1, 1}, out + shape.valueColumn(kvHead), width, count, columns);
}

/// Bytes of dynamic shared memory.
template <int Depth>
constexpr int kForwardBytes = 5 * kRows * kStride<Depth> * 2;
template <int Depth>
constexpr int kQueryGradBytes = 4 * kRows * kStride<Depth> * 2; // keys and values by 32
template <int Depth>
constexpr int kKeyGradBytes =
    2 * kRows * kStride<Depth> * 2 + 2 * static_cast<int>(sizeof(QueryStage<Depth>));

/// Calls body(std::integral_constant<int, Depth>) with the smallest tile that a head fits in.
template <typename Body>
Fault withMmaDepth(const AttentionShape &shape, const Body &body) {
  return shape.headDim <= 64 ? body(std::integral_constant<int, 64>{})
                             : body(std::integral_constant<int, 128>{});
}

Fault allowShared(const void *kernel, int bytes) {
  return faultOf(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                 "cudaFuncSetAttribute");
}

} // namespace

bool takenByMma(const AttentionShape &shape, DType dtype) {
  return dtype == DType::BF16 && shape.headDim <= 128 && shape.headDim % 8 == 0 &&
         shape.scale > 0 && shape.tokens <= INT32_MAX / 2;
}

Fault prepareAttentionMma(const AttentionShape &shape) {
  return withMmaDepth(shape, [](auto depth) {
    constexpr int kDepth = decltype(depth)::value;
    return allowShared(reinterpret_cast<const void *>(attentionMma<kDepth>), kForwardBytes<kDepth>);
  });
}

Fault runAttentionMma(const Launch &launch, const AttentionShape &shape) {
  return withMmaDepth(shape, [&](auto depth) {
    constexpr int kDepth = decltype(depth)::value;
    dim3 grid(static_cast<unsigned>(shape.heads),
              static_cast<unsigned>(ceilDivide(shape.tokens, kRows)));
    attentionMma<kDepth><<<grid, kThreads, kForwardBytes<kDepth>, contextOf(launch).stream>>>(
        shape, launch.operands[0].as<BFloat16>(), launch.operands[2].as<BFloat16>(),
        launch.operands[3].as<float>());
    return launchFault("attention");
  });
}

Fault prepareAttentionGradMma(const AttentionShape &shape) {
  return withMmaDepth(shape, [](auto depth) {
    constexpr int kDepth = decltype(depth)::value;
    Fault fault =
        allowShared(reinterpret_cast<const void *>(queryGradMma<kDepth>), kQueryGradBytes<kDepth>);
    if (!fault)
      fault =
          allowShared(reinterpret_cast<const void *>(keyGradMma<kDepth>), kKeyGradBytes<kDepth>);
    return fault;
  });
}

Fault runAttentionGradMma(const Launch &launch, const AttentionShape &shape, const float *delta) {
  return withMmaDepth(shape, [&](auto depth) {
    constexpr int kDepth = decltype(depth)::value;
    cudaStream_t stream = contextOf(launch).stream;
    Gradient gradient{shape,
                      launch.operands[0].as<BFloat16>(),
                      launch.operands[1].as<BFloat16>(),
                      launch.operands[3].as<float>(),
                      delta,
                      launch.operands[5].as<BFloat16>()};
    auto tiles = static_cast<unsigned>(ceilDivide(shape.tokens, kRows));
    queryGradMma<kDepth><<<dim3(static_cast<unsigned>(shape.heads), tiles), kThreads,
                           kQueryGradBytes<kDepth>, stream>>>(gradient);
    keyGradMma<kDepth><<<dim3(static_cast<unsigned>(shape.kvHeads), tiles), kThreads,
                         kKeyGradBytes<kDepth>, stream>>>(gradient);
    return launchFault("attention_grad");
  });
}

} // namespace switchyard::kernels::cuda

// attention_grad, from the rows' logsumexp (FlashAttention-2): p = exp(score - lse), dv = p^T dy,
// ds = p (dy v^T - rowsum(dy y)), dq = scale ds k, dk = scale ds^T q. One pass computes dq, a task
// per query block and head; one computes dk and dv, a task per key block and key head. Both form
// the scores anew; no two tasks write to the same place, so that no sum depends on their order.
#include "kernels/cpu/AttentionTiles.h"
#include "kernels/cpu/KernelList.h"

namespace switchyard::kernels::cpu {

namespace {

template <typename T>
struct Gradient {
  AttentionShape shape;
  const T *dy = nullptr;      // [T, heads * head_dim]
  const T *qkv = nullptr;     // [T, packed]
  const T *y = nullptr;       // as dy
  const float *lse = nullptr; // [T, heads]
  float *delta = nullptr;     // [T, heads]
  T *dqkv = nullptr;          // [T, packed]

  int64_t width() const { return shape.packedWidth(); }
  int64_t outputWidth() const { return shape.outputWidth(); }
};

struct Scratch {
  alignas(64) float firstT[kMaxHeadDim * kLanes];      // queries, or keys
  alignas(64) float secondT[kMaxHeadDim * kLanes];     // dy, or values
  alignas(64) float firstSumsT[kMaxHeadDim * kLanes];  // dq, or dk
  alignas(64) float secondSumsT[kMaxHeadDim * kLanes]; // dv
  alignas(64) float firstRows[kRows * kMaxHeadDim];    // keys, or queries
  alignas(64) float secondRows[kRows * kMaxHeadDim];   // values, or dy
  alignas(64) float scores[kRows * kLanes];
  alignas(64) float gradients[kRows * kLanes];
  alignas(64) float lse[kRows];
  alignas(64) float delta[kRows];
};
static_assert(kLanes <= kRows, "lse and delta serve lanes and rows");

/// delta[t, h] = sum_c dy[t, h, c] y[t, h, c].
template <typename T>
void sumProducts(const Gradient<T> &gradient, Range tokens) {
  const AttentionShape &shape = gradient.shape;
  for (int64_t i = tokens.begin * shape.heads; i < tokens.end * shape.heads; ++i) {
    const T *dy = gradient.dy + i * shape.headDim;
    const T *y = gradient.y + i * shape.headDim;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < shape.headDim; ++c)
      sum += toFloat(dy[c]) * toFloat(y[c]);
    gradient.delta[i] = sum;
  }
}

/// lse and delta of `count` rows from `row`; 0 up to kLanes.
template <typename T>
void loadRowSums(const Gradient<T> &gradient, int64_t head, int64_t row, int64_t count,
                 Scratch &scratch) {
  for (int64_t i = 0; i < count; ++i) {
    scratch.lse[i] = gradient.lse[(row + i) * gradient.shape.heads + head];
    scratch.delta[i] = gradient.delta[(row + i) * gradient.shape.heads + head];
  }
  for (int64_t i = count; i < kLanes; ++i)
    scratch.lse[i] = scratch.delta[i] = 0;
}

template <typename T>
void queryPiece(const Gradient<T> &gradient, int64_t head, Range queries, int64_t first,
                Scratch &scratch) {
  const AttentionShape &shape = gradient.shape;
  int64_t depth = shape.headDim;
  int64_t lanes = queries.end - queries.begin;
  int64_t kvHead = head / shape.group();
  loadLanes(gradient.qkv + queries.begin * gradient.width() + head * depth, gradient.width(), lanes,
            depth, shape.scale, scratch.firstT);
  loadLanes(gradient.dy + queries.begin * gradient.outputWidth() + head * depth,
            gradient.outputWidth(), lanes, depth, 1.0f, scratch.secondT);
  loadRowSums(gradient, head, queries.begin, lanes, scratch);
  std::fill_n(scratch.firstSumsT, depth * kLanes, 0.0f);
  for (int64_t key = std::max(first, queries.begin - shape.window + 1); key < queries.end;
       key += kRows) {
    int64_t rows = std::min(kRows, queries.end - key);
    int64_t distance = key - queries.begin;
    TileRows visible = visibleRows(rows, lanes, {distance, distance + shape.window});
    const T *packed = gradient.qkv + key * gradient.width();
    RowMatrix keys = loadRows(packed + shape.keyColumn(kvHead), gradient.width(), rows, depth,
                              scratch.firstRows);
    RowMatrix values = loadRows(packed + shape.valueColumn(kvHead), gradient.width(), rows, depth,
                                scratch.secondRows);
    tileScores(keys, visible, depth, scratch.firstT, lanes, scratch.scores);
    tileScores(values, visible, depth, scratch.secondT, lanes, scratch.gradients);
    laneGradients(visible, lanes, scratch.scores, scratch.lse, scratch.delta, scratch.gradients);
    tileAccumulate(keys, visible, depth, scratch.gradients, lanes, scratch.firstSumsT);
  }
  std::fill_n(scratch.lse, lanes, shape.scale);
  storeLanes(scratch.firstSumsT, scratch.lse, lanes, depth,
             gradient.dqkv + queries.begin * gradient.width() + head * depth, gradient.width());
}

/// What the queries of `head` from `query` to at most `last` add to the keys' gradients.
template <typename T>
void addQueries(const Gradient<T> &gradient, int64_t head, Range keys, int64_t query, int64_t last,
                Scratch &scratch) {
  const AttentionShape &shape = gradient.shape;
  int64_t depth = shape.headDim;
  int64_t lanes = keys.end - keys.begin;
  for (; query < last; query += kRows) {
    int64_t rows = std::min(kRows, last - query);
    int64_t distance = query - keys.begin;
    TileRows visible = visibleRows(rows, lanes, {distance - shape.window + 1, distance + 1});
    RowMatrix queries = loadRows(gradient.qkv + query * gradient.width() + head * depth,
                                 gradient.width(), rows, depth, scratch.firstRows);
    RowMatrix dy = loadRows(gradient.dy + query * gradient.outputWidth() + head * depth,
                            gradient.outputWidth(), rows, depth, scratch.secondRows);
    loadRowSums(gradient, head, query, rows, scratch);
    tileScores(queries, visible, depth, scratch.firstT, lanes, scratch.scores);
    tileScores(dy, visible, depth, scratch.secondT, lanes, scratch.gradients);
    rowGradients(visible, lanes, scratch.scores, scratch.lse, scratch.delta, scratch.gradients);
    tileAccumulate(queries, visible, depth, scratch.gradients, lanes, scratch.firstSumsT);
    tileAccumulate(dy, visible, depth, scratch.scores, lanes, scratch.secondSumsT);
  }
}

template <typename T>
void keyPiece(const Gradient<T> &gradient, int64_t kvHead, Range keys, int64_t end,
              Scratch &scratch) {
  const AttentionShape &shape = gradient.shape;
  int64_t depth = shape.headDim;
  int64_t lanes = keys.end - keys.begin;
  int64_t row = keys.begin * gradient.width();
  loadLanes(gradient.qkv + row + shape.keyColumn(kvHead), gradient.width(), lanes, depth,
            shape.scale, scratch.firstT);
  loadLanes(gradient.qkv + row + shape.valueColumn(kvHead), gradient.width(), lanes, depth, 1.0f,
            scratch.secondT);
  std::fill_n(scratch.firstSumsT, depth * kLanes, 0.0f);
  std::fill_n(scratch.secondSumsT, depth * kLanes, 0.0f);
  // The last key's last query is window - 1 further on.
  int64_t last = end - keys.end < shape.window ? end : keys.end + shape.window - 1;
  for (int64_t head = kvHead * shape.group(); head < (kvHead + 1) * shape.group(); ++head)
    addQueries(gradient, head, keys, keys.begin, last, scratch);
  std::fill_n(scratch.lse, lanes, shape.scale);
  storeLanes(scratch.firstSumsT, scratch.lse, lanes, depth,
             gradient.dqkv + row + shape.keyColumn(kvHead), gradient.width());
  std::fill_n(scratch.lse, lanes, 1.0f);
  storeLanes(scratch.secondSumsT, scratch.lse, lanes, depth,
             gradient.dqkv + row + shape.valueColumn(kvHead), gradient.width());
}

template <typename T>
void zeroColumns(const Gradient<T> &gradient, Range block, int64_t column) {
  for (int64_t row = block.begin; row < block.end; ++row)
    std::fill_n(gradient.dqkv + row * gradient.width() + column, gradient.shape.headDim, T{});
}

template <typename T>
void queryBlock(const Gradient<T> &gradient, int64_t head, Range block) {
  Scratch scratch;
  zeroColumns(gradient, block, head * gradient.shape.headDim);
  forPieces(gradient.shape, block, [&](Range piece, Range segment) {
    queryPiece(gradient, head, piece, segment.begin, scratch);
  });
}

template <typename T>
void keyBlock(const Gradient<T> &gradient, int64_t kvHead, Range block) {
  Scratch scratch;
  zeroColumns(gradient, block, gradient.shape.keyColumn(kvHead));
  zeroColumns(gradient, block, gradient.shape.valueColumn(kvHead));
  forPieces(gradient.shape, block, [&](Range piece, Range segment) {
    keyPiece(gradient, kvHead, piece, segment.end, scratch);
  });
}

} // namespace

std::optional<std::string> prepareAttentionGrad(const Launch &launch) {
  return checkAttention(launch, kMaxHeadDim, "CPU");
}

void runAttentionGrad(const Launch &launch) {
  const Tensor &qkv = launch.operands[1];
  AttentionShape shape = attentionShape(launch, qkv, launch.operands[4]);
  ThreadPool &pool = *contextOf(launch).pool;
  withFloatType(qkv.dtype, [&]<typename T>(T) {
    Gradient<T> gradient{shape,
                         launch.operands[0].as<T>(),
                         qkv.as<T>(),
                         launch.operands[2].as<T>(),
                         launch.operands[3].as<float>(),
                         floatWorkspace(launch),
                         launch.operands[5].as<T>()};
    auto block = [&](int64_t index) {
      return Range{index * kLanes, std::min((index + 1) * kLanes, shape.tokens)};
    };
    forRows(launch, shape.tokens, gradient.outputWidth(),
            [&](Range tokens) { sumProducts(gradient, tokens); });
    pool.parallelFor(laneBlocks(shape) * shape.heads, [&](int64_t task, int) {
      queryBlock(gradient, task % shape.heads, block(task / shape.heads));
    });
    pool.parallelFor(laneBlocks(shape) * shape.kvHeads, [&](int64_t task, int) {
      keyBlock(gradient, task % shape.kvHeads, block(task / shape.kvHeads));
    });
  });
}

} // namespace switchyard::kernels::cpu

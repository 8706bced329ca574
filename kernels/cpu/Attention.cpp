// attention: blockwise online softmax. One task computes kLanes query rows of one head.
#include "kernels/cpu/AttentionTiles.h"
#include "kernels/cpu/KernelList.h"

#include <cmath>
#include <limits>

namespace switchyard::kernels::cpu {

namespace {

/// The tiles of one task.
struct Scratch {
  alignas(64) float queriesT[kMaxHeadDim * kLanes];
  alignas(64) float sumsT[kMaxHeadDim * kLanes];
  alignas(64) float keys[kRows * kMaxHeadDim];
  alignas(64) float values[kRows * kMaxHeadDim];
  alignas(64) float scores[kRows * kLanes];
  alignas(64) float maxima[kLanes];
  alignas(64) float sums[kLanes];
};

/// Rows `queries` of one segment that begins at `first`, one head. y and lse begin at the tensors'
/// first rows.
template <typename T>
void attendPiece(const AttentionShape &shape, const T *qkv, int64_t head, Range queries,
                 int64_t first, Scratch &scratch, T *y, float *lse) {
  int64_t width = shape.packedWidth();
  int64_t depth = shape.headDim;
  int64_t lanes = queries.end - queries.begin;
  int64_t kvHead = head / shape.group();
  loadLanes(qkv + queries.begin * width + head * depth, width, lanes, depth, shape.scale,
            scratch.queriesT);
  std::fill_n(scratch.sumsT, depth * kLanes, 0.0f);
  std::fill_n(scratch.maxima, kLanes, -std::numeric_limits<float>::infinity());
  std::fill_n(scratch.sums, kLanes, 0.0f);
  for (int64_t key = std::max(first, queries.begin - shape.window + 1); key < queries.end;
       key += kRows) {
    int64_t rows = std::min(kRows, queries.end - key);
    int64_t distance = key - queries.begin;
    TileRows visible = visibleRows(rows, lanes, {distance, distance + shape.window});
    const T *packed = qkv + key * width;
    RowMatrix keys = loadRows(packed + shape.keyColumn(kvHead), width, rows, depth, scratch.keys);
    RowMatrix values =
        loadRows(packed + shape.valueColumn(kvHead), width, rows, depth, scratch.values);
    tileScores(keys, visible, depth, scratch.queriesT, lanes, scratch.scores);
    tileSoftmax(visible, depth, lanes, scratch.scores, scratch.maxima, scratch.sums, scratch.sumsT);
    tileAccumulate(values, visible, depth, scratch.scores, lanes, scratch.sumsT);
  }
  for (int64_t l = 0; l < lanes; ++l) {
    lse[(queries.begin + l) * shape.heads + head] = scratch.maxima[l] + std::log(scratch.sums[l]);
    scratch.sums[l] = 1.0f / scratch.sums[l];
  }
  storeLanes(scratch.sumsT, scratch.sums, lanes, depth,
             y + (queries.begin * shape.heads + head) * depth, shape.heads * depth);
}

template <typename T>
void attendBlock(const AttentionShape &shape, const T *qkv, int64_t head, Range block, T *y,
                 float *lse) {
  Scratch scratch;
  for (int64_t row = block.begin; row < block.end; ++row) {
    std::fill_n(y + (row * shape.heads + head) * shape.headDim, shape.headDim, T{});
    lse[row * shape.heads + head] = 0;
  }
  forPieces(shape, block, [&](Range piece, Range segment) {
    attendPiece(shape, qkv, head, piece, segment.begin, scratch, y, lse);
  });
}

} // namespace

std::optional<std::string> prepareAttention(const Launch &launch) {
  return checkAttention(launch, kMaxHeadDim, "CPU");
}

void runAttention(const Launch &launch) {
  const Tensor &qkv = launch.operands[0];
  AttentionShape shape = attentionShape(launch, qkv, launch.operands[1]);
  withFloatType(qkv.dtype, [&]<typename T>(T) {
    contextOf(launch).pool->parallelFor(laneBlocks(shape) * shape.heads, [&](int64_t task, int) {
      int64_t begin = task / shape.heads * kLanes;
      attendBlock(shape, qkv.as<T>(), task % shape.heads,
                  {begin, std::min(begin + kLanes, shape.tokens)}, launch.operands[2].as<T>(),
                  launch.operands[3].as<float>());
    });
  });
}

} // namespace switchyard::kernels::cpu

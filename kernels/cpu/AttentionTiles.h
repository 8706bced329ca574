// The inner loops of attention and its gradients, on tiles of float32.
//
// A tile has kLanes *lanes*, which vectors run over, and up to kRows *rows*. Forward and for dq the
// lanes are queries and the rows keys; for dk and dv it is the other way round. What belongs to the
// lanes is kept transposed, [head_dim, kLanes]; what belongs to the rows stays as it lies in
// memory. So one product serves every matrix product here, softmax needs no sums across a vector,
// and no head_dim is too small to vectorize or needs padding.
#pragma once

#include "kernels/cpu/BFloat16.h"
#include "kernels/cpu/Rows.h"
#include "kernels/signatures/AttentionLaunch.h"

namespace switchyard::kernels::cpu {

inline constexpr int64_t kLanes = 32;
inline constexpr int64_t kRows = 64;
/// Tiles stand on the stack, which bounds head_dim.
inline constexpr int64_t kMaxHeadDim = 256;

/// Row and lane see each other where low <= lane - row < high.
struct Band {
  int64_t low = 0;
  int64_t high = 0;
};

/// The rows of a tile that some lane sees, and its mask. The functions below touch no other rows.
struct TileRows {
  int64_t begin = 0;
  int64_t end = 0;
  Band band;
};

/// `lanes` of the tile's lanes are in use; whole vectors are computed, so up to kLanes are written.
TileRows visibleRows(int64_t rows, int64_t lanes, Band band);

/// Rows of float32 in memory.
struct RowMatrix {
  const float *data = nullptr;
  int64_t stride = 0;
};

/// scores[r, l] = sum_c rows[r, c] lanesT[c, l].  rows [., depth], lanesT [depth, kLanes],
/// scores [kRows, kLanes]
void tileScores(RowMatrix rows, const TileRows &visible, int64_t depth, const float *lanesT,
                int64_t lanes, float *scores);

/// sumsT[c, l] += sum_r rows[r, c] weights[r, l].  weights [kRows, kLanes], sumsT [depth, kLanes]
void tileAccumulate(RowMatrix rows, const TileRows &visible, int64_t depth, const float *weights,
                    int64_t lanes, float *sumsT);

/// One step of the online softmax over rows: replaces scores by exp(score - maximum), updates the
/// lanes' maxima and sums of exponentials, and multiplies sumsT [depth, kLanes] by what the old
/// sums shrink by.
void tileSoftmax(const TileRows &visible, int64_t depth, int64_t lanes, float *scores,
                 float *maxima, float *sums, float *sumsT);

/// The gradients of scores whose queries are the lanes: gradients = p (gradients - delta) with p =
/// exp(score - lse). lse and delta [kLanes].
void laneGradients(const TileRows &visible, int64_t lanes, const float *scores, const float *lse,
                   const float *delta, float *gradients);

/// The same where the queries are the rows, lse and delta [kRows]; scores become p.
void rowGradients(const TileRows &visible, int64_t lanes, float *scores, const float *lse,
                  const float *delta, float *gradients);

/// tile[c, l] = factor * x[l, c] for `lanes` rows of x, 0 in the remaining lanes.
template <typename T>
void loadLanes(const T *x, int64_t stride, int64_t lanes, int64_t depth, float factor, float *tile);

/// x[l, c] = factors[l] * tile[c, l].
template <typename T>
void storeLanes(const float *tile, const float *factors, int64_t lanes, int64_t depth, T *x,
                int64_t stride);

/// Rows as float32: in place where they are, else copied to `copy` [kRows, depth].
RowMatrix loadRows(const float *x, int64_t stride, int64_t rows, int64_t depth, float *copy);
RowMatrix loadRows(const BFloat16 *x, int64_t stride, int64_t rows, int64_t depth, float *copy);

/// How many blocks of kLanes the tokens make.
inline int64_t laneBlocks(const AttentionShape &shape) {
  return (shape.tokens + kLanes - 1) / kLanes;
}

/// Calls body(piece, segment) for the pieces that segments cut `block` into, in order. Boundaries
/// are kept inside [0, tokens], whatever cu_seqlens holds.
template <typename Body>
void forPieces(const AttentionShape &shape, Range block, const Body &body) {
  auto boundary = [&](int64_t index) {
    return std::clamp<int64_t>(shape.ends[index], 0, shape.tokens);
  };
  if (shape.boundaries < 2)
    return;
  const int32_t *last = shape.ends + shape.boundaries;
  int64_t segment = std::upper_bound(shape.ends + 1, last, block.begin) - (shape.ends + 1);
  int64_t done = block.begin;
  for (; segment + 1 < shape.boundaries && boundary(segment) < block.end; ++segment) {
    Range whole{boundary(segment), boundary(segment + 1)};
    Range piece{std::max(whole.begin, done), std::min(whole.end, block.end)};
    if (piece.begin >= piece.end)
      continue;
    body(piece, whole);
    done = piece.end;
  }
}

} // namespace switchyard::kernels::cpu

#include "kernels/cpu/Tiles.h"

#include "kernels/cpu/BFloat16.h"

#include <cstring>

namespace switchyard::kernels::cpu {

// A packed piece of dy is at most [RowPieces::kLargest, 256] float32.
static_assert(RowPieces::kLargest * 256 * 4 <= kGemmScratchPerThread - kGemmLibraryScratch);

std::optional<std::string> WeightGradient::preparePiece(GemmCache &gemms, int64_t pieceRows) const {
  if (auto fault = gemms.prepare(shapeOf(tileRows(), pieceRows)))
    return fault;
  return gemms.prepare(shapeOf(n_ % tileRows(), pieceRows));
}

std::optional<std::string> WeightGradient::prepareFor(GemmCache &gemms, int64_t rows) const {
  RowPieces pieces(rows);
  // The whole pieces are one size; at most three more follow.
  for (int64_t i = std::max<int64_t>(0, rows / RowPieces::kLargest - 1); i < pieces.count(); ++i)
    if (auto fault = preparePiece(gemms, pieces.at(i).rows))
      return fault;
  return std::nullopt;
}

std::optional<std::string> WeightGradient::prepareUpTo(GemmCache &gemms, int64_t rows) const {
  return RowPieces::prepareAll(rows, [&](int64_t size) { return preparePiece(gemms, size); });
}

void WeightGradient::run(const Launch &launch, const std::byte *dy, const std::byte *x,
                         std::byte *dw, DType result, int64_t rows, int64_t tile,
                         int thread) const {
  auto [first, count] = rangeOf(tile);
  std::byte *target = dw + first * byteSize(result);
  if (result == DType::F32)
    return accumulate(launch, dy, x, reinterpret_cast<float *>(target), rows, tile, thread);
  const float *sums = sum(launch, dy, x, rows, tile, thread);
  auto *rounded = reinterpret_cast<BFloat16 *>(target);
  for (int64_t i = 0; i < count; ++i)
    rounded[i] = fromFloat<BFloat16>(sums[i]);
}

void WeightGradient::addTo(const Launch &launch, const std::byte *dy, const std::byte *x,
                           std::byte *dw, DType result, int64_t rows, int64_t tile,
                           int thread) const {
  Range range = rangeOf(tile);
  const float *sums = sum(launch, dy, x, rows, tile, thread);
  withFloatType(result, [&]<typename T>(T) {
    T *to = reinterpret_cast<T *>(dw) + range.first;
    for (int64_t i = 0; i < range.count; ++i)
      to[i] = fromFloat<T>(toFloat(to[i]) + sums[i]);
  });
}

const float *WeightGradient::sum(const Launch &launch, const std::byte *dy, const std::byte *x,
                                 int64_t rows, int64_t tile, int thread) const {
  std::byte *tiles =
      launch.workspace.data() + contextOf(launch).pool->threads() * kGemmScratchPerThread;
  float *own = reinterpret_cast<float *>(tiles) + thread * tileRows() * k_;
  accumulate(launch, dy, x, own, rows, tile, thread);
  return own;
}

void WeightGradient::accumulate(const Launch &launch, const std::byte *dy, const std::byte *x,
                                float *sum, int64_t rows, int64_t tile, int thread) const {
  const GemmCache &gemms = *contextOf(launch).gemms;
  int64_t first = tile * tileRows();
  int64_t height = std::min(tileRows(), n_ - first);
  std::fill_n(sum, height * k_, 0.0f);

  int64_t bytes = byteSize(dtype_);
  std::byte *packed = packingScratch(launch, thread);
  RowPieces pieces(rows);
  for (int64_t i = 0, count = pieces.count(); i < count; ++i) {
    RowPieces::Piece piece = pieces.at(i);
    const std::byte *columns = dy + (piece.first * n_ + first) * bytes;
    const std::byte *a = columns;
    if (height != n_) {
      for (int64_t row = 0; row < piece.rows; ++row)
        std::memcpy(packed + row * height * bytes, columns + row * n_ * bytes, height * bytes);
      a = packed;
    }
    gemms.run(shapeOf(height, piece.rows), a, x + piece.first * k_ * bytes, sum,
              libraryScratch(launch, thread), thread);
  }
}

} // namespace switchyard::kernels::cpu

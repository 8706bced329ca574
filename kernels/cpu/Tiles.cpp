#include "kernels/cpu/Tiles.h"

#include <cstring>

namespace switchyard::kernels::cpu {

// A packed piece of dy is at most [RowPieces::kLargest, 256] float32.
static_assert(RowPieces::kLargest * 256 * 4 <= kGemmScratchPerThread - kGemmLibraryScratch);

int64_t WeightGradient::tileRows() const {
  int64_t eighth = (n_ / 8 + 15) / 16 * 16;
  return std::max<int64_t>(1, std::min(n_, std::clamp<int64_t>(eighth, 32, 256)));
}

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

void WeightGradient::run(const Launch &launch, const std::byte *dy, const std::byte *x, float *dw,
                         int64_t rows, int64_t tile, int thread) const {
  const GemmCache &gemms = *contextOf(launch).gemms;
  int64_t first = tile * tileRows();
  int64_t height = std::min(tileRows(), n_ - first);
  float *target = dw + first * k_;
  std::fill_n(target, height * k_, 0.0f);

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
    gemms.run(shapeOf(height, piece.rows), a, x + piece.first * k_ * bytes, target,
              libraryScratch(launch, thread), thread);
  }
}

} // namespace switchyard::kernels::cpu

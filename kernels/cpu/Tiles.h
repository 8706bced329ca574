// How products are cut into tiles: by shapes and group sizes, never by the number of threads.
#pragma once

#include "kernels/cpu/Gemm.h"
#include "kernels/signatures/Workspace.h"

#include <algorithm>

namespace switchyard::kernels::cpu {

inline int64_t blocksOf(int64_t count, int64_t block) {
  return (count + block - 1) / block;
}

/// Rows of a task where their number is known when the product is prepared. More rows use the
/// caches better, more tasks use more threads.
inline int64_t rowBlock(int64_t rows) {
  return rows >= 2048 ? 128 : rows >= 512 ? 64 : 32;
}

/// The part of the thread's GEMM scratch that oneDNN uses, and the part for packing. GEMM scratch
/// stands at the start of every workspace that has it.
inline std::byte *libraryScratch(const Launch &launch, int thread) {
  return launch.workspace.data() + thread * kGemmScratchPerThread;
}
inline std::byte *packingScratch(const Launch &launch, int thread) {
  return libraryScratch(launch, thread) + kGemmLibraryScratch;
}

/// The cut of a number of rows that is data, such as an expert's: pieces of 128, at most one of
/// 64, one multiple of 8 below 64 and one of 1 to 7. With these 16 sizes prepared, any number runs.
class RowPieces {
public:
  static constexpr int64_t kLargest = 128;
  static constexpr int64_t kMiddle = 64;
  static constexpr int64_t kStep = 8;

  struct Piece {
    int64_t first = 0;
    int64_t rows = 0;
  };

  explicit RowPieces(int64_t rows) : rows_(rows) {}

  int64_t count() const {
    int64_t rest = rows_ % kLargest;
    return rows_ / kLargest + (rest >= kMiddle) + (rest % kMiddle >= kStep) + (rest % kStep > 0);
  }

  Piece at(int64_t index) const {
    int64_t whole = rows_ / kLargest;
    if (index < whole)
      return {index * kLargest, kLargest};
    Piece piece{whole * kLargest, 0};
    for (int64_t skip = index - whole;; --skip) {
      int64_t rest = rows_ - piece.first;
      piece.rows = rest >= kMiddle ? kMiddle : rest >= kStep ? rest / kStep * kStep : rest;
      if (skip == 0)
        return piece;
      piece.first += piece.rows;
    }
  }

  /// Calls prepare(size) for every size that a piece of at most `rows` rows can have, until one
  /// returns a fault.
  template <typename Prepare>
  static std::optional<std::string> prepareAll(int64_t rows, const Prepare &prepare) {
    for (int64_t size = 1; size <= std::min(rows, kLargest); size = size < kStep     ? size + 1
                                                                    : size < kMiddle ? size + kStep
                                                                                     : size * 2)
      if (std::optional<std::string> fault = prepare(size))
        return fault;
    return std::nullopt;
  }

private:
  int64_t rows_;
};

/// dw [n, k] = dy^T x for dy [rows, n] and x [rows, k], cut into tiles of rows of dw. The reduction
/// over the rows goes piece by piece, in order, in float32: into dw itself or, where dw is narrower
/// or is added to, into the thread's tile behind all GEMM scratch, of which each is rounded once.
class WeightGradient {
public:
  WeightGradient(int64_t n, int64_t k, DType dtype) : n_(n), k_(k), dtype_(dtype) {}

  int64_t tiles() const { return blocksOf(n_, tileRows()); }

  /// Prepares for exactly `rows` rows.
  std::optional<std::string> prepareFor(GemmCache &gemms, int64_t rows) const;
  /// Prepares for any number of rows up to `rows`.
  std::optional<std::string> prepareUpTo(GemmCache &gemms, int64_t rows) const;

  /// Computes one tile of dw, whose elements are of dtype `result`; addTo adds it to dw.
  void run(const Launch &launch, const std::byte *dy, const std::byte *x, std::byte *dw,
           DType result, int64_t rows, int64_t tile, int thread) const;
  void addTo(const Launch &launch, const std::byte *dy, const std::byte *x, std::byte *dw,
             DType result, int64_t rows, int64_t tile, int thread) const;

private:
  /// A tile's elements.
  struct Range {
    int64_t first, count;
  };
  int64_t tileRows() const { return weightGradientTileRows(n_); }
  Range rangeOf(int64_t tile) const {
    int64_t first = tile * tileRows();
    return {first * k_, std::min(tileRows(), n_ - first) * k_};
  }
  /// Computes a tile in the thread's own.
  const float *sum(const Launch &launch, const std::byte *dy, const std::byte *x, int64_t rows,
                   int64_t tile, int thread) const;
  void accumulate(const Launch &launch, const std::byte *dy, const std::byte *x, float *sum,
                  int64_t rows, int64_t tile, int thread) const;
  std::optional<std::string> preparePiece(GemmCache &gemms, int64_t pieceRows) const;
  GemmShape shapeOf(int64_t tileRows, int64_t pieceRows) const {
    return {tileRows, k_, pieceRows, dtype_, DType::F32, true, false, true};
  }

  int64_t n_;
  int64_t k_;
  DType dtype_;
};

} // namespace switchyard::kernels::cpu

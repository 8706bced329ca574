// Grouped GEMM: each expert's rows times its matrix, and the gradients.
//
// The group sizes are data, so every expert's rows are cut into pieces of few sizes, all prepared
// (RowPieces); a piece is a task. The sizes come from our own sort, but a plan is untrusted:
// negative sizes count as 0 and no group reaches past the last row.
#include "kernels/cpu/KernelList.h"
#include "kernels/cpu/Tiles.h"
#include "kernels/signatures/optimizer.h"

#include <cstring>

namespace switchyard::kernels::cpu {
namespace {

/// The rows of the experts, one group after the other.
class Groups {
public:
  struct Group {
    int64_t expert = 0;
    int64_t first = 0;
    int64_t rows = 0;
  };

  Groups(const Tensor &sizes, int64_t rows)
      : sizes_(sizes.as<const int32_t>()), experts_(sizes.dims[0]), rows_(rows) {}

  /// Calls body(group) for each expert in order, until it returns true. Returns the rows before the
  /// group that it stopped at, all groups' rows if at none.
  template <typename Body>
  int64_t visit(const Body &body) const {
    int64_t first = 0;
    for (int64_t expert = 0; expert < experts_; ++expert) {
      int64_t rows = std::clamp<int64_t>(sizes_[expert], 0, rows_ - first);
      if (body(Group{expert, first, rows}))
        break;
      first += rows;
    }
    return first;
  }

private:
  const int32_t *sizes_;
  int64_t experts_;
  int64_t rows_;
};

/// y [rows, n] = x [rows, k] w[e] (or w[e]^T) for the rows of each expert e.
struct GroupedProduct {
  int64_t rows, n, k;
  DType dtype;
  bool transposeB;

  GemmShape shapeOf(int64_t pieceRows) const {
    return {pieceRows, n, k, dtype, dtype, false, transposeB, false};
  }

  std::optional<std::string> prepare(const Launch &launch) const {
    return RowPieces::prepareAll(
        rows, [&](int64_t size) { return contextOf(launch).gemms->prepare(shapeOf(size)); });
  }

  void run(const Launch &launch) const {
    Context &context = contextOf(launch);
    int64_t bytes = byteSize(dtype);
    auto *x = launch.operands[0].as<const std::byte>();
    auto *w = launch.operands[1].as<const std::byte>();
    auto *y = launch.operands[3].as<std::byte>();
    Groups groups(launch.operands[2], rows);
    int64_t pieces = 0;
    int64_t used = groups.visit([&](const Groups::Group &group) {
      pieces += RowPieces(group.rows).count();
      return false;
    });
    // One more task clears the rows past the last group.
    context.pool->parallelFor(pieces + 1, [&](int64_t index, int thread) {
      if (index == pieces) {
        if (rows > used)
          std::memset(y + used * n * bytes, 0, (rows - used) * n * bytes);
        return;
      }
      groups.visit([&](const Groups::Group &group) {
        RowPieces cut(group.rows);
        if (index >= cut.count()) {
          index -= cut.count();
          return false;
        }
        RowPieces::Piece piece = cut.at(index);
        int64_t first = group.first + piece.first;
        context.gemms->run(shapeOf(piece.rows), x + first * k * bytes,
                           w + group.expert * n * k * bytes, y + first * n * bytes,
                           libraryScratch(launch, thread), thread);
        return true;
      });
    });
  }
};

GroupedProduct forward(const Launch &launch) {
  const Tensor &x = launch.operands[0], &w = launch.operands[1];
  return {x.dims[0], w.dims[1], w.dims[2], x.dtype, true};
}

GroupedProduct byData(const Launch &launch) {
  const Tensor &dy = launch.operands[0], &w = launch.operands[1];
  return {dy.dims[0], w.dims[2], w.dims[1], dy.dtype, false};
}

WeightGradient byWeight(const Launch &launch) {
  const Tensor &dy = launch.operands[0], &x = launch.operands[1];
  return {dy.dims[1], x.dims[1], dy.dtype};
}

/// Calls a function of WeightGradient for each tile of each expert's gradient.
void forTilesByWeight(const Launch &launch, decltype(&WeightGradient::run) compute) {
  const Tensor &dy = launch.operands[0], &x = launch.operands[1], &dw = launch.operands[3];
  WeightGradient gradient = byWeight(launch);
  Groups groups(launch.operands[2], dy.dims[0]);
  int64_t bytes = byteSize(dy.dtype), n = dy.dims[1], k = x.dims[1], tiles = gradient.tiles();
  contextOf(launch).pool->parallelFor(dw.dims[0] * tiles, [&](int64_t index, int thread) {
    groups.visit([&](const Groups::Group &group) {
      if (group.expert != index / tiles)
        return false;
      (gradient.*compute)(launch, dy.as<std::byte>() + group.first * n * bytes,
                          x.as<std::byte>() + group.first * k * bytes,
                          dw.as<std::byte>() + group.expert * n * k * byteSize(dw.dtype), dw.dtype,
                          group.rows, index % tiles, thread);
      return true;
    });
  });
}

} // namespace

std::optional<std::string> prepareGroupedGemm(const Launch &launch) {
  return forward(launch).prepare(launch);
}

void runGroupedGemm(const Launch &launch) {
  forward(launch).run(launch);
}

std::optional<std::string> prepareGroupedGemmDgrad(const Launch &launch) {
  return byData(launch).prepare(launch);
}

void runGroupedGemmDgrad(const Launch &launch) {
  byData(launch).run(launch);
}

std::optional<std::string> prepareGroupedGemmWgrad(const Launch &launch) {
  return byWeight(launch).prepareUpTo(*contextOf(launch).gemms, launch.operands[0].dims[0]);
}

void runGroupedGemmWgrad(const Launch &launch) {
  forTilesByWeight(launch, &WeightGradient::run);
}

void runGroupedGemmWgradAccumulate(const Launch &launch) {
  forTilesByWeight(launch, &WeightGradient::addTo);
}

void runGroupedGemmWgradSquared(const Launch &launch) {
  runGroupedGemmWgrad(launch);
  runSumOfSquares({launch.operands.last(2),
                   {},
                   launch.workspace.last(kSumOfSquaresBlocks * sizeof(float)),
                   launch.context});
}

} // namespace switchyard::kernels::cpu

// y = x w^T and its gradients, cut into blocks of rows (data) or of output features (weights).
//
// A block of rows of x and y is dense, and so is a block of rows of dw; oneDNN's fast kernels want
// dense matrices. The one strided matrix, a block of columns of dy in the weight's gradient, is
// copied.
#include "kernels/cpu/Gemm.h"
#include "kernels/cpu/KernelList.h"
#include "kernels/cpu/Tiles.h"

namespace switchyard::kernels::cpu {
namespace {

/// The products of y [rows, n] = x [rows, k] w (or w^T), a block of rows each.
struct RowsTimesMatrix {
  int64_t rows, n, k;
  DType dtype;
  bool transposeB;

  int64_t block() const { return rowBlock(rows); }
  GemmShape shapeOf(int64_t blockRows) const {
    return {blockRows, n, k, dtype, dtype, false, transposeB, false};
  }

  std::optional<std::string> prepare(GemmCache &gemms) const {
    if (auto fault = rows >= block() ? gemms.prepare(shapeOf(block())) : std::nullopt)
      return fault;
    return gemms.prepare(shapeOf(rows % block()));
  }

  void run(const Launch &launch, const Tensor &x, const Tensor &w, const Tensor &y) const {
    Context &context = contextOf(launch);
    int64_t bytes = byteSize(dtype);
    context.pool->parallelFor(blocksOf(rows, block()), [&](int64_t index, int thread) {
      int64_t first = index * block();
      context.gemms->run(
          shapeOf(std::min(block(), rows - first)), x.as<std::byte>() + first * k * bytes, w.data,
          y.as<std::byte>() + first * n * bytes, libraryScratch(launch, thread), thread);
    });
  }
};

RowsTimesMatrix forward(const Launch &launch) {
  const Tensor &x = launch.operands[0], &w = launch.operands[1];
  return {x.dims[0], w.dims[0], w.dims[1], x.dtype, true};
}

RowsTimesMatrix byData(const Launch &launch) {
  const Tensor &dy = launch.operands[0], &w = launch.operands[1];
  return {dy.dims[0], w.dims[1], w.dims[0], dy.dtype, false};
}

WeightGradient byWeight(const Launch &launch) {
  const Tensor &dy = launch.operands[0], &x = launch.operands[1];
  return {dy.dims[1], x.dims[1], dy.dtype};
}

} // namespace

std::optional<std::string> prepareLinear(const Launch &launch) {
  return forward(launch).prepare(*contextOf(launch).gemms);
}

void runLinear(const Launch &launch) {
  forward(launch).run(launch, launch.operands[0], launch.operands[1], launch.operands[2]);
}

std::optional<std::string> prepareLinearDgrad(const Launch &launch) {
  return byData(launch).prepare(*contextOf(launch).gemms);
}

void runLinearDgrad(const Launch &launch) {
  byData(launch).run(launch, launch.operands[0], launch.operands[1], launch.operands[2]);
}

std::optional<std::string> prepareLinearWgrad(const Launch &launch) {
  return byWeight(launch).prepareFor(*contextOf(launch).gemms, launch.operands[0].dims[0]);
}

void runLinearWgrad(const Launch &launch) {
  WeightGradient gradient = byWeight(launch);
  const Tensor &dy = launch.operands[0], &x = launch.operands[1], &dw = launch.operands[2];
  contextOf(launch).pool->parallelFor(gradient.tiles(), [&](int64_t tile, int thread) {
    gradient.run(launch, dy.as<std::byte>(), x.as<std::byte>(), dw.as<std::byte>(), dw.dtype,
                 dy.dims[0], tile, thread);
  });
}

} // namespace switchyard::kernels::cpu

// embedding, embedding_grad. An id outside the table, which the data loader refuses, reads and
// writes nothing: its row is zero.
#include "kernels/cpu/BFloat16.h"
#include "kernels/cpu/KernelList.h"
#include "kernels/cpu/Rows.h"
#include "kernels/cpu/VectorMath.h"

namespace switchyard::kernels::cpu {

namespace {

/// Adds the rows of dy whose id lies in `ids` to the table's gradient, in the order of the tokens.
template <typename T>
SWITCHYARD_VECTORIZED void sumRows(const T *dy, const int32_t *ids, int64_t tokens, int64_t width,
                                   float *dtable, Range owned) {
  std::fill(dtable + owned.begin * width, dtable + owned.end * width, 0.0f);
  for (int64_t t = 0; t < tokens; ++t) {
    if (ids[t] < owned.begin || ids[t] >= owned.end)
      continue;
    float *to = dtable + ids[t] * width;
    const T *from = dy + t * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i)
      to[i] += toFloat(from[i]);
  }
}

} // namespace

void runEmbedding(const Launch &launch) {
  const Tensor &table = launch.operands[0];
  const int32_t *ids = launch.operands[1].as<int32_t>();
  const Tensor &y = launch.operands[2];
  int64_t width = table.dims[1];
  withFloatType(table.dtype, [&]<typename T>(T) {
    const T *from = table.as<T>();
    forRows(launch, y.dims[0], width, [&](Range rows) {
      for (int64_t t = rows.begin; t < rows.end; ++t) {
        T *to = y.as<T>() + t * width;
        if (ids[t] >= 0 && ids[t] < table.dims[0])
          std::copy_n(from + ids[t] * width, width, to);
        else
          std::fill_n(to, width, T{});
      }
    });
  });
}

// Each block owns a part of the vocabulary and looks at all ids: no two threads meet in a row, and
// a row's sum runs in token order.
void runEmbeddingGrad(const Launch &launch) {
  const Tensor &dy = launch.operands[0];
  const int32_t *ids = launch.operands[1].as<int32_t>();
  const Tensor &dtable = launch.operands[2];
  withFloatType(dy.dtype, [&]<typename T>(T) {
    forReductionBlocks(launch, dtable.dims[0], [&](Range owned, int64_t) {
      sumRows(dy.as<T>(), ids, dy.dims[0], dtable.dims[1], dtable.as<float>(), owned);
    });
  });
}

} // namespace switchyard::kernels::cpu

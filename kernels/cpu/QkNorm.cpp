// qk_norm, qk_norm_grad: RMSNorm of the query part and of the key part of each packed row.
#include "kernels/cpu/KernelList.h"
#include "kernels/cpu/RmsRow.h"
#include "kernels/cpu/Rows.h"
#include "kernels/cpu/VectorMath.h"

namespace switchyard::kernels::cpu {

namespace {

/// A packed row: `query` elements, then `key`, then as many values as keys.
struct PackedRow {
  int64_t query = 0;
  int64_t key = 0;
  float eps = 0;
  int64_t width() const { return query + 2 * key; }
};

PackedRow packedRow(const Launch &launch) {
  int64_t headDim = launch.attributes[2].integer;
  return {launch.attributes[0].integer * headDim, launch.attributes[1].integer * headDim,
          static_cast<float>(launch.attributes[3].real)};
}

template <typename T>
void copyValues(const T *from, T *to, const PackedRow &row) {
  if (from != to)
    std::copy(from + row.query + row.key, from + row.width(), to + row.query + row.key);
}

template <typename T>
SWITCHYARD_VECTORIZED void normRows(const T *qkv, const T *queryWeight, const T *keyWeight, T *y,
                                    PackedRow row, Range rows) {
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    const T *from = qkv + t * row.width();
    T *to = y + t * row.width();
    rmsRow(from, queryWeight, to, row.query, row.eps);
    rmsRow(from + row.query, keyWeight, to + row.query, row.key, row.eps);
    copyValues(from, to, row);
  }
}

template <typename T>
SWITCHYARD_VECTORIZED void normRowsGrad(const T *dy, const T *qkv, const T *queryWeight,
                                        const T *keyWeight, T *dqkv, float *dweights, PackedRow row,
                                        Range rows) {
  std::fill(dweights, dweights + row.query + row.key, 0.0f);
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    const T *gradient = dy + t * row.width();
    const T *from = qkv + t * row.width();
    T *to = dqkv + t * row.width();
    rmsRowGrad(gradient, from, queryWeight, to, dweights, row.query, row.eps);
    rmsRowGrad(gradient + row.query, from + row.query, keyWeight, to + row.query,
               dweights + row.query, row.key, row.eps);
    copyValues(gradient, to, row);
  }
}

} // namespace

void runQkNorm(const Launch &launch) {
  const Tensor &qkv = launch.operands[0];
  PackedRow row = packedRow(launch);
  withFloatType(qkv.dtype, [&]<typename T>(T) {
    forRows(launch, qkv.dims[0], row.width(), [&](Range rows) {
      normRows(qkv.as<T>(), launch.operands[1].as<T>(), launch.operands[2].as<T>(),
               launch.operands[3].as<T>(), row, rows);
    });
  });
}

void runQkNormGrad(const Launch &launch) {
  const Tensor &dy = launch.operands[0];
  const Tensor &qkv = launch.operands[1];
  PackedRow row = packedRow(launch);
  int64_t weights = row.query + row.key;
  float *partials = floatWorkspace(launch);
  withFloatType(qkv.dtype, [&]<typename T>(T) {
    forReductionBlocks(launch, qkv.dims[0], [&](Range rows, int64_t block) {
      normRowsGrad(dy.as<T>(), qkv.as<T>(), launch.operands[2].as<T>(), launch.operands[3].as<T>(),
                   launch.operands[4].as<T>(), partials + block * weights, row, rows);
    });
  });
  sumReductionBlocks(launch, partials, weights, row.query, launch.operands[5].as<float>());
  sumReductionBlocks(launch, partials + row.query, weights, row.key,
                     launch.operands[6].as<float>());
}

} // namespace switchyard::kernels::cpu

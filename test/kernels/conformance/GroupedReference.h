// Float64 references of grouped GEMMs and of gated rows, which tests of several kernels share.
#pragma once

#include "test/kernels/conformance/Conformance.h"

#include <cmath>

namespace switchyard::kernels::conformance {

inline const std::vector<AttributeValue> kSilu = {{.integer = 0}};

/// Calls body(expert, row) for the rows of all groups.
template <typename Body>
void forEachRow(const Array &sizes, const Body &body) {
  int64_t row = 0;
  for (int64_t expert = 0; expert < sizes.count(); ++expert)
    for (int64_t i = 0; i < static_cast<int64_t>(sizes.values[expert]); ++i)
      body(expert, row++);
}

inline double &element(Array &w, int64_t expert, int64_t n, int64_t k) {
  return w.values[(expert * w.dims[1] + n) * w.dims[2] + k];
}

/// Operands dy, x, group_sizes, dw.
inline void groupedGemmWgrad(std::vector<Array> &o) {
  Array &dy = o[0], &x = o[1], &dw = o[3];
  forEachRow(o[2], [&](int64_t expert, int64_t row) {
    for (int64_t n = 0; n < dw.dims[1]; ++n)
      for (int64_t k = 0; k < dw.dims[2]; ++k)
        element(dw, expert, n, k) += dy.at(row, n) * x.at(row, k);
  });
}

inline double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

/// Calls body(row, column, product) for the rows of all groups, and with 0 for those behind.
/// `across`: w [E, columns, k], else [E, k, columns].
template <typename Body>
void forEachProduct(const Array &x, const Array &w, const Array &sizes, bool across,
                    const Body &body) {
  int64_t depth = x.dims[1], columns = w.dims[across ? 1 : 2], row = 0;
  auto visit = [&](int64_t expert) {
    for (int64_t n = 0; n < columns; ++n) {
      double sum = 0;
      for (int64_t k = 0; expert >= 0 && k < depth; ++k)
        sum +=
            x.at(row, k) * (across ? w.at(expert * columns + n, k) : w.at(expert * depth + k, n));
      body(row, n, sum);
    }
    ++row;
  };
  for (int64_t expert = 0; expert < sizes.count(); ++expert)
    for (auto left = static_cast<int64_t>(sizes.values[expert]); left > 0; --left)
      visit(expert);
  while (row < x.dims[0])
    visit(-1);
}

/// Operands x, w, group_sizes, gate_up, y.
inline void gated(std::vector<Array> &o) {
  Array &gateUp = o[3], &y = o[4];
  forEachProduct(o[0], o[1], o[2], true, [&](int64_t row, int64_t n, double product) {
    gateUp.at(row, n) = roundTo(gateUp.dtype, product);
  });
  for (int64_t row = 0; row < y.dims[0]; ++row)
    for (int64_t i = 0; i < y.dims[1]; ++i) {
      double gate = gateUp.at(row, i);
      y.at(row, i) = gate * sigmoid(gate) * gateUp.at(row, y.dims[1] + i);
    }
}

/// bfloat16 rounds up to three times, and a gate that is rounded the other way is 1/256 off.
inline Options gatedOptions(DType dtype) {
  if (dtype == DType::BF16)
    return {.tolerance = Tolerance{1.0 / 32, 1.0 / 256}};
  return {.tolerance = Tolerance{1e-5, 1e-5}};
}

/// Bfloat16 on one thread: for what has many experts.
inline Options manyExperts() {
  return {.tolerance = gatedOptions(DType::BF16).tolerance, .threads = {1}};
}

} // namespace switchyard::kernels::conformance

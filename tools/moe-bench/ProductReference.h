// What the products of ExpertProducts.h should yield, in float64, at some places of each result.
#pragma once

#include "tools/moe-bench/ExpertProducts.h"

namespace switchyard::bench {

/// N and K of the matrices, and the rows that they take.
struct ProductShape {
  int64_t n = 0, k = 0;
  const RoutedRows &rows;
};

/// ExpertProducts::error() of `product`, whose operands are in `tensors`: inputs as fill() filled
/// them.
Result<double> productError(DeviceTensors &tensors, const ProductShape &shape,
                            const ExpertProduct &product);

} // namespace switchyard::bench

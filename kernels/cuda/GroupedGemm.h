// What the launchers of grouped GEMM share: which product it is and its operands, whatever op they
// come from.
#pragma once

#include "kernels/cuda/Kernels.h"
#include "kernels/signatures/grouped_gemm.h"

namespace switchyard::kernels::cuda {

/// By rows, y = x w^T (Forward) or dx = dy w (ByData), also on to the gated activation or its
/// gradient; or by weight, dw = dy^T x.
enum class GroupedProduct { Forward, ByData, ByWeight, Gated, ByDataGated };

/// Which operand's rows are tokens: its row r is row tokens[r] in memory.
enum class Gather { None, A, B };

struct GroupedOperands {
  Tensor a, b = {};         ///< rows and the experts' matrices; by weight dy and x
  Tensor groupSizes = {};   ///< [E]
  Tensor c = {};            ///< the result; of gated products the activated rows
  Tensor gateUp = {};       ///< of gated products: written by Gated, read by ByDataGated
  Tensor dgateUp = {};      ///< of ByDataGated
  bool accumulates = false; ///< of ByWeight: whether the sums are added to what c has
  Gather gather = Gather::None;
  Tensor tokens = {};    ///< of a gather: token_of_row [R]
  Tensor weights = {};   ///< of ByDataGated where rows have weights: weight_of_row [R]
  float *dots = nullptr; ///< of the same: the parts of p . y0, [R, parts]
  /// Of ByWeight in bfloat16, if not null: of each kRowsOfPart x kColumnsOfPart of an expert's
  /// result the sum of squares.
  float *squares = nullptr;

  /// Of all groups, and behind them.
  int64_t rows() const { return gather == Gather::None ? a.dims[0] : tokens.dims[0]; }
  const Tensor &gathered() const { return gather == Gather::A ? a : b; }
};

/// Forward, ByData and ByWeight, on any device. prepareGroupedGemm was called before.
Fault runGroupedProduct(const Launch &launch, GroupedProduct product,
                        const GroupedOperands &operands);

} // namespace switchyard::kernels::cuda

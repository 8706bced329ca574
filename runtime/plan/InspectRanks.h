// The parts of inspect() that plans for many ranks have.
#pragma once

#include "runtime/plan/Plan.h"

#include <string>

namespace switchyard {

/// The work of a rank in the experts.
struct ExpertWork {
  /// Floating-point operations of the grouped products in one run of a program with all symbols at
  /// their bounds, if every rank gets as many rows as any other: rows that tokens have, each
  /// counted on one rank. Overflow rounds have a part of the same rows.
  double flops = 0;
};
ExpertWork expertWork(const Plan &plan, const Program &program);

/// Bytes of parameters on a rank: of experts (of rank 3, the first extent the number of experts),
/// and of all.
struct ParameterBytes {
  uint64_t experts = 0;
  uint64_t all = 0;
};
ParameterBytes parameterBytes(const Plan &plan);

/// What a rank sends, by program and kind of collective.
std::string communicationText(const Plan &plan);

/// What a rank holds of the parameters, and computes in the experts if rows go evenly to ranks.
std::string workText(const Plan &plan);

} // namespace switchyard

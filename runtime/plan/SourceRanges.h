// Which elements of a model's tensors a rank of a plan reads, and no others.
#pragma once

#include "runtime/core/Status.h"
#include "runtime/plan/Plan.h"

#include <string>
#include <vector>

namespace switchyard {

/// The part of one Hugging Face tensor that a rank has in its part of a state: elements
/// [begin, end) of the tensor, row-major.
struct SourceRange {
  size_t state = 0; // in plan.states
  std::string tensor;
  std::vector<int64_t> shape; // of the tensor
  ElementRange elements;
};

/// What `rank` reads for each state that is made of tensors, in the states' order. The plan is
/// verified. A join whose sizes are in the model's files only, with parts that are not equal, is
/// InvalidInput.
Result<std::vector<SourceRange>> sourceRanges(const Plan &plan, int64_t rank);

} // namespace switchyard

// A plan as text for people: what it runs on, its memory, programs and parameters; with many ranks,
// what they send each other and what each of them computes and reads.
#pragma once

#include "runtime/core/Status.h"
#include "runtime/plan/Plan.h"

#include <string>

namespace switchyard {

/// Several tables of at most 100 columns (unless a name alone is longer). The plan is verified.
std::string inspect(const Plan &plan);

/// What `rank` reads of the model's tensors: each range, and the sum. Usage if there is no such
/// rank.
Result<std::string> inspectRank(const Plan &plan, int64_t rank);

/// One line: how many programs and instructions the plan has, its peak.
std::string summary(const Plan &plan);

} // namespace switchyard

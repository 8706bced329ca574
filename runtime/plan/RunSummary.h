// What a run of a plan will do, in a few lines for the person who starts it.
#pragma once

#include "runtime/plan/Plan.h"

#include <string>
#include <vector>

namespace switchyard {

/// Lines: the model and its precision; device, ranks and mesh; a rank's memory by kind, which is
/// the peak; with many ranks, the bytes that each sends in a step, by kind of collective. The plan
/// is verified.
std::vector<std::string> runSummary(const Plan &plan);

} // namespace switchyard

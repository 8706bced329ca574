// What lies in transient memory where a plan needs most of it, as text: what to look at when a plan
// does not fit.
#pragma once

#include "runtime/plan/Plan.h"

#include <string>

namespace switchyard {

/// The largest buffers that are needed at once at the instruction, of any program, where they take
/// most, at the symbols' bounds: bytes, types, and from which instruction to which each is needed.
/// Empty for a plan without transient buffers. The plan is verified.
std::string memoryPeakText(const Plan &plan);

} // namespace switchyard

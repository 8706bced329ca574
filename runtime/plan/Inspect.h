// A plan as text for people: what it runs on, its memory, programs and parameters.
#pragma once

#include "runtime/plan/Plan.h"

#include <string>

namespace switchyard {

/// "1.50 GiB", "384 B": three digits and a binary unit.
std::string humanBytes(uint64_t bytes);

/// Several tables of at most 100 columns (unless a name alone is longer). The plan is verified.
std::string inspect(const Plan &plan);

/// One line: how many programs and instructions the plan has, its peak.
std::string summary(const Plan &plan);

} // namespace switchyard

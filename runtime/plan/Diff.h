// What differs between two plans, as text for people.
#pragma once

#include "runtime/plan/Plan.h"

#include <string>

namespace switchyard {

/// Tables of what differs: settings, mesh, symbols, memory by arena and kind, states, programs'
/// instructions and ports, bytes that ranks send. Empty where the plans are the same in all that
/// their files hold. Both are verified.
std::string diff(const Plan &a, const Plan &b);

} // namespace switchyard

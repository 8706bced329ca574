// A plan as one page for a browser: memory over the instructions, what runs on which stream, what
// is sent.
#pragma once

#include "runtime/plan/Plan.h"

#include <string>

namespace switchyard {

/// A whole HTML document that loads nothing from anywhere. The plan is verified; names in it are
/// shown as text, whatever they are.
std::string inspectHtml(const Plan &plan);

} // namespace switchyard

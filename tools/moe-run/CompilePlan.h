// Spawns the moe-compile that stands beside this program.
#pragma once

#include "runtime/core/Status.h"
#include "tools/moe-run/StopSignals.h"

#include <string>
#include <vector>

namespace switchyard {

/// Runs `moe-compile model -o plan arguments...`. Its error messages go where ours do, and its exit
/// code becomes the Status's code. A request of `signals` ends it, and is Failed. Usage, naming
/// --plan and the compiler's package, where there is no moe-compile: a runtime that was built or
/// installed without the compiler.
Status compilePlan(const std::string &model, const std::string &plan,
                   const std::vector<std::string> &arguments, StopSignals &signals);

} // namespace switchyard

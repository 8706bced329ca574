// How benchmarks of a plan are started.
#pragma once

#include "tools/moe-run/Launch.h"

#include <functional>
#include <string>

namespace switchyard::bench {

/// Does `tasks` on the ranks of the plan in the file `plan`, as moe-run starts them; `ranks` is
/// Launch::create's. Usage: the plan is for another number of ranks. InvalidInput: the plan.
Status runOnRanks(const std::string &plan, int64_t ranks,
                  const std::function<Launch::Tasks(const Launch &launch)> &tasks);

} // namespace switchyard::bench

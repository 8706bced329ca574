#include "tools/moe-bench/PlanRun.h"

#include "runtime/plan/PlanFile.h"
#include "runtime/plan/Verify.h"

namespace switchyard::bench {

Status runOnRanks(const std::string &path, int64_t ranks,
                  const std::function<Launch::Tasks(const Launch &launch)> &tasks) {
  SY_ASSIGN_OR_RETURN(Launch launch, Launch::create(ranks));
  Plan plan;
  if (launch.isLeader()) {
    SY_ASSIGN_OR_RETURN(plan, load(path));
    SY_RETURN_IF_ERROR(verify(plan).within(path));
    SY_RETURN_IF_ERROR(launch.checkPlan(plan).within(path));
  }
  if (launch.hasThreads() && plan.target.kind == kernels::Target::Kind::Cuda)
    return launch.startRanks();
  return launch.run(std::move(plan), {}, tasks(launch));
}

} // namespace switchyard::bench

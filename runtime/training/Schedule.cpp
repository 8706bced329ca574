#include "runtime/training/Schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

namespace switchyard {

namespace {

/// numerator / max(1, denominator), as transformers guards its divisions.
double ratio(int64_t numerator, int64_t denominator) {
  return static_cast<double>(numerator) / static_cast<double>(std::max<int64_t>(1, denominator));
}

} // namespace

Result<ScheduleType> parseScheduleType(std::string_view name) {
  if (name == "linear")
    return ScheduleType::Linear;
  if (name == "cosine")
    return ScheduleType::Cosine;
  if (name == "constant")
    return ScheduleType::Constant;
  if (name == "constant_with_warmup")
    return ScheduleType::ConstantWithWarmup;
  return Status::usage("lr_scheduler_type is \"" + std::string(name) +
                       "\", expected linear, cosine, constant or constant_with_warmup");
}

double Schedule::factor(int64_t step) const {
  if (type_ == ScheduleType::Constant)
    return 1;
  if (step < warmupSteps_)
    return ratio(step, warmupSteps_);
  switch (type_) {
  case ScheduleType::Linear:
    return std::max(0.0, ratio(totalSteps_ - step, totalSteps_ - warmupSteps_));
  case ScheduleType::Cosine: {
    // get_cosine_schedule_with_warmup with its num_cycles of 0.5, in its order of operations.
    double progress = ratio(step - warmupSteps_, totalSteps_ - warmupSteps_);
    return std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * 0.5 * 2.0 * progress)));
  }
  default:
    return 1;
  }
}

} // namespace switchyard

// Learning-rate schedules, each as transformers' get_scheduler gives it.
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <string_view>

namespace switchyard {

/// Linear: up over the warm-up, then down to 0 at the last step. Cosine: up, then half a cosine to
/// 0. Constant: the peak from the first step on, no warm-up. ConstantWithWarmup: up, then the peak.
enum class ScheduleType : uint8_t { Linear, Cosine, Constant, ConstantWithWarmup };

/// `name` is linear, cosine, constant or constant_with_warmup; Usage for any other.
Result<ScheduleType> parseScheduleType(std::string_view name);

class Schedule {
public:
  Schedule(ScheduleType type, double learningRate, int64_t warmupSteps, int64_t totalSteps)
      : type_(type), learningRate_(learningRate), warmupSteps_(warmupSteps),
        totalSteps_(totalSteps) {}

  /// The rate of update `step`, counted from 0: with a warm-up the first is 0.
  double rate(int64_t step) const { return learningRate_ * factor(step); }

private:
  double factor(int64_t step) const;

  ScheduleType type_;
  double learningRate_;
  int64_t warmupSteps_;
  int64_t totalSteps_;
};

} // namespace switchyard

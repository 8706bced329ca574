#include "runtime/training/Schedule.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

// Expected rates are transformers' own functions, evaluated in double precision.

TEST(Schedule, LinearWarmsUpFromZeroAndEndsAtZero) {
  Schedule schedule(ScheduleType::Linear, 1e-3, 10, 50);
  EXPECT_EQ(schedule.rate(0), 0);
  EXPECT_EQ(schedule.rate(1), 0.0001);
  EXPECT_EQ(schedule.rate(9), 0.0009000000000000001);
  EXPECT_EQ(schedule.rate(10), 0.001);
  EXPECT_EQ(schedule.rate(11), 0.000975);
  EXPECT_EQ(schedule.rate(14), 0.0009000000000000001);
  EXPECT_EQ(schedule.rate(49), 2.5e-05);
  EXPECT_EQ(schedule.rate(50), 0);
  EXPECT_EQ(schedule.rate(60), 0);
}

TEST(Schedule, CosineFallsInHalfAWave) {
  Schedule schedule(ScheduleType::Cosine, 5e-5, 4, 20);
  EXPECT_EQ(schedule.rate(0), 0);
  EXPECT_EQ(schedule.rate(3), 3.7500000000000003e-05);
  EXPECT_EQ(schedule.rate(4), 5e-05);
  EXPECT_DOUBLE_EQ(schedule.rate(8), 4.267766952966369e-05);
  EXPECT_DOUBLE_EQ(schedule.rate(12), 2.5e-05);
  EXPECT_DOUBLE_EQ(schedule.rate(19), 4.8036798991923925e-07);
  EXPECT_EQ(schedule.rate(20), 0);
}

TEST(Schedule, ConstantHasNoWarmup) {
  Schedule schedule(ScheduleType::Constant, 1e-4, 10, 50);
  for (int64_t step : {0, 5, 10, 49, 100})
    EXPECT_EQ(schedule.rate(step), 1e-4);
}

TEST(Schedule, ConstantWithWarmupStaysAtItsPeak) {
  Schedule schedule(ScheduleType::ConstantWithWarmup, 1e-4, 4, 10);
  EXPECT_EQ(schedule.rate(0), 0);
  EXPECT_EQ(schedule.rate(1), 2.5e-5);
  for (int64_t step : {4, 9, 100})
    EXPECT_EQ(schedule.rate(step), 1e-4);
}

TEST(Schedule, WithoutWarmupStartsAtThePeak) {
  EXPECT_EQ(Schedule(ScheduleType::Linear, 1e-3, 0, 10).rate(0), 1e-3);
  EXPECT_EQ(Schedule(ScheduleType::Cosine, 1e-3, 0, 10).rate(0), 1e-3);
  EXPECT_EQ(Schedule(ScheduleType::ConstantWithWarmup, 1e-3, 0, 10).rate(0), 1e-3);
}

TEST(Schedule, SurvivesAWarmupAsLongAsTheRun) {
  Schedule schedule(ScheduleType::Linear, 1e-3, 10, 10);
  EXPECT_EQ(schedule.rate(5), 5e-4);
  EXPECT_EQ(schedule.rate(10), 0);
}

TEST(Schedule, ParsesTransformersNames) {
  EXPECT_EQ(*parseScheduleType("linear"), ScheduleType::Linear);
  EXPECT_EQ(*parseScheduleType("cosine"), ScheduleType::Cosine);
  EXPECT_EQ(*parseScheduleType("constant"), ScheduleType::Constant);
  EXPECT_EQ(*parseScheduleType("constant_with_warmup"), ScheduleType::ConstantWithWarmup);
  Result<ScheduleType> type = parseScheduleType("polynomial");
  ASSERT_FALSE(type.ok());
  EXPECT_EQ(type.status().code(), StatusCode::Usage);
  EXPECT_EQ(type.status().message(), "lr_scheduler_type is \"polynomial\", expected linear, "
                                     "cosine, constant or constant_with_warmup");
}

} // namespace
} // namespace switchyard

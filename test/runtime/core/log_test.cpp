#include "runtime/core/Log.h"

#include <gtest/gtest.h>

using namespace switchyard;

TEST(Log, WritesLevelsToStandardError) {
  testing::internal::CaptureStderr();
  Log log(Log::Level::Info);
  log.debug("hidden {}", 1);
  log.info("step {}", 2);
  log.warning("odd {}", "thing");
  log.error("{} {{}}", "broken");
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "step 2\nwarning: odd thing\nerror: broken {}\n");
  EXPECT_FALSE(Log(Log::Level::Off).enabled(Log::Level::Error));
}

#include "tools/moe-run/CrashReport.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <thread>

namespace switchyard {
namespace {

/// Lets a thread of rank 3, or one that it started, do `crash`.
void crashOnARank(void (*crash)(), bool inWorker) {
  CrashReport report;
  std::thread rank([&] {
    CrashReport::nameThread(3);
    if (inWorker)
      std::thread(crash).join();
    else
      crash();
  });
  rank.join();
}

void fault() {
  volatile int *nowhere = nullptr;
  *nowhere = 1;
}

TEST(CrashReportDeathTest, NamesTheRankAndLetsTheSignalBe) {
  for (bool inWorker : {false, true})
    EXPECT_EXIT(crashOnARank(fault, inWorker), testing::KilledBySignal(SIGSEGV),
                "^moe_run_crash_report_test: error: rank 3 crashed \\(SIGSEGV\\)\n$");
  EXPECT_EXIT(crashOnARank(std::abort, false), testing::KilledBySignal(SIGABRT),
              "moe_run_crash_report_test: error: rank 3 crashed \\(SIGABRT\\)");
  auto sent = [] { std::raise(SIGBUS); };
  EXPECT_EXIT(crashOnARank(sent, false), testing::KilledBySignal(SIGBUS),
              "moe_run_crash_report_test: error: rank 3 crashed \\(SIGBUS\\)");
}

TEST(CrashReportDeathTest, IsOverWhenItGoes) {
  auto afterwards = [] {
    {
      CrashReport report;
    }
    std::abort();
  };
  EXPECT_EXIT(afterwards(), testing::KilledBySignal(SIGABRT), "^$");
}

} // namespace
} // namespace switchyard

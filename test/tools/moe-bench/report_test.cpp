#include "tools/moe-bench/Report.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace switchyard::bench {
namespace {

Measurement measurement() {
  Measurement result;
  result.name = "step x";
  result.device = "NVIDIA H200";
  result.runs = {{200, 100, 2e12}, {100, 100, 2e12}, {400, 800, 8e12}, {250, 100, 5e12}};
  result.maxFlops = 1e14;
  result.loss = 10.5;
  result.bytes = {{"peak_bytes", uint64_t{3} << 30}, {"driver_bytes", uint64_t{7} << 29}};
  return result;
}

// The rates are medians of the runs' rates, not rates at the median time.
TEST(Report, LineHasMediansOfTimesAndOfRates) {
  EXPECT_EQ(describe(measurement()),
            "switchyard step x: 225.000 ms [100.000 400.000] n 4, 750 tokens/s, 20 TFLOP/s, "
            "MFU 20.0%, loss 10.5000, peak 3.00 GiB, driver 3.50 GiB");
}

TEST(Report, LineLeavesOutWhatIsNotThere) {
  Measurement result;
  result.name = "layer y";
  result.runs = {{1.5, 0, 0}};
  EXPECT_EQ(describe(result), "switchyard layer y: 1.500 ms [1.500 1.500] n 1");
}

TEST(Report, JsonHasTheKeysOfThePeers) {
  EXPECT_EQ(toJson(measurement()).dump(),
            R"({"program":"switchyard","case":"step x","device":"NVIDIA H200",)"
            R"("ms":{"median":225.0,"min":100.0,"max":400.0},"runs":4,"tokens_per_second":750.0,)"
            R"("tflops":20.0,"mfu":0.2,"loss":10.5,"peak_bytes":3221225472,)"
            R"("driver_bytes":3758096384})");
}

} // namespace
} // namespace switchyard::bench

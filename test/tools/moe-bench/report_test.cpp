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

TEST(Report, OfAProductHasItsErrorAndItsGroups) {
  Measurement result;
  result.name = "product";
  result.device = "CPU";
  result.runs = {{2, 0, 4e9, 6e6}};
  result.error = 0.00213;
  result.bytes = {{"weight_bytes", uint64_t{1} << 30}};
  result.groupSizes = {3, 0};
  EXPECT_EQ(describe(result), "switchyard product: 2.000 ms [2.000 2.000] n 1, 2 TFLOP/s, "
                              "3.000 GB/s, error 2.1e-03, weight 1.00 GiB");
  EXPECT_EQ(toJson(result).dump(),
            R"({"program":"switchyard","case":"product","device":"CPU",)"
            R"("ms":{"median":2.0,"min":2.0,"max":2.0},"runs":1,"tflops":2.0,"gb_per_second":3.0,)"
            R"("error":0.00213,"weight_bytes":1073741824,"group_sizes":[3,0]})");
}

/// Steps of a profile, of which the first one is run one by one.
std::vector<StepSummary> profile() {
  std::vector<StepSummary> steps(3);
  const double times[] = {900, 100, 102};
  for (size_t i = 0; i < steps.size(); ++i) {
    steps[i].milliseconds = times[i];
    CommunicationTime &time = steps[i].communication;
    time.milliseconds = times[i] / 10;
    time.exposedMilliseconds = 4 + static_cast<double>(i);
    time.kinds[0] = {12, 5050000000, times[i] / 4};
  }
  return steps;
}

TEST(Report, OfManyRanksHasTheirMeshAndWhatTheTraceSaysOfThem) {
  Measurement result;
  result.name = "step x";
  result.device = "GPU";
  result.ranks = 4;
  result.mesh = "fsdp=2,ep=2";
  result.runs = {{100, 50, 0}};
  result.communication = meanCommunication(profile());
  EXPECT_EQ(describe(result),
            "switchyard step x on 4 ranks, fsdp=2,ep=2: 100.000 ms [100.000 100.000] n 1, 500 "
            "tokens/s, communication 10.100 ms of 101.000, exposed 5.500 ms (5.4%)\n"
            "all_gather: 12 calls, 5050.0 MB in 25.250 ms, 200.0 GB/s");
  EXPECT_EQ(toJson(result).dump(),
            R"({"program":"switchyard","case":"step x","device":"GPU","ranks":4,)"
            R"("mesh":"fsdp=2,ep=2","ms":{"median":100.0,"min":100.0,"max":100.0},"runs":1,)"
            R"("tokens_per_second":500.0,"profiled_step_ms":101.0,"communication_ms":10.1,)"
            R"("exposed_ms":5.5,"collectives":{"all_gather":{"calls":12,"bytes":5050000000,)"
            R"("ms":25.25,"bus_gb_per_second":200.0}}})");
}

} // namespace
} // namespace switchyard::bench

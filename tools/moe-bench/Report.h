// What moe-bench found out: a line for a person, and the same as a line of JSON.
//
// The keys are those that bench/peers writes too, so that a case of ours and a case of theirs are
// compared by their name: program, case, device, ms {median, min, max}, runs, tokens_per_second,
// tflops, mfu, peak_bytes. What a case does not have is left out.
#pragma once

#include "runtime/core/Json.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace switchyard::bench {

/// Of at least one value; of an even number of them the mean of the middle two.
double median(std::vector<double> values);

/// One timed run and the work that it did.
struct Run {
  double milliseconds = 0;
  double tokens = 0; // real ones; 0: not counted
  double flops = 0;  // 0: not counted
};

struct Measurement {
  std::string name; // "step alpaca-1x256x16"
  std::string device;
  std::vector<Run> runs;          // at least one
  std::optional<double> maxFlops; // a second, that the device promises; nothing: no utilization
  std::optional<double> loss;     // of the last run
  /// Further numbers of bytes, by key: "peak_bytes".
  std::vector<std::pair<std::string, uint64_t>> bytes;
};

/// "switchyard step alpaca-1x256x16: 95.300 ms [95.100 96.000] n 5, 43000 tokens/s, ..., peak 54.5
/// GiB". Rates are medians over the runs.
std::string describe(const Measurement &measurement);

Json toJson(const Measurement &measurement);

/// Prints `measurement`, and appends its line to the file `json` unless that is empty.
Status report(const Measurement &measurement, const std::string &json);

} // namespace switchyard::bench

// What moe-bench found out: a line for a person, and the same as a line of JSON.
//
// The keys are those that bench/peers writes too, so that a case of ours and a case of theirs are
// compared by their name: program, case, device, ranks, mesh, ms {median, min, max}, runs,
// tokens_per_second, tflops, mfu, gb_per_second, peak_bytes. What a case does not have is left out;
// ranks and mesh are those of many ranks.
#pragma once

#include "runtime/core/Json.h"
#include "runtime/training/StepProfile.h"

#include <optional>
#include <span>
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
  double bytes = 0;  // that were read or written; 0: not counted
};

/// The communication of a step, of which that many milliseconds are the whole.
struct Communication {
  double stepMilliseconds = 0;
  CommunicationTime time;
};

/// The mean of the steps of a profile but the first one, which is run instruction by instruction.
/// At least two.
Communication meanCommunication(std::span<const StepSummary> steps);

struct Measurement {
  std::string name; // "step alpaca-1x256x16"
  std::string device;
  int64_t ranks = 1;
  std::string mesh;               // "ep=2"; empty for one rank
  std::vector<Run> runs;          // at least one
  std::optional<double> maxFlops; // a second, that the device promises; nothing: no utilization
  std::optional<double> loss;     // of the last run
  std::optional<double> error;    // relative to what should have come out
  /// Further numbers of bytes, by key: "peak_bytes".
  std::vector<std::pair<std::string, uint64_t>> bytes;
  std::optional<Communication> communication;
  /// How the median compares with something: {"of_step", 0.015}.
  std::vector<std::pair<std::string, double>> shares;
  std::vector<int32_t> groupSizes; // rows of each expert; only in JSON
};

/// "switchyard step alpaca-1x256x16: 95.300 ms [95.100 96.000] n 5, 43000 tokens/s, ..., peak 54.5
/// GiB". Rates are medians over the runs. A further line for each collective, where they are known.
std::string describe(const Measurement &measurement);

Json toJson(const Measurement &measurement);

/// Prints `measurement`, and appends its line to the file `json` unless that is empty.
Status report(const Measurement &measurement, const std::string &json);

} // namespace switchyard::bench

// OUT/metrics.jsonl: one JSON object a line and step, with transformers' names where it has one.
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace switchyard {

struct StepMetrics {
  int64_t step = 0; // updates done, this one included
  double epoch = 0;
  double loss = 0;                  // with the aux term
  double gradNorm = 0;              // before clipping
  double learningRate = 0;          // the rate that was used
  double auxLoss = 0;               // unscaled
  double expertLoadMaxOverMean = 0; // of the layer where it is largest; 1 is even
  double trainTokensPerSecond = 0;  // real tokens, over all ranks
  double stepTime = 0;              // seconds
  std::optional<double> mfu;        // model flops over the machine's peak; unknown: null
  uint64_t peakMemoryBytes = 0;
  uint64_t sentBytes = 0;     // by the programs of the rank that sends most, to others
  int64_t overflowRounds = 0; // of the rank with most, over layers, forward and backward
  std::vector<int64_t> expertLoadHistogram; // expertLoadHistogram()
};

/// How many experts of all layers have which load, as a multiple of their layer's mean: less than
/// 0.25, less than 0.5, and so on to less than 2, then 2 and more. `counts` [L, E] are the slots
/// that were routed to each expert; layers without any are left out.
std::vector<int64_t> expertLoadHistogram(std::span<const double> counts, int64_t numExperts);

/// The numbers of a step by their names in the file, those that are not known left out.
std::vector<std::pair<std::string_view, double>> numbersOf(const StepMetrics &metrics);

/// One line, without its end. A number that is infinite or NaN becomes null, and `non_finite` lists
/// the names of those.
std::string formatMetrics(const StepMetrics &metrics);

/// The file. Each line is written at once and whole, so that a killed run leaves complete lines.
class MetricsFile {
public:
  /// Opens `path`, keeping the lines of a previous run up to step `keepThrough` (0: none) and
  /// dropping what comes after: later steps, which will be done again, and a torn last line.
  static Result<MetricsFile> open(const std::string &path, int64_t keepThrough);
  MetricsFile(MetricsFile &&other) noexcept;
  MetricsFile &operator=(MetricsFile &&other) noexcept;
  ~MetricsFile();

  /// Appends a line. Failed: the system's reason.
  Status append(const StepMetrics &metrics);

private:
  MetricsFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

  std::string path_;
  int descriptor_ = -1;
};

} // namespace switchyard

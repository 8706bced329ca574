#include "runtime/training/Metrics.h"

#include "runtime/core/File.h"
#include "runtime/core/Json.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <fcntl.h>
#include <numeric>
#include <string_view>
#include <unistd.h>
#include <utility>

namespace switchyard {

namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{4} << 30;

Json finiteOrNull(const char *name, double value, Json &nonFinite) {
  if (std::isfinite(value))
    return Json(value);
  nonFinite.append(Json(name));
  return Json();
}

/// The `step` of a complete line; nothing if it is not one of ours.
std::optional<int64_t> stepOf(std::string_view line, const std::string &path) {
  Result<Json> parsed = parseJson(line, path);
  if (!parsed.ok())
    return std::nullopt;
  const Json *step = parsed->find("step");
  if (!step || !step->isInteger())
    return std::nullopt;
  return step->integer();
}

/// How many bytes of `text` are complete lines of steps up to `keepThrough`.
size_t keptBytes(std::string_view text, int64_t keepThrough, const std::string &path) {
  size_t kept = 0;
  while (kept < text.size()) {
    size_t end = text.find('\n', kept);
    if (end == std::string_view::npos)
      break;
    std::optional<int64_t> step = stepOf(text.substr(kept, end - kept), path);
    if (!step || *step > keepThrough)
      break;
    kept = end + 1;
  }
  return kept;
}

Status cannotWrite(const std::string &path) {
  return Status::failed(path + ": can't be written: " + errnoText(errno));
}

} // namespace

std::vector<int64_t> expertLoadHistogram(std::span<const double> counts, int64_t numExperts) {
  constexpr size_t kBins = 9;
  constexpr double kBinsOfMean = 4;
  std::vector<int64_t> bins(kBins);
  const auto experts = static_cast<size_t>(numExperts);
  for (size_t begin = 0; begin + experts <= counts.size(); begin += experts) {
    std::span<const double> layer = counts.subspan(begin, experts);
    const double mean =
        std::accumulate(layer.begin(), layer.end(), 0.0) / static_cast<double>(numExperts);
    for (double count : layer)
      if (mean > 0)
        ++bins[static_cast<size_t>(std::min(count / mean * kBinsOfMean, kBins - 1.0))];
  }
  return bins;
}

std::vector<std::pair<std::string_view, double>> numbersOf(const StepMetrics &metrics) {
  std::vector<std::pair<std::string_view, double>> numbers = {
      {"epoch", metrics.epoch},
      {"loss", metrics.loss},
      {"grad_norm", metrics.gradNorm},
      {"learning_rate", metrics.learningRate},
      {"aux_loss", metrics.auxLoss},
      {"expert_load_max_over_mean", metrics.expertLoadMaxOverMean},
      {"train_tokens_per_second", metrics.trainTokensPerSecond},
      {"step_time", metrics.stepTime},
      {"peak_memory_bytes", static_cast<double>(metrics.peakMemoryBytes)},
      {"sent_bytes", static_cast<double>(metrics.sentBytes)},
      {"overflow_rounds", static_cast<double>(metrics.overflowRounds)}};
  if (metrics.mfu)
    numbers.emplace_back("mfu", *metrics.mfu);
  return numbers;
}

std::string formatMetrics(const StepMetrics &metrics) {
  Json nonFinite = Json::array();
  Json line = Json::object();
  struct Number {
    const char *name;
    double value;
  };
  line.set("step", Json(metrics.step));
  for (Number number :
       {Number{"epoch", metrics.epoch}, Number{"loss", metrics.loss},
        Number{"grad_norm", metrics.gradNorm}, Number{"learning_rate", metrics.learningRate},
        Number{"aux_loss", metrics.auxLoss},
        Number{"expert_load_max_over_mean", metrics.expertLoadMaxOverMean},
        Number{"train_tokens_per_second", metrics.trainTokensPerSecond},
        Number{"step_time", metrics.stepTime}})
    line.set(number.name, finiteOrNull(number.name, number.value, nonFinite));
  line.set("mfu", metrics.mfu ? finiteOrNull("mfu", *metrics.mfu, nonFinite) : Json());
  line.set("peak_memory_bytes", Json(static_cast<int64_t>(metrics.peakMemoryBytes)));
  line.set("sent_bytes", Json(static_cast<int64_t>(metrics.sentBytes)));
  line.set("overflow_rounds", Json(metrics.overflowRounds));
  Json loads = Json::array();
  for (int64_t count : metrics.expertLoadHistogram)
    loads.append(Json(count));
  line.set("expert_load_histogram", std::move(loads));
  if (!nonFinite.items().empty())
    line.set("non_finite", std::move(nonFinite));
  return line.dump();
}

Result<MetricsFile> MetricsFile::open(const std::string &path, int64_t keepThrough) {
  size_t kept = 0;
  if (keepThrough > 0 && fileExists(path)) {
    SY_ASSIGN_OR_RETURN(std::string text, readFile(path, kMaxFileBytes));
    kept = keptBytes(text, keepThrough, path);
  }
  int descriptor;
  do
    descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0)
    return cannotWrite(path);
  MetricsFile file(path, descriptor);
  if (::ftruncate(descriptor, static_cast<off_t>(kept)) != 0)
    return cannotWrite(path);
  return file;
}

MetricsFile::MetricsFile(MetricsFile &&other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

MetricsFile &MetricsFile::operator=(MetricsFile &&other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

MetricsFile::~MetricsFile() {
  if (descriptor_ >= 0)
    ::close(descriptor_);
}

Status MetricsFile::append(const StepMetrics &metrics) {
  std::string line = formatMetrics(metrics) + "\n";
  for (size_t written = 0; written < line.size();) {
    ssize_t count = ::write(descriptor_, line.data() + written, line.size() - written);
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return cannotWrite(path_);
    written += static_cast<size_t>(count);
  }
  return {};
}

} // namespace switchyard

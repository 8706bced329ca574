#include "tools/moe-bench/BenchmarkReport.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace switchyard::bench {

namespace {

/// What makes a row, beside its configuration.
constexpr const char *kSettings[] = {"scenario",
                                     "model_name_or_path",
                                     "num_gpus",
                                     "per_device_train_batch_size",
                                     "gradient_accumulation_steps",
                                     "max_seq_length",
                                     "packing",
                                     "torch_dtype"};

struct Figure {
  const char *column;
  bool moreIsWorse;
  bool lessIsWorse;
};
constexpr Figure kFigures[] = {{"train_tokens_per_second", false, true},
                               {"train_loss", true, true},
                               {"mem_nvidia_mem_reserved", true, false},
                               {"mem_peak_torch_mem_alloc", true, false},
                               {"mem_torch_mem_alloc", true, false}};

std::string textOf(const BenchmarkRow &row, const std::string &column) {
  auto found = row.find(column);
  return found == row.end() ? "" : found->second;
}

/// Whether both say the same of `column`, or one of them nothing.
bool agree(const BenchmarkRow &a, const BenchmarkRow &b, const std::string &column) {
  const std::string ours = textOf(a, column);
  const std::string theirs = textOf(b, column);
  return ours.empty() || theirs.empty() || ours == theirs;
}

bool haveSameSettings(const BenchmarkRow &a, const BenchmarkRow &b) {
  return std::ranges::all_of(kSettings, [&](const char *column) { return agree(a, b, column); });
}

const BenchmarkRow *baselineOf(const BenchmarkRow &row, const std::vector<BenchmarkRow> &rows) {
  if (textOf(row, "framework_config") == "none")
    return nullptr;
  for (const BenchmarkRow &other : rows)
    if (textOf(other, "framework_config") == "none" && haveSameSettings(row, other))
      return &other;
  return nullptr;
}

std::string mebibytes(const BenchmarkRow &row, const char *column) {
  const std::optional<double> bytes = numberOf(row, column);
  return bytes ? fmt::format("{:.1f}", *bytes / (1 << 20)) : "";
}

/// How much memory is saved: what the driver counts where both know it, else what is touched.
std::string memorySaved(const BenchmarkRow &row, const BenchmarkRow &baseline) {
  for (const char *column : {"mem_nvidia_mem_reserved", "mem_peak_torch_mem_alloc"}) {
    const std::optional<double> now = numberOf(row, column);
    const std::optional<double> before = numberOf(baseline, column);
    if (now && before && *before > 0)
      return fmt::format("{:+.1f}%", 100 * (*now / *before - 1));
  }
  return "";
}

std::string speedup(const BenchmarkRow &row, const BenchmarkRow &baseline) {
  const std::optional<double> now = numberOf(row, "train_runtime");
  const std::optional<double> before = numberOf(baseline, "train_runtime");
  return now && before && *now > 0 ? fmt::format("{:.2f}x", *before / *now) : "";
}

std::string alignColumns(const std::vector<std::vector<std::string>> &lines) {
  std::vector<size_t> widths(lines.front().size());
  for (const std::vector<std::string> &line : lines)
    for (size_t i = 0; i < line.size(); ++i)
      widths[i] = std::max(widths[i], line[i].size());
  std::string text;
  for (const std::vector<std::string> &line : lines) {
    std::string padded;
    for (size_t i = 0; i < line.size(); ++i)
      padded += i < 2 ? fmt::format("{:<{}}  ", line[i], widths[i])
                      : fmt::format("{:>{}}  ", line[i], widths[i]);
    text += padded.substr(0, padded.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

std::string nameOf(const BenchmarkRow &row) {
  std::string name = fmt::format("{} of {} on {} GPUs, batch {}", textOf(row, "framework_config"),
                                 textOf(row, "model_name_or_path"), textOf(row, "num_gpus"),
                                 textOf(row, "per_device_train_batch_size"));
  if (const std::string steps = textOf(row, "gradient_accumulation_steps"); !steps.empty())
    name += " x " + steps;
  return name;
}

/// Adds what differs by more between a row and the earlier one; counts the figures compared.
void compareRows(const BenchmarkRow &row, const BenchmarkRow &earlier, double thresholdRatio,
                 Comparison &comparison, int &compared) {
  for (const Figure &figure : kFigures) {
    const std::optional<double> now = numberOf(row, figure.column);
    const std::optional<double> before = numberOf(earlier, figure.column);
    if (!now || !before || *before == 0)
      continue;
    ++compared;
    const double change = (*now - *before) / std::abs(*before);
    if (std::abs(change) <= thresholdRatio)
      continue;
    const bool isWorse = change > 0 ? figure.moreIsWorse : figure.lessIsWorse;
    comparison.regressions += isWorse ? 1 : 0;
    comparison.text +=
        fmt::format("{}: {}: {} is {}, was {} ({:+.1f}%)\n", isWorse ? "regression" : "improvement",
                    nameOf(row), figure.column, textOf(row, figure.column),
                    textOf(earlier, figure.column), 100 * change);
  }
}

} // namespace

std::string formatReport(const std::vector<BenchmarkRow> &rows) {
  std::vector<std::vector<std::string>> lines = {{"framework_config", "model_name_or_path", "GPUs",
                                                  "batch", "loss", "runtime s", "tokens/s per GPU",
                                                  "peak MiB", "runtime vs none", "memory vs none"}};
  for (const BenchmarkRow &row : rows) {
    const BenchmarkRow *baseline = baselineOf(row, rows);
    lines.push_back({textOf(row, "framework_config"), textOf(row, "model_name_or_path"),
                     textOf(row, "num_gpus"),
                     textOf(row, "per_device_train_batch_size") + "x" +
                         textOf(row, "gradient_accumulation_steps"),
                     fmt::format("{:.4f}", numberOf(row, "train_loss").value_or(0)),
                     fmt::format("{:.3f}", numberOf(row, "train_runtime").value_or(0)),
                     fmt::format("{:.0f}", numberOf(row, "train_tokens_per_second").value_or(0)),
                     mebibytes(row, "mem_peak_torch_mem_alloc"),
                     baseline ? speedup(row, *baseline) : "",
                     baseline ? memorySaved(row, *baseline) : ""});
  }
  return alignColumns(lines);
}

Comparison compareTables(const std::vector<BenchmarkRow> &rows,
                         const std::vector<BenchmarkRow> &reference, const std::string &file,
                         double thresholdRatio) {
  Comparison comparison;
  int found = 0;
  int compared = 0;
  for (const BenchmarkRow &row : rows) {
    const BenchmarkRow *earlier = nullptr;
    int matches = 0;
    for (const BenchmarkRow &other : reference)
      if (textOf(row, "framework_config") == textOf(other, "framework_config") &&
          haveSameSettings(row, other)) {
        earlier = &other;
        ++matches;
      }
    if (matches == 1) {
      ++found;
      compareRows(row, *earlier, thresholdRatio, comparison, compared);
    } else {
      comparison.text +=
          fmt::format("not compared: {}: {} has {}\n", nameOf(row), file,
                      matches == 0 ? "no such row" : fmt::format("{} such rows", matches));
    }
  }
  comparison.text +=
      fmt::format("against {}: {} of {} rows, {} figures; {} worse by more than {:g}%\n", file,
                  found, rows.size(), compared, comparison.regressions, 100 * thresholdRatio);
  return comparison;
}

} // namespace switchyard::bench

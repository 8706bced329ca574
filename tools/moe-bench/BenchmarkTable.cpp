#include "tools/moe-bench/BenchmarkTable.h"

#include "runtime/core/File.h"
#include "runtime/core/Json.h"
#include "runtime/plan/Layout.h"
#include "runtime/plan/PlanFile.h"
#include "tools/moe-bench/YamlFile.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

namespace switchyard::bench {

namespace {

constexpr uint64_t kMaxTableBytes = uint64_t{16} << 20;
constexpr uint64_t kMaxMetricsBytes = uint64_t{4} << 30;
constexpr uint64_t kMaxLogBytes = uint64_t{1} << 30;

constexpr const char *kColumns[] = {"epoch",
                                    "framework_config",
                                    "gradient_accumulation_steps",
                                    "mem_nvidia_mem_reserved",
                                    "mem_peak_torch_mem_alloc",
                                    "mem_torch_mem_alloc",
                                    "model_name_or_path",
                                    "num_gpus",
                                    "per_device_train_batch_size",
                                    "torch_dtype",
                                    "train_loss",
                                    "train_runtime",
                                    "train_samples_per_second",
                                    "train_steps_per_second",
                                    "train_tokens_per_second"};
constexpr const char *kColumnsThatVary[] = {"max_seq_length", "packing", "scenario"};

/// What the lines of metrics.jsonl say together.
struct Totals {
  int64_t steps = 0;
  double epoch = 0;
  double loss = 0;
  double seconds = 0;
  double tokens = 0;
  int64_t peakBytes = 0;

  Status add(const Json &line) {
    constexpr double kMost = 1e18;
    SY_ASSIGN_OR_RETURN(epoch, getNumber(line, "epoch", 0, kMost));
    SY_ASSIGN_OR_RETURN(double stepLoss, getNumber(line, "loss", -kMost, kMost));
    SY_ASSIGN_OR_RETURN(double time, getNumber(line, "step_time", 0, kMost));
    SY_ASSIGN_OR_RETURN(double rate, getNumber(line, "train_tokens_per_second", 0, kMost));
    SY_ASSIGN_OR_RETURN(int64_t peak, getInteger(line, "peak_memory_bytes", 0, INT64_MAX));
    ++steps;
    loss += stepLoss;
    seconds += time;
    tokens += rate * time;
    peakBytes = std::max(peakBytes, peak);
    return {};
  }
};

Result<Totals> readMetrics(const std::string &path) {
  SY_ASSIGN_OR_RETURN(std::string text, readFile(path, kMaxMetricsBytes));
  Totals totals;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string where = place(path, static_cast<int>(totals.steps + 1));
    SY_ASSIGN_OR_RETURN(Json line,
                        parseJson(std::string_view(text).substr(begin, end - begin), where));
    SY_RETURN_IF_ERROR(totals.add(line).within(where));
    begin = end + 1;
  }
  return totals;
}

/// Bytes of what a rank keeps from step to step.
uint64_t stateBytes(const Plan &plan) {
  uint64_t bytes = 0;
  for (const State &state : plan.states)
    bytes += localBytesOf(state, plan.mesh);
  return bytes;
}

/// The MiB in "the driver counts 1234.5 MiB", which moe-run says of rank 0's GPU; nothing on a CPU.
std::optional<double> driverMebibytes(const std::string &log) {
  constexpr std::string_view kWords = "the driver counts ";
  Result<std::string> text = readFile(log, kMaxLogBytes);
  const size_t found = text.ok() ? text->find(kWords) : std::string::npos;
  if (found == std::string::npos)
    return std::nullopt;
  double value = 0;
  const char *begin = text->data() + found + kWords.size();
  auto [end, error] = std::from_chars(begin, text->data() + text->size(), value);
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

/// A run that is stopped by a signal ends well, but is no measurement.
Status checkWhole(const ScenarioRun &run, const Totals &totals) {
  const bool isWhole =
      run.maxSteps > 0 ? totals.steps >= run.maxSteps : totals.epoch >= run.epochs * (1 - 1e-9);
  if (isWhole && totals.steps > 0 && totals.seconds > 0)
    return {};
  return Status::failed(fmt::format("was stopped after step {}, before its end", totals.steps));
}

std::string dtypeOf(const std::string &precision) {
  return precision == "bf16" ? "bfloat16" : "float32";
}

std::string quoteCell(const std::string &text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos)
    return text;
  std::string quoted = "\"";
  for (char c : text)
    quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string cell(const BenchmarkRow &row, const std::string &column) {
  auto found = row.find(column);
  return found == row.end() ? "" : found->second;
}

/// Reads the records of a CSV text (RFC 4180; lines may end in LF).
class CsvReader {
public:
  CsvReader(const std::string &text, const std::string &file) : text_(text), file_(file) {}

  bool atEnd() const { return at_ >= text_.size(); }
  int line() const { return line_; }

  Result<std::vector<std::string>> next() {
    std::vector<std::string> cells;
    while (true) {
      SY_ASSIGN_OR_RETURN(std::string cell, text_[at_] == '"' ? quoted() : plain());
      cells.push_back(std::move(cell));
      if (atEnd() || text_[at_] != ',')
        break;
      if (++at_ == text_.size()) {
        cells.emplace_back();
        break;
      }
    }
    if (!atEnd() && text_[at_] == '\r')
      ++at_;
    if (!atEnd() && text_[at_] != '\n')
      return Status::invalidInput(place(file_, line_) +
                                  ": text follows a quoted cell, expected a comma");
    ++at_;
    ++line_;
    return cells;
  }

private:
  Result<std::string> plain() {
    const size_t end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
    std::string cell = text_.substr(at_, end - at_);
    at_ = end;
    return cell;
  }

  Result<std::string> quoted() {
    std::string cell;
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] == '"' && (++at_ == text_.size() || text_[at_] != '"'))
        return cell;
      cell += text_[at_];
    }
    return Status::invalidInput(place(file_, line_) + ": a quoted cell has no end");
  }

  const std::string &text_;
  const std::string &file_;
  size_t at_ = 0;
  int line_ = 1;
};

} // namespace

std::optional<double> numberOf(const BenchmarkRow &row, const std::string &column) {
  const std::string text = cell(row, column);
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size())
    return std::nullopt;
  return value;
}

Result<BenchmarkRow> measureRun(const ScenarioRun &run, const std::string &folder,
                                const std::string &log) {
  SY_ASSIGN_OR_RETURN(Totals totals, readMetrics(joinPath(folder, "metrics.jsonl")));
  SY_RETURN_IF_ERROR(checkWhole(run, totals));
  SY_ASSIGN_OR_RETURN(Plan plan, load(joinPath(folder, "step.plan")));
  const auto steps = static_cast<double>(totals.steps);
  const auto records = steps * static_cast<double>(run.batchSize * run.accumulation * run.numGpus);
  BenchmarkRow row;
  row["scenario"] = run.scenario;
  row["framework_config"] = run.configuration;
  row["model_name_or_path"] = run.model;
  row["num_gpus"] = std::to_string(run.numGpus);
  row["per_device_train_batch_size"] = std::to_string(run.batchSize);
  row["gradient_accumulation_steps"] = std::to_string(run.accumulation);
  row["max_seq_length"] = std::to_string(run.maxSeqLength);
  row["packing"] = run.packing ? "True" : "False";
  row["torch_dtype"] = run.torchDtype.empty() ? dtypeOf(plan.training.precision) : run.torchDtype;
  row["epoch"] = fmt::format("{:.6g}", totals.epoch);
  row["train_loss"] = fmt::format("{:.9g}", totals.loss / steps);
  row["train_runtime"] = fmt::format("{:.6g}", totals.seconds);
  row["train_samples_per_second"] = fmt::format("{:.6g}", records / totals.seconds);
  row["train_steps_per_second"] = fmt::format("{:.6g}", steps / totals.seconds);
  row["train_tokens_per_second"] =
      fmt::format("{:.3f}", totals.tokens / totals.seconds / static_cast<double>(run.numGpus));
  row["mem_peak_torch_mem_alloc"] = std::to_string(totals.peakBytes);
  row["mem_torch_mem_alloc"] = std::to_string(stateBytes(plan));
  if (const std::optional<double> counted = driverMebibytes(log))
    row["mem_nvidia_mem_reserved"] = fmt::format("{:.1f}", *counted);
  return row;
}

std::string formatTable(const std::vector<BenchmarkRow> &rows) {
  std::set<std::string> columns(std::begin(kColumns), std::end(kColumns));
  for (const char *column : kColumnsThatVary)
    if (std::ranges::any_of(rows, [&](const BenchmarkRow &row) {
          return cell(row, column) != cell(rows.front(), column);
        }))
      columns.insert(column);
  std::string text;
  for (const std::string &column : columns)
    text += (column == *columns.begin() ? "" : ",") + column;
  for (const BenchmarkRow &row : rows) {
    text += '\n';
    for (const std::string &column : columns)
      text += (column == *columns.begin() ? "" : ",") + quoteCell(cell(row, column));
  }
  return text + "\n";
}

Result<std::vector<BenchmarkRow>> readTable(const std::string &path) {
  SY_ASSIGN_OR_RETURN(std::string text, readFile(path, kMaxTableBytes));
  CsvReader reader(text, path);
  std::vector<std::string> columns;
  std::vector<BenchmarkRow> rows;
  while (!reader.atEnd()) {
    const int line = reader.line();
    SY_ASSIGN_OR_RETURN(std::vector<std::string> cells, reader.next());
    if (columns.empty()) {
      columns = std::move(cells);
      for (std::string &column : columns)
        if (constexpr std::string_view kSuffix = "_in_bytes"; column.ends_with(kSuffix))
          column.resize(column.size() - kSuffix.size());
      continue;
    }
    if (cells.size() == 1 && cells[0].empty())
      continue;
    if (cells.size() != columns.size())
      return Status::invalidInput(fmt::format("{}: has {} cells, but the first line has {}",
                                              place(path, line), cells.size(), columns.size()));
    BenchmarkRow &row = rows.emplace_back();
    for (size_t i = 0; i < cells.size(); ++i)
      if (!cells[i].empty())
        row[columns[i]] = std::move(cells[i]);
  }
  for (const char *column : {"framework_config", "num_gpus"})
    if (std::ranges::find(columns, column) == columns.end())
      return Status::invalidInput(place(path, 1) + ": has no column " + column +
                                  ", expected a table that moe-bench or fms-acceleration wrote");
  return rows;
}

} // namespace switchyard::bench

// The table of a matrix: a row for each run, as CSV with the columns of fms-acceleration's
// benchmarks.
#pragma once

#include "runtime/core/Status.h"
#include "tools/moe-bench/ScenarioMatrix.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace switchyard::bench {

/// Texts by column. What a run does not have (memory of a GPU, on a CPU) is left out.
///
///   epoch, train_loss                              at the end; the mean over steps
///   train_runtime                                  seconds of all steps together
///   train_samples_per_second, train_steps_per_second  of all GPUs together
///   train_tokens_per_second                        real tokens, of one GPU
///   mem_peak_torch_mem_alloc, mem_torch_mem_alloc  bytes of a GPU: the highest of the plan's
///   arenas
///                                                  that was touched; those of parameters and
///                                                  states
///   mem_nvidia_mem_reserved                        MiB of a GPU that the driver counts
using BenchmarkRow = std::map<std::string, std::string>;

/// The number in a column; nothing if it has none.
std::optional<double> numberOf(const BenchmarkRow &row, const std::string &column);

/// The row of `run`, from what moe-run train left in `folder` and said in the file `log`. Failed:
/// the run ended before its last step.
Result<BenchmarkRow> measureRun(const ScenarioRun &run, const std::string &folder,
                                const std::string &log);

/// The columns that the plugin has, and of scenario, max_seq_length and packing those in which rows
/// differ, sorted.
std::string formatTable(const std::vector<BenchmarkRow> &rows);

/// A table of ours or the plugin's (whose columns of memory end in _in_bytes; they lose that here).
/// InvalidInput, with the line: no CSV, no column that says what a row is of.
Result<std::vector<BenchmarkRow>> readTable(const std::string &path);

} // namespace switchyard::bench

// moe-bench --scenarios_config_path: runs a matrix of scenarios, each run a moe-run train of its
// own, and makes a table of them. The results' folder gets
//
//   benchmarks.csv     a row for each run that is done, in the matrix' order
//   report.txt         the comparisons, as printed
//   exp_N/command.sh   what was run: a script that runs it again
//   exp_N/log          what it said
//   exp_N/output       its output folder: metrics, plan, checkpoints unless save_strategy is no
//   exp_N/results.json its row; there once it is done
#pragma once

#include "tools/moe-bench/ScenarioMatrix.h"

namespace switchyard::bench {

/// Runs what `options` ask for; with dryRun only prints the commands. Runs that the results' folder
/// has whole are not run again, so that the same command goes on with a matrix that was
/// interrupted. A run that fails does not end the matrix. Failed: runs failed, figures are worse
/// than the reference's by more than the threshold, a stop signal.
Status runMatrix(const MatrixOptions &options);

} // namespace switchyard::bench

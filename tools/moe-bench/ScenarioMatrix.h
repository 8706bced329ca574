// The runs of a scenario file: scenarios x models x configurations x the matrices of the command
// line.
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard::bench {

/// The flags of moe-bench --scenarios_config_path.
struct MatrixOptions {
  std::string scenarios;      // empty: no matrix is asked for
  std::string defaults;       // empty: defaults.yaml beside the scenarios, if there is one
  std::string configurations; // empty: configurations beside the scenarios' folder
  std::string results = "benchmark_results";
  std::string trainingData; // empty: the arguments say which
  std::string target = "cpu";
  std::vector<int64_t> numGpus = {1, 2};
  std::vector<int64_t> effectiveBatchSizes = {4, 8};
  std::vector<std::string> packing = {"True"};
  std::vector<int64_t> maxSeqLengths = {4096};
  std::vector<std::string> only; // names of scenarios; empty: all that are not slow
  std::string reference;         // an earlier table; empty: none
  double thresholdRatio = 0.1;
  bool dryRun = false;
};

/// One run of moe-run train.
struct ScenarioRun {
  std::string scenario;
  std::string configuration; // "none"
  std::string model;         // as the scenario names it
  std::string torchDtype;    // empty: the checkpoint's
  int64_t numGpus = 1;
  int64_t batchSize = 1;    // of a GPU's micro-batch
  int64_t accumulation = 1; // micro-batches of a GPU's step
  int64_t maxSeqLength = 0;
  bool packing = false;
  bool keepsCheckpoints = true;
  int64_t maxSteps = -1;          // above 0: how many the run is to make
  double epochs = 0;              // else: how many epochs
  std::vector<std::string> words; // after "moe-run train", without --output-dir

  /// `scenario "full", framework_config "ep2", model "examples/tiny", 2 GPUs, ...`: other runs of
  /// the matrix have another. One line.
  std::string describe() const;
};

struct ScenarioMatrix {
  std::vector<ScenarioRun> runs;
  std::vector<std::string> skipped; // combinations that there cannot be, with why
  std::vector<std::string> notes;
};

/// All runs that `options` ask for, in the order of the file. Every scenario that is asked for is
/// checked whole. Usage: a scenario that the file does not have, no run at all. InvalidInput: a
/// file that does not say what it must, a model that is not on this machine (unless it is a dry
/// run).
Result<ScenarioMatrix> expandMatrix(const MatrixOptions &options);

/// `words` as a shell takes them, separated by spaces.
std::string quoteForShell(const std::vector<std::string> &words);

} // namespace switchyard::bench

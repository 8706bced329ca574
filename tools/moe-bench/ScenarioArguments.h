// What the arguments of a scenario (names of transformers' TrainingArguments and of the reference
// plugin's trainer) are for moe-run train.
#pragma once

#include "tools/moe-bench/Scenarios.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace switchyard::bench {

struct RunArguments {
  /// By key of TrainingArguments (runtime/training/TrainingArguments.h), as texts that it accepts.
  /// Without those below, and without what a run alone decides: model, ranks, mesh, output_dir.
  std::map<std::string, std::string> values;

  // Nothing: left to the matrix.
  std::optional<int64_t> perDeviceTrainBatchSize;
  std::optional<int64_t> gradientAccumulationSteps;
  std::optional<int64_t> maxSeqLength;
  std::optional<bool> packing;

  std::string torchDtype;         // "bfloat16"; empty: the checkpoint's
  bool keepsCheckpoints = true;   // false: save_strategy is no
  std::vector<std::string> notes; // on what has no effect here
};

/// The arguments of `scenario`, over `defaults`. A null takes a default back. `file` is the
/// scenarios' file, for the names of other files in it. InvalidInput, with the place and the name:
/// an argument that is not known, one that asks for what is not offered, a value of another kind.
Result<RunArguments> translateArguments(const Scenario &scenario,
                                        const std::vector<ScenarioArgument> &defaults,
                                        const std::string &file);

/// The path of what a scenario file calls `name`: from the working folder, or else from the folder
/// of `file` or the nearest one above it where there is such a thing. Nothing: it is nowhere.
std::optional<std::string> findBeside(const std::string &name, const std::string &file);

/// The words of the command line for `values`, in the order of the flags' help. Each value is one
/// that setArgument() took.
std::vector<std::string> flagsOf(const std::map<std::string, std::string> &values);

} // namespace switchyard::bench

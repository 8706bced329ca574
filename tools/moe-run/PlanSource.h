// Where the plan of a command comes from: a file, or the compiler.
#pragma once

#include "runtime/plan/Plan.h"
#include "runtime/training/TrainingArguments.h"
#include "tools/moe-run/Launch.h"

#include <string>
#include <vector>

namespace switchyard {

/// The plan at `path`, which is safe to execute, was made for the model in the folder `model` and
/// for as many ranks as `launch` has.
Result<Plan> loadPlan(const std::string &path, const std::string &model, const Launch &launch);

/// Whether a command whose --plan is `path`, or which is to compile one for `target`, runs on GPUs.
/// Fails as loading the plan does.
Result<bool> isForGpus(const std::string &path, const std::string &target);

struct CompileRequest {
  std::string model;
  std::vector<std::string> arguments; // of moe-compile
  std::string mesh;                   // empty: moe-compile's default for as many ranks
  int64_t threads = 0;                // of a rank; 0: see Launch::threadsPerRank
};

/// A plan that is compiled just now and kept in memory only.
Result<Plan> compiledPlan(const CompileRequest &request, const Launch &launch);

/// The plan to train by: the given one, or one that is compiled.
Result<Plan> planForTraining(const TrainingArguments &arguments, const Launch &launch);

} // namespace switchyard

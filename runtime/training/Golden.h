// A golden: a small checkpoint and what transformers did with it (test/golden/README.md describes
// the folder).
#pragma once

#include "runtime/data/TokenizedBatches.h"
#include "runtime/safetensors/Checkpoint.h"
#include "runtime/training/Session.h"

#include <string>
#include <vector>

namespace switchyard {

struct GoldenStep {
  double loss = 0;
  double auxLoss = 0; // unscaled
  double gradNorm = 0;
};

struct Golden {
  std::string folder;
  UpdateScalars scalars; // those of the run; `step` is not used
  std::vector<GoldenStep> steps;
  int64_t microBatches = 0; // of a step
  int64_t length = 0;       // the most tokens a micro-batch may have
  TokenizedBatches batches;
  SafetensorsFile gradients; // of step 0, by parameter, and kGoldenLogits
  Checkpoint final;
};

/// The logits of step 0's first micro-batch, [tokens, vocabulary].
inline constexpr char kGoldenLogits[] = "__logits_step0_micro0";

/// Reads DIR/{expected.json, batches.safetensors, grads_step0.safetensors, final/}. InvalidInput,
/// naming file and field, where one is missing or not of that form, or a token id is not below
/// `vocabSize`.
Result<Golden> loadGolden(const std::string &folder, int64_t vocabSize);

/// The arguments with which moe-compile makes the plan that a golden asks for: float32, its
/// micro-batches in one step, each normalized by its own labels, weight decay on every parameter.
Result<std::vector<std::string>> goldenCompileArguments(const std::string &folder);

} // namespace switchyard

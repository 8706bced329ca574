// The training loop: takes batches, runs steps, reports, saves.
#pragma once

#include "runtime/core/Log.h"
#include "runtime/data/Dataset.h"
#include "runtime/training/Session.h"
#include "runtime/training/TrainingArguments.h"

#include <atomic>

namespace switchyard {

/// Trains `session`, whose states are loaded, on `dataset` as `arguments` say; where `resumed` is
/// not null, from where it stands (openForResume). Writes metrics.jsonl and checkpoint-N into
/// arguments.outputDir, which exists. When `stop` becomes true
/// it finishes the step at hand, saves, and returns. Fails if there was none yet, and, naming the
/// step, on a loss or gradient norm that is not finite: nothing was updated with it. On a device
/// that runs ahead a step is reported while the next one runs, of which then nothing is kept
/// either.
///
/// With many ranks all of them call it alike, with the same records (others are refused); rank 0
/// writes the files, `stop` may become true on any of them, and they agree on failures such as a
/// full disk. Checkpoints are written while training goes on; none is left under way at the end.
/// Usage: `resumed` has all steps done already.
Status train(Session &session, const Dataset &dataset, const TrainingArguments &arguments,
             const std::string &tokenizerFile, const CheckpointInfo *resumed,
             const std::atomic<bool> &stop, const Log &log);

/// What evaluate() finds over all records.
struct Evaluation {
  double loss = 0;    // cross entropy, mean over labels, without the aux term
  double auxLoss = 0; // mean over steps
  int64_t records = 0;
  int64_t tokens = 0;
  int64_t labels = 0;
};

/// The loss of every record of `dataset` once, in batches of the plan's size; the same on all
/// ranks. With `debugNonfinite` it fails on a loss that is not finite, and says where the first
/// such value was made.
Result<Evaluation> evaluate(Session &session, const Dataset &dataset, bool debugNonfinite,
                            const Log &log);

} // namespace switchyard

// Going on where a checkpoint stands.
#pragma once

#include "runtime/checkpoint/TrainingCheckpoint.h"
#include "runtime/data/Dataset.h"
#include "runtime/training/TrainingArguments.h"

namespace switchyard {

/// The folder that arguments.resumeFromCheckpoint names: itself, or for "latest" the newest of
/// those in arguments.outputDir. InvalidInput: there is none.
Result<std::string> resumedFolder(const TrainingArguments &arguments);

/// Whether the run may write to arguments.outputDir: it is where `checkpoint` (resumedFolder()) is,
/// and holds no later one. InvalidInput: it holds a later checkpoint. Gives false where
/// `checkpoint` is elsewhere.
Result<bool> isResumedIn(const std::string &checkpoint, const TrainingArguments &arguments);

/// Opens the checkpoint and checks that `plan`, `dataset` and `arguments` go on with it: the same
/// model, the same records in the same order, as many of them in a step. The mesh, the number of
/// ranks, the precision and what else the plan was made with may be others. InvalidInput: what
/// differs, and what to give.
Result<TrainingCheckpoint> openForResume(const TrainingArguments &arguments, const Plan &plan,
                                         const Dataset &dataset);

} // namespace switchyard

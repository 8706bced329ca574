// A training checkpoint: everything a run needs to go on or to be exported, in one folder that is
// there whole or not at all.
//
//   checkpoint-N/states.safetensors   every parameter, master and moment by its name in the plan
//                step.plan            the plan that trained it
//                checkpoint.json      updates done, data position, the model's fingerprint,
//                versions model/               config.json and the tokenizer's files of the model
//                folder
#pragma once

#include "runtime/comm/Agreement.h"
#include "runtime/executor/Executor.h"
#include "runtime/safetensors/SafetensorsFile.h"

#include <atomic>
#include <string>

namespace switchyard {

struct CheckpointInfo {
  int64_t step = 0;     // updates done
  int64_t position = 0; // records taken since the first epoch's start
};

/// Writes the folder `target`. `modelFolder` is where the model's other files are copied from;
/// `tokenizerFile` (may be empty) stands for its tokenizer.model. Fails with InvalidInput if the
/// target exists and is not empty; nothing partial is left behind.
///
/// Collective: rank 0 gathers the other ranks' parts, a buffer of limited size at a time, and
/// writes. The folder does not depend on the mesh but for step.plan. Ranks agree on the result.
Status saveTrainingCheckpoint(const std::string &target, Executor &executor,
                              const CheckpointInfo &info, const std::string &modelFolder,
                              const std::string &tokenizerFile, Agreement &agreement);

/// The Hugging Face folder `target` from the checkpoint folder `checkpoint`. Fails with
/// InvalidInput where the checkpoint is not whole or does not fit its own plan, and as exportFolder
/// (Weights.h), which also looks at `stop` (may be null).
Status exportTrainingCheckpoint(const std::string &checkpoint, const std::string &target,
                                const std::atomic<bool> *stop = nullptr);

} // namespace switchyard

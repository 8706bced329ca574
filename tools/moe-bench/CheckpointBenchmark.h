// moe-bench checkpoint: what saving costs training, and how fast states are loaded.
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <string>

namespace switchyard::bench {

struct CheckpointArguments {
  std::string plan;
  std::string model;   // folder of config.json and the tokenizer's files; weights are random
  std::string folder;  // where checkpoints go, on the disk that is measured; new or empty
  int64_t length = 0;  // tokens of each record; 0: the plan's max_seq_length
  int64_t saves = 20;  // 0: none is timed, one is made
  int64_t loads = 3;   // of each kind
  int64_t ranks = 0;   // 0: the launcher's number, or 1
  int64_t threads = 0; // of a rank on the CPU; 0: this host's cores over its ranks
  std::string json;    // the file that the figures are appended to; empty: none
};

/// Prints lines of figures (Report.h), by the host's clock:
///
///   step                  without a save under way
///   save, waiting         how long training waits, mostly for the copy
///   save, steps beside    how much longer the steps take beside which the checkpoint is written
///                         than as many steps right behind it
///   save, processor time  of all threads, beyond that of the same number of steps
///   read                  the files of the checkpoint one after the other, by reads of 16 MiB, as
///                         dd does
///   load                  what resuming from it takes: every checksum is verified
///   read, load            the same of the Hugging Face folder that is exported from it
///
/// Before each read and load the system forgets what it has of the files; memory has been used
/// before. What was written is removed at the end.
///
/// Usage: a plan for another number of ranks, a length that it is not made for. InvalidInput: the
/// plan, the model's folder, or a folder that is not empty.
Status runCheckpointBenchmark(const CheckpointArguments &arguments);

} // namespace switchyard::bench

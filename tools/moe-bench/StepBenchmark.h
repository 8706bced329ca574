// moe-bench step: times a plan's whole training steps, as moe-run runs them, on random weights and
// random tokens.
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::bench {

struct StepArguments {
  std::string plan;
  std::string name; // of the case; empty: BATCHxTOKENSxACCUMULATION
  std::string
      lengths; // file of the records' tokens, separated by white space; empty: all are `length`
  int64_t length = 0;  // tokens of each record; 0: the plan's max_seq_length
  int64_t steps = 10;  // that are timed
  int64_t warmup = 3;  // before these
  int64_t ranks = 0;   // 0: the launcher's number, or 1
  int64_t threads = 0; // of a rank on the CPU; 0: this host's cores over its ranks
  int64_t seed = 1;    // of weights and tokens
  std::string json;    // the file that the figures are appended to; empty: none
  std::string profile; // the file for a trace of further steps (StepProfile.h); empty: none
};

/// Prints a line of figures (Report.h): step time and tokens/s by the host's clock over whole
/// steps, from dealing the batch to its loss, where a step is started while the one before still
/// runs if the device allows it. Step i, the warm-up's included, takes the records of timed step i
/// modulo their number. Further figures: peak_bytes, which the plan certifies; high_water_bytes, of
/// which steps touched; on a GPU listed_bytes, those and what context, libraries, collectives and
/// graphs take, and driver_bytes, what the driver counts, both after the warm-up.
///
/// Many ranks run as moe-run's do: threads of this process on the CPU, processes with a GPU each,
/// which this one starts unless a launcher did. Tokens are those of all ranks, times rank 0's,
/// bytes those of the rank that has most; rank 0 alone prints, and is profiled.
///
/// Usage: a plan for another number of ranks, options that do not go together. InvalidInput: the
/// plan or the file of lengths. Failed: a loss that is not finite.
Status runStepBenchmark(const StepArguments &arguments);

/// The lengths that `text` lists, separated by white space; a line that starts with # is a comment.
/// InvalidInput, naming `source`: one that is no number or below 1, or none at all.
Result<std::vector<int64_t>> parseLengths(std::string_view text, const std::string &source);

} // namespace switchyard::bench

// Weights for a plan without a checkpoint: what a freshly initialized model of that size has.
#pragma once

#include "runtime/executor/Executor.h"

namespace switchyard::bench {

/// Fills this rank's part of the parameters: vectors (the norms' weights) with 1, all others with
/// values that are uniform around 0 with the deviation 0.02 that transformers initializes with.
/// Masters have the same values. Each value follows from `seed`, the parameter and the element's
/// place in it, on any mesh. Moments and gradients stay as they are.
Status fillRandomWeights(Executor &executor, uint64_t seed);

} // namespace switchyard::bench

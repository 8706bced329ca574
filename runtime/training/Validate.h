// Trains a golden's steps and compares everything with what transformers did: losses, aux losses
// and gradient norms of each step, logits and gradients of step 0, the change of every weight.
#pragma once

#include "runtime/training/Golden.h"

#include <cstdio>
#include <functional>

namespace switchyard {

struct ValidateOptions {
  std::FILE *output = stdout;
  /// The learning rate of step `s`; the golden's where it is empty.
  std::function<double(int64_t step)> learningRate;
};

/// `session` holds the parameters of `initial`, the checkpoint that the golden started from. Prints
/// the comparison, worst first. Failed, naming what is off, unless everything is within tolerance
/// (for float32 plans; the figures are in Validate.cpp).
///
/// With many ranks all of them call it alike: a step's micro-batches are dealt to them, rank 0
/// gathers what it compares and prints, and all have the same result.
Status validate(Session &session, const Golden &golden, const Checkpoint &initial,
                const ValidateOptions &options);

} // namespace switchyard

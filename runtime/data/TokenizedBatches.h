// Batches that were tokenised elsewhere, in the form of a golden's `batches.safetensors`.
#pragma once

#include "runtime/core/Status.h"
#include "runtime/data/Sampler.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace switchyard {

class TokenizedBatches {
public:
  /// inputIds and labels are [steps, microBatches, length], row major; only the first `lengths`
  /// [steps, microBatches] tokens of a row exist. Labels are unshifted, -100 where masked.
  struct Input {
    std::string source; // for messages
    std::span<const int64_t> inputIds;
    std::span<const int64_t> labels;
    std::span<const int64_t> lengths;
    int64_t steps = 0;
    int64_t microBatches = 0;
    int64_t length = 0;
    int64_t vocabSize = 0;
  };

  /// InvalidInput: sizes that do not agree, a length outside [0, length], an id outside the
  /// vocabulary, a label that is neither -100 nor in it.
  static Result<TokenizedBatches> create(const Input &input);

  int64_t steps() const { return steps_; }

  /// The micro-batches of step `s` (below steps()), each one segment. Views this object.
  void get(int64_t s, StepBatches &step) const;

private:
  TokenizedBatches() = default;

  int64_t steps_ = 0;
  int64_t microBatches_ = 0;
  int64_t length_ = 0;
  std::vector<int32_t> ids_;
  std::vector<int32_t> labels_;
  std::vector<int64_t> lengths_;
};

} // namespace switchyard

// The floating-point operations that training a model takes, whatever computes them: the count
// that "model flops utilization" is of (PaLM, Chowdhery et al. 2022, appendix B). What a step
// computes twice, or pads, is not in it.
#pragma once

#include "runtime/plan/Plan.h"

#include <optional>
#include <string_view>

namespace switchyard {

class ModelFlops {
public:
  /// Of the model that `plan` trains: active parameters as its training fields say, attention as
  /// the launches of its programs do.
  explicit ModelFlops(const Plan &plan);

  /// Forward and backward of one segment of `tokens` tokens: 6 for each token and active parameter
  /// (a token is multiplied by topK experts, not by all), and 12 for each attention head's element
  /// and pair of tokens that the causal mask and the window leave.
  double ofSegment(int64_t tokens) const;

private:
  struct Attention {
    double width = 0;   // heads x head size
    int64_t window = 0; // 0: none
  };
  double activeParameters_ = 0;
  std::vector<Attention> attentions_;
};

/// Dense bfloat16 flops a second that the data sheet of the device called `name` promises, or
/// nothing for one that is not known here. A utilization is of these, for float32 too.
std::optional<double> peakFlops(std::string_view name);

} // namespace switchyard

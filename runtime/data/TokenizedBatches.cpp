#include "runtime/data/TokenizedBatches.h"

namespace switchyard {

namespace {

std::string at(const TokenizedBatches::Input &input, const char *tensor, int64_t row) {
  return input.source + ": " + tensor + " of step " + std::to_string(row / input.microBatches) +
         ", micro-batch " + std::to_string(row % input.microBatches);
}

/// Whether `count` is steps x microBatches x length, without overflowing.
bool matches(size_t count, int64_t steps, int64_t microBatches, int64_t length) {
  uint64_t rest = count;
  for (int64_t factor : {steps, microBatches, length}) {
    if (factor < 1 || rest % static_cast<uint64_t>(factor) != 0)
      return false;
    rest /= static_cast<uint64_t>(factor);
  }
  return rest == 1;
}

Status checkSizes(const TokenizedBatches::Input &input) {
  struct Tensor {
    const char *name;
    size_t count;
    int64_t length;
  };
  for (Tensor tensor : {Tensor{"input_ids", input.inputIds.size(), input.length},
                        Tensor{"labels", input.labels.size(), input.length},
                        Tensor{"lengths", input.lengths.size(), 1}})
    if (!matches(tensor.count, input.steps, input.microBatches, tensor.length))
      return Status::invalidInput(
          input.source + ": " + tensor.name + " has " + std::to_string(tensor.count) +
          " elements, expected " + std::to_string(input.steps) + " steps x " +
          std::to_string(input.microBatches) + " micro-batches x " + std::to_string(tensor.length));
  return {};
}

Status checkRow(const TokenizedBatches::Input &input, int64_t row) {
  if (input.lengths[row] < 0 || input.lengths[row] > input.length)
    return Status::invalidInput(at(input, "lengths", row) + " is " +
                                std::to_string(input.lengths[row]) + ", expected 0 to " +
                                std::to_string(input.length));
  for (int64_t i = 0; i < input.lengths[row]; ++i) {
    int64_t id = input.inputIds[row * input.length + i];
    int64_t label = input.labels[row * input.length + i];
    if (id < 0 || id >= input.vocabSize)
      return Status::invalidInput(at(input, "input_ids", row) + " holds token id " +
                                  std::to_string(id) + ", expected 0 to " +
                                  std::to_string(input.vocabSize - 1));
    if (label != kIgnoredLabel && (label < 0 || label >= input.vocabSize))
      return Status::invalidInput(at(input, "labels", row) + " holds " + std::to_string(label) +
                                  ", expected -100 or 0 to " + std::to_string(input.vocabSize - 1));
  }
  return {};
}

} // namespace

Result<TokenizedBatches> TokenizedBatches::create(const Input &input) {
  SY_RETURN_IF_ERROR(checkSizes(input));
  TokenizedBatches batches;
  batches.steps_ = input.steps;
  batches.microBatches_ = input.microBatches;
  batches.length_ = input.length;
  batches.ids_.assign(input.inputIds.size(), 0);
  batches.labels_.assign(input.labels.size(), kIgnoredLabel);
  batches.lengths_.assign(input.lengths.begin(), input.lengths.end());
  for (int64_t row = 0; row < static_cast<int64_t>(input.lengths.size()); ++row) {
    SY_RETURN_IF_ERROR(checkRow(input, row));
    for (int64_t i = row * input.length; i < row * input.length + input.lengths[row]; ++i) {
      batches.ids_[i] = static_cast<int32_t>(input.inputIds[i]);
      batches.labels_[i] = static_cast<int32_t>(input.labels[i]);
    }
  }
  return batches;
}

void TokenizedBatches::get(int64_t s, StepBatches &step) const {
  step.clear();
  for (int64_t m = 0; m < microBatches_; ++m) {
    int64_t row = s * microBatches_ + m;
    SegmentView view;
    view.ids = std::span(ids_).subspan(row * length_, lengths_[row]);
    view.labels = std::span(labels_).subspan(row * length_, lengths_[row]);
    view.record = row;
    step.segments.push_back(view);
    step.microBatchEnds.push_back(static_cast<int64_t>(step.segments.size()));
  }
}

} // namespace switchyard

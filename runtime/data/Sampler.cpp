#include "runtime/data/Sampler.h"

#include <cmath>
#include <limits>
#include <numeric>

namespace switchyard {

namespace {

class SplitMix64 {
public:
  explicit SplitMix64(uint64_t state) : state_(state) {}

  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  /// Uniform in [0, bound), without bias: draws in the incomplete last range are thrown away.
  uint64_t below(uint64_t bound) {
    uint64_t rest = (0 - bound) % bound;
    uint64_t draw;
    do
      draw = next();
    while (draw < rest);
    return draw % bound;
  }

private:
  uint64_t state_;
};

constexpr int64_t kMaxGlobalBatch = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxPosition = int64_t(1) << 62;
constexpr double kMaxSteps = 1e15;
constexpr double kMaxCountedEpochs = 10000;

} // namespace

void epochPermutation(uint64_t seed, int64_t epoch, int64_t count, std::vector<int64_t> &order) {
  order.resize(count);
  std::iota(order.begin(), order.end(), 0);
  // One draw mixes the seed before the epoch joins it, so that (1, 0) and (0, 1) have nothing in
  // common.
  SplitMix64 random(SplitMix64(seed).next() ^ static_cast<uint64_t>(epoch));
  random.next();
  for (int64_t i = count - 1; i > 0; --i)
    std::swap(order[i], order[random.below(i + 1)]);
}

Result<Sampler> Sampler::create(const Dataset &dataset, const SamplerOptions &options) {
  int64_t globalBatch = 1;
  struct Factor {
    const char *name;
    int64_t value;
  };
  for (Factor factor : {Factor{"per_device_train_batch_size", options.perDeviceTrainBatchSize},
                        Factor{"gradient_accumulation_steps", options.gradientAccumulationSteps},
                        Factor{"the number of ranks", options.numRanks}}) {
    if (factor.value < 1)
      return Status::usage(std::string(factor.name) + " is " + std::to_string(factor.value) +
                           ", expected 1 or more");
    if (factor.value > kMaxGlobalBatch / globalBatch)
      return Status::usage("the global batch (per_device_train_batch_size x "
                           "gradient_accumulation_steps x ranks) is larger than " +
                           std::to_string(kMaxGlobalBatch) + "; lower one of them");
    globalBatch *= factor.value;
  }
  if (options.packing && options.maxSeqLength < 1)
    return Status::usage("max_seq_length is " + std::to_string(options.maxSeqLength) +
                         ", expected 1 or more with packing");
  if (dataset.size() == 0)
    return Status::invalidInput(dataset.source() +
                                ": no record can be used, expected at least one");
  if (options.maxSeqLength > 0)
    for (int64_t i = 0; i < dataset.size(); ++i)
      if (dataset.length(i) > options.maxSeqLength)
        return Status::invalidInput(
            dataset.source() + ": record " + std::to_string(dataset.record(i).record) + " has " +
            std::to_string(dataset.length(i)) + " tokens, expected at most max_seq_length, " +
            std::to_string(options.maxSeqLength));
  return Sampler(dataset, options, globalBatch);
}

int64_t Sampler::sequenceEnd(const std::vector<int64_t> &order, int64_t begin) const {
  int64_t end = begin + 1;
  if (!options_.packing)
    return end;
  int64_t tokens = dataset_->length(order[begin]);
  for (; end < static_cast<int64_t>(order.size()); ++end) {
    tokens += dataset_->length(order[end]);
    if (tokens > options_.maxSeqLength)
      break;
    if (options_.maxSegments > 0 && end - begin >= options_.maxSegments)
      break;
  }
  return end;
}

void Sampler::orderOf(int64_t epoch, std::vector<int64_t> &order) const {
  if (options_.shuffle) {
    epochPermutation(options_.seed, epoch, dataset_->size(), order);
    return;
  }
  order.resize(dataset_->size());
  std::iota(order.begin(), order.end(), 0);
}

void Sampler::enterEpoch(int64_t epoch) {
  if (epoch == epoch_)
    return;
  orderOf(epoch, order_);
  epoch_ = epoch;
}

void Sampler::next(StepBatches &step) {
  step.clear();
  int64_t size = dataset_->size();
  enterEpoch(position_ / size);
  int64_t at = position_ % size;
  for (int64_t sequence = 0; sequence < globalBatch_ && at < size; ++sequence) {
    if (sequence > 0 && sequence % options_.perDeviceTrainBatchSize == 0)
      step.microBatchEnds.push_back(static_cast<int64_t>(step.segments.size()));
    for (int64_t end = sequenceEnd(order_, at); at < end; ++at, ++position_)
      step.segments.push_back(dataset_->record(order_[at]));
  }
  step.microBatchEnds.push_back(static_cast<int64_t>(step.segments.size()));
}

Status Sampler::seek(int64_t position) {
  if (position < 0 || position > kMaxPosition)
    return Status::invalidInput("the data position is " + std::to_string(position) +
                                ", expected 0 to " + std::to_string(kMaxPosition));
  position_ = position;
  return {};
}

int64_t Sampler::stepsInEpoch(int64_t epoch) const {
  int64_t sequences = dataset_->size();
  if (options_.packing) {
    std::vector<int64_t> order;
    orderOf(epoch, order);
    sequences = 0;
    for (int64_t at = 0; at < dataset_->size(); at = sequenceEnd(order, at))
      ++sequences;
  }
  return (sequences + globalBatch_ - 1) / globalBatch_;
}

Result<int64_t> Sampler::totalSteps(double epochs) const {
  int64_t first = stepsInEpoch(0);
  if (!(epochs > 0) || epochs * static_cast<double>(first) > kMaxSteps)
    return Status::usage("num_train_epochs is " + std::to_string(epochs) +
                         ", expected a number above 0 that makes less than 1e15 steps");
  // Packed and shuffled, epochs differ in their number of sequences; else Trainer's own formula.
  if (!options_.packing || !options_.shuffle)
    return static_cast<int64_t>(std::ceil(epochs * static_cast<double>(first)));
  if (epochs > kMaxCountedEpochs)
    return Status::usage("num_train_epochs is " + std::to_string(epochs) +
                         ", expected at most 10000 with packing and random sampling; give "
                         "max_steps instead");
  int64_t whole = static_cast<int64_t>(epochs);
  int64_t steps = 0;
  for (int64_t epoch = 0; epoch < whole; ++epoch)
    steps += stepsInEpoch(epoch);
  double rest = epochs - static_cast<double>(whole);
  if (rest > 0)
    steps += static_cast<int64_t>(std::ceil(rest * static_cast<double>(stepsInEpoch(whole))));
  return steps;
}

} // namespace switchyard

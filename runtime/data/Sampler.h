// Which records a step takes, in which order.
//
// The order is independent of the mesh: records are numbered through an epoch in file order or in a
// permutation that (seed, epoch) fixes, epochs follow each other, and the position is one global
// index into that endless sequence. A step takes the next global batch. Only its *dealing* to ranks
// (Batches.h) depends on how many there are.
#pragma once

#include "runtime/core/Status.h"
#include "runtime/data/Dataset.h"

#include <cstdint>
#include <vector>

namespace switchyard {

/// The micro-batches of one step over all ranks, in global order. Views a Dataset's memory.
struct StepBatches {
  std::vector<SegmentView> segments;
  std::vector<int64_t> microBatchEnds; // where in `segments` each micro-batch ends

  int64_t numMicroBatches() const { return static_cast<int64_t>(microBatchEnds.size()); }
  std::span<const SegmentView> microBatch(int64_t m) const {
    int64_t begin = m == 0 ? 0 : microBatchEnds[m - 1];
    return std::span(segments).subspan(begin, microBatchEnds[m] - begin);
  }
  void clear() {
    segments.clear();
    microBatchEnds.clear();
  }
};

struct SamplerOptions {
  int64_t perDeviceTrainBatchSize = 1; // sequences of one micro-batch
  int64_t gradientAccumulationSteps = 1;
  int64_t numRanks = 1;
  bool shuffle = false;
  uint64_t seed = 42;
  /// Unpacked, a sequence is one record. Packed, it is as many consecutive records as fit into
  /// maxSeqLength tokens (and maxSegments records, where that is > 0); each stays a segment of its
  /// own. The batches carry no padding, so a sequence that is not quite full costs nothing, and
  /// records need not be reordered to fill it.
  bool packing = false;
  int64_t maxSeqLength = 0;
  int64_t maxSegments = 0;
};

/// The order in which epoch `epoch` visits `count` records: Fisher and Yates' shuffle, driven by
/// SplitMix64 (Steele, Lea, Flood 2014). The same on every platform.
void epochPermutation(uint64_t seed, int64_t epoch, int64_t count, std::vector<int64_t> &order);

class Sampler {
public:
  /// `dataset` must outlive the sampler and what it deals. InvalidInput: no records, or one longer
  /// than maxSeqLength; Usage: an option below 1, or a global batch past 2^31.
  static Result<Sampler> create(const Dataset &dataset, const SamplerOptions &options);

  /// Sequences of a full step, over all ranks.
  int64_t globalBatch() const { return globalBatch_; }

  /// Takes the next step's records. The last step of an epoch takes what is left of it. Allocates
  /// nothing once `step` has seen a full step.
  void next(StepBatches &step);

  /// Records taken since the first epoch's start: what a checkpoint keeps.
  int64_t position() const { return position_; }
  /// Goes on as if `position` records had been taken. InvalidInput if it is negative.
  Status seek(int64_t position);

  /// Epochs done, as transformers logs it: 1.5 is the middle of the second.
  double epochs() const {
    return static_cast<double>(position_) / static_cast<double>(dataset_->size());
  }

  /// Steps that epoch `epoch` makes.
  int64_t stepsInEpoch(int64_t epoch) const;
  /// Steps of `epochs` epochs, rounded up as transformers' Trainer does.
  Result<int64_t> totalSteps(double epochs) const;

private:
  Sampler(const Dataset &dataset, const SamplerOptions &options, int64_t globalBatch)
      : dataset_(&dataset), options_(options), globalBatch_(globalBatch) {}

  /// The end of the sequence that begins at `begin` in `order`.
  int64_t sequenceEnd(const std::vector<int64_t> &order, int64_t begin) const;
  void orderOf(int64_t epoch, std::vector<int64_t> &order) const;
  void enterEpoch(int64_t epoch);

  const Dataset *dataset_;
  SamplerOptions options_;
  int64_t globalBatch_;
  int64_t position_ = 0;
  int64_t epoch_ = -1; // of order_
  std::vector<int64_t> order_;
};

} // namespace switchyard

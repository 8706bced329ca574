// Passes: how a step's micro-batches become the inputs of the plan's programs.
//
// A plan certifies T tokens, S segments and M micro-batches per pass. Micro-batches are dealt to
// the ranks round-robin, and each rank fills passes with its own, greedily and in order. Segments
// keep attention apart, loss weights keep each micro-batch's normalization and aux weights its
// load-balancing loss, so that the result is that of one micro-batch at a time. Every rank computes
// every rank's passes from the lengths alone: all agree on their number and on the bucket (the
// extent they are launched with) without communication; a rank with fewer micro-batches runs passes
// of 0 tokens.
#pragma once

#include "runtime/core/Status.h"
#include "runtime/data/Sampler.h"

#include <cstdint>
#include <vector>

namespace switchyard {

/// The bounds of the plan's symbols.
struct PassLimits {
  int64_t tokens = 0;       // T
  int64_t segments = 0;     // S
  int64_t microBatches = 0; // M
};

/// Buckets are multiples of this many tokens (or the bound itself).
inline constexpr int64_t kBucketTokens = 64;

/// How a step's loss is normalized: by each micro-batch's labels, then by the number of
/// micro-batches; or by the labels of the whole step over all ranks.
enum class LossNormalization : uint8_t { MicroBatch, Global };

/// What the load-balancing loss is averaged over: each micro-batch's tokens; or all ranks' tokens
/// of a pass, which then is one micro-batch to it.
enum class AuxLossScope : uint8_t { MicroBatch, Pass };

/// The inputs of one pass on one rank; T is the bucket, S and M the plan's bounds. Rows past
/// numTokens are inert: id 0, label -100, weight 0, micro-batch -1.
struct PassBatch {
  std::vector<int32_t> inputIds;      // [T]
  std::vector<int32_t> positionIds;   // [T] from 0 in each segment
  std::vector<int32_t> cuSeqlens;     // [S + 1] segment s is [cuSeqlens[s], cuSeqlens[s + 1])
  std::vector<int32_t> labels;        // [T] shifted: what the token predicts, or -100
  std::vector<float> lossWeights;     // [T] 0 where the label is -100
  std::vector<int32_t> microBatchIds; // [T] within this pass; AuxLossScope::Pass: 0
  // [M] 1 / N for micro-batches that are there, else 0. AuxLossScope::Pass: the first is
  // 1 / numPasses(), on ranks without tokens too, as the loss is all ranks'.
  std::vector<float> auxWeights;

  int64_t numTokens = 0;
  int64_t numSegments = 0;
  int64_t numMicroBatches = 0;
  int64_t numLabels = 0; // labels that are not -100

  /// Allocates for the largest pass, so that filling never does.
  void reserve(const PassLimits &limits);
};

/// Deals steps. setStep() for each step, then fill() for each pass of a rank.
class PassFiller {
public:
  /// Usage: a limit below 1 or past 2^31 - 1, no ranks.
  static Result<PassFiller> create(const PassLimits &limits, LossNormalization normalization,
                                   int64_t numRanks,
                                   AuxLossScope auxLossScope = AuxLossScope::MicroBatch);

  /// Deals `step`, which must outlive the calls of fill(). InvalidInput: a micro-batch that alone
  /// exceeds the limits. Allocates nothing once it has seen a step as large.
  Status setStep(const StepBatches &step);

  int64_t numPasses() const { return numPasses_; }
  int64_t bucket() const { return bucket_; }
  /// Of the step, over all ranks: micro-batches that have a token (N), tokens, labels after the
  /// shift.
  int64_t numMicroBatches() const { return numMicroBatches_; }
  int64_t numTokens() const { return numTokens_; }
  int64_t numLabels() const { return numLabels_; }

  /// Writes the inputs of pass `pass` (below numPasses()) on `rank`.
  void fill(int64_t rank, int64_t pass, PassBatch &batch) const;

private:
  struct Pass {
    int64_t begin = 0; // in the rank's micro-batches
    int64_t end = 0;
    int64_t tokens = 0;
    int64_t segments = 0;
    int64_t microBatches = 0;
  };

  PassFiller(const PassLimits &limits, LossNormalization normalization, int64_t numRanks,
             AuxLossScope auxLossScope)
      : limits_(limits), normalization_(normalization), auxLossScope_(auxLossScope),
        passes_(numRanks) {}

  std::span<const SegmentView> microBatch(int64_t rank, int64_t index) const;
  int64_t numMicroBatchesOf(int64_t rank) const;
  Status checkFits(std::span<const SegmentView> segments, int64_t tokens, int64_t count) const;
  Status dealRank(int64_t rank);
  void append(std::span<const SegmentView> segments, PassBatch &batch) const;
  static void pad(PassBatch &batch, int64_t bucket, const PassLimits &limits);

  PassLimits limits_;
  LossNormalization normalization_;
  AuxLossScope auxLossScope_;
  const StepBatches *step_ = nullptr;
  std::vector<std::vector<Pass>> passes_; // by rank
  int64_t numPasses_ = 0;
  int64_t bucket_ = 0;
  int64_t numMicroBatches_ = 0;
  int64_t numTokens_ = 0;
  int64_t numLabels_ = 0;
};

} // namespace switchyard

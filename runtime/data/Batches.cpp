#include "runtime/data/Batches.h"

#include <algorithm>
#include <limits>

namespace switchyard {

namespace {

int64_t countTokens(std::span<const SegmentView> segments) {
  int64_t tokens = 0;
  for (const SegmentView &segment : segments)
    tokens += segment.numTokens();
  return tokens;
}

int64_t countSegments(std::span<const SegmentView> segments) {
  return std::count_if(segments.begin(), segments.end(),
                       [](const SegmentView &segment) { return segment.numTokens() > 0; });
}

int64_t countLabels(std::span<const SegmentView> segments) {
  int64_t labels = 0;
  for (const SegmentView &segment : segments)
    for (int64_t i = 0; i < segment.numTokens(); ++i)
      labels += segment.target(i) != kIgnoredLabel;
  return labels;
}

} // namespace

void PassBatch::reserve(const PassLimits &limits) {
  for (std::vector<int32_t> *rows : {&inputIds, &positionIds, &labels, &microBatchIds})
    rows->reserve(limits.tokens);
  lossWeights.reserve(limits.tokens);
  cuSeqlens.reserve(limits.segments + 1);
  auxWeights.reserve(limits.microBatches);
}

Result<PassFiller> PassFiller::create(const PassLimits &limits, LossNormalization normalization,
                                      int64_t numRanks, AuxLossScope auxLossScope) {
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max() - kBucketTokens;
  struct Limit {
    const char *name;
    int64_t value;
  };
  for (Limit limit : {Limit{"tokens (T)", limits.tokens}, Limit{"segments (S)", limits.segments},
                      Limit{"micro-batches (M)", limits.microBatches}, Limit{"ranks", numRanks}})
    if (limit.value < 1 || limit.value > kMax)
      return Status::usage("a pass of " + std::to_string(limit.value) + " " + limit.name +
                           ", expected 1 to " + std::to_string(kMax));
  return PassFiller(limits, normalization, numRanks, auxLossScope);
}

int64_t PassFiller::numMicroBatchesOf(int64_t rank) const {
  int64_t ranks = static_cast<int64_t>(passes_.size());
  int64_t count = step_->numMicroBatches();
  return count / ranks + (rank < count % ranks ? 1 : 0);
}

std::span<const SegmentView> PassFiller::microBatch(int64_t rank, int64_t index) const {
  return step_->microBatch(rank + index * static_cast<int64_t>(passes_.size()));
}

Status PassFiller::checkFits(std::span<const SegmentView> segments, int64_t tokens,
                             int64_t count) const {
  if (tokens <= limits_.tokens && count <= limits_.segments)
    return {};
  std::string records = "record " + std::to_string(segments.front().record);
  if (segments.size() > 1)
    records += " and the " + std::to_string(segments.size() - 1) + " after it in its micro-batch";
  std::string verb = segments.size() > 1 ? " have " : " has ";
  if (tokens > limits_.tokens)
    return Status::invalidInput(
        records + verb + std::to_string(tokens) + " tokens, expected at most " +
        std::to_string(limits_.tokens) +
        ", what a pass of the plan holds; lower max_seq_length, or compile with a larger one or "
        "with --coalesce tokens=" +
        std::to_string(tokens));
  return Status::invalidInput(records + " are " + std::to_string(count) +
                              " segments, expected at most " + std::to_string(limits_.segments) +
                              ", what a pass of the plan holds; lower per_device_train_batch_size, "
                              "or compile with this one");
}

Status PassFiller::dealRank(int64_t rank) {
  std::vector<Pass> &passes = passes_[rank];
  passes.clear();
  for (int64_t i = 0, count = numMicroBatchesOf(rank); i < count; ++i) {
    std::span<const SegmentView> segments = microBatch(rank, i);
    int64_t tokens = countTokens(segments);
    if (tokens == 0)
      continue;
    int64_t numSegments = countSegments(segments);
    SY_RETURN_IF_ERROR(checkFits(segments, tokens, numSegments));
    if (passes.empty() || passes.back().tokens + tokens > limits_.tokens ||
        passes.back().segments + numSegments > limits_.segments ||
        passes.back().microBatches == limits_.microBatches)
      passes.push_back({i, i, 0, 0, 0});
    Pass &pass = passes.back();
    pass.end = i + 1;
    pass.tokens += tokens;
    pass.segments += numSegments;
    ++pass.microBatches;
    ++numMicroBatches_;
    numTokens_ += tokens;
    numLabels_ += countLabels(segments);
  }
  return {};
}

Status PassFiller::setStep(const StepBatches &step) {
  step_ = &step;
  numPasses_ = 1; // a step without a token is one inert pass
  numMicroBatches_ = numTokens_ = numLabels_ = 0;
  int64_t largest = 1;
  for (int64_t rank = 0; rank < static_cast<int64_t>(passes_.size()); ++rank) {
    SY_RETURN_IF_ERROR(dealRank(rank));
    numPasses_ = std::max(numPasses_, static_cast<int64_t>(passes_[rank].size()));
    for (const Pass &pass : passes_[rank])
      largest = std::max(largest, pass.tokens);
  }
  int64_t rounded = (largest + kBucketTokens - 1) / kBucketTokens * kBucketTokens;
  bucket_ = std::min(rounded, limits_.tokens);
  return {};
}

void PassFiller::append(std::span<const SegmentView> segments, PassBatch &batch) const {
  int64_t labels = normalization_ == LossNormalization::Global ? numLabels_ : countLabels(segments);
  double share = normalization_ == LossNormalization::Global
                     ? 1.0
                     : 1.0 / static_cast<double>(numMicroBatches_);
  float weight = labels > 0 ? static_cast<float>(share / static_cast<double>(labels)) : 0.0f;
  bool isApart = auxLossScope_ == AuxLossScope::MicroBatch;
  auto microBatch = static_cast<int32_t>(isApart ? batch.numMicroBatches : 0);
  for (const SegmentView &segment : segments) {
    if (segment.numTokens() == 0)
      continue;
    for (int64_t i = 0; i < segment.numTokens(); ++i) {
      int32_t target = segment.target(i);
      batch.inputIds.push_back(segment.ids[i]);
      batch.positionIds.push_back(static_cast<int32_t>(i));
      batch.labels.push_back(target);
      batch.lossWeights.push_back(target == kIgnoredLabel ? 0.0f : weight);
      batch.microBatchIds.push_back(microBatch);
      batch.numLabels += target != kIgnoredLabel;
    }
    batch.cuSeqlens.push_back(static_cast<int32_t>(batch.inputIds.size()));
    ++batch.numSegments;
  }
  if (isApart)
    batch.auxWeights.push_back(static_cast<float>(1.0 / static_cast<double>(numMicroBatches_)));
  ++batch.numMicroBatches;
}

void PassFiller::pad(PassBatch &batch, int64_t bucket, const PassLimits &limits) {
  batch.numTokens = static_cast<int64_t>(batch.inputIds.size());
  batch.inputIds.resize(bucket, 0);
  batch.positionIds.resize(bucket, 0);
  batch.labels.resize(bucket, kIgnoredLabel);
  batch.lossWeights.resize(bucket, 0.0f);
  batch.microBatchIds.resize(bucket, -1);
  batch.cuSeqlens.resize(limits.segments + 1, static_cast<int32_t>(batch.numTokens));
  batch.auxWeights.resize(limits.microBatches, 0.0f);
}

void PassFiller::fill(int64_t rank, int64_t pass, PassBatch &batch) const {
  for (std::vector<int32_t> *rows :
       {&batch.inputIds, &batch.positionIds, &batch.labels, &batch.microBatchIds, &batch.cuSeqlens})
    rows->clear();
  batch.lossWeights.clear();
  batch.auxWeights.clear();
  batch.numTokens = batch.numSegments = batch.numMicroBatches = batch.numLabels = 0;
  batch.cuSeqlens.push_back(0);
  if (pass < static_cast<int64_t>(passes_[rank].size())) {
    const Pass &filled = passes_[rank][pass];
    for (int64_t i = filled.begin; i < filled.end; ++i)
      if (std::span<const SegmentView> segments = microBatch(rank, i); countTokens(segments) > 0)
        append(segments, batch);
  }
  if (auxLossScope_ == AuxLossScope::Pass && numTokens_ > 0)
    batch.auxWeights.push_back(static_cast<float>(1.0 / static_cast<double>(numPasses_)));
  pad(batch, bucket_, limits_);
}

} // namespace switchyard

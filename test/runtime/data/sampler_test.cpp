#include "runtime/data/Sampler.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <numeric>

namespace switchyard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// Records of the given lengths; record i's ids are all i.
Dataset makeDataset(const std::vector<int64_t> &lengths) {
  Dataset dataset("test.json");
  for (size_t i = 0; i < lengths.size(); ++i)
    dataset.append(std::vector<int32_t>(lengths[i], static_cast<int32_t>(i)), 1, i);
  return dataset;
}

Dataset evenDataset(int64_t count) {
  return makeDataset(std::vector<int64_t>(count, 4));
}

std::vector<int64_t> recordsOf(const StepBatches &step) {
  std::vector<int64_t> records;
  for (const SegmentView &segment : step.segments)
    records.push_back(segment.record);
  return records;
}

std::vector<int64_t> sizesOf(const StepBatches &step) {
  std::vector<int64_t> sizes;
  for (int64_t m = 0; m < step.numMicroBatches(); ++m)
    sizes.push_back(static_cast<int64_t>(step.microBatch(m).size()));
  return sizes;
}

/// All records of the first `steps` steps, in order.
std::vector<int64_t> take(Sampler &sampler, int64_t steps) {
  std::vector<int64_t> records;
  StepBatches step;
  for (int64_t i = 0; i < steps; ++i) {
    sampler.next(step);
    std::vector<int64_t> more = recordsOf(step);
    records.insert(records.end(), more.begin(), more.end());
  }
  return records;
}

std::string createError(const Dataset &dataset, const SamplerOptions &options) {
  Result<Sampler> sampler = Sampler::create(dataset, options);
  EXPECT_FALSE(sampler.ok());
  return sampler.ok() ? "" : sampler.status().message();
}

TEST(Sampler, TakesGlobalBatchesInFileOrder) {
  Dataset dataset = evenDataset(10);
  Result<Sampler> sampler = Sampler::create(
      dataset, {.perDeviceTrainBatchSize = 2, .gradientAccumulationSteps = 2, .numRanks = 1});
  ASSERT_TRUE(sampler.ok());
  EXPECT_EQ(sampler->globalBatch(), 4);
  EXPECT_EQ(sampler->stepsInEpoch(0), 3);
  StepBatches step;
  sampler->next(step);
  EXPECT_THAT(recordsOf(step), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(sizesOf(step), ElementsAre(2, 2));
  sampler->next(step);
  sampler->next(step);
  EXPECT_THAT(recordsOf(step), ElementsAre(8, 9)) << "the epoch's last step takes what is left";
  EXPECT_THAT(sizesOf(step), ElementsAre(2));
  EXPECT_DOUBLE_EQ(sampler->epochs(), 1.0);
  sampler->next(step);
  EXPECT_THAT(recordsOf(step), ElementsAre(0, 1, 2, 3));
  EXPECT_DOUBLE_EQ(sampler->epochs(), 1.4);
}

TEST(Sampler, LeavesAnIncompleteMicroBatchAtTheEnd) {
  Dataset dataset = evenDataset(7);
  Result<Sampler> sampler = Sampler::create(
      dataset, {.perDeviceTrainBatchSize = 2, .gradientAccumulationSteps = 4, .numRanks = 1});
  ASSERT_TRUE(sampler.ok());
  StepBatches step;
  sampler->next(step);
  EXPECT_THAT(sizesOf(step), ElementsAre(2, 2, 2, 1));
}

TEST(Sampler, OrderDoesNotDependOnTheMesh) {
  Dataset dataset = evenDataset(50);
  std::vector<int64_t> one;
  for (int64_t ranks : {1, 2, 4, 8}) {
    Result<Sampler> sampler = Sampler::create(dataset, {.perDeviceTrainBatchSize = 1,
                                                        .gradientAccumulationSteps = 8 / ranks,
                                                        .numRanks = ranks,
                                                        .shuffle = true});
    ASSERT_TRUE(sampler.ok());
    std::vector<int64_t> records = take(*sampler, 12);
    if (ranks == 1)
      one = records;
    EXPECT_EQ(records, one);
  }
}

TEST(Sampler, ShufflesEachEpochAnew) {
  Dataset dataset = evenDataset(32);
  Result<Sampler> sampler =
      Sampler::create(dataset, {.gradientAccumulationSteps = 32, .shuffle = true, .seed = 7});
  ASSERT_TRUE(sampler.ok());
  std::vector<int64_t> first = take(*sampler, 1), second = take(*sampler, 1);
  std::vector<int64_t> sorted(32);
  std::iota(sorted.begin(), sorted.end(), 0);
  EXPECT_NE(first, sorted);
  EXPECT_NE(first, second);
  EXPECT_THAT(first, testing::UnorderedElementsAreArray(sorted));
  EXPECT_THAT(second, testing::UnorderedElementsAreArray(sorted));
}

TEST(Sampler, PermutationIsFixedForever) {
  // A change here would reorder the data of every resumed run.
  std::vector<int64_t> order;
  epochPermutation(42, 0, 8, order);
  EXPECT_THAT(order, ElementsAre(4, 0, 7, 3, 6, 2, 1, 5));
  epochPermutation(42, 1, 8, order);
  EXPECT_THAT(order, ElementsAre(3, 4, 7, 6, 5, 1, 0, 2));
  epochPermutation(42, 0, 1, order);
  EXPECT_THAT(order, ElementsAre(0));
}

TEST(Sampler, PermutationsAreUniform) {
  std::map<std::vector<int64_t>, int> counts;
  std::vector<int64_t> order;
  constexpr int kDraws = 6000;
  for (int i = 0; i < kDraws; ++i) {
    epochPermutation(i % 60, i / 60, 3, order);
    ++counts[order];
  }
  ASSERT_EQ(counts.size(), 6u);
  for (const auto &[permutation, count] : counts)
    EXPECT_NEAR(count, kDraws / 6, 150); // 5 standard deviations
}

TEST(Sampler, SeeksToAnyPosition) {
  Dataset dataset = evenDataset(10);
  SamplerOptions options{.gradientAccumulationSteps = 4, .shuffle = true};
  Result<Sampler> whole = Sampler::create(dataset, options);
  Result<Sampler> resumed = Sampler::create(dataset, options);
  ASSERT_TRUE(whole.ok() && resumed.ok());
  take(*whole, 5);
  EXPECT_EQ(whole->position(), 18); // 4 + 4 + 2, then 4 + 4
  ASSERT_TRUE(resumed->seek(whole->position()).ok());
  EXPECT_EQ(take(*resumed, 4), take(*whole, 4));
  Status status = resumed->seek(-1);
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.message(), HasSubstr("the data position is -1, expected 0 to "));
}

TEST(Sampler, PacksConsecutiveRecords) {
  Dataset dataset = makeDataset({4, 4, 3, 8, 2, 2, 2, 2, 1});
  Result<Sampler> sampler = Sampler::create(
      dataset, {.gradientAccumulationSteps = 3, .packing = true, .maxSeqLength = 8});
  ASSERT_TRUE(sampler.ok());
  StepBatches step;
  sampler->next(step);
  EXPECT_THAT(sizesOf(step), ElementsAre(2, 1, 1));
  EXPECT_THAT(recordsOf(step), ElementsAre(0, 1, 2, 3));
  sampler->next(step);
  EXPECT_THAT(sizesOf(step), ElementsAre(4, 1)) << "the epoch ends";
  EXPECT_EQ(sampler->stepsInEpoch(0), 2);
  EXPECT_EQ(sampler->position(), 9);
}

TEST(Sampler, PacksAtMostMaxSegments) {
  Dataset dataset = makeDataset({1, 1, 1, 1, 1});
  Result<Sampler> sampler = Sampler::create(dataset, {.perDeviceTrainBatchSize = 2,
                                                      .gradientAccumulationSteps = 2,
                                                      .packing = true,
                                                      .maxSeqLength = 8,
                                                      .maxSegments = 2});
  ASSERT_TRUE(sampler.ok());
  StepBatches step;
  sampler->next(step);
  EXPECT_THAT(sizesOf(step), ElementsAre(4, 1));
}

TEST(Sampler, CountsStepsAsTrainerDoes) {
  Dataset dataset = evenDataset(999);
  Result<Sampler> sampler = Sampler::create(dataset, {.gradientAccumulationSteps = 16});
  ASSERT_TRUE(sampler.ok());
  EXPECT_EQ(*sampler->totalSteps(1), 63);
  EXPECT_EQ(*sampler->totalSteps(3), 189);
  EXPECT_EQ(*sampler->totalSteps(0.5), 32);
  EXPECT_EQ(*sampler->totalSteps(0.001), 1);
  for (double epochs : {0.0, -1.0, 1e300, std::nan("")}) {
    Result<int64_t> steps = sampler->totalSteps(epochs);
    ASSERT_FALSE(steps.ok());
    EXPECT_THAT(steps.status().message(), HasSubstr("num_train_epochs is "));
  }
}

TEST(Sampler, CountsStepsOfPackedShuffledEpochs) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < 100; ++i)
    lengths.push_back(1 + i * 37 % 16);
  Dataset dataset = makeDataset(lengths);
  Result<Sampler> sampler =
      Sampler::create(dataset, {.shuffle = true, .packing = true, .maxSeqLength = 16});
  ASSERT_TRUE(sampler.ok());
  Result<int64_t> steps = sampler->totalSteps(4);
  ASSERT_TRUE(steps.ok());
  take(*sampler, *steps);
  EXPECT_EQ(sampler->position(), 400);
  EXPECT_LT(*sampler->totalSteps(3.5), *steps);
  Result<int64_t> many = sampler->totalSteps(20000);
  ASSERT_FALSE(many.ok());
  EXPECT_THAT(many.status().message(), HasSubstr("give max_steps instead"));
}

TEST(Sampler, RefusesOptionsItCannotServe) {
  Dataset dataset = makeDataset({4, 9});
  EXPECT_EQ(createError(dataset, {.perDeviceTrainBatchSize = 0}),
            "per_device_train_batch_size is 0, expected 1 or more");
  EXPECT_EQ(createError(dataset, {.gradientAccumulationSteps = -3}),
            "gradient_accumulation_steps is -3, expected 1 or more");
  EXPECT_EQ(createError(dataset, {.numRanks = 0}), "the number of ranks is 0, expected 1 or more");
  EXPECT_THAT(createError(dataset, {.perDeviceTrainBatchSize = int64_t(1) << 40,
                                    .gradientAccumulationSteps = int64_t(1) << 40}),
              HasSubstr("is larger than 2147483647; lower one of them"));
  EXPECT_EQ(createError(dataset, {.packing = true}),
            "max_seq_length is 0, expected 1 or more with packing");
  EXPECT_EQ(createError(dataset, {.maxSeqLength = 8}),
            "test.json: record 1 has 9 tokens, expected at most max_seq_length, 8");
  EXPECT_EQ(createError(Dataset("empty.json"), {}),
            "empty.json: no record can be used, expected at least one");
}

} // namespace
} // namespace switchyard

#include "runtime/data/Batches.h"

#include <gmock/gmock.h>

#include <set>

namespace switchyard {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int32_t kNone = kIgnoredLabel;

using Lengths = std::vector<std::vector<int64_t>>;

/// Micro-batches of segments with the given lengths. Token i of segment s is 100 s + i; the first
/// `promptTokens` are masked.
struct Steps {
  Dataset dataset{"test.json"};
  StepBatches step;

  Steps(const Steps &) = delete;
  explicit Steps(const Lengths &microBatches, int64_t promptTokens = 1) {
    int64_t count = 0;
    for (const std::vector<int64_t> &segments : microBatches)
      for (int64_t length : segments) {
        std::vector<int32_t> ids(length);
        for (int64_t i = 0; i < length; ++i)
          ids[i] = static_cast<int32_t>(100 * count + i);
        dataset.append(ids, promptTokens, count++);
      }
    count = 0;
    for (const std::vector<int64_t> &segments : microBatches) {
      for (size_t i = 0; i < segments.size(); ++i)
        step.segments.push_back(dataset.record(count++));
      step.microBatchEnds.push_back(count);
    }
  }
};

PassFiller makeFiller(const PassLimits &limits, int64_t ranks = 1,
                      LossNormalization normalization = LossNormalization::MicroBatch,
                      AuxLossScope auxLossScope = AuxLossScope::MicroBatch) {
  Result<PassFiller> filler = PassFiller::create(limits, normalization, ranks, auxLossScope);
  EXPECT_TRUE(filler.ok());
  return *filler;
}

template <typename T>
std::vector<T> head(const std::vector<T> &values, int64_t count) {
  return {values.begin(), values.begin() + count};
}

TEST(Batches, FlattensSegmentsAndShiftsLabelsInside) {
  Steps steps(Lengths{{3, 4}, {2}}, 2);
  PassFiller filler = makeFiller({256, 6, 4});
  ASSERT_TRUE(filler.setStep(steps.step).ok());
  EXPECT_EQ(filler.numPasses(), 1);
  EXPECT_EQ(filler.bucket(), 64);
  EXPECT_EQ(filler.numMicroBatches(), 2);
  EXPECT_EQ(filler.numTokens(), 9);
  EXPECT_EQ(filler.numLabels(), 3);
  PassBatch batch;
  filler.fill(0, 0, batch);
  EXPECT_EQ(batch.numTokens, 9);
  EXPECT_EQ(batch.numSegments, 3);
  EXPECT_EQ(batch.numMicroBatches, 2);
  EXPECT_EQ(batch.numLabels, 3);
  EXPECT_THAT(head(batch.inputIds, 9), ElementsAre(0, 1, 2, 100, 101, 102, 103, 200, 201));
  EXPECT_THAT(head(batch.positionIds, 9), ElementsAre(0, 1, 2, 0, 1, 2, 3, 0, 1));
  // Tokens 0 and 1 of a segment are its prompt: token 1 predicts the first token behind it, the
  // last predicts nothing.
  EXPECT_THAT(head(batch.labels, 9),
              ElementsAre(kNone, 2, kNone, kNone, 102, 103, kNone, kNone, kNone));
  EXPECT_THAT(head(batch.microBatchIds, 9), ElementsAre(0, 0, 0, 0, 0, 0, 0, 1, 1));
  EXPECT_THAT(batch.cuSeqlens, ElementsAre(0, 3, 7, 9, 9, 9, 9));
  EXPECT_THAT(batch.auxWeights, ElementsAre(0.5f, 0.5f, 0.0f, 0.0f));
}

TEST(Batches, RowsPastTheTokensAreInert) {
  Steps steps(Lengths{{3}});
  PassFiller filler = makeFiller({256, 2, 2});
  ASSERT_TRUE(filler.setStep(steps.step).ok());
  PassBatch batch;
  filler.fill(0, 0, batch);
  for (const std::vector<int32_t> *rows :
       {&batch.inputIds, &batch.positionIds, &batch.labels, &batch.microBatchIds})
    ASSERT_EQ(rows->size(), 64u);
  ASSERT_EQ(batch.lossWeights.size(), 64u);
  for (int64_t i = 3; i < 64; ++i) {
    EXPECT_EQ(batch.inputIds[i], 0);
    EXPECT_EQ(batch.positionIds[i], 0);
    EXPECT_EQ(batch.labels[i], kNone);
    EXPECT_EQ(batch.lossWeights[i], 0);
    EXPECT_EQ(batch.microBatchIds[i], -1);
  }
}

TEST(Batches, WeighsByMicroBatchOrGlobally) {
  Steps steps(Lengths{{3}, {5}});
  PassBatch batch;
  PassFiller perBatch = makeFiller({256, 2, 2});
  ASSERT_TRUE(perBatch.setStep(steps.step).ok());
  perBatch.fill(0, 0, batch);
  EXPECT_THAT(head(batch.lossWeights, 8),
              ElementsAre(0.25f, 0.25f, 0, 0.125f, 0.125f, 0.125f, 0.125f, 0));
  PassFiller global = makeFiller({256, 2, 2}, 1, LossNormalization::Global);
  ASSERT_TRUE(global.setStep(steps.step).ok());
  global.fill(0, 0, batch);
  float sixth = static_cast<float>(1.0 / 6.0);
  EXPECT_THAT(head(batch.lossWeights, 8),
              ElementsAre(sixth, sixth, 0, sixth, sixth, sixth, sixth, 0));
}

TEST(Batches, AMicroBatchWithoutLabelsStillCounts) {
  Steps steps(Lengths{{3}, {5}}, 3); // all of the first is prompt
  for (LossNormalization normalization :
       {LossNormalization::MicroBatch, LossNormalization::Global}) {
    PassFiller filler = makeFiller({256, 2, 2}, 1, normalization);
    ASSERT_TRUE(filler.setStep(steps.step).ok());
    EXPECT_EQ(filler.numMicroBatches(), 2);
    EXPECT_EQ(filler.numLabels(), 2);
    PassBatch batch;
    filler.fill(0, 0, batch);
    EXPECT_THAT(batch.auxWeights, ElementsAre(0.5f, 0.5f));
    EXPECT_THAT(head(batch.lossWeights, 3), Each(0.0f));
    float weight = normalization == LossNormalization::Global ? 0.5f : 0.25f;
    EXPECT_THAT(head(batch.lossWeights, 8), ElementsAre(0, 0, 0, 0, 0, weight, weight, 0));
  }
}

TEST(Batches, AStepWithoutAnyLabelHasNoWeights) {
  Steps steps(Lengths{{3}}, 3);
  PassFiller filler = makeFiller({256, 2, 2}, 1, LossNormalization::Global);
  ASSERT_TRUE(filler.setStep(steps.step).ok());
  PassBatch batch;
  filler.fill(0, 0, batch);
  EXPECT_THAT(batch.lossWeights, Each(0.0f));
  EXPECT_EQ(batch.numLabels, 0);
}

TEST(Batches, FillsPassesGreedilyUpToEachLimit) {
  Steps steps(Lengths{{40}, {30}, {30}, {50}, {10}});
  PassFiller byTokens = makeFiller({100, 8, 8});
  ASSERT_TRUE(byTokens.setStep(steps.step).ok());
  EXPECT_EQ(byTokens.numPasses(), 2); // 40 + 30 + 30, 50 + 10
  EXPECT_EQ(byTokens.bucket(), 100);
  PassFiller bySegments = makeFiller({1000, 2, 8});
  ASSERT_TRUE(bySegments.setStep(steps.step).ok());
  EXPECT_EQ(bySegments.numPasses(), 3);
  PassFiller byMicroBatches = makeFiller({1000, 8, 1});
  ASSERT_TRUE(byMicroBatches.setStep(steps.step).ok());
  EXPECT_EQ(byMicroBatches.numPasses(), 5);
  PassBatch batch;
  byTokens.fill(0, 1, batch);
  EXPECT_EQ(batch.numTokens, 60);
  EXPECT_EQ(batch.inputIds[0], 300);
  EXPECT_EQ(batch.microBatchIds[0], 0) << "ids count within a pass";
  EXPECT_EQ(batch.auxWeights[0], 0.2f) << "N counts the whole step";
}

TEST(Batches, RoundsTheBucketUp) {
  struct Case {
    int64_t tokens, bound, bucket;
  };
  for (Case c : {Case{1, 256, 64}, Case{64, 256, 64}, Case{65, 256, 128}, Case{200, 256, 256},
                 Case{200, 210, 210}, Case{193, 200, 200}, Case{3, 10, 10}}) {
    Steps steps(Lengths{{c.tokens}});
    PassFiller filler = makeFiller({c.bound, 1, 1});
    ASSERT_TRUE(filler.setStep(steps.step).ok());
    EXPECT_EQ(filler.bucket(), c.bucket) << c.tokens << " tokens of " << c.bound;
  }
}

TEST(Batches, DealsRoundRobinAndAgreesOnPassesAndBucket) {
  // Rank 0 has micro-batches 0 and 2, rank 1 has 1 and 3, rank 2 nothing but the inert passes.
  Steps steps(Lengths{{10}, {60}, {20}, {70}});
  PassFiller filler = makeFiller({100, 4, 4}, 2);
  ASSERT_TRUE(filler.setStep(steps.step).ok());
  EXPECT_EQ(filler.numPasses(), 2); // rank 1: 60 + 70 is past 100
  EXPECT_EQ(filler.bucket(), 100);  // 70, rounded up to 128, at most 100
  PassBatch batch;
  filler.fill(0, 0, batch);
  EXPECT_EQ(batch.numTokens, 30);
  EXPECT_EQ(batch.inputIds[10], 200);
  EXPECT_EQ(batch.auxWeights[0], 0.25f);
  filler.fill(1, 1, batch);
  EXPECT_EQ(batch.numTokens, 70);
  filler.fill(0, 1, batch);
  EXPECT_EQ(batch.numTokens, 0);
}

TEST(Batches, RanksWithoutMicroBatchesRunInertPasses) {
  Steps steps(Lengths{{10}});
  PassFiller filler = makeFiller({100, 2, 2}, 4);
  ASSERT_TRUE(filler.setStep(steps.step).ok());
  EXPECT_EQ(filler.numPasses(), 1);
  EXPECT_EQ(filler.numMicroBatches(), 1);
  PassBatch batch;
  for (int64_t rank = 1; rank < 4; ++rank) {
    filler.fill(rank, 0, batch);
    EXPECT_EQ(batch.numTokens, 0);
    EXPECT_EQ(batch.numSegments, 0);
    EXPECT_EQ(batch.numLabels, 0);
    EXPECT_EQ(batch.inputIds.size(), 64u);
    EXPECT_THAT(batch.cuSeqlens, ElementsAre(0, 0, 0));
    EXPECT_THAT(batch.labels, Each(kNone));
    EXPECT_THAT(batch.lossWeights, Each(0.0f));
    EXPECT_THAT(batch.microBatchIds, Each(-1));
    EXPECT_THAT(batch.auxWeights, Each(0.0f));
  }
}

TEST(Batches, EmptyMicroBatchesAreNotCounted) {
  Steps steps(Lengths{{10}, {0}, {10}});
  PassFiller filler = makeFiller({100, 4, 4});
  ASSERT_TRUE(filler.setStep(steps.step).ok());
  EXPECT_EQ(filler.numMicroBatches(), 2);
  PassBatch batch;
  filler.fill(0, 0, batch);
  EXPECT_EQ(batch.numMicroBatches, 2);
  EXPECT_EQ(batch.numSegments, 2);
  EXPECT_THAT(batch.auxWeights, ElementsAre(0.5f, 0.5f, 0, 0));
  Steps nothing(Lengths{{0}});
  ASSERT_TRUE(filler.setStep(nothing.step).ok());
  EXPECT_EQ(filler.numPasses(), 1);
  EXPECT_EQ(filler.numMicroBatches(), 0);
  filler.fill(0, 0, batch);
  EXPECT_EQ(batch.numTokens, 0);
}

TEST(Batches, AllRanksTogetherAreTheStepWhateverTheirNumber) {
  Lengths lengths;
  for (int64_t i = 0; i < 13; ++i)
    lengths.push_back({5 + i * 7 % 30, 2 + i % 4});
  Steps steps(lengths);
  for (LossNormalization normalization : {LossNormalization::MicroBatch, LossNormalization::Global})
    for (int64_t ranks : {1, 2, 3, 5, 16}) {
      PassFiller filler = makeFiller({64, 5, 3}, ranks, normalization);
      ASSERT_TRUE(filler.setStep(steps.step).ok());
      std::multiset<int32_t> tokens;
      double weights = 0, aux = 0;
      PassBatch batch;
      for (int64_t rank = 0; rank < ranks; ++rank)
        for (int64_t pass = 0; pass < filler.numPasses(); ++pass) {
          filler.fill(rank, pass, batch);
          tokens.insert(batch.inputIds.begin(), batch.inputIds.begin() + batch.numTokens);
          for (float weight : batch.lossWeights)
            weights += weight;
          for (float weight : batch.auxWeights)
            aux += weight;
        }
      std::multiset<int32_t> expected;
      for (const SegmentView &segment : steps.step.segments)
        expected.insert(segment.ids.begin(), segment.ids.end());
      EXPECT_EQ(tokens, expected) << ranks << " ranks";
      EXPECT_NEAR(weights, 1, 1e-5);
      EXPECT_NEAR(aux, 1, 1e-5);
    }
}

TEST(Batches, ReusesItsMemory) {
  Steps large(Lengths{{100}, {90, 5}}), small(Lengths{{3}});
  PassFiller filler = makeFiller({256, 8, 8});
  PassBatch batch;
  batch.reserve({256, 8, 8});
  const int32_t *ids = batch.inputIds.data();
  const float *weights = batch.lossWeights.data(), *aux = batch.auxWeights.data();
  const int32_t *cuSeqlens = batch.cuSeqlens.data();
  for (const Steps *steps : {&large, &small, &large}) {
    ASSERT_TRUE(filler.setStep(steps->step).ok());
    filler.fill(0, 0, batch);
    EXPECT_EQ(batch.inputIds.data(), ids);
    EXPECT_EQ(batch.lossWeights.data(), weights);
    EXPECT_EQ(batch.auxWeights.data(), aux);
    EXPECT_EQ(batch.cuSeqlens.data(), cuSeqlens);
  }
}

TEST(Batches, NamesTheRecordThatDoesNotFit) {
  Steps tokens(Lengths{{5}, {101}});
  PassFiller filler = makeFiller({100, 2, 2});
  Status status = filler.setStep(tokens.step);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::InvalidInput);
  EXPECT_EQ(status.message(),
            "record 1 has 101 tokens, expected at most 100, what a pass of the plan holds; lower "
            "max_seq_length, or compile with a larger one or with --coalesce tokens=101");
  Steps together(Lengths{{60, 60}});
  EXPECT_THAT(filler.setStep(together.step).message(),
              HasSubstr("record 0 and the 1 after it in its micro-batch have 120 tokens"));
  Steps segments(Lengths{{5}, {1, 2, 3}});
  EXPECT_EQ(filler.setStep(segments.step).message(),
            "record 1 and the 2 after it in its micro-batch are 3 segments, expected at most 2, "
            "what a pass of the plan holds; lower per_device_train_batch_size, or compile with "
            "this one");
}

TEST(Batches, RefusesLimitsBelowOne) {
  struct Case {
    PassLimits limits;
    int64_t ranks;
    const char *name;
  };
  for (const Case &c : {Case{{0, 1, 1}, 1, "0 tokens (T)"}, Case{{1, 0, 1}, 1, "0 segments (S)"},
                        Case{{1, 1, 0}, 1, "0 micro-batches (M)"}, Case{{1, 1, 1}, 0, "0 ranks"}}) {
    Result<PassFiller> filler =
        PassFiller::create(c.limits, LossNormalization::MicroBatch, c.ranks);
    ASSERT_FALSE(filler.ok());
    EXPECT_THAT(filler.status().message(), HasSubstr(std::string("a pass of ") + c.name));
  }
  EXPECT_FALSE(PassFiller::create({int64_t(1) << 31, 1, 1}, LossNormalization::Global, 1).ok());
}

// All ranks' tokens of a pass are one micro-batch to the aux loss, and each pass counts alike. The
// loss does not know of it.
TEST(Batches, APassIsOneMicroBatchToAnAuxLossOverPasses) {
  Steps steps(Lengths{{10}, {20}, {30}, {40}, {50}});
  for (LossNormalization normalization :
       {LossNormalization::MicroBatch, LossNormalization::Global}) {
    PassFiller apart = makeFiller({60, 6, 3}, 2, normalization);
    PassFiller together = makeFiller({60, 6, 3}, 2, normalization, AuxLossScope::Pass);
    ASSERT_TRUE(apart.setStep(steps.step).ok() && together.setStep(steps.step).ok());
    // Rank 0 has passes of 10 + 30 and 50 tokens, rank 1 has one of 20 + 40.
    ASSERT_EQ(together.numPasses(), 2);
    for (int64_t rank = 0; rank < 2; ++rank)
      for (int64_t pass = 0; pass < 2; ++pass) {
        PassBatch batch, other;
        together.fill(rank, pass, batch);
        apart.fill(rank, pass, other);
        EXPECT_THAT(head(batch.microBatchIds, batch.numTokens), Each(0));
        EXPECT_THAT(batch.auxWeights, ElementsAre(0.5f, 0.0f, 0.0f)) << rank << ", " << pass;
        EXPECT_EQ(batch.inputIds, other.inputIds);
        EXPECT_EQ(batch.lossWeights, other.lossWeights);
        EXPECT_EQ(batch.numMicroBatches, other.numMicroBatches);
      }
  }
  PassBatch empty;
  PassFiller filler = makeFiller({60, 6, 3}, 2, LossNormalization::Global, AuxLossScope::Pass);
  ASSERT_TRUE(filler.setStep(StepBatches()).ok());
  filler.fill(1, 0, empty);
  EXPECT_THAT(empty.auxWeights, Each(0.0f));
}

} // namespace
} // namespace switchyard

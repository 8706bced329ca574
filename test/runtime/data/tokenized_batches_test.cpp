#include "runtime/data/Batches.h"
#include "runtime/data/TokenizedBatches.h"

#include <gmock/gmock.h>

namespace switchyard {
namespace {

using testing::ElementsAre;

/// Two steps of two micro-batches of at most three tokens.
struct Golden {
  std::vector<int64_t> ids = {1, 2, 3, 4, 5, 99, 6, 7, 8, 99, 99, 99};
  std::vector<int64_t> labels = {-100, 2, 3, 9, -100, 99, -100, -100, -100, 99, 99, 99};
  std::vector<int64_t> lengths = {3, 2, 3, 0};

  TokenizedBatches::Input input() const {
    return {"batches.safetensors", ids, labels, lengths, 2, 2, 3, 10};
  }
  std::string error() const {
    Result<TokenizedBatches> batches = TokenizedBatches::create(input());
    EXPECT_FALSE(batches.ok());
    return batches.ok() ? "" : batches.status().message();
  }
};

TEST(TokenizedBatches, KeepsOnlyTheTokensThatExist) {
  Golden golden;
  Result<TokenizedBatches> batches = TokenizedBatches::create(golden.input());
  ASSERT_TRUE(batches.ok()) << batches.status().message();
  EXPECT_EQ(batches->steps(), 2);
  StepBatches step;
  batches->get(0, step);
  Result<PassFiller> filler = PassFiller::create({100, 4, 4}, LossNormalization::MicroBatch, 1);
  ASSERT_TRUE(filler.ok());
  ASSERT_TRUE(filler->setStep(step).ok());
  PassBatch batch;
  filler->fill(0, 0, batch);
  ASSERT_EQ(batch.numTokens, 5);
  auto head = [](const auto &values) { return std::vector(values.begin(), values.begin() + 5); };
  EXPECT_THAT(head(batch.inputIds), ElementsAre(1, 2, 3, 4, 5));
  // The labels are shifted here: 9 stood on the second micro-batch's first token.
  EXPECT_THAT(head(batch.labels), ElementsAre(2, 3, -100, -100, -100));
  EXPECT_THAT(head(batch.lossWeights), ElementsAre(0.25f, 0.25f, 0, 0, 0));
  EXPECT_THAT(batch.cuSeqlens, ElementsAre(0, 3, 5, 5, 5));
  batches->get(1, step);
  ASSERT_TRUE(filler->setStep(step).ok());
  EXPECT_EQ(filler->numMicroBatches(), 1) << "an empty row is no micro-batch";
}

TEST(TokenizedBatches, RefusesSizesThatDisagree) {
  Golden golden;
  golden.ids.pop_back();
  EXPECT_EQ(golden.error(), "batches.safetensors: input_ids has 11 elements, expected 2 steps x 2 "
                            "micro-batches x 3");
  golden = Golden();
  golden.labels.push_back(0);
  EXPECT_EQ(golden.error(), "batches.safetensors: labels has 13 elements, expected 2 steps x 2 "
                            "micro-batches x 3");
  golden = Golden();
  golden.lengths.pop_back();
  EXPECT_EQ(golden.error(), "batches.safetensors: lengths has 3 elements, expected 2 steps x 2 "
                            "micro-batches x 1");
  // A product of the sizes would overflow to the right count.
  TokenizedBatches::Input input = Golden().input();
  input.steps = int64_t(1) << 62;
  input.microBatches = 4;
  EXPECT_FALSE(TokenizedBatches::create(input).ok());
  input.steps = 0;
  EXPECT_FALSE(TokenizedBatches::create(input).ok());
}

TEST(TokenizedBatches, RefusesValuesOutOfRange) {
  Golden golden;
  golden.lengths[1] = 4;
  EXPECT_EQ(golden.error(),
            "batches.safetensors: lengths of step 0, micro-batch 1 is 4, expected 0 to 3");
  golden.lengths[1] = -1;
  EXPECT_EQ(golden.error(),
            "batches.safetensors: lengths of step 0, micro-batch 1 is -1, expected 0 to 3");
  golden = Golden();
  golden.ids[6] = 10;
  EXPECT_EQ(golden.error(), "batches.safetensors: input_ids of step 1, micro-batch 0 holds token "
                            "id 10, expected 0 to 9");
  golden = Golden();
  golden.labels[1] = -1;
  EXPECT_EQ(golden.error(), "batches.safetensors: labels of step 0, micro-batch 0 holds -1, "
                            "expected -100 or 0 to 9");
}

} // namespace
} // namespace switchyard

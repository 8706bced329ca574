// Token ids and masks against what transformers made of the same records, where the goldens are at
// hand beside the repository.

#include "runtime/core/File.h"
#include "runtime/core/Json.h"
#include "runtime/data/Alpaca.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(GoldenTokens, First64RecordsAreIdentical) {
  std::string shared = SWITCHYARD_SOURCE_DIR "/../shared";
  std::string golden = shared + "/golden/mixtral_alpaca/tokens_first64.json";
  if (!fileExists(golden))
    GTEST_SKIP() << golden << " is not there";
  Result<Json> expected = readJson(golden);
  ASSERT_TRUE(expected.ok()) << expected.status().message();
  Result<std::unique_ptr<Tokenizer>> tokenizer =
      Tokenizer::load(shared + "/data/mixtral_tokenizer.model");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  Result<Dataset> dataset =
      loadAlpaca(shared + "/data/alpaca_en_demo.json", **tokenizer, {1024, 32000});
  ASSERT_TRUE(dataset.ok()) << dataset.status().message();
  EXPECT_TRUE(dataset->skipped().empty()) << dataset->describeSkipped();
  ASSERT_EQ(expected->items().size(), 64u);
  for (int64_t i = 0; i < 64; ++i) {
    const Json &record = expected->items()[i];
    SegmentView ours = dataset->record(i);
    std::vector<int32_t> ids;
    for (const Json &id : record.find("ids")->items())
      ids.push_back(static_cast<int32_t>(id.integer()));
    EXPECT_EQ(std::vector<int32_t>(ours.ids.begin(), ours.ids.end()), ids) << "record " << i;
    EXPECT_EQ(ours.promptTokens, record.find("prompt_tokens")->integer()) << "record " << i;
  }
}

} // namespace
} // namespace switchyard

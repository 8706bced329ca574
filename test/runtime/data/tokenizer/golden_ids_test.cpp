// Ids against those of Hugging Face's tokenizers (make_goldens.py beside this file), for small
// tokenizers in the forms that model families have.

#include "runtime/core/File.h"
#include "runtime/core/Json.h"
#include "runtime/data/Alpaca.h"
#include "runtime/data/Tokenizer.h"

#include <gtest/gtest.h>

#include <cstring>

namespace switchyard {
namespace {

constexpr const char *kInputs = SWITCHYARD_SOURCE_DIR "/test/runtime/data/tokenizer/Inputs/";

uint32_t fnv1a(std::string_view bytes) {
  uint32_t value = 0x811c9dc5;
  for (char byte : bytes)
    value = (value ^ static_cast<uint8_t>(byte)) * 0x01000193;
  return value;
}

uint32_t hashOf(const std::vector<int32_t> &ids) {
  return fnv1a({reinterpret_cast<const char *>(ids.data()), ids.size() * sizeof(int32_t)});
}

std::vector<int32_t> idsOf(const Json &json) {
  std::vector<int32_t> ids;
  for (const Json &id : json.items())
    ids.push_back(static_cast<int32_t>(id.integer()));
  return ids;
}

class GoldenIds : public testing::TestWithParam<const char *> {
protected:
  void SetUp() override {
    Result<Json> strings = readJson(std::string(kInputs) + "strings.json");
    Result<Json> expected = readJson(std::string(kInputs) + GetParam() + "/expected.json");
    Result<std::unique_ptr<Tokenizer>> tokenizer =
        Tokenizer::load(std::string(kInputs) + GetParam() + "/tokenizer.json");
    ASSERT_TRUE(strings.ok()) << strings.status().message();
    ASSERT_TRUE(expected.ok()) << expected.status().message();
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    strings_ = std::move(*strings);
    expected_ = std::move(*expected);
    tokenizer_ = std::move(*tokenizer);
  }

  std::vector<int32_t> encode(const std::string &text) {
    std::vector<int32_t> ids;
    Status status = tokenizer_->encode(text, ids);
    EXPECT_TRUE(status.ok()) << status.message();
    return ids;
  }

  Json strings_, expected_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(GoldenIds, AreIdenticalOnAwkwardStrings) {
  auto ids = expected_.find("ids")->items();
  auto decoded = expected_.find("decoded")->items();
  ASSERT_EQ(strings_.items().size(), 300u);
  ASSERT_EQ(ids.size(), strings_.items().size());
  for (size_t i = 0; i < ids.size(); ++i) {
    std::vector<int32_t> ours = encode(strings_.items()[i].string());
    ASSERT_EQ(ours, idsOf(ids[i])) << "string " << i << ": " << strings_.items()[i].describe();
    Result<std::string> text = tokenizer_->decode(ours);
    ASSERT_TRUE(text.ok()) << text.status().message();
    EXPECT_EQ(fnv1a(*text), decoded[i].integer()) << "string " << i << " decodes to " << *text;
  }
}

TEST_P(GoldenIds, TokensAroundARecordAreThoseOfTransformers) {
  EXPECT_EQ(tokenizer_->frame().before, idsOf(*expected_.find("before")));
  EXPECT_EQ(tokenizer_->frame().behind, idsOf(*expected_.find("behind")));
}

TEST_P(GoldenIds, AreIdenticalOnAlpacaRecords) {
  const std::string data = SWITCHYARD_SOURCE_DIR "/../shared/data/alpaca_en_demo.json";
  if (!fileExists(data))
    GTEST_SKIP() << data << " is not there";
  Result<Json> records = readJson(data);
  ASSERT_TRUE(records.ok()) << records.status().message();
  auto hashes = expected_.find("alpaca")->items();
  ASSERT_EQ(records->items().size(), hashes.size());
  for (size_t i = 0; i < hashes.size(); ++i) {
    const Json &record = records->items()[i];
    const Json *input = record.find("input");
    std::vector<int32_t> ids =
        encode(alpacaPrompt(record.find("instruction")->string(), input ? input->string() : "") +
               " " + record.find("output")->string());
    ASSERT_EQ(hashOf(ids), hashes[i].integer()) << "record " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, GoldenIds,
                         testing::Values("olmoe", "qwen", "llama", "mixtral", "metaspace", "digits",
                                         "behaviors"),
                         [](const auto &info) { return std::string(info.param); });

} // namespace
} // namespace switchyard

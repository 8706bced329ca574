#include "runtime/core/Json.h"
#include "runtime/data/Tokenizer.h"
#include "test/runtime/core/TestFolder.h"

#include <gmock/gmock.h>

#include <random>
#include <thread>

namespace switchyard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char *kInputs = SWITCHYARD_SOURCE_DIR "/test/runtime/data/tokenizer/Inputs/";

// Tokens are bytes here.
constexpr const char *kTiny = R"({
  "version": "1.0",
  "added_tokens": [{"id": 4, "content": "</s>", "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true}],
  "normalizer": null,
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
  "post_processor": null,
  "decoder": {"type": "ByteLevel"},
  "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3}, "merges": ["a b"]}
})";

class BpeTokenizerTest : public testing::Test {
protected:
  BpeTokenizerTest() { folder_.write("tokenizer_config.json", R"({"eos_token": "</s>"})"); }

  Result<std::unique_ptr<Tokenizer>> load(const std::string &json) {
    path_ = folder_.write("tokenizer.json", json);
    return Tokenizer::load(path_);
  }
  /// kTiny with another value of `key`.
  static std::string with(const std::string &key, const std::string &value) {
    Json json = std::move(*parseJson(kTiny, "test"));
    json.set(key, std::move(*parseJson(value, "test")));
    return json.dump();
  }
  std::string fault(const std::string &json) {
    Result<std::unique_ptr<Tokenizer>> tokenizer = load(json);
    EXPECT_FALSE(tokenizer.ok()) << json;
    if (tokenizer.ok())
      return "";
    EXPECT_EQ(tokenizer.status().code(), StatusCode::InvalidInput);
    EXPECT_TRUE(tokenizer.status().message().starts_with(path_ + ": "))
        << tokenizer.status().message();
    return tokenizer.status().message().substr(path_.size() + 2);
  }
  std::vector<int32_t> encode(const std::string &json, std::string_view text) {
    Result<std::unique_ptr<Tokenizer>> tokenizer = load(json);
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    std::vector<int32_t> ids;
    EXPECT_TRUE((*tokenizer)->encode(text, ids).ok());
    return ids;
  }

  TestFolder folder_;
  std::string path_;
};

TEST_F(BpeTokenizerTest, ReadsItsParts) {
  Result<std::unique_ptr<Tokenizer>> tokenizer = load(kTiny);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_EQ((*tokenizer)->path(), path_);
  EXPECT_EQ((*tokenizer)->vocabSize(), 5);
  EXPECT_TRUE((*tokenizer)->frame().before.empty());
  EXPECT_THAT((*tokenizer)->frame().behind, ElementsAre(4));
  EXPECT_THAT(encode(kTiny, "ab b</s>a"), ElementsAre(2, 3, 1, 4, 0));
  EXPECT_EQ(*(*tokenizer)->decode(std::vector<int32_t>{2, 3, 1, 4, 0}), "ab ba");
  EXPECT_EQ((*tokenizer)->decode(std::vector<int32_t>{5}).status().message(),
            path_ + ": token id 5, expected 0 to 4");
}

TEST_F(BpeTokenizerTest, EndsARecordOnce) {
  std::string adds = with("post_processor", R"({"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "</s>", "type_id": 0}}, {"Sequence": {"id": "A"}},
               {"SpecialToken": {"id": "</s>", "type_id": 0}}],
    "special_tokens": {"</s>": {"id": "</s>", "ids": [4], "tokens": ["</s>"]}}})");
  Result<std::unique_ptr<Tokenizer>> tokenizer = load(adds);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_THAT((*tokenizer)->frame().before, ElementsAre(4));
  EXPECT_THAT((*tokenizer)->frame().behind, ElementsAre(4));
}

TEST_F(BpeTokenizerTest, TakesTextThatIsNotUtf8) {
  std::string json = with("model", R"({"vocab": {"ï": 0, "¿": 1, "½": 2, "a": 3}, "merges": []})");
  EXPECT_THAT(encode(json, "\xff"
                           "a"),
              ElementsAre(0, 1, 2, 3)); // U+FFFD
  // One for each part that could have begun a character.
  EXPECT_THAT(encode(json, "\xe2\x82"), ElementsAre(0, 1, 2));
  EXPECT_THAT(encode(json, "\xc0\x80"), ElementsAre(0, 1, 2, 0, 1, 2));
  EXPECT_TRUE(encode(json, std::string_view("\0", 1)).empty()); // has no token
}

TEST_F(BpeTokenizerTest, NamesThePartThatItDoesNotRead) {
  EXPECT_EQ(fault("[]"), "it is no tokenizer.json: it has no \"model\"");
  EXPECT_EQ(fault(with("version", "\"2.0\"")), "\"version\" is \"2.0\", expected \"1.0\"");
  EXPECT_EQ(fault(with("model", "3")), "\"model\": it is 3, expected an object");
  EXPECT_THAT(fault(with("model", R"({"type": "WordPiece"})")),
              HasSubstr("\"model\": a model of the type \"WordPiece\" is not read"));
  EXPECT_THAT(fault(with("normalizer", R"({"type": "Precompiled"})")),
              HasSubstr("\"normalizer\": a normalizer of the type \"Precompiled\" is not read"));
  EXPECT_THAT(fault(with("pre_tokenizer", R"({"type": "Whitespace"})")),
              HasSubstr("\"pre_tokenizer\": a pre-tokenizer of the type \"Whitespace\" is not"));
  EXPECT_THAT(fault(with("decoder", R"({"type": "CTC"})")),
              HasSubstr("\"decoder\": a decoder of the type \"CTC\" is not read"));
  EXPECT_THAT(fault(with("post_processor", R"({"type": "RobertaProcessing"})")),
              HasSubstr("\"post_processor\": a post-processor of the type"));
  EXPECT_THAT(fault(with("added_tokens", "[3]")),
              HasSubstr("\"added_tokens\": token 0: it is 3, expected an object"));
  EXPECT_THAT(fault(with("added_tokens", "{}")),
              HasSubstr("\"added_tokens\": it is an object, expected an array"));
  EXPECT_THAT(fault(R"({"model": {"vocab": {}, "vocab": {}}})"),
              HasSubstr("the key \"vocab\" is there twice"));
}

TEST_F(BpeTokenizerTest, NeedsAnEosToken) {
  std::filesystem::remove(folder_.file("tokenizer_config.json"));
  EXPECT_THAT(fault(kTiny), HasSubstr("no file beside it names the EOS token"));
}

TEST_F(BpeTokenizerTest, NamesAFileThatCannotEncode) {
  Result<std::unique_ptr<Tokenizer>> tokenizer =
      load(with("model", R"({"vocab": {"a": 0}, "merges": [], "unk_token": "[UNK]"})"));
  // The added token is not the second one of that vocabulary.
  EXPECT_FALSE(tokenizer.ok());
  tokenizer = load(with("model", R"({"vocab": {"a": 0, "x": 1, "y": 2, "z": 3}, "merges": [],
                                     "unk_token": "[UNK]"})"));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  std::vector<int32_t> ids = {7};
  EXPECT_EQ((*tokenizer)->encode("ab", ids).message(),
            path_ + ": there is no token for the character \"b\", and none for the unknown token "
                    "\"[UNK]\"");
  EXPECT_THAT(ids, ElementsAre(7));
}

TEST_F(BpeTokenizerTest, IsSharedByThreads) {
  Result<std::unique_ptr<Tokenizer>> tokenizer =
      Tokenizer::load(std::string(kInputs) + "qwen/tokenizer.json");
  Result<Json> strings = readJson(std::string(kInputs) + "strings.json");
  ASSERT_TRUE(tokenizer.ok() && strings.ok());
  std::vector<std::vector<int32_t>> ids(4);
  std::vector<std::thread> threads;
  for (std::vector<int32_t> &own : ids)
    threads.emplace_back([&] {
      for (const Json &text : strings->items())
        EXPECT_TRUE((*tokenizer)->encode(text.string(), own).ok());
    });
  for (std::thread &thread : threads)
    thread.join();
  for (const std::vector<int32_t> &own : ids)
    EXPECT_EQ(own, ids[0]);
}

// Damaged files are refused, or they encode.
TEST_F(BpeTokenizerTest, MutationsNeverCrash) {
  constexpr std::string_view kBytes = "{}[]\",:0123e-.\\tnul*+?()|^$pPsS\x01\xc3\xff";
  const std::string text = "It's 12  wörd <mask>  <|im_end|>\n\n\n e\xcc\x81! \xff";
  std::mt19937 random(11);
  int refused = 0;
  for (const char *form : {"llama", "mixtral", "digits"}) {
    const std::string valid = TestFolder::read(std::string(kInputs) + form + "/tokenizer.json");
    ASSERT_GT(valid.size(), 1000u);
    const size_t vocabulary = valid.find("\"vocab\"");
    for (int i = 0; i < 120; ++i) {
      std::string json = valid;
      for (int edits = 1 + random() % 3; edits > 0; --edits) {
        // Most of the file is vocabulary.
        size_t at = random() % (random() % 4 ? vocabulary : json.size());
        if (random() % 2)
          json[at] = kBytes[random() % kBytes.size()];
        else if (random() % 2)
          json.erase(at, 1 + random() % 8);
        else
          json.insert(at, 1 + random() % 3, kBytes[random() % kBytes.size()]);
      }
      Result<std::unique_ptr<Tokenizer>> tokenizer = load(json);
      if (!tokenizer.ok()) {
        EXPECT_FALSE(tokenizer.status().message().empty());
        ++refused;
        continue;
      }
      std::vector<int32_t> ids;
      if ((*tokenizer)->encode(text, ids).ok()) {
        EXPECT_TRUE((*tokenizer)->decode(ids).ok());
      }
    }
  }
  EXPECT_GT(refused, 100);
}

} // namespace
} // namespace switchyard

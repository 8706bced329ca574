#include "runtime/data/tokenizer/RecordFrame.h"
#include "test/runtime/core/TestFolder.h"

#include <gmock/gmock.h>

namespace switchyard {
namespace {

using testing::ElementsAre;

std::string templateOf(const std::string &pieces) {
  return R"({"type": "TemplateProcessing", "single": [)" + pieces + R"(], "special_tokens": {
    "<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]},
    "two": {"id": "two", "ids": [2, 3], "tokens": ["a", "b"]},
    "far": {"id": "far", "ids": [100], "tokens": ["c"]}}})";
}
constexpr const char *kText = R"({"Sequence": {"id": "A", "type_id": 0}})";
std::string special(const std::string &name) {
  return R"({"SpecialToken": {"id": ")" + name + R"(", "type_id": 0}})";
}

Result<Tokenizer::Frame> read(const std::string &json) {
  Result<Json> parsed = parseJson(json, "test");
  EXPECT_TRUE(parsed.ok()) << parsed.status().message();
  return readPostProcessor(*parsed, 100);
}

std::string fault(const std::string &json) {
  Result<Tokenizer::Frame> frame = read(json);
  EXPECT_FALSE(frame.ok()) << json;
  return frame.ok() ? "" : frame.status().message();
}

TEST(RecordFrame, IsWhatThePostProcessorAdds) {
  EXPECT_TRUE(read("null")->before.empty());
  EXPECT_TRUE(read(R"({"type": "ByteLevel", "trim_offsets": true})")->before.empty());
  Result<Tokenizer::Frame> frame =
      read(templateOf(special("<s>") + "," + kText + "," + special("two")));
  ASSERT_TRUE(frame.ok()) << frame.status().message();
  EXPECT_THAT(frame->before, ElementsAre(1));
  EXPECT_THAT(frame->behind, ElementsAre(2, 3));
  // The second one's tokens are around the first one's.
  frame = read(R"({"type": "Sequence", "processors": [{"type": "ByteLevel"}, )" +
               templateOf(special("<s>") + "," + kText) + "," +
               templateOf(special("two") + "," + kText + "," + special("<s>")) + "]}");
  ASSERT_TRUE(frame.ok()) << frame.status().message();
  EXPECT_THAT(frame->before, ElementsAre(2, 3, 1));
  EXPECT_THAT(frame->behind, ElementsAre(1));
}

TEST(RecordFrame, NamesWhatItDoesNotRead) {
  EXPECT_EQ(fault(R"({"type": "BertProcessing"})"),
            "a post-processor of the type \"BertProcessing\" is not read; ByteLevel, "
            "TemplateProcessing and Sequence are");
  std::string notOne = "\"single\" is not one text (\"Sequence\" \"A\") with special tokens around "
                       "it";
  EXPECT_EQ(fault(templateOf("")), notOne);
  EXPECT_EQ(fault(templateOf(std::string(kText) + "," + kText)), notOne);
  EXPECT_EQ(fault(templateOf(R"({"Sequence": {"id": "B", "type_id": 0}})")), notOne);
  EXPECT_EQ(fault(templateOf(std::string(kText) + "," + special("</s>"))),
            "\"special_tokens\": \"</s>\" is missing, expected an object");
  EXPECT_EQ(fault(templateOf(std::string(kText) + "," + special("far"))),
            "the special token \"far\" has the id 100, expected an integer in [0, 99]");
}

class EosIdTest : public testing::Test {
protected:
  Result<int32_t> read() {
    return readEosId(folder_.file("tokenizer.json"), 100, [](std::string_view token) {
      return token == "</s>" ? std::optional(7) : std::nullopt;
    });
  }
  TestFolder folder_;
};

TEST_F(EosIdTest, IsNamedByTheFirstFileThatHasIt) {
  folder_.write("config.json", R"({"eos_token_id": [5, 6]})");
  EXPECT_EQ(*read(), 5);
  folder_.write("config.json", R"({"eos_token_id": 6})");
  EXPECT_EQ(*read(), 6);
  folder_.write("special_tokens_map.json", R"({"eos_token": {"content": "</s>"}})");
  EXPECT_EQ(*read(), 7);
  folder_.write("special_tokens_map.json", R"({"eos_token": null})");
  folder_.write("tokenizer_config.json",
                R"({"model_max_length": 1000000000000000019884624838656, "eos_token": "</s>"})");
  EXPECT_EQ(*read(), 7);
}

TEST_F(EosIdTest, MustBeThere) {
  EXPECT_EQ(read().status().message(),
            folder_.file("tokenizer.json") +
                ": no file beside it names the EOS token to end each record with; expected "
                "\"eos_token\" in tokenizer_config.json or special_tokens_map.json, or "
                "\"eos_token_id\" in config.json");
  folder_.write("config.json", R"({"eos_token_id": 100})");
  EXPECT_EQ(read().status().message(), folder_.file("config.json") +
                                           ": \"eos_token_id\" is 100, expected an integer in "
                                           "[0, 99]");
  folder_.write("tokenizer_config.json", R"({"eos_token": "<|im_end|>"})");
  EXPECT_EQ(read().status().message(),
            folder_.file("tokenizer_config.json") +
                ": \"eos_token\" is \"<|im_end|>\", expected a token of " +
                folder_.file("tokenizer.json"));
  folder_.write("tokenizer_config.json", R"({"eos_token": 3})");
  EXPECT_EQ(read().status().message(),
            folder_.file("tokenizer_config.json") + ": \"eos_token\" is 3, expected a string");
}

} // namespace
} // namespace switchyard

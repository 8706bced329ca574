#include "runtime/data/tokenizer/BpeModel.h"

#include <gmock/gmock.h>

namespace switchyard {
namespace {

using testing::ElementsAre;

Result<BpeModel> read(const std::string &json, bool ofBytes = false) {
  Result<Json> parsed = parseJson(json, "test");
  EXPECT_TRUE(parsed.ok()) << parsed.status().message();
  return BpeModel::read(*parsed, ofBytes);
}

std::string fault(const std::string &json) {
  Result<BpeModel> model = read(json);
  EXPECT_FALSE(model.ok()) << json;
  return model.ok() ? "" : model.status().message();
}

std::vector<int32_t> encode(const std::string &json, std::string_view piece, bool ofBytes = false) {
  Result<BpeModel> model = read(json, ofBytes);
  EXPECT_TRUE(model.ok()) << model.status().message();
  BpeModel::Scratch scratch;
  std::vector<int32_t> ids;
  Status status = model->encode(piece, scratch, ids);
  EXPECT_TRUE(status.ok()) << status.message();
  return ids;
}

TEST(BpeModel, MergesInTheOrderOfRanks) {
  std::string vocabulary = R"("vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4, "abc": 5})";
  std::string bcFirst = "{" + vocabulary + R"(, "merges": ["b c", "a b", "a bc"]})";
  EXPECT_THAT(encode(bcFirst, "abcab"), ElementsAre(5, 3));
  std::string abFirst =
      "{\"type\": \"BPE\", " + vocabulary + R"(, "merges": [["a", "b"], ["b", "c"], ["a", "bc"]]})";
  EXPECT_THAT(encode(abFirst, "abcbc"), ElementsAre(3, 2, 4));
  // The last of equal merges counts.
  std::string twice = "{" + vocabulary + R"(, "merges": ["#version: 0.2", "a b", "b c", "a b"]})";
  EXPECT_THAT(encode(twice, "abc"), ElementsAre(0, 4));
}

TEST(BpeModel, MergesEqualRanksFromTheLeft) {
  std::string json = R"({"vocab": {"a": 0, "aa": 1, "aaa": 2}, "merges": ["a a", "aa a"]})";
  EXPECT_THAT(encode(json, "aaaaa"), ElementsAre(1, 2));
  EXPECT_THAT(encode(json, "aaa"), ElementsAre(2));
  EXPECT_THAT(encode(json, ""), ElementsAre());
}

TEST(BpeModel, MergesLongPieces) {
  std::string json = R"({"vocab": {"a": 0, "b": 1, "aa": 2, "aaaa": 3, "ab": 4},
                         "merges": ["a b", "a a", "aa aa"]})";
  std::string piece(1000000, 'a');
  std::vector<int32_t> ids = encode(json, piece + "b");
  ASSERT_EQ(ids.size(), 250002u); // 249,999 of four, then two, one, and the last with its b
  EXPECT_EQ(ids[0], 3);
  EXPECT_THAT(std::vector<int32_t>(ids.end() - 3, ids.end()), ElementsAre(2, 0, 4));
}

TEST(BpeModel, MayTakeAWholePieceWithoutMerges) {
  std::string json = R"({"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [], "ignore_merges": )";
  EXPECT_THAT(encode(json + "true}", "ab"), ElementsAre(2));
  EXPECT_THAT(encode(json + "false}", "ab"), ElementsAre(0, 1));
  EXPECT_THAT(encode(json + "true}", "aab"), ElementsAre(0, 0, 1));
  std::string bytes = R"({"vocab": {"Ã": 0, "©": 1, "Ã©": 2}, "merges": [], "ignore_merges": )";
  EXPECT_THAT(encode(bytes + "true}", "é", true), ElementsAre(2));
  EXPECT_THAT(encode(bytes + "false}", "é", true), ElementsAre(0, 1));
}

TEST(BpeModel, TakesUnknownCharactersAsItIsTold) {
  std::string vocabulary =
      R"("vocab": {"<unk>": 0, "a": 1, "<0xC3>": 2, "<0xA9>": 3}, "merges": [])";
  auto with = [&](const std::string &options) { return "{" + vocabulary + options + "}"; };
  EXPECT_THAT(encode(with(""), "aéb"), ElementsAre(1)); // left out
  EXPECT_THAT(encode(with(R"(, "unk_token": "<unk>")"), "aébab"), ElementsAre(1, 0, 0, 1, 0));
  EXPECT_THAT(encode(with(R"(, "unk_token": "<unk>", "fuse_unk": true)"), "aébab"),
              ElementsAre(1, 0, 1, 0));
  EXPECT_THAT(encode(with(R"(, "byte_fallback": true)"), "aéb"), ElementsAre(1, 2, 3));
  // A character needs tokens for all of its bytes. Those come before an unknown one that waits.
  EXPECT_THAT(encode(with(R"(, "unk_token": "<unk>", "byte_fallback": true)"), "èé"),
              ElementsAre(2, 3, 0));
  Result<BpeModel> model = read(with(R"(, "unk_token": "[UNK]")"));
  ASSERT_TRUE(model.ok());
  BpeModel::Scratch scratch;
  std::vector<int32_t> ids;
  EXPECT_EQ(model->encode("b", scratch, ids).message(),
            "there is no token for the character \"b\", and none for the unknown token \"[UNK]\"");
}

TEST(BpeModel, NamesWhatItDoesNotRead) {
  auto with = [](const std::string &option) {
    return "{\"vocab\": {\"a\": 0}, \"merges\": [], " + option + "}";
  };
  EXPECT_EQ(fault(R"({"type": "Unigram", "vocab": []})"),
            "a model of the type \"Unigram\" is not read; BPE, and SentencePiece's own files "
            "(tokenizer.model), are");
  EXPECT_EQ(fault(with("\"dropout\": 0.1")), "\"dropout\" is 0.1, expected a number in [0, 0]");
  EXPECT_TRUE(read(with("\"dropout\": 0.0")).ok());
  EXPECT_EQ(fault(with("\"continuing_subword_prefix\": \"##\"")),
            "\"continuing_subword_prefix\" is \"##\", expected null or \"\"");
  EXPECT_EQ(fault(with("\"end_of_word_suffix\": \"</w>\"")),
            "\"end_of_word_suffix\" is \"</w>\", expected null or \"\"");
  EXPECT_EQ(fault(with("\"byte_fallback\": 1")), "\"byte_fallback\" is 1, expected true or false");
  EXPECT_EQ(fault(R"({"merges": []})"), "\"vocab\" is missing, expected an object");
  EXPECT_EQ(fault(R"({"vocab": {}})"), "\"merges\" is missing, expected an array");
}

TEST(BpeModel, RefusesIdsAndMergesThatDoNotFit) {
  auto with = [](const std::string &vocabulary, const std::string &merges) {
    return "{\"vocab\": {" + vocabulary + "}, \"merges\": [" + merges + "]}";
  };
  EXPECT_EQ(fault(with("\"a\": -1", "")), "\"a\" is -1, expected an integer in [0, 16777215]");
  EXPECT_EQ(fault(with("\"a\": 4000000000", "")),
            "\"a\" is 4000000000, expected an integer in [0, 16777215]");
  EXPECT_EQ(fault(with("\"a\": 1, \"b\": 1", "")),
            "the vocabulary has the id 1 twice, for \"a\" and \"b\", expected one token");
  EXPECT_EQ(fault(with("\"a\": 0, \"b\": 1", "\"a b\"")),
            "merge 0, of \"a\" and \"b\", needs the token \"ab\", which the vocabulary lacks");
  EXPECT_EQ(fault(with("\"a\": 0, \"ab\": 1", "[\"a\", \"b\"]")),
            "merge 0, of \"a\" and \"b\", needs the token \"b\", which the vocabulary lacks");
  for (const char *merge : {"\"ab\"", "\"a b c\"", "[\"a\"]", "[\"a\", 1]", "7"}) {
    std::string message = fault(with("\"a\": 0", merge));
    EXPECT_THAT(message, testing::StartsWith("merge 0: it is "));
    EXPECT_THAT(message, testing::EndsWith(", expected two tokens: [\"a\", \"b\"] or \"a b\""));
  }
}

} // namespace
} // namespace switchyard

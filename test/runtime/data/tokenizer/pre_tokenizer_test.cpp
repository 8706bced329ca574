#include "runtime/data/tokenizer/PreTokenizer.h"

#include <gmock/gmock.h>

namespace switchyard {
namespace {

using testing::ElementsAre;

class PreTokenizerTest : public testing::Test {
protected:
  Result<PreTokenizer> read(const std::string &json, bool isNormalized = false) {
    Result<Json> parsed = parseJson(json, "test");
    EXPECT_TRUE(parsed.ok()) << parsed.status().message();
    return PreTokenizer::read(*parsed, isNormalized, classes_);
  }
  std::vector<std::string> cut(const std::string &json, std::string_view text) {
    Result<PreTokenizer> preTokenizer = read(json);
    if (!preTokenizer.ok())
      return {preTokenizer.status().message()};
    TextStore texts(text.size());
    std::vector<TextPiece> pieces = {{text, -1, true}};
    if (Status status = preTokenizer->apply(pieces, texts); !status.ok())
      return {status.message()};
    std::vector<std::string> cuts;
    for (const TextPiece &piece : pieces)
      cuts.emplace_back(piece.text);
    return cuts;
  }
  std::vector<std::string> split(const std::string &pattern, const std::string &behavior,
                                 bool isInverted) {
    return cut(R"({"type": "Split", "pattern": )" + pattern + R"(, "behavior": ")" + behavior +
                   R"(", "invert": )" + (isInverted ? "true" : "false") + "}",
               "-a--b- -c");
  }
  std::string fault(const std::string &json, bool isNormalized = false) {
    Result<PreTokenizer> preTokenizer = read(json, isNormalized);
    EXPECT_FALSE(preTokenizer.ok()) << json;
    return preTokenizer.ok() ? "" : preTokenizer.status().message();
  }

  UnicodeClasses classes_;
};

// What tokenizers 0.23 does.
TEST_F(PreTokenizerTest, SplitsInEachBehavior) {
  const char *run = R"({"Regex": "-+"})";
  const char *one = R"({"String": "-"})";
  EXPECT_THAT(split(run, "Isolated", false), ElementsAre("-", "a", "--", "b", "-", " ", "-", "c"));
  EXPECT_THAT(split(run, "Isolated", true), ElementsAre("-", "a", "--", "b", "-", " ", "-", "c"));
  EXPECT_THAT(split(run, "Removed", false), ElementsAre("a", "b", " ", "c"));
  EXPECT_THAT(split(run, "Removed", true), ElementsAre("-", "--", "-", "-"));
  EXPECT_THAT(split(run, "MergedWithPrevious", false), ElementsAre("-", "a--", "b-", " -", "c"));
  EXPECT_THAT(split(run, "MergedWithPrevious", true), ElementsAre("-a", "--b", "- ", "-c"));
  EXPECT_THAT(split(run, "MergedWithNext", false), ElementsAre("-a", "--b", "- ", "-c"));
  EXPECT_THAT(split(run, "MergedWithNext", true), ElementsAre("-", "a--", "b-", " -", "c"));
  EXPECT_THAT(split(one, "Isolated", false),
              ElementsAre("-", "a", "-", "-", "b", "-", " ", "-", "c"));
  EXPECT_THAT(split(one, "MergedWithPrevious", false),
              ElementsAre("-", "a-", "-", "b-", " -", "c"));
  EXPECT_THAT(split(one, "MergedWithNext", false), ElementsAre("-a", "-", "-b", "- ", "-c"));
  EXPECT_THAT(split(one, "Contiguous", false),
              ElementsAre("-", "a", "--", "b", "-", " ", "-", "c"));
  EXPECT_THAT(split(one, "Contiguous", true), ElementsAre("-", "a", "--", "b", "-", " ", "-", "c"));
}

TEST_F(PreTokenizerTest, CutsDigits) {
  const char *text = "a12\xc2\xbd\xd9\xa3\xc2\xb2"
                     "b";
  EXPECT_THAT(cut(R"({"type": "Digits", "individual_digits": true})", text),
              ElementsAre("a", "1", "2", "\xc2\xbd", "\xd9\xa3", "\xc2\xb2", "b"));
  EXPECT_THAT(cut(R"({"type": "Digits", "individual_digits": false})", text),
              ElementsAre("a", "12\xc2\xbd\xd9\xa3\xc2\xb2", "b"));
}

TEST_F(PreTokenizerTest, ReplacesSpacesForMetaspace) {
  auto metaspace = [&](const std::string &scheme, const char *cuts, std::string_view text) {
    return cut(R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": ")" + scheme +
                   R"(", "split": )" + cuts + "}",
               text);
  };
  EXPECT_THAT(metaspace("always", "true", " a  b_c"), ElementsAre("_a", "_", "_b", "_c"));
  EXPECT_THAT(metaspace("always", "false", "a b"), ElementsAre("_a_b"));
  EXPECT_THAT(metaspace("never", "false", "a b"), ElementsAre("a_b"));
  EXPECT_THAT(metaspace("first", "false", "a b"), ElementsAre("_a_b"));
  // Only at the beginning of the whole text.
  EXPECT_THAT(cut(R"({"type": "Sequence", "pretokenizers": [
                    {"type": "Split", "pattern": {"String": "x"}, "behavior": "Isolated",
                     "invert": false},
                    {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"}]})",
                  "axb c"),
              ElementsAre("_a", "x", "b", "_c"));
  // The older form.
  EXPECT_THAT(cut(R"({"type": "Metaspace", "replacement": "_", "add_prefix_space": true})", "a b"),
              ElementsAre("_a", "_b"));
}

TEST_F(PreTokenizerTest, WritesBytesInTheirAlphabetUnlessTheyAreLast) {
  const char *bytes = R"({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true})";
  const char *text = "it's 12 \xc3\xa9\n\n b";
  EXPECT_THAT(cut(bytes, text), ElementsAre(" it", "'s", " 12", " \xc3\xa9", "\n\n", " b"));
  EXPECT_TRUE(read(bytes)->endsInBytes());
  std::string followed = std::string(R"({"type": "Sequence", "pretokenizers": [)") + bytes +
                         R"(, {"type": "Digits", "individual_digits": true}]})";
  EXPECT_THAT(cut(followed, text), ElementsAre("\xc4\xa0it", "'s", "\xc4\xa0", "1", "2",
                                               "\xc4\xa0\xc3\x83\xc2\xa9", "\xc4\x8a\xc4\x8a",
                                               "\xc4\xa0"
                                               "b"));
  EXPECT_FALSE(read(followed)->endsInBytes());
  EXPECT_THAT(cut(R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false})", text),
              ElementsAre(text));
}

TEST_F(PreTokenizerTest, LeavesTokensAlone) {
  Result<PreTokenizer> preTokenizer = read(R"({"type": "Digits", "individual_digits": true})");
  TextStore texts(8);
  std::vector<TextPiece> pieces = {{"12", 7, true}, {"34", -1, false}};
  ASSERT_TRUE(preTokenizer->apply(pieces, texts).ok());
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces[0].token, 7);
  EXPECT_EQ(pieces[0].text, "12");
  EXPECT_EQ(pieces[2].text, "4");
}

TEST_F(PreTokenizerTest, NamesWhatItDoesNotRead) {
  EXPECT_EQ(
      fault(R"({"type": "Punctuation", "behavior": "Isolated"})"),
      "a pre-tokenizer of the type \"Punctuation\" is not read; ByteLevel, Digits, Metaspace, "
      "Split and Sequence are");
  EXPECT_EQ(fault("{}"), "\"type\" is missing, expected a string");
  EXPECT_EQ(fault(R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "Glued",
                      "invert": false})"),
            "\"behavior\" is \"Glued\", expected Removed, Isolated, MergedWithPrevious, "
            "MergedWithNext or Contiguous");
  EXPECT_EQ(fault(R"({"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated",
                      "invert": false})"),
            "\"String\" is empty, expected a text to look for");
  EXPECT_EQ(fault(R"({"type": "Metaspace", "replacement": "ab"})"),
            "\"replacement\" is \"ab\", expected one character");
  EXPECT_EQ(fault(R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"})"),
            "\"prepend_scheme\" is \"last\", expected \"always\", \"first\" or \"never\"");
  EXPECT_EQ(fault(R"({"type": "Metaspace", "replacement": "_", "add_prefix_space": false})"),
            "\"add_prefix_space\" is false, but \"prepend_scheme\" is not \"never\"; remove the "
            "former, which is the older form");
  const char *first = R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"})";
  EXPECT_TRUE(read(first).ok());
  EXPECT_EQ(fault(first, true), "a Metaspace with the \"prepend_scheme\" \"first\" is not read "
                                "behind a normalizer, a ByteLevel or another Metaspace");
}

TEST_F(PreTokenizerTest, BoundsWhatATextBecomes) {
  std::string steps;
  for (int i = 0; i < 64; ++i)
    steps += std::string(i ? "," : "") +
             R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false})";
  std::string json = R"({"type": "Sequence", "pretokenizers": [)" + steps + "]}";
  // Doubled 63 times.
  EXPECT_THAT(cut(json, "\xff"),
              ElementsAre("of a text of 1 bytes its normalizer and pre-tokenizer make "
                          "134217726 bytes; at most 64 times as many and 64 MiB are allowed"));
  json.insert(json.size() - 2, R"(, {"type": "Digits", "individual_digits": true})");
  EXPECT_EQ(fault(json), "it has more than 64 steps, expected fewer");
}

} // namespace
} // namespace switchyard

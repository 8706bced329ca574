#include "runtime/data/tokenizer/TextNormalizer.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

class TextNormalizerTest : public testing::Test {
protected:
  std::string apply(const std::string &json, std::string_view text) {
    Result<Json> parsed = parseJson(json, "test");
    EXPECT_TRUE(parsed.ok()) << parsed.status().message();
    Result<TextNormalizer> normalizer = TextNormalizer::read(*parsed, classes_);
    if (!normalizer.ok())
      return normalizer.status().message();
    TextStore texts(text.size());
    Result<std::string_view> changed = normalizer->apply(text, texts);
    return changed.ok() ? std::string(*changed) : changed.status().message();
  }

  UnicodeClasses classes_;
};

TEST_F(TextNormalizerTest, HasTheFormsOfUnicode) {
  const char *text = "e\xcc\x81 \xef\xac\x81"; // e with an acute accent behind it, the ligature fi
  EXPECT_EQ(apply(R"({"type": "NFC"})", text), "\xc3\xa9 \xef\xac\x81");
  EXPECT_EQ(apply(R"({"type": "NFD"})", "\xc3\xa9 \xef\xac\x81"), text);
  EXPECT_EQ(apply(R"({"type": "NFKC"})", text), "\xc3\xa9 fi");
  EXPECT_EQ(apply(R"({"type": "NFKD"})", "\xc3\xa9 \xef\xac\x81"), "e\xcc\x81 fi");
  EXPECT_EQ(apply("null", text), text);
}

TEST_F(TextNormalizerTest, KnowsUnicode9Only) {
  EXPECT_EQ(apply(R"({"type": "NFKC"})", "\xf0\x9f\x88\xbb"), "\xe9\x85\x8d");    // of 9
  EXPECT_EQ(apply(R"({"type": "NFKC"})", "\xe3\x8b\xbf"), "\xe3\x8b\xbf");        // of 12.1
  EXPECT_EQ(apply(R"({"type": "NFD"})", "\xf0\x91\xa4\xb8"), "\xf0\x91\xa4\xb8"); // of 13
}

TEST_F(TextNormalizerTest, PrependsAndReplacesInOrder) {
  const char *mistral = R"({"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": "_"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "_"}]})";
  EXPECT_EQ(apply(mistral, " a b"), "__a_b");
  EXPECT_EQ(apply(mistral, ""), "");
  EXPECT_EQ(apply(R"({"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": ""})", "a \n b"),
            "ab");
}

TEST_F(TextNormalizerTest, NamesWhatItDoesNotRead) {
  EXPECT_EQ(apply(R"({"type": "Lowercase"})", ""),
            "a normalizer of the type \"Lowercase\" is not read; NFC, NFD, NFKC, NFKD, Prepend, "
            "Replace and Sequence are");
  EXPECT_EQ(apply(R"({"type": "Sequence"})", ""), "\"normalizers\" is missing, expected an array");
  EXPECT_EQ(apply(R"({"type": "Replace", "pattern": " ", "content": ""})", ""),
            "\"pattern\" is \" \", expected an object");
}

TEST_F(TextNormalizerTest, BoundsWhatATextBecomes) {
  std::string text(1000, 'a');
  std::string json = R"({"type": "Replace", "pattern": {"String": "a"}, "content": ")" +
                     std::string(100000, 'b') + "\"}";
  EXPECT_EQ(apply(json, text),
            "of a text of 1000 bytes its normalizer and pre-tokenizer make 100001000 "
            "bytes; at most 64 times as many and 64 MiB are allowed");
}

} // namespace
} // namespace switchyard

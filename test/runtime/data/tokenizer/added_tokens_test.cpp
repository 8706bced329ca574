#include "runtime/data/tokenizer/AddedTokens.h"

#include <gmock/gmock.h>

namespace switchyard {
namespace {

using testing::ElementsAre;

class AddedTokensTest : public testing::Test {
protected:
  static std::string token(int id, const std::string &content, const std::string &flag = "") {
    std::string json = "{\"id\": " + std::to_string(id) + ", \"content\": " + quoteJson(content);
    for (const char *name : {"single_word", "lstrip", "rstrip", "normalized", "special"})
      json += std::string(", \"") + name + "\": " + (flag == name ? "true" : "false");
    return json + "}";
  }

  /// The model has the tokens 0 to 9, of which 5 is "five".
  Result<AddedTokens> read(const std::string &tokens, const std::string &normalizer = "null") {
    Result<Json> json = parseJson("[" + tokens + "]", "test");
    EXPECT_TRUE(json.ok()) << json.status().message();
    Result<Json> form = parseJson(normalizer, "test");
    normalizer_ = std::move(*TextNormalizer::read(*form, classes_));
    return AddedTokens::read(*json, normalizer_, classes_, 10, [](std::string_view text) {
      return text == "five" ? std::optional(5) : std::nullopt;
    });
  }
  std::string fault(const std::string &tokens, const std::string &normalizer = "null") {
    Result<AddedTokens> added = read(tokens, normalizer);
    EXPECT_FALSE(added.ok());
    return added.ok() ? "" : added.status().message();
  }

  /// Tokens as their ids, what is between them in quotes.
  std::vector<std::string> split(const std::string &tokens, std::string_view text,
                                 const std::string &normalizer = "null") {
    Result<AddedTokens> added = read(tokens, normalizer);
    if (!added.ok())
      return {added.status().message()};
    TextStore texts(text.size());
    Result<std::vector<TextPiece>> parts = added->split(text, normalizer_, texts);
    EXPECT_TRUE(parts.ok());
    std::vector<std::string> pieces;
    for (const TextPiece &piece : *parts)
      pieces.push_back(piece.token < 0 ? "'" + std::string(piece.text) + "'"
                                       : std::to_string(piece.token));
    return pieces;
  }

  UnicodeClasses classes_;
  TextNormalizer normalizer_;
};

TEST_F(AddedTokensTest, TakesTheLongestAtTheLeftmostPlace) {
  std::string tokens = token(10, "<a>") + "," + token(11, "<a><b>") + "," + token(12, "b><") + "," +
                       token(5, "five");
  EXPECT_THAT(split(tokens, "x<a><b><a>fivey"), ElementsAre("'x'", "11", "10", "5", "'y'"));
  EXPECT_THAT(split(tokens, "<b><a"), ElementsAre("'<'", "12", "'a'"));
  EXPECT_THAT(split(tokens, ""), ElementsAre());
}

TEST_F(AddedTokensTest, StripsSpaces) {
  EXPECT_THAT(split(token(10, "T", "lstrip"), "a \n\xe3\x80\x80T b"),
              ElementsAre("'a'", "10", "' b'"));
  EXPECT_THAT(split(token(10, "T", "rstrip"), "a T \n\xe3\x80\x80"
                                              "b"),
              ElementsAre("'a '", "10", "'b'"));
  // One doesn't take what another one has taken.
  std::string both = token(10, "R", "rstrip") + "," + token(11, "L", "lstrip");
  EXPECT_THAT(split(both, "R  L"), ElementsAre("10", "11"));
  // Spaces that a token took are still looked at: tokenizers counts them twice.
  std::string spaces = token(10, "R", "rstrip") + "," + token(11, "  ");
  EXPECT_THAT(split(spaces, "R   a"), ElementsAre("10", "11", "' a'"));
}

TEST_F(AddedTokensTest, LeavesWordsWhole) {
  std::string word = token(10, "word", "single_word");
  EXPECT_THAT(
      split(word, "word words swords _word (word) \xc3\xa9word word\xe2\x80\x8d"),
      ElementsAre("10", "' words swords _word ('", "10", "') \xc3\xa9word word\xe2\x80\x8d'"));
}

TEST_F(AddedTokensTest, LooksForNormalizedTokensInNormalizedText) {
  const char *nfc = R"({"type": "NFC"})";
  std::string accent = "e\xcc\x81";
  EXPECT_THAT(split(token(10, accent, "normalized"), "ae\xcc\x81 \xc3\xa9", nfc),
              ElementsAre("'a'", "10", "' '", "10"));
  EXPECT_THAT(split(token(10, accent), "ae\xcc\x81 \xc3\xa9", nfc),
              ElementsAre("'a'", "10", "' \xc3\xa9'"));
}

TEST_F(AddedTokensTest, NumbersTokensAsTokenizersDoes) {
  EXPECT_TRUE(read(token(10, "a") + "," + token(5, "five") + "," + token(11, "b")).ok());
  EXPECT_EQ(fault(token(10, "a") + "," + token(12, "b")),
            "token 1: \"b\" has the id 12, but its place in the vocabulary or behind it makes it "
            "11");
  EXPECT_EQ(fault(token(6, "five")), "token 0: \"five\" has the id 6, but its place in the "
                                     "vocabulary or behind it makes it 5");
}

TEST_F(AddedTokensTest, NamesWhatIsWrong) {
  EXPECT_EQ(fault("3"), "token 0: it is 3, expected an object");
  EXPECT_EQ(fault(R"({"id": -1})"),
            "token 0: \"id\" is -1, expected an integer in [0, 2147483647]");
  EXPECT_EQ(fault(R"({"id": 10, "content": "a"})"),
            "token 0: \"single_word\" is missing, expected true or false");
  EXPECT_EQ(fault(token(10, std::string(1025, 'x'))),
            Json(std::string(1025, 'x')).describe() +
                ": it is looked for as a text of 1025 bytes, expected 1 to 1024");
  EXPECT_EQ(fault(token(10, "\xef\xac\x81", "normalized") + "," + token(11, "fi", "normalized"),
                  R"({"type": "NFKC"})"),
            "the tokens 10 and 11 are both looked for as \"fi\", expected different texts");
}

} // namespace
} // namespace switchyard

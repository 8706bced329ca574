#include "runtime/data/tokenizer/TextPattern.h"

#include <gmock/gmock.h>

namespace switchyard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class TextPatternTest : public testing::Test {
protected:
  /// The matches of `regex` in `text`.
  std::vector<std::string> find(const std::string &regex, std::string_view text) {
    Result<TextPattern> pattern = TextPattern::ofRegex(regex, classes_);
    if (!pattern.ok())
      return {pattern.status().message()};
    Result<std::vector<TextRange>> matches = pattern->find(text);
    if (!matches.ok())
      return {matches.status().message()};
    std::vector<std::string> found;
    for (TextRange match : *matches)
      found.emplace_back(text.substr(match.begin, match.end - match.begin));
    return found;
  }
  std::string fault(const std::string &regex) {
    Result<TextPattern> pattern = TextPattern::ofRegex(regex, classes_);
    EXPECT_FALSE(pattern.ok()) << regex;
    if (pattern.ok())
      return "";
    EXPECT_EQ(pattern.status().code(), StatusCode::InvalidInput);
    std::string before = "the pattern " + Json(regex).describe() + " is not read: ";
    std::string message = pattern.status().message();
    EXPECT_TRUE(message.starts_with(before)) << message;
    return message.substr(before.size());
  }

  UnicodeClasses classes_;
};

TEST_F(TextPatternTest, FindsATextFromLeftToRight) {
  Result<std::vector<TextRange>> matches = TextPattern::ofText("aa").find("aaa\xc3\xa9"
                                                                          "aa");
  ASSERT_TRUE(matches.ok());
  ASSERT_EQ(matches->size(), 2u);
  EXPECT_EQ((*matches)[0].begin, 0u);
  EXPECT_EQ((*matches)[1].begin, 5u);
  EXPECT_EQ((*matches)[1].end, 7u);
}

TEST_F(TextPatternTest, CutsAsQwenAndLlamaDo) {
  const char *words = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
                      R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  EXPECT_THAT(find(words, "It'S 12345  ok...\r\n  x "),
              ElementsAre("It", "'S", " ", "123", "45", " ", " ok", "...\r\n", " ", " x", " "));
  EXPECT_THAT(find(words, "gr\xc3\xbc\xc3\x9f"
                          "e\xe4\xb8\xad\xf0\x9f\x99\x82!"),
              ElementsAre("gr\xc3\xbc\xc3\x9f"
                          "e\xe4\xb8\xad",
                          "\xf0\x9f\x99\x82!"));
}

TEST_F(TextPatternTest, ReadsWhatOnigurumaReads) {
  EXPECT_THAT(find("a{,2}b|c{2}|d{1,}?", "aaabccddd"), ElementsAre("aab", "cc", "d", "d", "d"));
  EXPECT_THAT(find("(?>a+)b|(?:ab)?+c|(a|b)c", "aabacbc"), ElementsAre("aab", "ac", "bc"));
  EXPECT_THAT(find("(?<=b)a(?=c)|(?<!b)a(?!d)", "baca ad"), ElementsAre("a", "a"));
  EXPECT_THAT(find(".+", "a\r\nb"), ElementsAre("a\r", "b")); // only \n ends a line
  EXPECT_THAT(find("^.|.$", "ab\ncd\n"), ElementsAre("a", "b", "c", "d"));
  EXPECT_THAT(find(R"(\A\w|\w\z|\bx\b|\By)", "ab x xy y"), ElementsAre("a", "x", "y", "y"));
  EXPECT_THAT(find(R"([\x{e9}\u4e2d\x41\t\]-]+)", "-\xc3\xa9\xe4\xb8\xad"
                                                  "A\t]b"),
              ElementsAre("-\xc3\xa9\xe4\xb8\xad"
                          "A\t]"));
  EXPECT_THAT(find(R"([^(\s|[.,!]\])]+)", "a(b|c. d]e"), ElementsAre("a", "b", "c", "d", "e"));
  EXPECT_THAT(find(R"([\p{L}&&[^a-c\P{Ll}]]+|\p{^L})", "abcdEf1"), ElementsAre("d", "f", "1"));
  EXPECT_THAT(find("(?i:[sk]x)", "\xc5\xbfX \xe2\x84\xaax sx"), // long s, the sign of Kelvin
              ElementsAre("\xc5\xbfX", "\xe2\x84\xaax", "sx"));
  EXPECT_THAT(find("}|]", "a]b}"), ElementsAre("]", "}"));
  EXPECT_THAT(find(R"(\w|[^\W])", "\xc2\xb2"), ElementsAre("\xc2\xb2"));
  EXPECT_THAT(find(R"([\w])", "\xc2\xb2"), ElementsAre());
}

TEST_F(TextPatternTest, TakesEmptyMatchesButNotBehindAnother) {
  EXPECT_THAT(find("x*", "axxb"), ElementsAre("", "xx", ""));
  EXPECT_THAT(find("x*", ""), ElementsAre());
  EXPECT_THAT(find("(?=b)", "abb"), ElementsAre("", ""));
}

TEST_F(TextPatternTest, RefusesWhatItDoesNotRead) {
  EXPECT_EQ(fault("a(?#x)"),
            "at byte 1, \"(?#\": of groups that begin with (? only (?: (?> (?= (?! "
            "(?<= (?<! and (?i: are read");
  EXPECT_THAT(fault("(?<name>a)"), HasSubstr("\"(?<\": of groups"));
  EXPECT_THAT(fault("(?i)a"), HasSubstr("\"(?i\": of groups"));
  EXPECT_EQ(fault(R"(a\h)"),
            "at byte 1, \"\\\\h\": of \\ and a letter or digit only \\d \\D \\s \\S \\w \\W \\p{ } "
            "\\P{ } \\A \\z \\b \\B \\t \\n \\v \\f \\r \\a \\e \\x \\u are read");
  EXPECT_THAT(fault(R"((a)\1)"), HasSubstr("\"\\\\1\": of \\ and a letter or digit"));
  EXPECT_EQ(fault(R"(\p{Emoji})"),
            "at byte 0, \"\\\\p{Emoji}\": only general categories (L, Lu, Letter, ...) and "
            "the scripts Arabic, Cyrillic, Devanagari, Greek, Han, Hangul, Hebrew, Hiragana, "
            "Katakana, Latin and Thai are read");
  EXPECT_EQ(fault(R"(\pL)"), "at byte 0, \"\\\\p\": expected { } and a name in it");
  EXPECT_EQ(fault("[[:alpha:]]"),
            "at byte 1, \"[:\": POSIX classes are not read; \\[ is the character");
  EXPECT_EQ(fault("[]a]"), "at byte 0, \"[\": a class without characters; \\] is the character");
  EXPECT_EQ(
      fault("[a-c-e]"),
      "at byte 4, \"-\": in brackets - stands first, last or in a range; \\- is the character");
  EXPECT_EQ(fault(R"([a-\d])"), "at byte 1, \"a-\\\\d\": a class can't end a range");
  EXPECT_EQ(fault("[b-a]"), "at byte 1, \"b-a\": a range whose last character is before its first");
  EXPECT_EQ(fault(R"([^\d\D])"),
            "at byte 0, \"[^\\\\d\\\\D]\": a negated class of no character, or of every one");
  EXPECT_EQ(fault("a++b**"),
            "at byte 4, \"**\": one repetition behind another; put the first into (?: )");
  EXPECT_EQ(fault("a{2}+"),
            "at byte 1, \"{2}+\": one repetition behind another; put the first into "
            "(?: )");
  EXPECT_EQ(fault("a{2}?"), "at byte 1, \"{2}?\": a number of repetitions can't be lazy");
  EXPECT_EQ(fault("a{x}"), "at byte 1, \"{\": expected {n}, {n,}, {,m} or {n,m}; \\{ is the "
                           "character");
  EXPECT_EQ(fault("a{3,2}"), "at byte 1, \"{3,2}\": the second number is less than the first");
  EXPECT_EQ(fault("a{1001}"), "at byte 1, \"{1001}\": at most 1000 repetitions are read");
  EXPECT_EQ(fault("(?:a*|b)*"),
            "at byte 0, \"(?:a*|b)*\": this is repeated, but may match no characters");
  EXPECT_EQ(fault("(?=a)*"),
            "at byte 0, \"(?=a)*\": this can't be repeated, as it takes no characters");
  EXPECT_EQ(fault("a|*"), "at byte 2, \"*\": nothing to repeat before it");
  EXPECT_EQ(fault("a)"), "at byte 1, \")\": no ( before it");
  EXPECT_EQ(fault("(a"), "at byte 0, \"(\": no ) behind it");
  EXPECT_EQ(fault("[a"), "at byte 0, \"[\": no ] behind it");
  EXPECT_EQ(fault("[a&&"), "at byte 0, \"[\": no ] behind it");
  EXPECT_EQ(fault("a\\"), "at byte 1, \"\\\\\": nothing behind it");
  EXPECT_EQ(fault("(?i:\xc3\xa9)"),
            "at byte 4, \"\xc3\xa9\": in (?i: ) only ASCII characters are read");
  EXPECT_EQ(fault(R"((?i:\p{L}))"), "at byte 4, \"\\\\p{L}\": in (?i: ) it is not read");
  EXPECT_EQ(fault("(?i:as|ass)"), "at byte 9, \"s\": in (?i: ) the letters ss one behind the other "
                                  "have other forms, which are not read");
  EXPECT_EQ(fault(R"(\xe9)"), "at byte 0, \"\\\\xe9\": \\xHH is read below 80; write \\x{H}");
  EXPECT_EQ(fault(R"(\x{d800})"), "at byte 0, \"\\\\x{d800}\": is no character");
  EXPECT_EQ(fault(R"(\u41)"), "at byte 0, \"\\\\u41\": expected \\xHH, \\x{H} or \\uHHHH");
}

TEST_F(TextPatternTest, BoundsAPattern) {
  EXPECT_THAT(fault(std::string(40, '(') + std::string(40, ')')),
              HasSubstr("groups are read 32 deep at most"));
  EXPECT_THAT(fault(std::string(40, '[') + std::string(40, ']')),
              HasSubstr("classes are read 32 deep at most"));
  std::string classes;
  while (classes.size() < 60000)
    classes += "\\w";
  EXPECT_EQ(fault(classes), "it has too many classes of characters");
  EXPECT_EQ(TextPattern::ofRegex(std::string(70000, 'a'), classes_).status().message(),
            "the pattern has 70000 bytes, at most 65536 are read");
}

TEST_F(TextPatternTest, GivesUpOnAMatchWithoutEnd) {
  std::string text(40, 'a');
  EXPECT_THAT(
      find("(?:a|aa)+b", text),
      ElementsAre("the pattern \"(?:a|aa)+b\" on a text of 40 bytes: it takes too many steps"));
  EXPECT_THAT(find("(?:a|b)+", std::string(3000000, 'a')),
              ElementsAre("the pattern \"(?:a|b)+\" on a text of 3000000 bytes: it takes too "
                          "much memory"));
}

} // namespace
} // namespace switchyard

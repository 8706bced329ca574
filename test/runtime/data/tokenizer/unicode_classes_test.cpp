#include "runtime/data/tokenizer/UnicodeClasses.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

class UnicodeClassesTest : public testing::Test {
protected:
  int32_t count(std::string_view name) {
    std::optional<icu::UnicodeSet> set = classes_.property(name);
    return set ? set->size() : -1;
  }

  UnicodeClasses classes_;
};

// What Oniguruma 6.9.10 counts, whatever version of Unicode this machine's ICU has.
TEST_F(UnicodeClassesTest, CountsTheCharactersOfUnicode16) {
  EXPECT_EQ(count("L"), 141028);
  EXPECT_EQ(count("M"), 2501);
  EXPECT_EQ(count("N"), 1911);
  EXPECT_EQ(count("P"), 855);
  EXPECT_EQ(count("S"), 8514);
  EXPECT_EQ(count("Z"), 19);
  EXPECT_EQ(count("C"), 957236 + 2048); // with surrogates, which no text has
  EXPECT_EQ(count("Lu") + count("Ll") + count("Lt") + count("Lm") + count("Lo"), 141028);
  EXPECT_EQ(classes_.decimals().size(), 760);
  EXPECT_EQ(classes_.spaces().size(), 25);
}

TEST_F(UnicodeClassesTest, KnowsWhatUnicode16Added) {
  EXPECT_TRUE(classes_.property("Lu")->contains(0x10d50));  // Garay
  EXPECT_TRUE(classes_.property("Nd")->contains(0x1ccf0));  // outlined digits
  EXPECT_TRUE(classes_.property("Han")->contains(0x2ebf0)); // of 15.1
  EXPECT_TRUE(classes_.property("Latin")->contains(0xa7cb));
  EXPECT_TRUE(classes_.property("Mc")->contains(0x1171e)); // Mn before
  EXPECT_FALSE(classes_.property("Mn")->contains(0x1171e));
  EXPECT_TRUE(classes_.words().contains(0x10d50));
  EXPECT_FALSE(classes_.words().contains(0x1ccef));        // a symbol
  EXPECT_TRUE(classes_.property("Cn")->contains(0x11de0)); // of 17
}

TEST_F(UnicodeClassesTest, KnowsTheOddOnes) {
  // Digits is newer than patterns.
  EXPECT_TRUE(classes_.numbers().contains(0x11de0));
  EXPECT_EQ(classes_.numbers().size(), 1911 + 13);
  // Oniguruma's \w has the superscripts of Latin-1, but not in brackets.
  EXPECT_TRUE(classes_.words().contains(0xb2));
  EXPECT_FALSE(classes_.wordsInBrackets().contains(0xb2));
  // Joiners are words beside an added token.
  EXPECT_TRUE(classes_.wordBorders().contains(0x200d));
  EXPECT_FALSE(classes_.words().contains(0x200d));
}

TEST_F(UnicodeClassesTest, ReadsNamesAsPatternsWriteThem) {
  EXPECT_EQ(count("lu"), count("Lu"));
  EXPECT_EQ(count("LETTER"), count("L"));
  EXPECT_EQ(count("hi ra-ga_na"), count("Hiragana"));
  EXPECT_EQ(count("Script=Han"), -1);
  EXPECT_EQ(count("Klingon"), -1);
  EXPECT_EQ(count(""), -1);
}

TEST(NormalizedCharacters, AreThoseOfUnicode9) {
  icu::UnicodeSet known = normalizedCharacters();
  EXPECT_TRUE(known.contains(0x1f23b));  // of 9
  EXPECT_FALSE(known.contains(0x32ff));  // of 12.1
  EXPECT_FALSE(known.contains(0x11938)); // of 13
}

} // namespace
} // namespace switchyard

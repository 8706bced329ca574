// Classes of characters as Hugging Face's tokenizers knows them.
//
// That library (0.23) has Unicode from several places, each of its own age: patterns (Oniguruma)
// and the words around added tokens (Rust's regex) know Unicode 16, digits (Rust) Unicode 17,
// normalization Unicode 9. ICU knows the version that it was built with. Where that is older than
// 16, what came since is in a table here; characters that came later count as unassigned.
#pragma once

#include <unicode/uniset.h>

#include <array>
#include <optional>
#include <string_view>

namespace switchyard {

class UnicodeClasses {
public:
  /// Takes some milliseconds: it looks at every character.
  UnicodeClasses();

  /// `\p{name}`: a general category (`L`, `Lu`, `Letter`) or one of the scripts of properties().
  /// As in a pattern, case, spaces, `_` and `-` in a name don't matter.
  std::optional<icu::UnicodeSet> property(std::string_view name) const;
  /// What property() knows, for messages.
  static const char *properties();

  /// `\s` of patterns, and what added tokens strip: White_Space.
  const icu::UnicodeSet &spaces() const { return spaces_; }
  /// `\d` of patterns: decimal digits.
  const icu::UnicodeSet &decimals() const { return categories_[U_DECIMAL_DIGIT_NUMBER]; }
  /// `\w` of patterns; Oniguruma has another one in brackets.
  const icu::UnicodeSet &words() const { return words_; }
  const icu::UnicodeSet &wordsInBrackets() const { return wordsInBrackets_; }
  /// `\w` beside an added token that is a single word.
  const icu::UnicodeSet &wordBorders() const { return wordBorders_; }
  /// What the pre-tokenizer Digits takes for one.
  const icu::UnicodeSet &numbers() const { return numbers_; }

private:
  std::array<icu::UnicodeSet, U_CHAR_CATEGORY_COUNT> categories_;
  icu::UnicodeSet spaces_;
  icu::UnicodeSet words_;
  icu::UnicodeSet wordsInBrackets_;
  icu::UnicodeSet wordBorders_;
  icu::UnicodeSet numbers_;
};

/// The characters that normalizers know: those of Unicode 9.
icu::UnicodeSet normalizedCharacters();

} // namespace switchyard

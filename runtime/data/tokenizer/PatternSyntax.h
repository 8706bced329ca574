// The regular expressions of tokenizer.json, as ICU takes them.
//
// tokenizers reads them with Oniguruma, whose syntax and classes of characters are not ICU's. So a
// pattern is read here, and every class and character of it is written out as a set of code points:
// what ICU then does (alternatives in order, greedy, lazy and possessive repetition, looking ahead
// and behind) is the same in both. What isn't, or is not known to be, is refused.
//
// Read are: characters; . ^ $ | ( ) (?: ) (?> ) (?= ) (?! ) (?<= ) (?<! ) and (?i: ) over ASCII;
// * + ? and their lazy and possessive forms; {n} {n,} {,m} {n,m} and the lazy {n,m}?; \A \z \b \B;
// \d \D \s \S \w \W \p{ } \P{ }; \t \n \v \f \r \a \e \xHH (ASCII) \x{H} \uHHHH and \ before
// punctuation; classes in brackets with ranges, one inside another, and &&.
#pragma once

#include "runtime/core/Status.h"
#include "runtime/data/tokenizer/UnicodeClasses.h"

#include <unicode/unistr.h>

#include <string_view>

namespace switchyard {

/// Fails with InvalidInput, quoting what is not read and where it stands.
Result<icu::UnicodeString> toIcuPattern(std::string_view pattern, const UnicodeClasses &classes);

} // namespace switchyard

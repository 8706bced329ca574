// What a tokenizer looks for in a text: a literal text, or a regular expression.
#pragma once

#include "runtime/core/Json.h"
#include "runtime/core/Status.h"
#include "runtime/data/tokenizer/TextPieces.h"
#include "runtime/data/tokenizer/UnicodeClasses.h"

#include <unicode/regex.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

class TextPattern {
public:
  /// `text` itself, which is not empty.
  static TextPattern ofText(std::string text);
  /// A regular expression in tokenizer.json's syntax (PatternSyntax.h). InvalidInput: one that is
  /// not read.
  static Result<TextPattern> ofRegex(const std::string &regex, const UnicodeClasses &classes);

  /// Its matches in `text`, which is UTF-8, in order. As the find_iter of tokenizers' regular
  /// expressions has them: one may be empty, but not right behind another one. Fails where a
  /// regular expression takes too many steps or too much memory.
  Result<std::vector<TextRange>> find(std::string_view text) const;

  /// The `pattern` of a Replace or a Split: {"String": "a text"} or {"Regex": "..."}.
  static Result<TextPattern> read(const Json &json, const UnicodeClasses &classes);

private:
  TextPattern() = default;
  Result<std::vector<TextRange>> findRegex(std::string_view text) const;

  std::string text_;                         // as given
  std::unique_ptr<icu::RegexPattern> regex_; // null: look for text_
};

} // namespace switchyard

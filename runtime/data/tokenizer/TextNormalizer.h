// tokenizer.json's "normalizer": how a text is changed before anything is looked for in it. NFC,
// NFD, NFKC, NFKD, Prepend, Replace, and Sequence of these.
#pragma once

#include "runtime/core/Json.h"
#include "runtime/core/Status.h"
#include "runtime/data/tokenizer/TextPattern.h"

#include <unicode/normalizer2.h>

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace switchyard {

class TextNormalizer {
public:
  /// InvalidInput: another type, named with those that are read. `json` may be null: no change.
  static Result<TextNormalizer> read(const Json &json, const UnicodeClasses &classes);

  bool isNone() const { return steps_.empty(); }

  /// `text` changed, in `texts` if it is not what it was. Fails where a pattern or the store does.
  Result<std::string_view> apply(std::string_view text, TextStore &texts) const;

private:
  struct Form {
    // The filter refers to the set.
    std::unique_ptr<icu::UnicodeSet> known;
    std::unique_ptr<icu::FilteredNormalizer2> normalizer;
  };
  struct Prepend {
    std::string text;
  };
  struct Replace {
    TextPattern pattern;
    std::string with;
  };

  Status add(const Json &json, const UnicodeClasses &classes);
  Status addForm(const std::string &type);
  static Result<std::string_view> apply(const Form &form, std::string_view text, TextStore &texts);
  static Result<std::string_view> apply(const Prepend &prepend, std::string_view text,
                                        TextStore &texts);
  static Result<std::string_view> apply(const Replace &replace, std::string_view text,
                                        TextStore &texts);

  std::vector<std::variant<Form, Prepend, Replace>> steps_;
};

} // namespace switchyard

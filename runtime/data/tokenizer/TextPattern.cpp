#include "runtime/data/tokenizer/TextPattern.h"

#include "runtime/data/tokenizer/PatternSyntax.h"

#include <fmt/format.h>

#include <algorithm>

namespace switchyard {

namespace {

// Of one match, in ICU's units of 10,000 steps back: as many as Oniguruma's 10,000,000.
constexpr int32_t kMaxSteps = 1'000;
// Of what it may have to come back to. ICU counts four bytes where it takes eight.
constexpr int32_t kMaxStack = 32 << 20;

/// Turns positions in the UTF-16 form of a text into those in the text; they must not decrease.
class Positions {
public:
  explicit Positions(std::string_view text) : text_(text) {}

  size_t bytes(int32_t units) {
    while (units_ < units) {
      auto lead = static_cast<unsigned char>(text_[bytes_]);
      units_ += lead < 0xf0 ? 1 : 2;
      bytes_ += lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    }
    return bytes_;
  }

private:
  std::string_view text_;
  size_t bytes_ = 0;
  int32_t units_ = 0;
};

Status failure(const std::string &regex, size_t bytes, UErrorCode error) {
  std::string where =
      fmt::format("the pattern {} on a text of {} bytes", Json(regex).describe(), bytes);
  if (error == U_REGEX_TIME_OUT)
    return Status::failed(where + ": it takes too many steps");
  if (error == U_REGEX_STACK_OVERFLOW)
    return Status::failed(where + ": it takes too much memory");
  return Status::failed(where + ": " + u_errorName(error));
}

} // namespace

TextPattern TextPattern::ofText(std::string text) {
  TextPattern pattern;
  pattern.text_ = std::move(text);
  return pattern;
}

Result<TextPattern> TextPattern::ofRegex(const std::string &regex, const UnicodeClasses &classes) {
  SY_ASSIGN_OR_RETURN(icu::UnicodeString translated, toIcuPattern(regex, classes));
  TextPattern pattern;
  pattern.text_ = regex;
  UErrorCode error = U_ZERO_ERROR;
  pattern.regex_.reset(icu::RegexPattern::compile(translated, 0, error));
  if (U_FAILURE(error))
    return Status::invalidInput(fmt::format("the pattern {} is not read: ICU says {}",
                                            Json(regex).describe(), u_errorName(error)));
  return pattern;
}

Result<TextPattern> TextPattern::read(const Json &json, const UnicodeClasses &classes) {
  SY_ASSIGN_OR_RETURN(const Json *pattern, getObject(json, "pattern"));
  if (pattern->find("Regex")) {
    SY_ASSIGN_OR_RETURN(std::string regex, getString(*pattern, "Regex"));
    return ofRegex(regex, classes);
  }
  SY_ASSIGN_OR_RETURN(std::string text, getString(*pattern, "String"));
  if (text.empty())
    return Status::invalidInput("\"String\" is empty, expected a text to look for");
  return ofText(std::move(text));
}

Result<std::vector<TextRange>> TextPattern::find(std::string_view text) const {
  if (regex_)
    return findRegex(text);
  std::vector<TextRange> matches;
  for (size_t at = text.find(text_); at != std::string_view::npos;
       at = text.find(text_, at + text_.size()))
    matches.push_back({at, at + text_.size()});
  return matches;
}

Result<std::vector<TextRange>> TextPattern::findRegex(std::string_view text) const {
  std::vector<TextRange> matches;
  if (text.empty())
    return matches;
  if (text.size() > INT32_MAX)
    return failure(text_, text.size(), U_BUFFER_OVERFLOW_ERROR);
  icu::UnicodeString units = icu::UnicodeString::fromUTF8(icu::StringPiece(text));
  UErrorCode error = U_ZERO_ERROR;
  std::unique_ptr<icu::RegexMatcher> matcher(regex_->matcher(units, error));
  if (U_SUCCESS(error)) {
    matcher->setTimeLimit(kMaxSteps, error);
    matcher->setStackLimit(kMaxStack, error);
  }
  Positions positions(text);
  int32_t end = -1; // of the last match
  for (int32_t at = 0; at <= units.length();) {
    if (U_FAILURE(error) || !matcher->find(at, error))
      break;
    int32_t begin = matcher->start(error);
    int32_t found = matcher->end(error);
    if (begin == found && begin == end) {
      at = at == units.length() ? at + 1 : units.moveIndex32(at, 1);
      continue;
    }
    at = end = found;
    size_t first = positions.bytes(begin);
    matches.push_back({first, positions.bytes(end)});
  }
  if (U_FAILURE(error))
    return failure(text_, text.size(), error);
  return matches;
}

} // namespace switchyard

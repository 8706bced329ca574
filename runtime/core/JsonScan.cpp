#include "runtime/core/JsonScan.h"

#include <algorithm>

namespace switchyard {

namespace {

class Scanner {
public:
  Scanner(std::string_view text, int maxDepth) : text_(text), maxDepth_(maxDepth) {}

  JsonFault run() {
    space();
    if (value(0)) {
      space();
      if (place_ < text_.size())
        fail("there is more after the end of the value");
    }
    JsonFault fault{message_, 1, 1};
    size_t lineStart = 0;
    for (size_t i = 0; i < std::min(place_, text_.size()); ++i) {
      if (text_[i] == '\n') {
        ++fault.line;
        lineStart = i + 1;
      }
    }
    fault.column = place_ - lineStart + 1;
    return fault;
  }

private:
  bool fail(std::string message) {
    message_ = place_ >= text_.size() ? "the text ends here; " + message : std::move(message);
    return false;
  }

  bool at(char c) const { return place_ < text_.size() && text_[place_] == c; }
  bool digit() const {
    return place_ < text_.size() && text_[place_] >= '0' && text_[place_] <= '9';
  }
  bool take(char c) { return at(c) && ++place_; }

  void space() {
    while (at(' ') || at('\t') || at('\n') || at('\r'))
      ++place_;
  }

  bool value(int depth) {
    if (at('{') || at('['))
      return container(depth);
    if (at('"'))
      return string();
    if (at('-') || digit())
      return number();
    for (std::string_view word : {"true", "false", "null"})
      if (text_.substr(place_).starts_with(word)) {
        place_ += word.size();
        return true;
      }
    return fail("expected a value");
  }

  bool container(int depth) {
    if (depth >= maxDepth_)
      return fail("arrays and objects are nested deeper than " + std::to_string(maxDepth_));
    bool object = take('{');
    if (!object)
      ++place_;
    char close = object ? '}' : ']';
    space();
    if (take(close))
      return true;
    while (true) {
      space();
      if (object && !member())
        return false;
      if (!value(depth + 1))
        return false;
      space();
      if (take(close))
        return true;
      if (!take(','))
        return fail(std::string("expected ',' or '") + close + "'");
    }
  }

  bool member() {
    if (!at('"'))
      return fail("expected a key in double quotes");
    if (!string())
      return false;
    space();
    if (!take(':'))
      return fail("expected ':' after the key");
    space();
    return true;
  }

  bool string() {
    ++place_;
    for (; place_ < text_.size(); ++place_) {
      char c = text_[place_];
      if (c == '"') {
        ++place_;
        return true;
      }
      if (static_cast<unsigned char>(c) < 0x20)
        return fail("a control character in a string; write it as an escape such as \\n");
      if (c == '\\' && !escape())
        return false;
    }
    return fail("a string is not closed");
  }

  /// Stands on the backslash; afterwards on the last character of the escape.
  bool escape() {
    ++place_;
    if (!at('u'))
      return (place_ < text_.size() &&
              std::string_view("\"\\/bfnrt").find(text_[place_]) != std::string_view::npos) ||
             fail("an unknown escape in a string");
    for (int i = 0; i < 4; ++i) {
      ++place_;
      if (place_ >= text_.size() ||
          std::string_view("0123456789abcdefABCDEF").find(text_[place_]) == std::string_view::npos)
        return fail("\\u needs four hexadecimal digits");
    }
    return true;
  }

  bool number() {
    take('-');
    if (take('0')) {
      if (digit())
        return fail("a number with a leading zero");
    } else if (!digits()) {
      return false;
    }
    if (take('.') && !digits())
      return false;
    if (at('e') || at('E')) {
      ++place_;
      if (!take('+'))
        take('-');
      return digits();
    }
    return true;
  }

  bool digits() {
    if (!digit())
      return fail("expected a digit");
    while (digit())
      ++place_;
    return true;
  }

  std::string_view text_;
  int maxDepth_;
  size_t place_ = 0;
  std::string message_;
};

} // namespace

JsonFault findJsonFault(std::string_view text, int maxDepth) {
  return Scanner(text, maxDepth).run();
}

} // namespace switchyard

#include "tools/common/MlirInput.h"

using namespace llvm;

namespace switchyard {

namespace {

/// Counts how deep brackets nest, outside strings and comments. A run of minus signs counts as
/// well: the parser of affine expressions recurses on each.
class NestingScanner {
public:
  explicit NestingScanner(StringRef text) : text_(text) {}

  /// The number of the first line that is nested too deep, or 0.
  unsigned findTooDeep() {
    while (at_ < text_.size()) {
      step();
      if (depth_ + angles_ + minuses_ > kMaxNesting)
        return line_;
    }
    return 0;
  }

private:
  char peek(size_t ahead) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }

  void step() {
    char c = text_[at_];
    if (c == '"')
      return skipString();
    if (c == '/' && peek(1) == '/')
      return skipLine();
    ++at_;
    if (c == '\n')
      ++line_;
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
      return;
    if (c == '-' && peek(0) == '>') {
      ++at_;
      minuses_ = 0;
      return;
    }
    minuses_ = c == '-' ? minuses_ + 1 : 0;
    if (c == '(' || c == '[' || c == '{')
      ++depth_;
    else if (c == '<')
      ++angles_;
    else if ((c == ')' || c == ']' || c == '}') && depth_ > 0)
      --depth_;
    else if (c == '>' && angles_ > 0)
      --angles_;
  }

  void skipString() {
    for (++at_; at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\n'; ++at_)
      if (text_[at_] == '\\' && peek(1) != '\n')
        ++at_;
    if (at_ < text_.size() && text_[at_] == '"')
      ++at_;
  }

  void skipLine() {
    while (at_ < text_.size() && text_[at_] != '\n')
      ++at_;
  }

  StringRef text_;
  size_t at_ = 0;
  unsigned line_ = 1;
  unsigned depth_ = 0;
  unsigned angles_ = 0; // counted apart: ">" is also a comparison
  unsigned minuses_ = 0;
};

} // namespace

Status checkMlirInput(StringRef path, StringRef text) {
  if (text.starts_with("ML\xefR"))
    return Status::invalidInput(path.str() +
                                ": is MLIR bytecode, which is not read; write it as text first");
  if (unsigned line = NestingScanner(text).findTooDeep())
    return Status::invalidInput(path.str() + ":" + std::to_string(line) +
                                ": brackets nest more than " + std::to_string(kMaxNesting) +
                                " deep, which is the limit");
  return {};
}

Result<std::unique_ptr<MemoryBuffer>> readMlirInput(StringRef path) {
  ErrorOr<std::unique_ptr<MemoryBuffer>> file = MemoryBuffer::getFileOrSTDIN(path, /*IsText=*/true);
  if (!file)
    return Status::invalidInput(path.str() + ": cannot be read: " + file.getError().message());
  SY_RETURN_IF_ERROR(checkMlirInput(path, (*file)->getBuffer()));
  return std::move(*file);
}

} // namespace switchyard

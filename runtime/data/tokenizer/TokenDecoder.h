// tokenizer.json's "decoder": how tokens become a text again. ByteFallback, ByteLevel, Fuse,
// Metaspace, Replace, Strip, and Sequence of these.
#pragma once

#include "runtime/core/Json.h"
#include "runtime/core/Status.h"
#include "runtime/data/tokenizer/ByteAlphabet.h"
#include "runtime/data/tokenizer/TextPattern.h"

#include <string>
#include <variant>
#include <vector>

namespace switchyard {

class TokenDecoder {
public:
  /// InvalidInput: another type, named with those that are read. `json` may be null: a space
  /// between tokens.
  static Result<TokenDecoder> read(const Json &json, const UnicodeClasses &classes);

  /// Bytes that are not UTF-8 become the replacement character. Fails where a pattern or
  /// a TextStore does.
  Result<std::string> decode(std::vector<std::string> tokens) const;

private:
  struct ByteFallback {};
  struct ByteLevel {
    ByteAlphabet alphabet;
  };
  struct Fuse {};
  struct Metaspace {
    std::string replacement;
    bool prepends;
  };
  struct Replace {
    TextPattern pattern;
    std::string with;
  };
  struct Strip {
    std::string character;
    int64_t atStart;
    int64_t atEnd;
  };

  using Step = std::variant<ByteFallback, ByteLevel, Fuse, Metaspace, Replace, Strip>;
  class Applier;

  Status add(const Json &json, const UnicodeClasses &classes);

  std::vector<Step> steps_;
  bool isNone_ = true;
};

} // namespace switchyard

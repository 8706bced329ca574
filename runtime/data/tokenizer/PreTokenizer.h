// tokenizer.json's "pre_tokenizer": how a text is cut into the pieces that the model sees, one by
// one. ByteLevel, Digits, Metaspace, Split, and Sequence of these.
#pragma once

#include "runtime/core/Json.h"
#include "runtime/core/Status.h"
#include "runtime/data/tokenizer/ByteAlphabet.h"
#include "runtime/data/tokenizer/TextPattern.h"
#include "runtime/data/tokenizer/TextPieces.h"

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace switchyard {

class PreTokenizer {
public:
  /// InvalidInput: another type, named with those that are read. `json` may be null: no cuts.
  /// `isNormalized`: there is a normalizer before it.
  static Result<PreTokenizer> read(const Json &json, bool isNormalized,
                                   const UnicodeClasses &classes);

  /// Whether the pieces are in the byte-level alphabet (ByteAlphabet.h) in the end. apply() leaves
  /// them as bytes then, and the model is told.
  bool endsInBytes() const;

  /// Cuts those of `pieces` that are no tokens. Fails where a pattern or the store does.
  Status apply(std::vector<TextPiece> &pieces, TextStore &texts) const;

private:
  enum class Behavior : uint8_t {
    Removed,
    Isolated,
    MergedWithPrevious,
    MergedWithNext,
    Contiguous
  };
  struct ByteLevel {
    bool addsSpace = false;
    std::optional<TextPattern> words; // none: no cuts
    ByteAlphabet alphabet;
  };
  struct Digits {
    bool isEachAlone = false;
    icu::UnicodeSet numbers;
  };
  struct Metaspace {
    enum class Prepends : uint8_t { Never, First, Always };
    Prepends prepends = Prepends::Always;
    std::string replacement;
    bool cuts = true;
  };
  struct Split {
    TextPattern pattern;
    Behavior behavior;
    bool isInverted;
  };
  using Step = std::variant<ByteLevel, Digits, Metaspace, Split>;
  class Cutter;

  Status add(const Json &json, bool isNormalized, const UnicodeClasses &classes);
  Result<Metaspace> readMetaspace(const Json &json, bool isNormalized) const;
  static Result<ByteLevel> readByteLevel(const Json &json, const UnicodeClasses &classes);
  static Result<Split> readSplit(const Json &json, const UnicodeClasses &classes);

  std::vector<Step> steps_;
};

} // namespace switchyard

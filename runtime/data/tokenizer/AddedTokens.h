// tokenizer.json's "added_tokens": tokens that are read out of a text before the model sees the
// rest of it, special ones (`<|endoftext|>`) as well as others.
#pragma once

#include "runtime/core/Json.h"
#include "runtime/core/Status.h"
#include "runtime/data/tokenizer/TextNormalizer.h"
#include "runtime/data/tokenizer/TextPieces.h"

#include <unicode/uniset.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool isSingleWord = false; // not inside a word
  bool stripsLeft = false;   // takes white space on its left
  bool stripsRight = false;
  bool isNormalized = false; // looked for in the normalized text, in its own normalized form
  bool isSpecial = false;    // no part of a decoded text
  std::string found;         // what is looked for

  bool isFoundAsIs() const { return found == content; }
};

/// Looks for texts: at the leftmost place the longest.
class TokenFinder {
public:
  /// InvalidInput: two tokens with one text, or a text that is empty or long.
  Status add(const AddedToken &token);
  /// After the last add().
  Status finish(const UnicodeClasses &classes);

  /// Appends `piece` to `pieces`, cut where tokens are.
  void split(TextPiece piece, std::vector<TextPiece> &pieces) const;

private:
  const AddedToken *longestAt(std::string_view text) const;
  bool isInWord(std::string_view before, std::string_view behind) const;

  std::vector<AddedToken> tokens_; // by what is looked for
  std::array<bool, 256> firsts_{};
  icu::UnicodeSet words_;
  icu::UnicodeSet spaces_;
};

class AddedTokens {
public:
  using IdOfText = std::function<std::optional<int32_t>(std::string_view)>;

  /// A text that the model has a token for keeps its id (`modelId`), others are numbered from
  /// `modelSize` on, as tokenizers does whatever the file says. InvalidInput: a file that says
  /// otherwise, and what TokenFinder refuses.
  static Result<AddedTokens> read(const Json &json, const TextNormalizer &normalizer,
                                  const UnicodeClasses &classes, int32_t modelSize,
                                  const IdOfText &modelId);

  /// All of them, by id.
  const std::map<int32_t, AddedToken> &tokens() const { return tokens_; }

  /// `text` as pieces: tokens, and normalized text between them. Fails where the normalizer does.
  Result<std::vector<TextPiece>> split(std::string_view text, const TextNormalizer &normalizer,
                                       TextStore &texts) const;

private:
  std::map<int32_t, AddedToken> tokens_;
  TokenFinder plain_;
  TokenFinder normalized_;
};

} // namespace switchyard

// The pieces that a text is cut into on its way to token ids.
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>

namespace switchyard {

/// Bytes [begin, end) of a text.
struct TextRange {
  size_t begin = 0;
  size_t end = 0;
};

/// A part of a text, or an added token that was found in it.
struct TextPiece {
  std::string_view text;
  int32_t token = -1;     // the token's id; its text then stays what it is
  bool isAtStart = false; // whether the text that is encoded begins with it
};

/// Holds the texts that are made of one text while it is encoded. What a tokenizer.json says may
/// multiply a text over and over, and memory is bounded: together they may have 64 times its bytes,
/// and 64 MiB.
class TextStore {
public:
  explicit TextStore(size_t sourceBytes) : sourceBytes_(sourceBytes) {}

  /// Whether there is room for `bytes` more.
  Status checkRoom(size_t bytes) const;
  /// Keeps `text`; the view is valid as long as the store.
  Result<std::string_view> keep(std::string text);
  /// Keeps `text` with `with` in place of each of `ranges`.
  Result<std::string_view> keepReplaced(std::string_view text, std::span<const TextRange> ranges,
                                        std::string_view with);

private:
  size_t sourceBytes_;
  size_t bytes_ = 0;
  std::deque<std::string> texts_;
};

} // namespace switchyard

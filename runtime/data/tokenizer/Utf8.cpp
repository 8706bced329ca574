#include "runtime/data/tokenizer/Utf8.h"

#include <unicode/utf8.h>

#include <algorithm>

namespace switchyard {

// NOLINTBEGIN(bugprone-inc-dec-in-conditions): in ICU's macros

UChar32 nextCharacter(std::string_view text, size_t &at) {
  UChar32 c;
  U8_NEXT(text.data(), at, text.size(), c);
  return c;
}

UChar32 lastCharacter(std::string_view text, size_t &begin) {
  const size_t skipped = text.size() - std::min<size_t>(text.size(), U8_MAX_LENGTH);
  text.remove_prefix(skipped);
  auto at = static_cast<int32_t>(text.size());
  UChar32 c;
  U8_PREV(text.data(), 0, at, c);
  begin = skipped + static_cast<size_t>(at);
  return c;
}

// NOLINTEND(bugprone-inc-dec-in-conditions)

std::optional<std::string> repairUtf8(std::string_view text) {
  std::optional<std::string> repaired;
  for (size_t at = 0; at < text.size();) {
    size_t begin = at;
    UChar32 c = nextCharacter(text, at);
    if (c < 0 && !repaired)
      repaired = text.substr(0, begin);
    if (repaired)
      *repaired += c < 0 ? std::string_view("\xef\xbf\xbd") : text.substr(begin, at - begin);
  }
  return repaired;
}

} // namespace switchyard

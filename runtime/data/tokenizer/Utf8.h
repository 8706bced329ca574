// The characters of UTF-8 texts.
#pragma once

#include <unicode/utypes.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace switchyard {

/// The character of `text` at `at`, which then is behind it; negative for what is not UTF-8.
UChar32 nextCharacter(std::string_view text, size_t &at);

/// The character that `text`, which is not empty, ends with, and where it begins.
UChar32 lastCharacter(std::string_view text, size_t &begin);

/// `text` with the replacement character, U+FFFD, for what is not UTF-8 in it (one for each maximal
/// part of a character, as the Unicode standard recommends); nothing if it is UTF-8.
std::optional<std::string> repairUtf8(std::string_view text);

} // namespace switchyard

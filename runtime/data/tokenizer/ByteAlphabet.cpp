#include "runtime/data/tokenizer/ByteAlphabet.h"

#include "runtime/data/tokenizer/Utf8.h"

#include <unicode/utf8.h>

namespace switchyard {

ByteAlphabet::ByteAlphabet() {
  bytes_.fill(-1);
  int next = 0x100; // of the bytes that print nothing by themselves
  for (int byte = 0; byte < 256; ++byte) {
    bool prints = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
    int character = prints ? byte : next++;
    char utf8[U8_MAX_LENGTH];
    int length = 0;
    U8_APPEND_UNSAFE(utf8, length, character);
    characters_[byte].assign(utf8, length);
    bytes_[character] = static_cast<int16_t>(byte);
  }
}

std::string ByteAlphabet::ofBytes(std::string_view text) const {
  std::string characters;
  characters.reserve(2 * text.size());
  for (char byte : text)
    characters += character(static_cast<uint8_t>(byte));
  return characters;
}

bool ByteAlphabet::toBytes(std::string_view text, std::string &bytes) const {
  const size_t before = bytes.size();
  for (size_t at = 0; at < text.size();) {
    UChar32 c = nextCharacter(text, at);
    if (c < 0 || c >= static_cast<UChar32>(kCharacters) || bytes_[c] < 0) {
      bytes.resize(before);
      return false;
    }
    bytes += static_cast<char>(bytes_[c]);
  }
  return true;
}

} // namespace switchyard

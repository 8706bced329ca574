// The byte-level alphabet of GPT-2 (Radford et al. 2019): a printable character for each byte.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace switchyard {

class ByteAlphabet {
public:
  ByteAlphabet();

  /// The character of `byte`, in UTF-8.
  const std::string &character(uint8_t byte) const { return characters_[byte]; }
  /// The characters of the bytes of `text`.
  std::string ofBytes(std::string_view text) const;
  /// Appends to `bytes` those that the characters of `text`, which is UTF-8, stand for. False, with
  /// nothing appended, if one stands for none.
  bool toBytes(std::string_view text, std::string &bytes) const;

private:
  static constexpr size_t kCharacters = 0x144;

  std::array<std::string, 256> characters_;
  std::array<int16_t, kCharacters> bytes_; // by code point; -1: none
};

} // namespace switchyard

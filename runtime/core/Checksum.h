// A 64-bit checksum of bytes that damage by accident does not pass: XXH64 (Yann Collet; the format
// is described in https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md), as `xxhsum -H64`
// prints it. Reads faster than a disk does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace switchyard {

uint64_t checksum(std::span<const std::byte> bytes);
uint64_t checksum(std::string_view text);

/// As 16 hexadecimal digits in lower case, and back; nothing for any other text.
std::string checksumText(uint64_t value);
std::optional<uint64_t> checksumFromText(std::string_view text);

} // namespace switchyard

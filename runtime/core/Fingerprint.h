// A 64-bit fingerprint of bytes (FNV-1a; Fowler, Noll, Vo): tells files apart that differ by
// accident, not by intent.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace switchyard {

/// The fingerprint of `bytes`. `seed` is the fingerprint of what stands before them, to go on from
/// it.
uint64_t fingerprint(std::string_view bytes, uint64_t seed = 0xcbf29ce484222325u);

/// As 16 hexadecimal digits.
std::string fingerprintText(uint64_t value);

} // namespace switchyard

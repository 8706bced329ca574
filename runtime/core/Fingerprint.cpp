#include "runtime/core/Fingerprint.h"

#include <fmt/format.h>

namespace switchyard {

uint64_t fingerprint(std::string_view bytes, uint64_t seed) {
  for (char byte : bytes)
    seed = (seed ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
  return seed;
}

std::string fingerprintText(uint64_t value) {
  return fmt::format("{:016x}", value);
}

} // namespace switchyard

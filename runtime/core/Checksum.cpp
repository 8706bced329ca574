#include "runtime/core/Checksum.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

namespace switchyard {

namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint64_t kPrime1 = 0x9e3779b185ebca87u;
constexpr uint64_t kPrime2 = 0xc2b2ae3d27d4eb4fu;
constexpr uint64_t kPrime3 = 0x165667b19e3779f9u;
constexpr uint64_t kPrime4 = 0x85ebca77c2b2ae63u;
constexpr uint64_t kPrime5 = 0x27d4eb2f165667c5u;
constexpr size_t kLanes = 4;

template <typename T>
uint64_t wordAt(const std::byte *at) {
  T word;
  std::memcpy(&word, at, sizeof(word));
  return word;
}

uint64_t mix(uint64_t lane, uint64_t word) {
  return std::rotl(lane + word * kPrime2, 31) * kPrime1;
}

/// What the four lanes make of whole stripes; moves `at` behind them.
uint64_t mixStripes(const std::byte *&at, const std::byte *end) {
  uint64_t lanes[kLanes] = {kPrime1 + kPrime2, kPrime2, 0, 0 - kPrime1};
  for (; static_cast<size_t>(end - at) >= kLanes * 8; at += kLanes * 8)
    for (size_t i = 0; i < kLanes; ++i)
      lanes[i] = mix(lanes[i], wordAt<uint64_t>(at + 8 * i));
  uint64_t hash = std::rotl(lanes[0], 1) + std::rotl(lanes[1], 7) + std::rotl(lanes[2], 12) +
                  std::rotl(lanes[3], 18);
  for (uint64_t lane : lanes)
    hash = (hash ^ mix(0, lane)) * kPrime1 + kPrime4;
  return hash;
}

} // namespace

uint64_t checksum(std::span<const std::byte> bytes) {
  const std::byte *at = bytes.data(), *end = at + bytes.size();
  uint64_t hash = bytes.size() >= kLanes * 8 ? mixStripes(at, end) : kPrime5;
  hash += bytes.size();
  for (; end - at >= 8; at += 8)
    hash = std::rotl(hash ^ mix(0, wordAt<uint64_t>(at)), 27) * kPrime1 + kPrime4;
  for (; end - at >= 4; at += 4)
    hash = std::rotl(hash ^ wordAt<uint32_t>(at) * kPrime1, 23) * kPrime2 + kPrime3;
  for (; at < end; ++at)
    hash = std::rotl(hash ^ wordAt<uint8_t>(at) * kPrime5, 11) * kPrime1;
  hash = (hash ^ hash >> 33) * kPrime2;
  hash = (hash ^ hash >> 29) * kPrime3;
  return hash ^ hash >> 32;
}

uint64_t checksum(std::string_view text) {
  return checksum(std::as_bytes(std::span(text)));
}

std::string checksumText(uint64_t value) {
  return fmt::format("{:016x}", value);
}

std::optional<uint64_t> checksumFromText(std::string_view text) {
  if (text.size() != 16)
    return std::nullopt;
  uint64_t value = 0;
  for (char digit : text) {
    bool isDecimal = digit >= '0' && digit <= '9';
    if (!isDecimal && !(digit >= 'a' && digit <= 'f'))
      return std::nullopt;
    value = value << 4 | static_cast<uint64_t>(isDecimal ? digit - '0' : digit - 'a' + 10);
  }
  return value;
}

} // namespace switchyard

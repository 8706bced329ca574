#include "tools/moe-bench/RandomValues.h"

#include "runtime/core/Floats.h"

#include <algorithm>
#include <thread>
#include <vector>

namespace switchyard::bench {

namespace {

/// Elements that one thread makes at once.
constexpr int64_t kPiece = int64_t{1} << 18;

/// Four elements come from one call of randomBits.
void fillPiece(uint64_t seed, int64_t begin, float deviation, std::span<float> values) {
  const float scale = deviation * 1.7320508F / 32768; // +-sqrt(3) has deviation 1
  const auto count = static_cast<int64_t>(values.size());
  for (int64_t i = 0; i < count;) {
    const uint64_t bits = randomBits(seed + static_cast<uint64_t>((begin + i) / 4));
    for (int64_t lane = (begin + i) % 4; lane < 4 && i < count; ++lane, ++i)
      values[i] = scale * (static_cast<float>(static_cast<int16_t>(bits >> (16 * lane))) + 0.5F);
  }
}

} // namespace

uint64_t randomBits(uint64_t counter) {
  uint64_t bits = counter * 0x9e3779b97f4a7c15;
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
  return bits ^ (bits >> 31);
}

void fillUniform(uint64_t seed, int64_t begin, float deviation, kernels::DType dtype,
                 std::span<std::byte> values) {
  const int64_t width = kernels::byteSize(dtype);
  const auto count = static_cast<int64_t>(values.size()) / width;
  const FloatFormat format = dtype == kernels::DType::BF16 ? FloatFormat::BF16 : FloatFormat::F32;
  const int64_t pieces = (count + kPiece - 1) / kPiece;
  const int64_t threads =
      std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, std::max<int64_t>(pieces, 1));
  auto work = [&](int64_t first) {
    std::vector<float> piece;
    for (int64_t at = first * kPiece; at < count; at += threads * kPiece) {
      piece.resize(std::min(kPiece, count - at));
      fillPiece(seed, begin + at, deviation, piece);
      convertFloats(FloatFormat::F32, std::as_bytes(std::span(piece)), format,
                    values.subspan(at * width, piece.size() * width));
    }
  };
  std::vector<std::jthread> others;
  for (int64_t thread = 1; thread < threads; ++thread)
    others.emplace_back(work, thread);
  work(0);
}

} // namespace switchyard::bench

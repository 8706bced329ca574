#include "runtime/core/Checksum.h"

#include <gtest/gtest.h>

#include <vector>

namespace switchyard {
namespace {

TEST(ChecksumTest, IsXxh64) {
  // As xxhsum -H64 prints them.
  EXPECT_EQ(checksumText(checksum("")), "ef46db3751d8e999");
  EXPECT_EQ(checksumText(checksum("a")), "d24ec4f1a98c6e5b");
  EXPECT_EQ(checksumText(checksum("abc")), "44bc2cf5ad770999");
  // Whole stripes, words, half words and bytes behind them.
  EXPECT_EQ(checksumText(checksum("Nobody inspects the spammish repetition")), "fbcea83c8a378bf1");
}

TEST(ChecksumTest, SeesEveryBit) {
  std::vector<std::byte> bytes(77);
  const uint64_t whole = checksum(bytes);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= std::byte{1} << bit % 8;
    EXPECT_NE(checksum(bytes), whole) << bit;
    bytes[bit / 8] ^= std::byte{1} << bit % 8;
  }
  EXPECT_NE(checksum(std::span(bytes).first(76)), whole);
}

TEST(ChecksumTest, ReadsItsText) {
  EXPECT_EQ(checksumFromText("00000000000000ff"), 255u);
  EXPECT_EQ(checksumFromText(checksumText(0xfedcba9876543210u)), 0xfedcba9876543210u);
  for (const char *text : {"", "ff", "00000000000000FF", "0000000000000 ff", "000000000000000ff"})
    EXPECT_FALSE(checksumFromText(text)) << text;
}

} // namespace
} // namespace switchyard

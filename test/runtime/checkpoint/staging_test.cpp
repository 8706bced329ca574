#include "runtime/checkpoint/Staging.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <thread>

namespace switchyard::checkpoint {
namespace {

void put(Staging &staging, std::string_view text) {
  std::span<std::byte> room = staging.take(text.size());
  ASSERT_EQ(room.size(), text.size());
  std::memcpy(room.data(), text.data(), text.size());
  staging.push();
}

/// The next piece, given back at once; "end" at the end.
std::string next(Staging &staging) {
  std::optional<std::span<const std::byte>> piece = staging.pop();
  if (!piece)
    return "end";
  std::string text(reinterpret_cast<const char *>(piece->data()), piece->size());
  staging.giveBack();
  return text;
}

TEST(Staging, GivesPiecesInTheirOrder) {
  Staging staging;
  ASSERT_TRUE(staging.allocate(10).ok());
  EXPECT_EQ(staging.bytes(), 10u);
  for (int round = 0; round < 3; ++round) {
    staging.reset();
    put(staging, "abcd");
    put(staging, "ef");
    put(staging, "ghij"); // it is full now
    staging.close();
    EXPECT_EQ(next(staging), "abcd");
    EXPECT_EQ(next(staging), "ef");
    EXPECT_EQ(next(staging), "ghij");
    EXPECT_EQ(next(staging), "end");
    EXPECT_EQ(next(staging), "end");
  }
}

// Whatever the sizes: no byte is written over before it was read.
TEST(Staging, LetsManyPiecesThroughLittleMemory) {
  for (uint64_t bytes : {uint64_t{8}, uint64_t{13}, uint64_t{64}}) {
    Staging staging;
    ASSERT_TRUE(staging.allocate(bytes).ok());
    std::string expected, found;
    std::thread reader([&] {
      for (std::string text; (text = next(staging)) != "end";)
        found += text;
    });
    std::mt19937 random(static_cast<unsigned>(bytes));
    for (int i = 0; i < 2000; ++i) {
      std::string text(1 + random() % 8, 'a');
      std::iota(text.begin(), text.end(), static_cast<char>('A' + i % 50));
      put(staging, text);
      expected += text;
    }
    staging.close();
    reader.join();
    EXPECT_EQ(found, expected);
  }
}

TEST(Staging, NobodyWaitsForAReaderThatFailed) {
  Staging staging;
  ASSERT_TRUE(staging.allocate(4).ok());
  put(staging, "abcd");
  std::thread reader([&] {
    EXPECT_TRUE(staging.pop().has_value()); // once the next piece waits
    staging.abandon();
  });
  for (int i = 0; i < 10; ++i)
    put(staging, "efgh");
  staging.close();
  reader.join();
}

TEST(Staging, MoreThanThereIsDoesNotFit) {
  Staging staging;
  Status status = staging.allocate(uint64_t{1} << 60);
  EXPECT_EQ(status.code(), StatusCode::DoesNotFit);
  EXPECT_EQ(status.message(), "cannot allocate 1152921504606846976 bytes of host memory for "
                              "checkpoints on their way to the disk");
}

} // namespace
} // namespace switchyard::checkpoint

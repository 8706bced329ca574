#include "runtime/core/Ahead.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

namespace switchyard {
namespace {

TEST(Ahead, PiecesAreUsedInTheirOrder) {
  for (int threads : {1, 3, 8}) {
    std::atomic<int> made = 0, used = 0, most = 0;
    Status status = makeAhead(
        200, threads,
        [&](size_t piece, std::vector<std::byte> &buffer) {
          most = std::max(most.load(), ++made - used);
          std::this_thread::sleep_for(std::chrono::microseconds(piece * 7919 % 100));
          buffer.assign(1 + piece % 5, static_cast<std::byte>(piece));
          return Status();
        },
        [&](size_t piece, std::span<const std::byte> bytes) {
          EXPECT_EQ(piece, static_cast<size_t>(used.load()));
          EXPECT_EQ(bytes.size(), 1 + piece % 5);
          EXPECT_EQ(bytes.back(), static_cast<std::byte>(piece));
          ++used;
          return Status();
        });
    EXPECT_TRUE(status.ok());
    EXPECT_EQ(used, 200);
    EXPECT_LE(most, 2 * threads + 1);
  }
}

TEST(Ahead, TheFirstFailureEndsIt) {
  for (size_t failing : {size_t{0}, size_t{5}, size_t{49}}) {
    size_t used = 0;
    std::atomic<size_t> made = 0;
    const auto make = [&](size_t piece, std::vector<std::byte> &) {
      ++made;
      return piece >= failing ? Status::failed("piece " + std::to_string(piece)) : Status();
    };
    const auto use = [&](size_t, std::span<const std::byte>) { return ++used, Status(); };
    EXPECT_EQ(makeAhead(50, 4, make, use).message(), "piece " + std::to_string(failing));
    EXPECT_EQ(used, failing);
    EXPECT_LE(made, failing + 8);

    used = 0;
    Status status = makeAhead(
        50, 4, [](size_t, std::vector<std::byte> &) { return Status(); },
        [&](size_t piece, std::span<const std::byte>) {
          ++used;
          return piece == failing ? Status::failed("no room") : Status();
        });
    EXPECT_EQ(status.message(), "no room");
    EXPECT_EQ(used, failing + 1);
  }
}

TEST(Ahead, NothingIsSoonDone) {
  const auto never = [](auto &&...) { return Status::failed("there is no piece"); };
  EXPECT_TRUE(makeAhead(0, 4, never, never).ok());
}

} // namespace
} // namespace switchyard

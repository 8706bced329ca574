// How processes that know only where rank 0 is find each other; here they are threads.
#include "runtime/comm/process/Rendezvous.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace switchyard::comm {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

/// A place at a port that nobody has, which rank 0 listens at already.
MeetingPlace placeHere() {
  MeetingPlace place;
  uint16_t port = 0;
  auto listener = listenOn(true, 8, port);
  EXPECT_TRUE(listener.ok()) << listener.status().message();
  place.host = "127.0.0.1";
  place.ports = {port};
  place.job = 4711;
  place.listener = listener->release();
  return place;
}

/// What the others are told: they have no listener.
MeetingPlace forOthers(MeetingPlace place) {
  place.listener = -1;
  return place;
}

TEST(Rendezvous, AllMeetAndGather) {
  constexpr int kSize = 5;
  MeetingPlace place = placeHere();
  std::vector<std::thread> ranks;
  for (int rank = kSize - 1; rank >= 0; --rank)
    ranks.emplace_back([&, rank] {
      auto met =
          Rendezvous::meet(rank, kSize, rank == 0 ? place : forOthers(place), milliseconds(20'000));
      ASSERT_TRUE(met.ok()) << met.status().message();
      for (int turn = 0; turn < 3; ++turn) {
        int mine = 100 * turn + rank;
        std::vector<int> all(kSize, -1);
        Status status =
            met->gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
        ASSERT_TRUE(status.ok()) << status.message();
        for (int other = 0; other < kSize; ++other)
          EXPECT_EQ(all[other], 100 * turn + other);
      }
    });
  for (std::thread &rank : ranks)
    rank.join();
}

// Rank 0 takes the next port where the first is another's, who never answers; it comes late, too.
TEST(Rendezvous, PassesByStrangers) {
  MeetingPlace place = placeHere();
  Socket stranger(place.listener);
  place.listener = -1;
  uint16_t next = static_cast<uint16_t>(place.ports[0] + 1);
  place.ports.push_back(next);
  place.ports.push_back(static_cast<uint16_t>(next + 1));
  std::thread other([&] {
    auto met = Rendezvous::meet(1, 2, place, milliseconds(20'000));
    EXPECT_TRUE(met.ok()) << met.status().message();
  });
  std::this_thread::sleep_for(milliseconds(200));
  auto met = Rendezvous::meet(0, 2, place, milliseconds(20'000));
  EXPECT_TRUE(met.ok()) << met.status().message();
  other.join();
}

// Somebody who knocks at the port is no rank.
TEST(Rendezvous, TurnsStrangersAway) {
  MeetingPlace place = placeHere();
  Socket knocker(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(place.ports[0]);
  ASSERT_EQ(connect(knocker.get(), reinterpret_cast<sockaddr *>(&address), sizeof(address)), 0);
  ASSERT_GT(send(knocker.get(), "GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n", 36, MSG_NOSIGNAL), 0);
  std::thread other([&] {
    auto met = Rendezvous::meet(1, 2, forOthers(place), milliseconds(20'000));
    EXPECT_TRUE(met.ok()) << met.status().message();
  });
  auto met = Rendezvous::meet(0, 2, place, milliseconds(20'000));
  EXPECT_TRUE(met.ok()) << met.status().message();
  other.join();
}

TEST(Rendezvous, NamesThoseWhoDidNotCome) {
  MeetingPlace place = placeHere();
  std::thread other([&] {
    auto met = Rendezvous::meet(2, 4, forOthers(place), milliseconds(20'000));
    ASSERT_FALSE(met.ok());
    EXPECT_EQ(met.status().code(), StatusCode::RankFailed);
    EXPECT_EQ(met.status().message(), "rank 0 ended before all ranks had met");
  });
  auto met = Rendezvous::meet(0, 4, place, milliseconds(300));
  ASSERT_FALSE(met.ok());
  EXPECT_EQ(met.status().code(), StatusCode::RankFailed);
  EXPECT_THAT(met.status().message(), HasSubstr("rank 1, 3 did not come to 127.0.0.1"));
  other.join();
}

TEST(Rendezvous, SaysThatRankZeroIsNotThere) {
  MeetingPlace place = placeHere();
  close(place.listener);
  auto met = Rendezvous::meet(1, 2, forOthers(place), milliseconds(200));
  ASSERT_FALSE(met.ok());
  EXPECT_EQ(met.status().code(), StatusCode::RankFailed);
  EXPECT_THAT(met.status().message(),
              HasSubstr("rank 1 found no rank 0 at 127.0.0.1, TCP port " +
                        std::to_string(place.ports[0]) + "; is it started"));
}

TEST(Rendezvous, RefusesTheSameRankTwiceAndOtherSizes) {
  for (auto [rank, size, error] :
       {std::tuple{1, 3, "two processes say that they are rank 1"},
        std::tuple{1, 2, "a process came as rank 1 of 2 to a job of 3 ranks"}}) {
    MeetingPlace place = placeHere();
    std::vector<std::thread> others;
    for (auto [r, s] : {std::pair{1, 3}, std::pair{rank, size}})
      others.emplace_back([&, r = r, s = s] {
        EXPECT_FALSE(Rendezvous::meet(r, s, forOthers(place), milliseconds(20'000)).ok());
      });
    auto met = Rendezvous::meet(0, 3, place, milliseconds(20'000));
    ASSERT_FALSE(met.ok());
    EXPECT_EQ(met.status().code(), StatusCode::Usage);
    EXPECT_THAT(met.status().message(), HasSubstr(error));
    for (std::thread &other : others)
      other.join();
  }
}

TEST(Rendezvous, RefusesAnUnknownHost) {
  MeetingPlace place;
  place.host = "no.such.host.invalid";
  place.ports = {29500};
  auto met = Rendezvous::meet(1, 2, place, milliseconds(1000));
  ASSERT_FALSE(met.ok());
  EXPECT_EQ(met.status().code(), StatusCode::Usage);
  EXPECT_THAT(met.status().message(),
              HasSubstr("the host \"no.such.host.invalid\" where the ranks meet is unknown"));
}

} // namespace
} // namespace switchyard::comm

#include "runtime/training/CommunicationTime.h"

#include "runtime/training/PlacedActivity.h"

#include <gmock/gmock.h>

namespace switchyard {
namespace {

constexpr auto kGather = CollectiveKind::AllGather;
constexpr auto kReduce = CollectiveKind::AllReduce;

Work computes(uint64_t begin, uint64_t end) {
  return {begin * 1000000, end * 1000000, false, std::nullopt};
}
Work talks(uint64_t begin, uint64_t end, std::optional<CollectiveKind> kind = kGather) {
  return {begin * 1000000, end * 1000000, true, kind};
}

// Time in which two collectives run counts once, as does what is hidden behind two kernels; each
// kind has its own.
TEST(CommunicationTime, IsExposedWhereNothingElseRuns) {
  const std::vector<Work> work = {computes(0, 10),        talks(5, 20),     computes(8, 12),
                                  talks(18, 25, kReduce), computes(24, 30), talks(40, 41)};
  const CommunicationTime time = communicationTime(work);
  EXPECT_DOUBLE_EQ(time.milliseconds, 21);        // [5, 25) and [40, 41)
  EXPECT_DOUBLE_EQ(time.exposedMilliseconds, 13); // [12, 24) and [40, 41)
  EXPECT_DOUBLE_EQ(time.kinds[static_cast<size_t>(kGather)].milliseconds, 16);
  EXPECT_DOUBLE_EQ(time.kinds[static_cast<size_t>(kReduce)].milliseconds, 7);
}

TEST(CommunicationTime, TouchesWithoutOverlap) {
  const CommunicationTime time =
      communicationTime({{talks(10, 20), computes(0, 10), computes(20, 30), talks(5, 5)}});
  EXPECT_DOUBLE_EQ(time.milliseconds, 10);
  EXPECT_DOUBLE_EQ(time.exposedMilliseconds, 10);
}

TEST(CommunicationTime, OfNothing) {
  EXPECT_DOUBLE_EQ(communicationTime({}).milliseconds, 0);
  EXPECT_EQ(describe(CommunicationTime()), "");
}

TEST(CommunicationTime, UnknownKindsCountToo) {
  const CommunicationTime time = communicationTime({{talks(0, 4, std::nullopt), computes(3, 9)}});
  EXPECT_DOUBLE_EQ(time.milliseconds, 4);
  EXPECT_DOUBLE_EQ(time.exposedMilliseconds, 3);
}

TEST(CommunicationTime, SaysBandwidthByKind) {
  CommunicationTime time;
  time.kinds[static_cast<size_t>(kGather)] = {36, 3210400000, 12.3};
  time.kinds[static_cast<size_t>(kReduce)] = {1, 4, 0};
  EXPECT_EQ(describe(time), "all_gather: 36 calls, 3210.4 MB in 12.300 ms, 261.0 GB/s\n"
                            "all_reduce: 1 calls, 0.0 MB");
}

/// A program of a launch, two collectives and a launch, and activities of it.
struct Replay {
  Replay() {
    program.instructions = {LaunchInstruction(), CollectiveInstruction(), CollectiveInstruction(),
                            LaunchInstruction()};
  }
  void add(std::vector<PlacedActivity> &run, std::string name, uint32_t stream, int64_t instruction,
           DeviceActivity::Kind kind = DeviceActivity::Kind::Kernel) {
    activities.push_back(std::make_unique<DeviceActivity>());
    activities.back()->name = std::move(name);
    activities.back()->stream = stream;
    activities.back()->kind = kind;
    run.push_back({activities.back().get(), instruction, true});
  }
  std::vector<int64_t> named() {
    PlacedActivities from, to;
    for (PlacedActivity &one : known)
      from.push_back(&one);
    for (PlacedActivity &one : replayed)
      to.push_back(&one);
    nameReplayed(program, from, to);
    std::vector<int64_t> result;
    for (const PlacedActivity &one : replayed)
      result.push_back(one.instruction);
    return result;
  }

  Program program;
  std::vector<std::unique_ptr<DeviceActivity>> activities;
  std::vector<PlacedActivity> known, replayed;
};

// A graph numbers its streams otherwise, and begins what is on several in another order.
TEST(NameReplayed, GoesByNameAndOrder) {
  Replay replay;
  replay.add(replay.known, "gemm", 7, 0);
  replay.add(replay.known, "gather", 8, 1);
  replay.add(replay.known, "gather", 9, 2);
  replay.add(replay.known, "gemm", 7, 3);
  replay.add(replay.replayed, "gather", 20, -1);
  replay.add(replay.replayed, "gemm", 20, -1);
  replay.add(replay.replayed, "gemm", 21, -1);
  replay.add(replay.replayed, "gather", 21, -1);
  EXPECT_THAT(replay.named(), ::testing::ElementsAre(1, 0, 3, 2));
}

// Two streams compute under one name: which is which is not known. Nor is it where there are more.
TEST(NameReplayed, LeavesWhatIsNotClear) {
  constexpr auto kFill = DeviceActivity::Kind::Fill;
  Replay replay;
  replay.add(replay.known, "fill", 7, 0, kFill);
  replay.add(replay.known, "fill", 8, 1, kFill);
  replay.add(replay.known, "gemm", 7, 3);
  replay.add(replay.replayed, "fill", 20, -1, kFill);
  replay.add(replay.replayed, "fill", 21, -1, kFill);
  replay.add(replay.replayed, "gemm", 20, -1);
  replay.add(replay.replayed, "gemm", 20, -1);
  replay.add(replay.replayed, "new", 20, -1);
  EXPECT_THAT(replay.named(), ::testing::Each(-1));
}

} // namespace
} // namespace switchyard

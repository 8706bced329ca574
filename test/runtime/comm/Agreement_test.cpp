// What the ranks of a job decide together, for ranks as threads and under mpirun.
#include "runtime/comm/Agreement.h"

#include "test/runtime/comm/Ranks.h"

#include <gmock/gmock.h>

namespace switchyard {
namespace {

using testing::ElementsAre;

class AgreementTest : public testing::TestWithParam<int> {};

TEST_P(AgreementTest, GathersValuesInRankOrder) {
  test::runRanks(GetParam(), [](Communicator &communicator) {
    Agreement agreement(&communicator);
    EXPECT_EQ(agreement.isLeader(), communicator.rank() == 0);
    const int64_t mine[] = {communicator.rank(), -(int64_t{1} << 40) - communicator.rank()};
    Result<std::span<const int64_t>> all = agreement.gather(mine);
    ASSERT_TRUE(all.ok()) << all.status().message();
    ASSERT_EQ(all->size(), size_t(2 * communicator.size()));
    for (int rank = 0; rank < communicator.size(); ++rank) {
      EXPECT_EQ((*all)[2 * rank], rank);
      EXPECT_EQ((*all)[2 * rank + 1], -(int64_t{1} << 40) - rank);
    }
  });
}

TEST_P(AgreementTest, SharesTheTextOfARank) {
  test::runRanks(GetParam(), [](Communicator &communicator) {
    Agreement agreement(&communicator);
    Result<std::string> last =
        agreement.share("of rank " + std::to_string(communicator.rank()), communicator.size() - 1);
    ASSERT_TRUE(last.ok()) << last.status().message();
    EXPECT_EQ(*last, "of rank " + std::to_string(communicator.size() - 1));
    for (const char *text : {"of rank 0", ""}) {
      Result<std::string> shared = agreement.share(agreement.isLeader() ? text : "another text");
      ASSERT_TRUE(shared.ok()) << shared.status().message();
      EXPECT_EQ(*shared, text);
    }
  });
}

TEST_P(AgreementTest, AFailureIsThatOfTheLowestRankOnAll) {
  test::runRanks(GetParam(), [](Communicator &communicator) {
    Agreement agreement(&communicator);
    EXPECT_TRUE(agreement.agree(Status()).ok());
    EXPECT_FALSE(agreement.hasFailed());
    int last = communicator.size() - 1;
    Status status = agreement.agree(
        communicator.rank() == last ? Status::invalidInput("the file is gone") : Status());
    EXPECT_TRUE(agreement.hasFailed());
    EXPECT_EQ(status.code(), StatusCode::InvalidInput);
    EXPECT_EQ(status.message(), last == 0 ? "the file is gone"
                                          : "rank " + std::to_string(last) + ": the file is gone");
    // Where rank 0 fails too, it is heard, and as itself.
    status = agreement.agree(
        Status(communicator.rank() == 0 ? StatusCode::Failed : StatusCode::InvalidInput,
               communicator.rank() == 0 ? "the disk is full" : ""));
    EXPECT_EQ(status.code(), StatusCode::Failed);
    EXPECT_EQ(status.message(), "the disk is full");
  });
}

TEST_P(AgreementTest, AResultIsKeptWhereAllHaveOne) {
  test::runRanks(GetParam(), [](Communicator &communicator) {
    Agreement agreement(&communicator);
    Result<int> mine = agreement.agree(Result<int>(communicator.rank() + 7));
    ASSERT_TRUE(mine.ok());
    EXPECT_EQ(*mine, communicator.rank() + 7);
    Result<int> none = agreement.agree(communicator.rank() == 0 ? Result<int>(Status::failed("no"))
                                                                : Result<int>(7));
    EXPECT_EQ(none.status().message(), "no");
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, AgreementTest, testing::Values(1, 2, 3, 4));

TEST(Agreement, RanksAreNamed) {
  const int ranks[] = {0, 2, 3};
  EXPECT_EQ(ranksText({}, 4), "");
  EXPECT_EQ(ranksText(std::span(ranks, 1), 1), "");
  EXPECT_EQ(ranksText(std::span(ranks, 1), 4), " on rank 0");
  EXPECT_EQ(ranksText(ranks, 4), " on ranks 0, 2, 3");
  EXPECT_EQ(ranksText(ranks, 3), " on all 3 ranks");
}

TEST(Agreement, OneRankAgreesWithItself) {
  Agreement alone;
  const int64_t mine[] = {3, 4};
  EXPECT_THAT(*alone.gather(mine), ElementsAre(3, 4));
  EXPECT_TRUE(alone.agree(Status()).ok());
  EXPECT_FALSE(alone.hasFailed());
  EXPECT_EQ(alone.agree(Status::failed("no")).message(), "no");
  EXPECT_TRUE(alone.hasFailed());
}

} // namespace
} // namespace switchyard

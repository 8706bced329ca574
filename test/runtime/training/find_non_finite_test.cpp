// Which instruction is said to have made the first value that is not finite, on one rank and on
// many; and that none is where all are, whatever memory held before.
#include "runtime/plan/Layout.h"
#include "test/runtime/training/CompiledPlan.h"
#include "test/runtime/training/RankSessions.h"

#include <gmock/gmock.h>

#include <limits>

namespace switchyard {
namespace {

using test::onRanks;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::MatchesRegex;
using testing::StartsWith;

const std::string kModel = "test/golden/mixtral-tiny";
constexpr int64_t kTokens = 24;
constexpr UpdateScalars kScalars{.learningRate = 1e-3, .maxGradNorm = 1};
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

Plan planWith(const std::string &flags) {
  return compiled(kModel, "--precision f32 --max-seq-length 24 " + flags);
}

/// Element `element` of the rank's part of a state becomes `value`; what it was.
float plant(Session &session, const std::string &state, int64_t element, float value) {
  Executor &executor = session.executor();
  Result<size_t> index = executor.findState(state);
  EXPECT_TRUE(index.ok()) << index.status().message();
  const uint64_t at = static_cast<uint64_t>(element) * sizeof(float);
  float before = 0;
  EXPECT_TRUE(executor.readState(*index, at, std::as_writable_bytes(std::span(&before, 1))).ok());
  EXPECT_TRUE(executor.writeState(*index, at, std::as_bytes(std::span(&value, 1))).ok());
  return before;
}

/// A step on records of these lengths; whether it was applied.
bool runStep(Session &session, PassFiller &filler, const StepBatches &step) {
  EXPECT_TRUE(filler.setStep(step).ok());
  Result<const StepResult *> done = session.step(filler, kScalars);
  EXPECT_TRUE(done.ok()) << done.status().message();
  return (*done)->update.applied;
}

PassFiller fillerFor(const Session &session) {
  Result<PassFiller> filler = session.createFiller(session.lossNormalization());
  EXPECT_TRUE(filler.ok()) << filler.status().message();
  return std::move(*filler);
}

/// What there is to find after a step, which may have been good.
NonFiniteReport foundIn(Session &session, const std::vector<int64_t> &lengths) {
  PassFiller filler = fillerFor(session);
  const RandomStep batches(lengths, 160);
  const bool applied = runStep(session, filler, batches.step);
  Result<NonFiniteReport> report = session.findNonFinite(filler, kScalars);
  EXPECT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->where.empty(), applied) << report->where;
  return *report;
}

class FindNonFinite : public testing::TestWithParam<const char *> {};

// Memory behind a step without a finite value is NaN where the next one has its padding.
TEST_P(FindNonFinite, NothingWhereAllIsFinite) {
  onRanks(planWith(GetParam()), kModel, [&](Session &session) {
    const auto ranks = static_cast<size_t>(session.agreement().size());
    std::vector<float> before(32);
    for (int64_t i = 0; i < 32; ++i)
      before[i] = plant(session, "norm", i % 8, kNan);
    EXPECT_THAT(foundIn(session, std::vector<int64_t>(4 * ranks, kTokens)).where,
                HasSubstr("by program"));
    for (int64_t i = 32; i-- > 0;)
      plant(session, "norm", i % 8, before[i]);
    for (int64_t length : {kTokens, int64_t{7}, int64_t{1}}) {
      const NonFiniteReport report = foundIn(session, std::vector<int64_t>(2 * ranks, length));
      EXPECT_EQ(report.where, "");
      EXPECT_THAT(report.details, IsEmpty());
    }
    Result<std::string> state = session.findNonFiniteState();
    ASSERT_TRUE(state.ok());
    EXPECT_EQ(*state, "");
  });
}

INSTANTIATE_TEST_SUITE_P(
    Plans, FindNonFinite,
    testing::Values("--gradient-accumulation-steps 4",
                    "--gradient-accumulation-steps 4 --gather=false",
                    "--gradient-accumulation-steps 4 --step-program split --coalesce 2",
                    "--gradient-accumulation-steps 4 --mesh fsdp=2",
                    "--gradient-accumulation-steps 4 --mesh ep=2 --token-exchange-slot-factor 0.5",
                    "--gradient-accumulation-steps 4 --mesh dp=2,ep=2 --step-program split "
                    "--coalesce 2 --token-exchange-slot-factor 0.5"));

// The first use of a weight, of which one value is bad, in both kinds of plans.
TEST(FindNonFiniteOnOneRank, NamesTheFirstUseOfABadWeight) {
  for (const char *steps : {"fused", "split --coalesce 2"})
    onRanks(planWith(std::string("--gradient-accumulation-steps 4 --step-program ") + steps),
            kModel, [&](Session &session) {
              plant(session, "layers.1.router", 32 + 3, kInfinity);
              const NonFiniteReport report = foundIn(session, {kTokens, 5, kTokens, 9});
              EXPECT_THAT(report.where,
                          MatchesRegex(session.isFused()
                                           ? "by program train_step, instruction [0-9]+ .linear."
                                           : "by program micro_step, instruction [0-9]+ .linear., "
                                             "pass 1 of 2"));
              EXPECT_THAT(
                  report.details,
                  ElementsAre(StartsWith("linear(x = %"),
                              MatchesRegex("y: [0-9]+ of [0-9]+ values not finite, the first "
                                           ".0, 1. = (nan|-?inf)"),
                              "w had them before: 1 of 128 values not finite, the first [1, 3] = "
                              "inf, in state layers.1.router",
                              "the parameter that was used last: layers.1.router"));
            });
}

// A value that is too large for what is made of it, though all is finite that is read.
TEST(FindNonFiniteOnOneRank, NamesTheInstructionThatOverflows) {
  onRanks(planWith("--gradient-accumulation-steps 1"), kModel, [&](Session &session) {
    plant(session, "norm", 3, 3e38F);
    const NonFiniteReport report = foundIn(session, {kTokens});
    EXPECT_THAT(report.where, HasSubstr("by program train_step, instruction"));
    EXPECT_THAT(report.details, Contains("what it reads was finite"));
    EXPECT_THAT(report.details, Contains("the parameter that was used last: norm"));
    // Seen in the evaluation too, with its own program's name.
    PassFiller filler = fillerFor(session);
    const RandomStep batches({kTokens}, 160);
    ASSERT_TRUE(filler.setStep(batches.step).ok());
    Result<NonFiniteReport> evaluated = session.findNonFiniteInEvaluation(filler);
    ASSERT_TRUE(evaluated.ok());
    EXPECT_THAT(evaluated->where, HasSubstr("by program evaluate, instruction"));
  });
}

// What a checkpoint may have brought: the step that reads it first gives a good loss and norm.
TEST(FindNonFiniteOnOneRank, NamesAStateThatMakesTheNextWeightsBad) {
  onRanks(planWith("--gradient-accumulation-steps 1"), kModel, [&](Session &session) {
    plant(session, "layers.0.router.exp_avg", 70, -kInfinity);
    Result<std::string> state = session.findNonFiniteState();
    ASSERT_TRUE(state.ok());
    EXPECT_EQ(*state, "state layers.0.router.exp_avg: 1 of 128 values not finite, the first [2, 6] "
                      "= -inf");
    PassFiller filler = fillerFor(session);
    const RandomStep batches({kTokens}, 160);
    EXPECT_TRUE(runStep(session, filler, batches.step));
    EXPECT_THAT(
        foundIn(session, {kTokens}).details,
        Contains(HasSubstr("w had them before: 1 of 128 values not finite, the first [2, 6] "
                           "= nan, in state layers.0.router")));
    EXPECT_THAT(*session.findNonFiniteState(), HasSubstr("and 1 more state"));
  });
}

// All ranks name the one that it is from, not those that it came to.
TEST(FindNonFiniteOnRanks, NamesTheRankOfABadPart) {
  for (const char *mesh : {"ep=2", "fsdp=2", "fsdp=2,ep=2 --step-program split"})
    onRanks(
        planWith(std::string("--gradient-accumulation-steps 2 --mesh ") + mesh), kModel,
        [&](Session &session) {
          if (session.agreement().rank() == 1)
            plant(session, "layers.0.attention.output", 0, kNan);
          const auto ranks = static_cast<size_t>(session.agreement().size());
          const NonFiniteReport report = foundIn(session, std::vector<int64_t>(2 * ranks, kTokens));
          EXPECT_THAT(report.where, StartsWith("on rank 1 by program "));
          EXPECT_THAT(report.where, HasSubstr("(all_gather)"));
          EXPECT_THAT(report.details, Contains(HasSubstr("in state layers.0.attention.output")));
          Result<std::string> state = session.findNonFiniteState();
          ASSERT_TRUE(state.ok());
          EXPECT_THAT(*state, HasSubstr("layers.0.attention.output: 1 of 1024 values"));
          EXPECT_THAT(*state, testing::EndsWith(" on rank 1"));
        });
}

// An expert's rows come in a round that is run only where buffers overflow.
TEST(FindNonFiniteOnRanks, NamesTheRound) {
  onRanks(planWith("--gradient-accumulation-steps 4 --mesh ep=2 --token-exchange-slot-factor 0.5"),
          kModel, [&](Session &session) {
            // All tokens are for experts 0 and 1, of rank 0; those for 1 come last.
            for (const char *router : {"layers.0.router", "layers.1.router"}) {
              Result<size_t> index = session.executor().findState(router);
              ASSERT_TRUE(index.ok());
              const std::vector<std::byte> zeros(
                  localBytesOf(session.plan().states[*index], session.plan().mesh));
              ASSERT_TRUE(session.executor().writeState(*index, 0, zeros).ok());
            }
            if (session.agreement().rank() == 0)
              plant(session, "layers.1.experts.down", 32 * 24 + 1, kNan);
            const NonFiniteReport report = foundIn(session, std::vector<int64_t>(8, kTokens));
            EXPECT_THAT(report.where, MatchesRegex("on rank 0 by program .*, instruction [0-9]+ "
                                                   ".grouped_gemm., overflow round [1-3]"));
            EXPECT_THAT(report.details, Contains(HasSubstr("in state layers.1.experts.down")));
          });
}

} // namespace
} // namespace switchyard

// Steps of plans that moe-compile makes: their memory, their bits, and what validate says of them.
#include "runtime/training/Session.h"

#include "kernels/cpu/Gemm.h"
#include "runtime/core/Json.h"
#include "runtime/plan/Layout.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/training/StepProfile.h"
#include "runtime/training/Validate.h"
#include "test/kernels/conformance/HeapCounter.h"
#include "test/runtime/core/TestFolder.h"
#include "test/runtime/training/CompiledPlan.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace switchyard {

using ::testing::AnyOf;
using ::testing::HasSubstr;

namespace {

std::unique_ptr<Session> opened(Plan plan, const std::string &model = "examples/tiny",
                                int threads = 2) {
  Result<std::unique_ptr<Session>> session = Session::create(std::move(plan), {.threads = threads});
  EXPECT_TRUE(session.ok()) << session.status().message();
  Result<Checkpoint> checkpoint = Checkpoint::open(SWITCHYARD_SOURCE_DIR "/" + model);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  Status status = (*session)->loadParameters(*checkpoint);
  EXPECT_TRUE(status.ok()) << status.message();
  return std::move(*session);
}

std::unique_ptr<Session> openedTiny(const std::string &flags, int threads = 2) {
  return opened(compiled("examples/tiny", flags), "examples/tiny", threads);
}

PassFiller fillerFor(const Session &session) {
  Result<PassFiller> filler =
      PassFiller::create(session.passLimits(), session.lossNormalization(), 1);
  EXPECT_TRUE(filler.ok()) << filler.status().message();
  return std::move(*filler);
}

constexpr UpdateScalars kScalars{.learningRate = 1e-3, .weightDecay = 0.01, .maxGradNorm = 1};

/// What a step gives, without text that would be allocated.
struct StepNumbers {
  bool good = false;
  double loss = 0;
  double gradNorm = 0;
};

StepNumbers runStep(Session &session, PassFiller &filler, const StepBatches &step) {
  StepNumbers result;
  if (!filler.setStep(step).ok())
    return result;
  Result<const StepResult *> done = session.step(filler, kScalars);
  if (!done.ok())
    return result;
  return {(*done)->update.applied, (*done)->sums.loss, (*done)->update.gradNorm};
}

std::vector<std::byte> bytesOfState(Session &session, size_t index) {
  std::vector<std::byte> bytes(bytesOf(session.plan().states[index]));
  EXPECT_TRUE(session.executor().readState(index, 0, bytes).ok());
  return bytes;
}

std::vector<float> floatsOf(const std::vector<std::byte> &bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

class SessionTest : public ::testing::TestWithParam<const char *> {
protected:
  static std::string precision() { return std::string(" --precision ") + GetParam(); }
};

} // namespace

TEST(Session, WithoutAGpuAPlanForOneIsRefused) {
  Plan plan = compiled("examples/tiny", "--precision f32");
  plan.target = {kernels::Target::Kind::Cuda, 1};
  Result<std::unique_ptr<Session>> session = Session::create(std::move(plan), {.gpu = 1000});
  ASSERT_FALSE(session.ok());
  EXPECT_EQ(session.status().code(), StatusCode::Usage);
  EXPECT_THAT(session.status().message(),
              AnyOf(HasSubstr("there is no GPU"), HasSubstr("was built without CUDA")));
}

TEST(Session, TouchesThePlannedPeakAtTheBound) {
  auto session =
      openedTiny("--precision f32 --gradient-accumulation-steps 4 --max-seq-length 80 --threads 2");
  PassFiller filler = fillerFor(*session);
  RandomStep batches({80, 80, 80, 80});
  ASSERT_TRUE(runStep(*session, filler, batches.step).good);
  ASSERT_EQ(filler.bucket(), session->passLimits().tokens);
  ASSERT_TRUE(session->evaluate(filler).ok());
  std::vector<float> logits(kVocabulary);
  ASSERT_TRUE(session->logits(filler, 0, 0, 1, logits).ok());
  EXPECT_EQ(session->executor().highWaterBytes(), session->plan().peakBytes);
}

TEST_P(SessionTest, TouchesThePlannedPeakInTheStepAlone) {
  auto session =
      openedTiny("--gradient-accumulation-steps 4 --max-seq-length 80 --threads 2" + precision());
  PassFiller filler = fillerFor(*session);
  RandomStep batches({80, 80, 80, 80});
  ASSERT_TRUE(runStep(*session, filler, batches.step).good);
  EXPECT_EQ(session->executor().highWaterBytes(), session->plan().peakBytes);
}

TEST_P(SessionTest, TouchesLessBelowTheBound) {
  auto session =
      openedTiny("--gradient-accumulation-steps 4 --max-seq-length 80 --threads 2" + precision());
  PassFiller filler = fillerFor(*session);
  RandomStep batches({80, 1, 7});
  ASSERT_TRUE(runStep(*session, filler, batches.step).good);
  ASSERT_TRUE(session->evaluate(filler).ok());
  ASSERT_LT(filler.bucket(), session->passLimits().tokens);
  uint64_t small = session->executor().highWaterBytes();
  EXPECT_LT(small, session->plan().peakBytes);
  RandomStep larger({80, 80, 20});
  ASSERT_TRUE(runStep(*session, filler, larger.step).good);
  EXPECT_GT(session->executor().highWaterBytes(), small);
  EXPECT_LT(session->executor().highWaterBytes(), session->plan().peakBytes);
}

TEST_P(SessionTest, AllocatesNothingInAStep) {
  // 90 tokens a pass: several passes in a step.
  auto session = openedTiny("--gradient-accumulation-steps 6 --max-seq-length 40 "
                            "--coalesce tokens=90 --threads 2" +
                            precision());
  RandomStep text({40, 33, 12, 40, 7, 21, 40, 33, 12, 40, 7, 21});
  Dataset dataset;
  for (const SegmentView &segment : text.step.segments)
    dataset.append(segment.ids, segment.promptTokens, dataset.size());
  Result<Sampler> sampler = Sampler::create(
      dataset, {.perDeviceTrainBatchSize = 1, .gradientAccumulationSteps = 6, .maxSeqLength = 40});
  ASSERT_TRUE(sampler.ok()) << sampler.status().message();
  PassFiller filler = fillerFor(*session);
  StepBatches batches;
  sampler->next(batches);
  ASSERT_TRUE(runStep(*session, filler, batches).good);
  ASSERT_GT(filler.numPasses(), 1);

  bool good = true;
  int64_t before = testing::heapAllocations();
  for (int step = 0; step < 3; ++step) {
    sampler->next(batches);
    good &= runStep(*session, filler, batches).good;
  }
  int64_t after = testing::heapAllocations();
  ASSERT_TRUE(good);
  if (kernels::cpu::allocatesInProducts(GetParam() == std::string_view("f32") ? DType::F32
                                                                              : DType::BF16))
    GTEST_SKIP() << "oneDNN's products allocate on this CPU";
  if (testing::countsHeapAllocations()) {
    EXPECT_EQ(after, before);
  }
}

TEST_P(SessionTest, GivesTheSameBitsForAnyNumberOfThreads) {
  Plan plan = compiled("examples/tiny", "--gradient-accumulation-steps 3 --max-seq-length 300 "
                                        "--threads 2" +
                                            precision());
  RandomStep batches({300, 211, 300});
  auto first = opened(plan), again = opened(plan), single = opened(plan, "examples/tiny", 1);
  for (int step = 0; step < 3; ++step) {
    std::vector<StepNumbers> results;
    for (Session *session : {first.get(), again.get(), single.get()}) {
      PassFiller filler = fillerFor(*session);
      results.push_back(runStep(*session, filler, batches.step));
      ASSERT_TRUE(results.back().good);
      EXPECT_EQ(results.back().loss, results.front().loss);
      EXPECT_EQ(results.back().gradNorm, results.front().gradNorm);
    }
  }
  for (size_t index = 0; index < plan.states.size(); ++index) {
    std::vector<std::byte> bytes = bytesOfState(*first, index);
    EXPECT_TRUE(bytes == bytesOfState(*again, index)) << plan.states[index].name;
    EXPECT_TRUE(bytes == bytesOfState(*single, index)) << plan.states[index].name;
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, SessionTest,
                         ::testing::Values("f32", "bf16", "bf16_f32_state"));

TEST(Session, GivesTheSameGradientsHoweverPassesAreFilled) {
  std::string flags = "--precision f32 --gradient-accumulation-steps 5 --max-seq-length 64 "
                      "--step-program split ";
  RandomStep batches({64, 20, 33, 1, 50});
  auto together = openedTiny(flags), alone = openedTiny(flags + "--coalesce 1");
  std::vector<double> losses;
  for (Session *session : {together.get(), alone.get()}) {
    PassFiller filler = fillerFor(*session);
    ASSERT_TRUE(filler.setStep(batches.step).ok());
    EXPECT_EQ(filler.numPasses(), session == alone.get() ? 5 : 1);
    Result<const StepSums *> sums = session->accumulate(filler);
    ASSERT_TRUE(sums.ok()) << sums.status().message();
    losses.push_back((*sums)->loss);
  }
  EXPECT_NEAR(losses[0], losses[1], 1e-6 * losses[1]);
  for (size_t index = 0; index < together->plan().states.size(); ++index) {
    const State &state = together->plan().states[index];
    if (state.kind != StateKind::Gradient)
      continue;
    std::vector<float> ours = floatsOf(bytesOfState(*together, index));
    std::vector<float> theirs = floatsOf(bytesOfState(*alone, index));
    double difference = 0, norm = 0;
    for (size_t i = 0; i < ours.size(); ++i) {
      difference += std::pow(double(ours[i]) - theirs[i], 2);
      norm += std::pow(theirs[i], 2);
    }
    EXPECT_GT(norm, 0) << state.name;
    EXPECT_LE(std::sqrt(difference / norm), 1e-5) << state.name;
  }
}

TEST(Session, StepsUnderWayAreFinishedInTheirOrder) {
  std::string flags = "--precision f32 --gradient-accumulation-steps 3 --max-seq-length 40 ";
  auto ahead = openedTiny(flags), alone = openedTiny(flags + "--coalesce 1");
  PassFiller filler = fillerFor(*ahead);
  EXPECT_EQ(ahead->finishStep().status().message(), "no step is under way; start one first");
  RandomStep batches[] = {RandomStep({40, 33, 2}), RandomStep({5, 6, 7}), RandomStep({40, 1, 40})};
  std::vector<double> losses, expected;
  auto finish = [&] {
    Result<const StepResult *> result = ahead->finishStep();
    ASSERT_TRUE(result.ok()) << result.status().message();
    losses.push_back((*result)->sums.loss);
  };
  for (const RandomStep &batch : batches) {
    ASSERT_TRUE(filler.setStep(batch.step).ok());
    ASSERT_TRUE(ahead->startStep(filler, kScalars).ok());
    if (&batch != &batches[0])
      finish();
  }
  ASSERT_TRUE(ahead->startStep(filler, kScalars).ok());
  EXPECT_EQ(ahead->startStep(filler, kScalars).message(),
            "2 steps are under way already; finish one first");
  finish();
  PassFiller each = fillerFor(*alone);
  for (const RandomStep &batch : batches)
    expected.push_back(runStep(*alone, each, batch.step).loss);
  ASSERT_EQ(losses.size(), 3u);
  for (size_t i = 0; i < 3; ++i)
    EXPECT_NEAR(losses[i], expected[i], 1e-5 * expected[i]) << i;
  EXPECT_GT(std::abs(losses[0] - losses[1]), 1e-4);
}

TEST(StepProfile, SaysWhatEachInstructionOfItsStepsDid) {
  auto session = openedTiny("--precision f32 --gradient-accumulation-steps 2 --max-seq-length 64 "
                            "--step-program split");
  PassFiller filler = fillerFor(*session);
  RandomStep batches({40, 33});
  size_t instructions = 0;
  for (const char *program : {"micro_step", "optimizer_step"})
    instructions += session->plan().findProgram(program)->instructions.size();
  auto profile = StepProfile::create(session->executor());
  ASSERT_TRUE(profile.ok()) << profile.status().message();
  for (int64_t step = 0; step < StepProfile::kFirstStep + StepProfile::kSteps; ++step) {
    ASSERT_TRUE((*profile)->beforeStep(step).ok());
    ASSERT_TRUE(runStep(*session, filler, batches.step).good);
  }
  TestFolder folder;
  Status status = (*profile)->write(folder.file("trace.json"));
  ASSERT_TRUE(status.ok()) << status.message();
  const std::vector<StepSummary> &summaries = (*profile)->summaries();
  ASSERT_EQ(summaries.size(), size_t{StepProfile::kSteps});
  for (size_t i = 0; i < summaries.size(); ++i) {
    EXPECT_EQ(summaries[i].step, StepProfile::kFirstStep + 1 + static_cast<int64_t>(i));
    EXPECT_EQ(summaries[i].kernels, static_cast<int64_t>(instructions));
    EXPECT_GT(summaries[i].busyMilliseconds, 0);
    EXPECT_LE(summaries[i].busyMilliseconds, summaries[i].milliseconds);
  }
  Result<Json> trace = readJson(folder.file("trace.json"));
  ASSERT_TRUE(trace.ok()) << trace.status().message();
  const Json *events = trace->find("traceEvents");
  ASSERT_NE(events, nullptr);
  EXPECT_GT(events->items().size(), StepProfile::kSteps * instructions);
}

TEST(Session, AStepWithoutLabelsHasNoCrossEntropy) {
  auto session = openedTiny("--precision f32 --gradient-accumulation-steps 2 --max-seq-length 64 "
                            "--router-aux-loss-coef 0 --step-program split");
  PassFiller filler = fillerFor(*session);
  RandomStep batches({1, 1});
  ASSERT_TRUE(filler.setStep(batches.step).ok());
  Result<const StepSums *> sums = session->accumulate(filler);
  ASSERT_TRUE(sums.ok()) << sums.status().message();
  EXPECT_EQ((*sums)->loss, 0);
  EXPECT_GT((*sums)->auxLoss, 0);
}

TEST(Session, ChangesNothingByAGradientThatIsNotFinite) {
  auto session = openedTiny("--precision f32 --gradient-accumulation-steps 1 --max-seq-length 64 "
                            "--step-program split");
  PassFiller filler = fillerFor(*session);
  RandomStep batches({20});
  ASSERT_TRUE(runStep(*session, filler, batches.step).good);
  std::vector<std::vector<std::byte>> before;
  for (size_t index = 0; index < session->plan().states.size(); ++index) {
    before.push_back(bytesOfState(*session, index));
    if (session->plan().states[index].kind == StateKind::Gradient && before.size() % 2) {
      float value = std::numeric_limits<float>::infinity();
      std::span<const std::byte> bytes = std::as_bytes(std::span(&value, 1));
      ASSERT_TRUE(session->executor().writeState(index, 0, bytes).ok());
    }
  }
  Result<UpdateResult> update = session->update(kScalars);
  ASSERT_TRUE(update.ok()) << update.status().message();
  EXPECT_FALSE(update->applied);
  EXPECT_FALSE(std::isfinite(update->gradNorm));
  for (size_t index = 0; index < before.size(); ++index)
    if (session->plan().states[index].kind != StateKind::Gradient) {
      EXPECT_TRUE(before[index] == bytesOfState(*session, index));
    }
}

TEST(Session, RefusesLogitsOfAnotherPrecision) {
  auto session = openedTiny("--precision bf16 --gradient-accumulation-steps 1 --max-seq-length 64");
  PassFiller filler = fillerFor(*session);
  RandomStep batches({20});
  ASSERT_TRUE(filler.setStep(batches.step).ok());
  std::vector<float> logits(kVocabulary);
  EXPECT_EQ(session->logits(filler, 0, 0, 1, logits).message(),
            "the plan's logits are bf16; compile it with --precision f32 to compare them");
}

TEST(Session, RefusesWeightsOfAnotherModel) {
  Result<std::unique_ptr<Session>> session = Session::create(
      compiled("test/golden/olmoe-tiny", "--precision f32 --max-seq-length 24"), {});
  ASSERT_TRUE(session.ok()) << session.status().message();
  Result<Checkpoint> checkpoint =
      Checkpoint::open(SWITCHYARD_SOURCE_DIR "/test/golden/mixtral-tiny");
  ASSERT_TRUE(checkpoint.ok());
  Status status = (*session)->loadParameters(*checkpoint);
  EXPECT_EQ(status.code(), StatusCode::InvalidInput);
  EXPECT_THAT(status.message(),
              HasSubstr("mixtral-tiny/model.safetensors: tensor "
                        "\"model.layers.0.block_sparse_moe.experts.0.w1.weight\" belongs to no "
                        "state of the plan; does the folder hold the model that the plan was "
                        "compiled for?"));
}

TEST(StepSums, ExpertLoadIsThatOfTheWorstLayer) {
  StepSums sums;
  sums.expertCounts = {5, 5, 5, 5, 1, 2, 3, 2};
  EXPECT_DOUBLE_EQ(sums.expertLoadMaxOverMean(4), 1.5);
  sums.expertCounts = {0, 0, 0, 0};
  EXPECT_EQ(sums.expertLoadMaxOverMean(4), 0);
}

namespace {

/// validate's Status for test/golden/mixtral-tiny, with the learning rates `rate`.
Status validated(const std::function<double(int64_t)> &rate, std::string &printed) {
  const std::string folder = "test/golden/mixtral-tiny";
  Plan plan = compiled(folder, "--precision f32 --gradient-accumulation-steps 2 --max-seq-length "
                               "24 --loss-normalization micro_batch --weight-decay-scope all "
                               "--step-program split");
  auto session = opened(std::move(plan), folder);
  Result<Golden> golden =
      loadGolden(SWITCHYARD_SOURCE_DIR "/" + folder, session->plan().training.vocabSize);
  EXPECT_TRUE(golden.ok()) << golden.status().message();
  Result<Checkpoint> initial = Checkpoint::open(SWITCHYARD_SOURCE_DIR "/" + folder);
  TestFolder output;
  ValidateOptions options;
  options.output = std::fopen(output.file("printed").c_str(), "w");
  options.learningRate = rate;
  Status status = validate(*session, *golden, *initial, options);
  std::fclose(options.output);
  printed = TestFolder::read(output.file("printed"));
  return status;
}

} // namespace

TEST(Validate, AcceptsTheGoldensOwnRates) {
  std::string printed;
  Status status = validated([](int64_t) { return 1e-3; }, printed);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_THAT(printed, HasSubstr("within tolerance: 4 steps"));
}

TEST(Validate, SeesARateThatIsShiftedByOneStep) {
  // As a warm-up that was not asked for: the first rate is 0.
  std::string printed;
  Status status = validated([](int64_t step) { return step == 0 ? 0 : 1e-3; }, printed);
  EXPECT_EQ(status.code(), StatusCode::Failed);
  EXPECT_THAT(status.message(),
              HasSubstr("mixtral-tiny differs from transformers in 50 places: step 1: loss is off "
                        "by "));
  EXPECT_THAT(status.message(), HasSubstr("final change of "));
  EXPECT_THAT(printed, ::testing::Not(HasSubstr("within tolerance")));
}

} // namespace switchyard

// A step that is one program gives the bits of one that is two, whatever the precision and the
// mesh.
#include "runtime/plan/Layout.h"
#include "runtime/training/Session.h"
#include "test/runtime/comm/RankThreads.h"
#include "test/runtime/training/CompiledPlan.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

namespace switchyard {
namespace {

constexpr int kSteps = 3;
constexpr int64_t kMicroBatches = 4, kLength = 24;
constexpr float kRates[kSteps] = {1e-3F, 2e-3F, 5e-4F};

/// What a rank has after some steps.
struct Outcome {
  std::vector<float> losses, norms, expertCounts;
  std::vector<int32_t> applied;
  std::map<std::string, std::vector<std::byte>> states; // this rank's parts, without gradients
};

Plan planFor(const std::string &model, const std::string &flags, const std::string &program) {
  return compiled(model, "--gradient-accumulation-steps " + std::to_string(kMicroBatches) +
                             " --max-seq-length " + std::to_string(kLength) + " --threads 1 " +
                             flags + " --step-program " + program);
}

/// Parameters and masters of any values, but the same for the same plan; all else is zero.
void fillStates(Session &session, int rank) {
  const Plan &plan = session.plan();
  for (size_t index = 0; index < plan.states.size(); ++index) {
    const State &state = plan.states[index];
    if (state.kind != StateKind::Parameter && state.kind != StateKind::Master)
      continue;
    uint32_t random = static_cast<uint32_t>(std::hash<std::string>()(state.name)) + 97 * rank;
    std::vector<std::byte> bytes(localBytesOf(state, plan.mesh));
    const int64_t width = kernels::byteSize(state.dtype);
    for (size_t at = 0; at < bytes.size(); at += width) {
      random = random * 1664525 + 1013904223;
      float value = (static_cast<float>(random >> 8) / (1 << 24) - 0.5F) / 4;
      // The upper half of a float32 is a bfloat16.
      std::memcpy(&bytes[at], reinterpret_cast<std::byte *>(&value) + 4 - width, width);
    }
    ASSERT_TRUE(session.executor().writeState(index, 0, bytes).ok());
  }
}

void readStates(Session &session, Outcome &outcome) {
  const Plan &plan = session.plan();
  for (size_t index = 0; index < plan.states.size(); ++index) {
    const State &state = plan.states[index];
    if (state.kind == StateKind::Gradient)
      continue;
    std::vector<std::byte> bytes(localBytesOf(state, plan.mesh));
    ASSERT_TRUE(session.executor().readState(index, 0, bytes).ok());
    outcome.states[state.name] = bytes;
  }
}

/// Runs a program on what its inputs are set to.
class ProgramRun {
public:
  ProgramRun(Session &session, const char *program, int64_t bucket)
      : executor_(session.executor()) {
    std::vector<int64_t> values;
    for (const Symbol &symbol : session.plan().symbols)
      values.push_back(valueFor(symbol, bucket));
    auto binding = executor_.bind(program, values);
    EXPECT_TRUE(binding.ok()) << binding.status().message();
    binding_ = *binding;
  }

  void setBatch(const PassBatch &batch) {
    set<int32_t>("input_ids", batch.inputIds);
    set<int32_t>("position_ids", batch.positionIds);
    set<int32_t>("cu_seqlens", batch.cuSeqlens);
    set<int32_t>("micro_batch_ids", batch.microBatchIds);
    set<int32_t>("labels", batch.labels);
    set<float>("loss_weights", batch.lossWeights);
    set<float>("aux_weights", batch.auxWeights);
  }
  void setScalars(int step) {
    const std::pair<const char *, float> scalars[] = {{"learning_rate", kRates[step]},
                                                      {"beta1", 0.9F},
                                                      {"beta2", 0.999F},
                                                      {"epsilon", 1e-8F},
                                                      {"weight_decay", 0.01F},
                                                      {"max_grad_norm", 1},
                                                      {"step", static_cast<float>(step + 1)}};
    for (const auto &[name, value] : scalars)
      set<float>(name, std::span<const float>(&value, 1));
  }
  void run() {
    Status status = executor_.run(*binding_);
    ASSERT_TRUE(status.ok()) << status.message();
  }
  template <typename T>
  void get(const char *name, std::vector<T> &values, int64_t count = 1) {
    values.resize(values.size() + count);
    EXPECT_TRUE(executor_.getOutput<T>(*binding_, name, std::span(values).last(count)).ok());
  }

private:
  template <typename T>
  void set(const char *name, std::span<const T> values) {
    EXPECT_TRUE(executor_.setInput<T>(*binding_, name, values).ok()) << name;
  }

  Executor &executor_;
  std::shared_ptr<const Binding> binding_;
};

void getSums(ProgramRun &run, const Training &training, Outcome &outcome) {
  run.get("loss", outcome.losses);
  run.get("aux_loss", outcome.losses);
  run.get("expert_counts", outcome.expertCounts, training.numLayers * training.numExperts);
}

void getUpdate(ProgramRun &run, Outcome &outcome) {
  run.get("grad_norm", outcome.norms);
  run.get("apply", outcome.applied);
}

/// One step of one pass, of either kind of plan.
void runStep(Session &session, const PassFiller &filler, bool isFused, int step, Outcome &outcome) {
  const Training &training = session.plan().training;
  ASSERT_EQ(filler.numPasses(), 1);
  PassBatch batch;
  filler.fill(session.agreement().rank(), 0, batch);
  ProgramRun pass(session, isFused ? "train_step" : "micro_step", filler.bucket());
  pass.setBatch(batch);
  if (isFused)
    pass.setScalars(step);
  else
    ASSERT_TRUE(session.executor().zeroGradients().ok());
  pass.run();
  getSums(pass, training, outcome);
  if (isFused)
    return getUpdate(pass, outcome);
  ProgramRun update(session, "optimizer_step", 0);
  update.setScalars(step);
  update.run();
  getUpdate(update, outcome);
}

/// Trains on all ranks of the plan; outcomes by rank.
std::vector<Outcome> train(const Plan &plan, bool isFused) {
  const auto ranks = static_cast<int>(plan.mesh.numRanks());
  std::vector<Outcome> outcomes(ranks);
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < kMicroBatches * ranks; ++i)
    lengths.push_back(kLength - i % 7);
  RandomStep batches(lengths, static_cast<int32_t>(plan.training.vocabSize));
  test::runRankThreads(ranks, {}, [&](Communicator &communicator) {
    Agreement agreement(&communicator);
    auto session = Session::create(plan, {.threads = 1}, &agreement);
    ASSERT_TRUE(session.ok()) << session.status().message();
    const int rank = communicator.rank();
    fillStates(**session, rank);
    auto filler = (*session)->createFiller((*session)->lossNormalization());
    ASSERT_TRUE(filler.ok() && filler->setStep(batches.step).ok());
    for (int step = 0; step < kSteps; ++step)
      runStep(**session, *filler, isFused, step, outcomes[rank]);
    readStates(**session, outcomes[rank]);
  });
  return outcomes;
}

void expectSameBits(const std::string &model, const std::string &flags) {
  SCOPED_TRACE(model + " " + flags);
  const Plan split = planFor(model, flags, "split"), fused = planFor(model, flags, "fused");
  auto hasProgram = [](const Plan &plan, const char *name) {
    return std::any_of(plan.programs.begin(), plan.programs.end(),
                       [&](const Program &program) { return program.name == name; });
  };
  ASSERT_TRUE(hasProgram(split, "micro_step") && !hasProgram(split, "train_step"));
  ASSERT_TRUE(hasProgram(fused, "train_step") && !hasProgram(fused, "micro_step"));
  EXPECT_LT(fused.peakBytes, split.peakBytes);
  const std::vector<Outcome> two = train(split, false), one = train(fused, true);
  ASSERT_EQ(two.size(), one.size());
  for (size_t rank = 0; rank < two.size(); ++rank) {
    EXPECT_EQ(one[rank].losses, two[rank].losses);
    EXPECT_EQ(one[rank].norms, two[rank].norms);
    EXPECT_EQ(one[rank].expertCounts, two[rank].expertCounts);
    EXPECT_EQ(one[rank].applied, std::vector<int32_t>(kSteps, 1));
    EXPECT_EQ(two[rank].applied, one[rank].applied);
    ASSERT_EQ(one[rank].states.size(), two[rank].states.size());
    for (const auto &[name, bytes] : two[rank].states)
      EXPECT_TRUE(one[rank].states.at(name) == bytes) << name << " on rank " << rank;
  }
}

constexpr const char *kMixtral = "test/golden/mixtral-tiny", *kOlmoe = "test/golden/olmoe-tiny";

class TrainStep : public ::testing::TestWithParam<const char *> {
protected:
  static std::string precision() { return std::string("--precision ") + GetParam(); }
};

TEST_P(TrainStep, GivesTheBitsOfTwoPrograms) {
  expectSameBits(kMixtral, precision());
  expectSameBits(kOlmoe, precision());
  // The experts' gradients bring their squares, which on a CPU are added as by sum_of_squares.
  expectSameBits(kMixtral, precision() + " --gather=false");
  expectSameBits(kOlmoe, precision() + " --gather=false");
}

TEST_P(TrainStep, GivesTheBitsOfTwoProgramsOnManyRanks) {
  for (const char *mesh : {"ep=2", "fsdp=2", "dp=2", "fsdp=2,ep=2", "dp=2,fsdp=2,ep=2"})
    expectSameBits(kMixtral, precision() + " --mesh " + mesh);
  expectSameBits(kOlmoe, precision() + " --mesh fsdp=2,ep=2 --reshard-after-forward=false");
  expectSameBits(kMixtral, precision() + " --mesh fsdp=2,ep=2 --aux-loss-scope pass");
  expectSameBits(kMixtral, precision() + " --mesh dp=2,fsdp=2 --sync-each-batch=false");
}

INSTANTIATE_TEST_SUITE_P(Precisions, TrainStep, ::testing::Values("f32", "bf16", "bf16_f32_state"));

// What is computed again is the same, and what is not kept takes no memory.
TEST(TrainStep, GivesTheSameBitsWithLessMemory) {
  for (const char *mesh : {"", " --mesh fsdp=2,ep=2"}) {
    const std::string flags = std::string("--precision bf16") + mesh;
    const Plan kept = planFor(kMixtral, flags + " --fuse=false", "fused");
    const std::vector<Outcome> one = train(kept, true);
    for (const char *less : {" --gather=false", " --fuse=false --recompute cheap",
                             " --gather=false --recompute cheap"}) {
      const Plan again = planFor(kMixtral, flags + less, "fused");
      EXPECT_LT(again.peakBytes, kept.peakBytes) << flags << less;
      const std::vector<Outcome> two = train(again, true);
      for (size_t rank = 0; rank < one.size(); ++rank) {
        EXPECT_EQ(two[rank].norms, one[rank].norms) << flags << less;
        EXPECT_TRUE(two[rank].states == one[rank].states) << flags << less;
      }
    }
  }
}

// What a weight multiplies is rounded at another place. The forward direction is the same bits.
TEST(TrainStep, GathersTokensInLessMemory) {
  for (const char *mesh : {"", " --mesh fsdp=2"}) {
    const std::string flags = std::string("--precision f32") + mesh;
    const Plan gathered = planFor(kMixtral, flags, "fused"),
               copied = planFor(kMixtral, flags + " --gather=false", "fused");
    EXPECT_LT(gathered.peakBytes, copied.peakBytes) << flags;
    const std::vector<Outcome> one = train(copied, true), two = train(gathered, true),
                               again = train(
                                   planFor(kMixtral, flags + " --recompute cheap", "fused"), true);
    for (size_t rank = 0; rank < one.size(); ++rank) {
      EXPECT_EQ(again[rank].norms, two[rank].norms) << flags;
      EXPECT_TRUE(again[rank].states == two[rank].states) << flags;
      EXPECT_EQ(two[rank].losses[0], one[rank].losses[0]) << flags;
      for (size_t step = 0; step < one[rank].norms.size(); ++step)
        EXPECT_NEAR(two[rank].norms[step], one[rank].norms[step], 1e-4 * one[rank].norms[step])
            << flags;
    }
  }
}

// A weight that is no number spoils every gradient: all states stay as they are.
TEST(TrainStep, ChangesNothingByAGradientThatIsNotFinite) {
  auto session = Session::create(planFor(kMixtral, "--precision f32", "fused"), {.threads = 1});
  ASSERT_TRUE(session.ok()) << session.status().message();
  fillStates(**session, 0);
  const float value = std::numeric_limits<float>::infinity();
  Result<size_t> index = (*session)->executor().findState("lm_head");
  ASSERT_TRUE(index.ok());
  ASSERT_TRUE(
      (*session)->executor().writeState(*index, 0, std::as_bytes(std::span(&value, 1))).ok());
  Outcome before, after;
  readStates(**session, before);
  RandomStep batches({kLength, 7}, static_cast<int32_t>((*session)->plan().training.vocabSize));
  auto filler = (*session)->createFiller((*session)->lossNormalization());
  ASSERT_TRUE(filler.ok() && filler->setStep(batches.step).ok());
  runStep(**session, *filler, true, 0, after);
  readStates(**session, after);
  EXPECT_EQ(after.applied, std::vector<int32_t>{0});
  EXPECT_FALSE(std::isfinite(after.norms[0]));
  EXPECT_TRUE(after.states == before.states);
}

// The gradient of a parameter that is used twice is one sum, counted once and updated once.
TEST(TrainStep, UpdatesATiedParameterOnce) {
  TestFolder folder;
  std::string config =
      TestFolder::read(std::string(SWITCHYARD_SOURCE_DIR "/") + kMixtral + "/config.json");
  const std::string untied = "\"tie_word_embeddings\": false";
  ASSERT_NE(config.find(untied), std::string::npos);
  config.replace(config.find(untied), untied.size(), "\"tie_word_embeddings\": true");
  folder.write("config.json", config);
  for (const char *precision : {"f32", "bf16"})
    expectSameBits(folder.path(), std::string("--precision ") + precision);
}

} // namespace
} // namespace switchyard

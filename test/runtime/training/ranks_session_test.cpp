// Sessions of many ranks, as threads: what they load, gather and save, and what they do when all
// tokens want the same experts.
#include "runtime/checkpoint/CheckpointSaver.h"
#include "runtime/checkpoint/GatherState.h"
#include "runtime/checkpoint/TrainingCheckpoint.h"
#include "runtime/plan/Layout.h"
#include "runtime/training/Session.h"
#include "runtime/training/Validate.h"
#include "test/runtime/training/CompiledPlan.h"
#include "test/runtime/training/RankSessions.h"

#include <gmock/gmock.h>

#include <functional>
#include <limits>
#include <map>
#include <mutex>

namespace switchyard {

using test::folderOf;
using test::onRanks;

namespace {

const std::string kModel = "test/golden/mixtral-tiny";

/// The plan of kModel for `mesh`, compiled once.
const Plan &planFor(const std::string &mesh) {
  static std::map<std::string, Plan> plans;
  auto [at, isNew] = plans.try_emplace(mesh);
  if (isNew)
    at->second =
        compiled(kModel, "--precision f32 --max-seq-length 24 --step-program split --mesh " + mesh);
  return at->second;
}

/// Whole states by name, as rank 0 gathers them in chunks of `chunk` elements.
using States = std::map<std::string, std::vector<std::byte>>;
States gathered(Session &session, int64_t chunk) {
  States all;
  const Plan &plan = session.plan();
  for (size_t index = 0; index < plan.states.size(); ++index) {
    const State &state = plan.states[index];
    const int64_t width = kernels::byteSize(state.dtype);
    std::vector<std::byte> bytes(bytesOf(state));
    for (int64_t begin = 0, count = bytes.size() / width; begin < count; begin += chunk) {
      int64_t end = std::min(begin + chunk, count);
      Status status =
          gatherState(session.executor(), session.agreement().communicator(), index, begin, end,
                      std::span(bytes).subspan(begin * width, (end - begin) * width));
      EXPECT_TRUE(status.ok()) << status.message();
    }
    all[state.name] = bytes;
  }
  return all;
}

uint64_t tensorBytes(const std::string &model) {
  Result<Checkpoint> checkpoint = Checkpoint::open(folderOf(model));
  uint64_t bytes = 0;
  for (const TensorEntry &entry : checkpoint->tensors())
    bytes += checkpoint->bytes(entry)->size();
  return bytes;
}

class RanksTest : public ::testing::TestWithParam<const char *> {};

// A replica reads every byte of every tensor once, and no rank more than its share.
TEST_P(RanksTest, ReadOnlyTheirOwnBytes) {
  const Plan &plan = planFor(GetParam());
  const uint64_t all = tensorBytes(kModel);
  const auto replicas = static_cast<uint64_t>(plan.mesh.size(Axis::Dp));
  std::mutex mutex;
  uint64_t sum = 0, most = 0;
  onRanks(plan, kModel, [&](Session &session) {
    std::lock_guard lock(mutex);
    sum += session.bytesRead();
    most = std::max(most, session.bytesRead());
  });
  EXPECT_EQ(sum, all * replicas);
  const uint64_t shards = static_cast<uint64_t>(plan.mesh.numRanks()) / replicas;
  // Shards of small tensors are not even: they are multiples of 128 elements.
  EXPECT_LE(most, all / shards + plan.states.size() * 128 * sizeof(float));
}

// What ranks loaded, gathered on rank 0, is what one rank loads: whatever the pieces are.
TEST_P(RanksTest, GatherWhatTheyLoaded) {
  States expected;
  onRanks(planFor("fsdp=1"), kModel,
          [&](Session &session) { expected = gathered(session, 1 << 20); });
  const Plan &plan = planFor(GetParam());
  for (int64_t chunk : {int64_t{1} << 20, int64_t{300}})
    onRanks(plan, kModel, [&](Session &session) {
      States states = gathered(session, chunk);
      if (session.isLeader()) {
        EXPECT_TRUE(states == expected) << "in chunks of " << chunk;
      }
    });
}

Status save(Session &session, const CheckpointSaverOptions &options) {
  CheckpointInfo info;
  info.step = 1;
  info.globalBatch = 1;
  info.samplingStrategy = "sequential";
  SY_ASSIGN_OR_RETURN(std::unique_ptr<CheckpointSaver> saver,
                      CheckpointSaver::create(session.executor(), session.agreement(), options));
  SY_RETURN_IF_ERROR(saver->start(info));
  return saver->finish();
}

/// Element i of state s is s + i / 1024, on whichever rank.
void numberStates(Session &session) {
  const Plan &plan = session.plan();
  for (size_t index = 0; index < plan.states.size(); ++index) {
    const State &state = plan.states[index];
    ElementRange held =
        localRange(state.shape, state.sharding, plan.mesh, session.executor().rank());
    std::vector<float> values(held.count());
    for (int64_t i = 0; i < held.count(); ++i)
      values[i] = static_cast<float>(index) + static_cast<float>(held.begin + i) / 1024;
    ASSERT_TRUE(session.executor().writeState(index, 0, std::as_bytes(std::span(values))).ok());
  }
}

// What one mesh saved any other loads, and each rank reads what it holds and no more.
TEST_P(RanksTest, LoadWhatOthersSaved) {
  const Plan &plan = planFor(GetParam());
  for (const char *mesh : {"fsdp=1", "fsdp=2,ep=2", "dp=2,ep=2"}) {
    TestFolder folder;
    States expected;
    onRanks(planFor(mesh), kModel, [&](Session &session) {
      numberStates(session);
      Status status = save(session, {folder.path(), folderOf(kModel), "", 100000});
      ASSERT_TRUE(status.ok()) << status.message();
      States states = gathered(session, 1 << 20);
      if (session.isLeader())
        expected = std::move(states);
    });
    Result<TrainingCheckpoint> checkpoint = TrainingCheckpoint::open(folder.file("checkpoint-1"));
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
    onRanks(plan, kModel, [&](Session &session) {
      const uint64_t before = session.bytesRead();
      Status status = session.loadStates(*checkpoint);
      ASSERT_TRUE(status.ok()) << status.message();
      uint64_t held = 0, states = 0;
      for (const State &state : plan.states)
        if (state.kind != StateKind::Gradient) {
          held += localRange(state.shape, state.sharding, plan.mesh, session.executor().rank())
                      .count() *
                  sizeof(float);
          ++states;
        }
      // Of the blocks at both ends of what it holds it reads all; small states are one block.
      EXPECT_GE(session.bytesRead() - before, held);
      if (plan.mesh == planFor(mesh).mesh && plan.mesh.size(Axis::Dp) == 1) {
        EXPECT_EQ(session.bytesRead() - before, held);
      }
      EXPECT_LE(session.bytesRead() - before, held + states * 2 * kChecksumBytes);
      States found = gathered(session, 1 << 20);
      for (const State &state : plan.states)
        if (session.isLeader() && state.kind != StateKind::Gradient) {
          EXPECT_TRUE(found[state.name] == expected[state.name]) << state.name << " of " << mesh;
        }
    });
  }
}

// A save that fails on one rank, whichever, fails on all ranks, and leaves nothing.
TEST_P(RanksTest, AgreeOnASaveThatFails) {
  TestFolder folder;
  const Plan &plan = planFor(GetParam());
  onRanks(plan, kModel, [&](Session &session) {
    Status status = save(session, {folder.file("none"), folderOf(kModel), ""});
    EXPECT_EQ(status.code(), StatusCode::Failed);
    EXPECT_THAT(status.message(), ::testing::HasSubstr("none/checkpoint-1"));
    status = save(session, {folder.path(), folderOf(kModel), folder.file("none.model")});
    EXPECT_THAT(status.message(), ::testing::HasSubstr("none.model: cannot be read"));
    EXPECT_TRUE(session.agreement().hasFailed());
  });
  EXPECT_FALSE(fileExists(folder.file("checkpoint-1")));
  EXPECT_EQ(folder.count(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Meshes, RanksTest,
                         ::testing::Values("ep=2", "fsdp=2", "dp=2", "fsdp=2,ep=2", "dp=2,ep=2",
                                           "fsdp=3", "dp=2,fsdp=2,ep=2"));

/// A router whose weights are zero: all scores are equal, and ties go to the lowest indices.
void sendAllTokensToTheFirstExperts(Session &session) {
  const Plan &plan = session.plan();
  int routers = 0;
  for (size_t index = 0; index < plan.states.size(); ++index) {
    const State &state = plan.states[index];
    if (state.kind != StateKind::Parameter || state.name.find("router") == std::string::npos)
      continue;
    ++routers;
    std::vector<std::byte> zeros(localBytesOf(state, plan.mesh));
    EXPECT_TRUE(session.executor().writeState(index, 0, zeros).ok());
  }
  EXPECT_EQ(routers, plan.training.numLayers);
}

struct Outcome {
  std::vector<double> losses;
  std::vector<double> norms;
  double load = 0;
  std::vector<int64_t> rounds; // by rank: overflow rounds of the repeat that had most
};

/// Two steps with all tokens at the same experts, at the bound of the passes.
Outcome trainedAdversarially(const std::string &flags) {
  Plan plan = compiled(
      kModel, "--precision f32 --max-seq-length 24 --step-program split --coalesce 2 " + flags);
  Outcome outcome;
  outcome.rounds.resize(plan.mesh.numRanks());
  onRanks(plan, kModel, [&](Session &session) {
    sendAllTokensToTheFirstExperts(session);
    std::map<const Program *, std::vector<int64_t>> runs;
    session.executor().setObserver(
        [&](const Program &program, size_t instruction, std::chrono::nanoseconds) {
          runs[&program].resize(program.instructions.size());
          ++runs[&program][instruction];
        });
    Result<PassFiller> filler = session.createFiller(session.lossNormalization());
    ASSERT_TRUE(filler.ok());
    const RandomStep batches(std::vector<int64_t>(8, 24), 160);
    ASSERT_TRUE(filler->setStep(batches.step).ok());
    ASSERT_EQ(filler->bucket(), session.passLimits().tokens);
    for (int step = 1; step <= 2; ++step) {
      Result<const StepSums *> sums = session.accumulate(*filler);
      ASSERT_TRUE(sums.ok()) << sums.status().message();
      // A rate of 0 leaves the routers as they are.
      Result<UpdateResult> update = session.update({.maxGradNorm = 1, .step = step});
      ASSERT_TRUE(update.ok()) << update.status().message();
      if (!session.isLeader())
        continue;
      outcome.losses.push_back((*sums)->loss);
      outcome.norms.push_back(update->gradNorm);
      outcome.load = (*sums)->expertLoadMaxOverMean(plan.training.numExperts);
    }
    int64_t passes = 2 * filler->numPasses();
    for (const auto &[program, counts] : runs)
      for (size_t i = 0; i < counts.size(); ++i)
        if (std::holds_alternative<RepeatInstruction>(program->instructions[i]))
          outcome.rounds[session.agreement().rank()] =
              std::max(outcome.rounds[session.agreement().rank()], counts[i + 1] / passes);
    EXPECT_LE(session.executor().highWaterBytes(), session.plan().peakBytes);
  });
  return outcome;
}

// Two of four experts get every token of every rank; the buffers hold half of what even routing
// sends. Nothing is dropped, and memory is what the plan says.
TEST(AdversarialRouting, IsComputedInRoundsWithinThePlannedMemory) {
  Outcome one = trainedAdversarially("--gradient-accumulation-steps 8");
  EXPECT_EQ(one.load, 2); // two of four experts have all
  struct Case {
    const char *flags;
    int64_t rounds; // further ones
  };
  for (Case c :
       {Case{"--mesh ep=2 --gradient-accumulation-steps 4", 3},
        Case{"--mesh ep=4 --gradient-accumulation-steps 2", 3},
        Case{"--mesh fsdp=2,ep=2 --gradient-accumulation-steps 2", 3},
        Case{"--mesh dp=2,ep=2 --gradient-accumulation-steps 2 --sync-each-batch=false", 3}}) {
    SCOPED_TRACE(c.flags);
    Outcome many = trainedAdversarially(c.flags + std::string(" --token-exchange-slot-factor 0.5"));
    ASSERT_EQ(many.losses.size(), one.losses.size());
    for (size_t i = 0; i < one.losses.size(); ++i) {
      EXPECT_NEAR(many.losses[i], one.losses[i], 1e-6 * one.losses[i]);
      EXPECT_NEAR(many.norms[i], one.norms[i], 1e-5 * one.norms[i]);
    }
    EXPECT_EQ(many.load, 2);
    EXPECT_THAT(many.rounds, ::testing::Each(c.rounds));
  }
}

// A loss that is no number is said to be of the ranks that have it, on all of them.
TEST(NonFiniteLoss, NamesItsRanks) {
  const Plan &plan = planFor("dp=4");
  onRanks(plan, kModel, [&](Session &session) {
    Result<size_t> head = session.executor().findState("lm_head");
    ASSERT_TRUE(head.ok()) << head.status().message();
    Result<PassFiller> filler = session.createFiller(session.lossNormalization());
    ASSERT_TRUE(filler.ok());
    const RandomStep batches(std::vector<int64_t>(4, 24), 160);
    ASSERT_TRUE(filler->setStep(batches.step).ok());
    Result<const StepSums *> sums = session.evaluate(*filler);
    ASSERT_TRUE(sums.ok()) << sums.status().message();
    EXPECT_THAT((*sums)->nonFiniteRanks, ::testing::IsEmpty());
    const float nan = std::numeric_limits<float>::quiet_NaN();
    if (session.agreement().rank() % 2 == 1) {
      ASSERT_TRUE(session.executor().writeState(*head, 0, std::as_bytes(std::span(&nan, 1))).ok());
    }
    sums = session.evaluate(*filler);
    ASSERT_TRUE(sums.ok()) << sums.status().message();
    EXPECT_THAT((*sums)->nonFiniteRanks, ::testing::ElementsAre(1, 3));
  });
}

/// Takes the maximum of gradients of `shape` where micro_step would sum them over ranks: as a sum
/// that is left out, that has only one rank's part. (A plan that does nothing there does not load.)
void leaveUnsummed(Plan &plan, const std::vector<int64_t> &shape) {
  int left = 0;
  for (Program &program : plan.programs) {
    for (size_t i = 0; program.name == "micro_step" && i < program.instructions.size(); ++i) {
      auto *sum = std::get_if<CollectiveInstruction>(&program.instructions[i]);
      if (!sum || sum->kind != CollectiveKind::AllReduce || sum->isMax)
        continue;
      for (size_t pair = 0; pair < sum->operands.size(); pair += 2) {
        std::vector<int64_t> found;
        for (const Extent &extent : program.buffers[sum->operands[pair]].shape)
          found.push_back(extent.symbol < 0 ? extent.offset : -1);
        if (found != shape)
          continue;
        CollectiveInstruction other = *sum;
        other.isMax = true;
        other.operands = {sum->operands[pair], sum->operands[pair + 1]};
        sum->operands.erase(sum->operands.begin() + pair, sum->operands.begin() + pair + 2);
        program.instructions.insert(program.instructions.begin() + i + 1, other);
        ++left;
        break;
      }
    }
  }
  ASSERT_EQ(left, plan.training.numLayers);
}

// What a compiler without proofs would get wrong first: validate sees it, on all ranks alike.
TEST(ValidateOnRanks, SeesARouterGradientThatIsNotSummed) {
  Plan plan = compiled(kModel, "--precision f32 --gradient-accumulation-steps 2 --max-seq-length "
                               "24 --loss-normalization micro_batch --weight-decay-scope all "
                               "--step-program split --mesh dp=2");
  Result<Golden> golden = loadGolden(folderOf(kModel), plan.training.vocabSize);
  Result<Checkpoint> initial = Checkpoint::open(folderOf(kModel));
  ASSERT_TRUE(golden.ok() && initial.ok());
  for (bool isFaulty : {false, true}) {
    if (isFaulty)
      leaveUnsummed(plan, {plan.training.numExperts, 32});
    onRanks(plan, kModel, [&](Session &session) {
      TestFolder output;
      ValidateOptions options;
      options.output = std::fopen(output.file("printed").c_str(), "w");
      Status status = validate(session, *golden, *initial, options);
      std::fclose(options.output);
      EXPECT_EQ(status.code(), isFaulty ? StatusCode::Failed : StatusCode::Ok) << status.message();
      if (!isFaulty)
        return;
      EXPECT_THAT(status.message(), ::testing::HasSubstr("step 0: gradient norm is off by"));
      EXPECT_THAT(status.message(),
                  ::testing::ContainsRegex("gradient of model.layers.[01].mlp.gate.weight is off"));
    });
  }
}

} // namespace
} // namespace switchyard

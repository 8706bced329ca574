// Plans for many ranks, run by threads: they compute what one rank computes.
#include "kernels/cpu/Gemm.h"
#include "runtime/comm/local/LocalCommunicator.h"
#include "runtime/device/cpu/CpuDevice.h"
#include "runtime/executor/Executor.h"
#include "runtime/plan/Layout.h"
#include "test/kernels/conformance/HeapCounter.h"
#include "test/runtime/comm/RankThreads.h"
#include "test/runtime/plan/RanksPlan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <barrier>
#include <cmath>
#include <functional>
#include <thread>

namespace switchyard {
namespace {

using namespace test;
using ::testing::HasSubstr;

/// Runs `body` on each rank of the plan's mesh, with an executor of its own.
void runRanks(const Plan &plan, const std::function<void(Executor &executor)> &body) {
  runRankThreads(static_cast<int>(plan.mesh.numRanks()), {}, [&](Communicator &communicator) {
    auto device = createCpuDevice(plan.target, 1);
    ASSERT_TRUE(device.ok());
    auto executor = Executor::create(plan, std::move(*device), &communicator);
    ASSERT_TRUE(executor.ok()) << executor.status().message();
    EXPECT_EQ((*executor)->rank(), communicator.rank());
    body(**executor);
  });
}

#define EXPECT_DONE(call)                                                                          \
  do {                                                                                             \
    Status expectedDone = (call);                                                                  \
    EXPECT_TRUE(expectedDone.ok()) << expectedDone.message();                                      \
  } while (false)

/// Element i of parameter s before training.
float initial(size_t state, int64_t i) {
  return std::sin(static_cast<float>(i + 100 * state)) * 0.5F;
}

/// Writes this rank's elements of `value` into `state`.
void writeLocal(Executor &executor, size_t index, const std::function<float(int64_t)> &value) {
  const State &state = executor.plan().states[index];
  ElementRange range =
      localRange(state.shape, state.sharding, executor.plan().mesh, executor.rank());
  std::vector<float> values;
  for (int64_t i = range.begin; i < range.end; ++i)
    values.push_back(value(i));
  EXPECT_DONE(executor.writeState(index, 0, std::as_bytes(std::span(values))));
}

constexpr int64_t kTokens = 16;
constexpr int kSteps = 4;

/// The tokens that `rank` of `ranks` has: they deal 16 round-robin, each of its weight.
struct Share {
  std::vector<int32_t> ids, positions, segments, labels, microBatches;
  std::vector<float> weights, auxWeights = {1};

  Share(int64_t rank, int64_t ranks) {
    for (int64_t t = rank; t < kTokens; t += ranks) {
      ids.push_back(static_cast<int32_t>((t * 7 + 3) % kShardedVocab));
      labels.push_back(static_cast<int32_t>((t * 5 + 1) % kShardedVocab));
      positions.push_back(0);
      microBatches.push_back(0);
      weights.push_back(static_cast<float>(1 + t % 3) / 32);
    }
    segments = {0, static_cast<int32_t>(ids.size())};
  }
};

/// What training for some steps gives: by name of the state, and the losses and norms.
struct Outcome {
  std::vector<std::vector<float>> states;
  std::vector<float> losses, norms;
  TrafficByKind traffic = {};
};

void step(Executor &executor, const Share &share, int step, Outcome *outcome) {
  auto tokens = static_cast<int64_t>(share.ids.size());
  auto pass = executor.bind("micro_step", std::vector<int64_t>{tokens, 1, 1});
  auto optimizer = executor.bind("optimizer_step", std::vector<int64_t>{0, 0, 0});
  ASSERT_TRUE(pass.ok() && optimizer.ok()) << pass.status().message();
  EXPECT_DONE(executor.zeroGradients());
  EXPECT_DONE(executor.setInput<int32_t>(**pass, "input_ids", share.ids));
  EXPECT_DONE(executor.setInput<int32_t>(**pass, "position_ids", share.positions));
  EXPECT_DONE(executor.setInput<int32_t>(**pass, "cu_seqlens", share.segments));
  EXPECT_DONE(executor.setInput<int32_t>(**pass, "labels", share.labels));
  EXPECT_DONE(executor.setInput<float>(**pass, "loss_weights", share.weights));
  EXPECT_DONE(executor.setInput<int32_t>(**pass, "micro_batch_ids", share.microBatches));
  EXPECT_DONE(executor.setInput<float>(**pass, "aux_weights", share.auxWeights));
  EXPECT_DONE(executor.run(**pass));
  const std::pair<const char *, float> scalars[] = {{"learning_rate", 0.05F},
                                                    {"beta1", 0.9F},
                                                    {"beta2", 0.999F},
                                                    {"epsilon", 1e-8F},
                                                    {"weight_decay", 0.01F},
                                                    {"max_grad_norm", 0.5F},
                                                    {"step", static_cast<float>(step)}};
  for (auto [name, value] : scalars)
    EXPECT_DONE(executor.setScalar(**optimizer, name, value));
  EXPECT_DONE(executor.run(**optimizer));
  if (!outcome)
    return;
  outcome->losses.push_back(*executor.getScalar<float>(**pass, "loss"));
  outcome->norms.push_back(*executor.getScalar<float>(**optimizer, "grad_norm"));
}

Outcome train(Mesh mesh) {
  Plan plan = shardedPlan(mesh);
  Outcome outcome;
  int64_t elements = kShardedVocab * kShardedWidth;
  outcome.states.assign(plan.states.size(), std::vector<float>(elements, NAN));
  std::mutex mutex;
  runRanks(plan, [&](Executor &executor) {
    for (size_t s = 0; s < 2; ++s)
      writeLocal(executor, s, [&](int64_t i) { return initial(s, i); });
    Share share(executor.rank(), plan.mesh.numRanks());
    bool isFirst = executor.rank() == 0;
    for (int i = 1; i <= kSteps; ++i)
      step(executor, share, i, isFirst ? &outcome : nullptr);
    if (isFirst)
      outcome.traffic = executor.traffic();
    for (size_t s = 0; s < plan.states.size(); ++s) {
      const State &state = plan.states[s];
      ElementRange range = localRange(state.shape, state.sharding, plan.mesh, executor.rank());
      std::vector<float> values(localBytesOf(state, plan.mesh) / sizeof(float));
      EXPECT_DONE(executor.readState(s, 0, std::as_writable_bytes(std::span(values))));
      std::lock_guard lock(mutex);
      for (int64_t i = range.begin; i < range.end; ++i) {
        float &known = outcome.states[s][i];
        if (!std::isnan(known)) {
          EXPECT_EQ(known, values[i - range.begin]) << state.name << ": replicas differ";
        }
        known = values[i - range.begin];
      }
      for (size_t i = range.count(); i < values.size(); ++i)
        EXPECT_EQ(values[i], 0.0F) << state.name << ": padding of rank " << executor.rank();
    }
  });
  return outcome;
}

class Meshes : public ::testing::TestWithParam<Mesh> {};
INSTANTIATE_TEST_SUITE_P(Ranks, Meshes,
                         ::testing::Values(Mesh{{1, 2, 1}}, Mesh{{1, 1, 2}}, Mesh{{2, 1, 1}},
                                           Mesh{{1, 2, 2}}, Mesh{{2, 2, 1}}, Mesh{{1, 4, 1}},
                                           Mesh{{2, 2, 2}}),
                         [](const auto &info) {
                           std::string name = text(info.param);
                           std::ranges::replace(name, '=', '_');
                           std::ranges::replace(name, ',', '_');
                           return name;
                         });

TEST_P(Meshes, TrainAsOneRank) {
  Outcome one = train(Mesh()), many = train(GetParam());
  EXPECT_NEAR(many.losses[0], one.losses[0], 1e-6);
  EXPECT_NEAR(many.norms[0], one.norms[0], 1e-6);
  for (size_t s = 0; s < one.states.size(); ++s)
    for (size_t i = 0; i < one.states[s].size(); ++i)
      ASSERT_NEAR(many.states[s][i], one.states[s][i], 2e-5) << s << ", " << i;
}

TEST_P(Meshes, AgainIsTheSameBits) {
  Outcome first = train(GetParam()), second = train(GetParam());
  EXPECT_EQ(first.states, second.states);
}

TEST_P(Meshes, SendsWhatIsForeseen) {
  Plan plan = shardedPlan(GetParam());
  TrafficByKind foreseen = {};
  for (const Program &program : plan.programs) {
    ProgramTraffic traffic = trafficOf(plan, program, symbolBounds(plan));
    EXPECT_EQ(traffic.expected, traffic.worst);
    for (int kind = 0; kind < kNumCollectiveKinds; ++kind) {
      foreseen[kind].calls += kSteps * traffic.expected[kind].calls;
      foreseen[kind].bytes += kSteps * traffic.expected[kind].bytes;
    }
  }
  EXPECT_EQ(train(GetParam()).traffic, foreseen);
}

/// How rank r's tokens are spread over the experts: counts [E] that sum to its tokens.
using Routing = std::function<std::vector<int32_t>(int64_t rank)>;

struct Exchanged {
  std::vector<TrafficByKind> traffic; // by rank
  std::vector<uint64_t> highWater;    // by rank
  int64_t rounds = 0;                 // that rank 0 saw behind round 0
};

/// Sends the tokens of every rank to its experts and back, twice, and checks what returns.
Exchanged exchange(const Plan &plan, int64_t tokens, const Routing &routing) {
  int64_t experts = plan.training.numExperts, width = kExchangeWidth;
  Exchanged result;
  result.traffic.resize(plan.mesh.numRanks());
  result.highWater.resize(plan.mesh.numRanks());
  std::barrier<> meet(plan.mesh.numRanks());
  runRanks(plan, [&](Executor &executor) {
    int64_t rank = executor.rank();
    writeLocal(executor, 0, [&](int64_t i) { return initial(rank, i); });
    // Expert e multiplies by e + 1, and turns the columns round by one.
    writeLocal(executor, 1, [&](int64_t i) {
      int64_t e = i / (width * width), row = i / width % width, column = i % width;
      return row == (column + 1) % width ? static_cast<float>(e + 1) : 0.0F;
    });
    std::vector<int64_t> values = {tokens, 1, 1, valueFor(plan.symbols[3], tokens)};
    auto binding = executor.bind("logits", values);
    ASSERT_TRUE(binding.ok()) << binding.status().message();
    std::vector<int32_t> counts = routing(rank), ids(tokens), rows(kExchangeRows), zeros(tokens);
    for (int64_t t = 0; t < tokens; ++t)
      ids[t] = static_cast<int32_t>((t * 5 + 2) % kExchangeRows);
    for (int64_t t = 0; t < kExchangeRows; ++t)
      rows[t] = static_cast<int32_t>(t % tokens);
    EXPECT_DONE(executor.setInput<int32_t>(**binding, "rows", rows));
    EXPECT_DONE(executor.setInput<int32_t>(**binding, "cu_seqlens", counts));
    EXPECT_DONE(executor.setInput<int32_t>(**binding, "input_ids", ids));
    EXPECT_DONE(executor.run(**binding));
    meet.arrive_and_wait();
    int64_t before = testing::heapAllocations();
    meet.arrive_and_wait();
    Status again = executor.run(**binding);
    meet.arrive_and_wait();
    int64_t after = testing::heapAllocations();
    meet.arrive_and_wait();
    EXPECT_DONE(again);
    if (testing::countsHeapAllocations() &&
        !kernels::cpu::allocatesInProducts(kernels::DType::F32)) {
      EXPECT_EQ(after, before);
    }
    std::vector<float> found(kExchangeRows * width);
    EXPECT_DONE(executor.getOutput<float>(**binding, "logits", found));
    std::vector<int64_t> expertOf;
    for (int64_t e = 0; e < experts; ++e)
      expertOf.insert(expertOf.end(), counts[e], e);
    expertOf.resize(tokens, -1); // rows behind those that are counted come back as zeros
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t d = 0; d < width; ++d) {
        float expected = initial(rank, ids[t] * width + (d + width - 1) % width) *
                         static_cast<float>(expertOf[t] + 1);
        EXPECT_EQ(found[t * width + d], expected) << "rank " << rank << ", token " << t;
      }
    result.traffic[rank] = executor.traffic();
    result.highWater[rank] = executor.highWaterBytes();
    if (rank == 0)
      result.rounds = static_cast<int64_t>(
          executor.traffic()[static_cast<size_t>(CollectiveKind::TokenExchange)].calls / 2 - 1);
  });
  return result;
}

TEST(Exchanges, BringEveryRowBack) {
  Mesh mesh{{1, 2, 2}};
  for (AxisSet axes : {AxisSet(Axis::Ep), AxisSet(Axis::Fsdp), kFsdpAndEp})
    for (int64_t tokens : {int64_t{7}, kExchangeRows}) {
      Exchanged result = exchange(exchangePlan(mesh, axes, 4, 2.0), tokens, [&](int64_t r) {
        std::vector<int32_t> counts = {1, static_cast<int32_t>(r), 0, 2};
        counts[2] = static_cast<int32_t>(tokens) - 3 - static_cast<int32_t>(r) - (r == 1);
        return counts;
      });
      EXPECT_LE(result.rounds, 2);
    }
}

TEST(Exchanges, OfAllRowsToOneExpertTakeRoundsWithinThePeak) {
  Mesh mesh{{1, 1, 4}};
  Plan plan = exchangePlan(mesh, Axis::Ep, 8, 1.25);
  Exchanged result = exchange(plan, kExchangeRows, [](int64_t) {
    std::vector<int32_t> counts(8);
    counts[5] = kExchangeRows;
    return counts;
  });
  EXPECT_EQ(result.rounds, 3); // 4 x 24 rows in buffers of 30
  for (uint64_t bytes : result.highWater)
    EXPECT_EQ(bytes, plan.peakBytes);
  // Rank 2 has the expert: the others send it all of their rows, and it returns them.
  constexpr uint64_t kRow = kExchangeWidth * sizeof(float);
  auto sent = [&](int64_t rank, CollectiveKind kind) {
    return result.traffic[rank][static_cast<size_t>(kind)].bytes / 2;
  };
  EXPECT_EQ(sent(0, CollectiveKind::TokenExchange), kExchangeRows * kRow);
  EXPECT_EQ(sent(2, CollectiveKind::TokenExchange), 0u);
  EXPECT_EQ(sent(0, CollectiveKind::TokenReturn), 0u);
  EXPECT_EQ(sent(2, CollectiveKind::TokenReturn), 3 * kExchangeRows * kRow);
  ProgramTraffic foreseen = trafficOf(plan, plan.programs[0], symbolBounds(plan));
  auto exchangeKind = static_cast<size_t>(CollectiveKind::TokenExchange);
  EXPECT_EQ(foreseen.expected[exchangeKind].bytes, kExchangeRows * kRow * 3 / 4);
  EXPECT_GE(foreseen.worst[exchangeKind].bytes, sent(0, CollectiveKind::TokenExchange));
  EXPECT_EQ(foreseen.expected[0], (Traffic{1, 3 * 8 * sizeof(int32_t)}));
}

TEST(Exchanges, OfNothingAreNothing) {
  Plan plan = exchangePlan(Mesh{{1, 1, 2}}, Axis::Ep, 2, 1.0);
  Exchanged result = exchange(plan, 4, [](int64_t) { return std::vector<int32_t>(2); });
  EXPECT_EQ(result.rounds, 0);
}

TEST(Exchanges, RefuseCountsThatCannotBeOnAllRanks) {
  Plan plan = exchangePlan(Mesh{{1, 1, 2}}, Axis::Ep, 2, 2.0);
  runRanks(plan, [&](Executor &executor) {
    auto binding = executor.bind("logits", std::vector<int64_t>{4, 1, 1, 8});
    ASSERT_TRUE(binding.ok());
    std::vector<int32_t> counts = {1, executor.rank() == 1 ? 4 : 1};
    EXPECT_DONE(executor.setInput<int32_t>(**binding, "cu_seqlens", counts));
    EXPECT_EQ(
        executor.run(**binding).message(),
        "logits, instruction 2: token_exchange: all_counts says that rank 1 of the group has 5 "
        "rows; there is room for 4");
  });
}

TEST(Ranks, HaveTheirPartsOfStates) {
  Plan plan = shardedPlan(Mesh{{1, 2, 1}});
  runRanks(plan, [&](Executor &executor) {
    std::vector<std::byte> bytes(1024);
    EXPECT_DONE(executor.readState(0, 0, bytes)); // 256 elements
    bytes.resize(1025);
    EXPECT_EQ(executor.readState(0, 0, bytes).message(),
              "state 'embed' has 1024 bytes; bytes 0 to 1025 were asked for");
  });
}

TEST(Ranks, ReceiveAsManyRowsAsFollowFromTheTokens) {
  Plan plan = exchangePlan(Mesh{{1, 1, 2}}, Axis::Ep, 2, 1.5);
  runRanks(plan, [&](Executor &executor) {
    auto binding = executor.bind("logits", std::vector<int64_t>{3, 1, 1, 4});
    ASSERT_FALSE(binding.ok());
    EXPECT_EQ(binding.status().message(),
              "program logits: R is 4; expected 5, which follows from T=3");
    EXPECT_TRUE(executor.bind("logits", std::vector<int64_t>{3, 1, 1, 5}).ok());
  });
}

TEST(Ranks, MustBeAsManyAsThePlans) {
  Plan plan = shardedPlan(Mesh{{1, 2, 2}});
  auto message = [&](const Plan &plan, Communicator *communicator) {
    auto executor =
        Executor::create(plan, std::move(*createCpuDevice(plan.target, 1)), communicator);
    EXPECT_EQ(executor.status().code(), StatusCode::Usage);
    return executor.status().message();
  };
  EXPECT_EQ(message(plan, nullptr),
            "the plan is for 4 ranks (fsdp=2,ep=2), this job has 1 rank; start 4, or compile the "
            "plan with another --mesh");
  runRanks(shardedPlan(Mesh{{2, 1, 1}}), [&](Executor &) {}); // as many as these are fine
  auto world = LocalWorld::create(1, {});
  auto communicator = (*world)->join(0);
  ASSERT_TRUE(communicator.ok());
  EXPECT_THAT(message(plan, communicator->get()), HasSubstr("this job has 1 rank; start 4"));
  EXPECT_DONE((*communicator)->finish());
}

TEST(Ranks, SayWhereTheyFail) {
  // A rank of another plan calls another collective.
  Plan plans[] = {shardedPlan(Mesh{{1, 2, 1}}), shardedPlan(Mesh{{1, 2, 1}})};
  auto &instructions = plans[1].programs[1].instructions;
  for (Instruction &instruction : instructions)
    if (auto *collective = std::get_if<CollectiveInstruction>(&instruction))
      collective->isMax = true;
  auto world = LocalWorld::create(2, {});
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank)
    threads.emplace_back([&, rank] {
      auto communicator = (*world)->join(rank);
      ASSERT_TRUE(communicator.ok());
      auto executor =
          Executor::create(plans[rank], std::move(*createCpuDevice({}, 1)), communicator->get());
      ASSERT_TRUE(executor.ok()) << executor.status().message();
      auto binding = (*executor)->bind("optimizer_step", std::vector<int64_t>{0, 0, 0});
      EXPECT_THAT((*executor)->run(**binding).message(),
                  HasSubstr("optimizer_step, instruction 3: all_reduce over ranks 0, 1: the ranks "
                            "disagree: rank 0 calls all_reduce (sum)"));
      EXPECT_DONE((*communicator)->finish());
    });
  for (std::thread &thread : threads)
    thread.join();
}

} // namespace
} // namespace switchyard

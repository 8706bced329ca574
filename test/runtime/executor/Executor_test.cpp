// The executor over a device that records what it is asked to do.
#include "runtime/executor/Executor.h"

#include "runtime/plan/Layout.h"
#include "test/runtime/plan/TinyPlan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

namespace switchyard {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;

/// What a recording device saw, shared with the test that made it.
struct Record {
  uint64_t memory = uint64_t{1} << 40;
  std::vector<uint64_t> allocated;
  std::vector<std::string> prepared; // "kernel(10x8, 12x8)"
  std::vector<std::string> executed;
  std::string failToPrepare, failToRun; // a kernel
  bool hasGraphs = false;
  std::vector<std::string> readBack; // "4+24": bytes of the pieces
  int released = 0;
};

struct RecordedLaunch final : PreparedLaunch {
  std::string kernel;
};

struct RecordedGraph final : PreparedGraph {
  std::vector<std::string> work;
};

class RecordedReadback final : public Readback {
public:
  RecordedReadback(Record &record, uint64_t bytes) : record_(record), bytes_(bytes) {}
  Status begin(std::span<const Piece> pieces) override {
    std::string text;
    for (const Piece &piece : pieces) {
      text += (text.empty() ? "" : "+") + std::to_string(piece.bytes);
      std::memcpy(bytes_.data() + piece.at, piece.from, piece.bytes);
    }
    record_.readBack.push_back(text);
    return {};
  }
  Status wait() override { return {}; }
  std::span<const std::byte> bytes() const override { return bytes_; }

private:
  Record &record_;
  std::vector<std::byte> bytes_;
};

class RecordingDevice final : public Device {
public:
  explicit RecordingDevice(Record &record) : record_(record) {}

  std::string name() const override { return "recording"; }
  uint64_t memoryBytes() const override { return record_.memory; }
  Result<DeviceMemory> allocate(uint64_t bytes) override {
    record_.allocated.push_back(bytes);
    void *data = bytes > 0 ? std::aligned_alloc(kBufferAlignment, alignUp(bytes)) : nullptr;
    if (data)
      std::memset(data, 0, bytes);
    return DeviceMemory(*this, data, bytes);
  }
  Status copyIn(void *to, const void *from, uint64_t bytes) override {
    return copyBytes(to, from, bytes);
  }
  Status copyOut(void *to, const void *from, uint64_t bytes) override {
    return copyBytes(to, from, bytes);
  }
  Status copy(void *to, const void *from, uint64_t bytes, uint32_t) override {
    record_.executed.push_back("copy " + std::to_string(bytes));
    return copyBytes(to, from, bytes);
  }
  Status fillZero(void *to, uint64_t bytes, uint32_t) override {
    std::memset(to, 0, bytes);
    return {};
  }
  Result<std::unique_ptr<PreparedLaunch>> prepare(const kernels::Signature &signature,
                                                  std::vector<kernels::Tensor> operands,
                                                  std::vector<kernels::AttributeValue> attributes,
                                                  std::span<std::byte> workspace,
                                                  uint32_t) override {
    if (signature.name == record_.failToPrepare)
      return Status::failed("the library wants more scratch");
    std::string text(signature.name);
    for (const kernels::Tensor &tensor : operands) {
      text += &tensor == operands.data() ? "(" : ", ";
      for (int i = 0; i < tensor.rank; ++i)
        text += (i > 0 ? "x" : "") + std::to_string(tensor.dims[i]);
    }
    record_.prepared.push_back(text + ")");
    EXPECT_EQ(attributes.size(), signature.attributes.size());
    if (!workspace.empty()) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(workspace.data()) % kBufferAlignment, 0u);
    }
    auto launch = std::make_unique<RecordedLaunch>();
    launch->kernel = signature.name;
    return std::unique_ptr<PreparedLaunch>(std::move(launch));
  }
  Status run(const PreparedLaunch &launch) override {
    const std::string &kernel = static_cast<const RecordedLaunch &>(launch).kernel;
    if (kernel == record_.failToRun)
      return Status::failed("the device has stopped");
    record_.executed.push_back(kernel);
    return {};
  }
  Status synchronize() override { return {}; }
  Result<std::unique_ptr<Readback>> createReadback(uint64_t bytes) override {
    return std::unique_ptr<Readback>(std::make_unique<RecordedReadback>(record_, bytes));
  }
  Status record(uint32_t event, uint32_t stream) override {
    record_.executed.push_back("record " + std::to_string(event) + " on " + std::to_string(stream));
    return {};
  }
  Status wait(uint32_t event, uint32_t stream) override {
    record_.executed.push_back("wait " + std::to_string(event) + " on " + std::to_string(stream));
    return {};
  }
  Result<std::unique_ptr<PreparedGraph>> capture(const std::function<Status()> &work) override {
    if (!record_.hasGraphs)
      return std::unique_ptr<PreparedGraph>();
    auto graph = std::make_unique<RecordedGraph>();
    std::swap(graph->work, record_.executed);
    Status status = work();
    std::swap(graph->work, record_.executed);
    SY_RETURN_IF_ERROR(status);
    return std::unique_ptr<PreparedGraph>(std::move(graph));
  }
  Status run(const PreparedGraph &graph) override {
    record_.executed.push_back("graph");
    for (const std::string &work : static_cast<const RecordedGraph &>(graph).work)
      record_.executed.push_back(work);
    return {};
  }

private:
  static Status copyBytes(void *to, const void *from, uint64_t bytes) {
    if (bytes > 0)
      std::memcpy(to, from, bytes);
    return {};
  }
  void release(void *data, uint64_t) override {
    std::free(data);
    ++record_.released;
  }

  Record &record_;
};

std::unique_ptr<Executor> make(Record &record, Plan plan = tinyPlan()) {
  auto executor = Executor::create(std::move(plan), std::make_unique<RecordingDevice>(record));
  EXPECT_TRUE(executor.ok()) << executor.status().message();
  return std::move(*executor);
}

std::shared_ptr<const Binding> bound(Executor &executor, std::string_view program,
                                     std::vector<int64_t> values) {
  auto binding = executor.bind(program, values);
  EXPECT_TRUE(binding.ok()) << binding.status().message();
  return *binding;
}

TEST(Executor, AllocatesEachArenaOnceAndGivesItBack) {
  Record record;
  Plan plan = tinyPlan();
  {
    auto executor = make(record);
    EXPECT_THAT(record.allocated, ElementsAre(plan.arenaBytes[0], plan.arenaBytes[1],
                                              plan.arenaBytes[2], plan.arenaBytes[3]));
    ASSERT_TRUE(executor->run(*bound(*executor, "micro_step", {10, 2, 1})).ok());
  }
  EXPECT_EQ(record.allocated.size(), 4u);
  EXPECT_EQ(record.released, 3); // comm has none
}

TEST(Executor, VerifiesBeforeItAllocates) {
  Record record;
  Plan plan = tinyPlan();
  plan.programs[0].buffers[0].offset = 4;
  auto executor = Executor::create(std::move(plan), std::make_unique<RecordingDevice>(record));
  ASSERT_FALSE(executor.ok());
  EXPECT_EQ(executor.status().code(), StatusCode::InvalidInput);
  EXPECT_TRUE(record.allocated.empty());
}

TEST(Executor, RefusesAPlanThatDoesNotFit) {
  Record record;
  record.memory = 4096;
  auto executor = Executor::create(tinyPlan(), std::make_unique<RecordingDevice>(record));
  ASSERT_FALSE(executor.ok());
  EXPECT_EQ(executor.status().code(), StatusCode::DoesNotFit);
  EXPECT_THAT(executor.status().message(),
              HasSubstr("bytes of memory, the device has 4096; compile it for fewer tokens"));
}

TEST(Executor, PreparesAtTheExtentsAndRunsInOrder) {
  Record record;
  auto executor = make(record);
  auto binding = bound(*executor, "logits", {10, 2, 1});
  EXPECT_THAT(record.prepared, ElementsAre("embedding(12x8, 10, 10x8)", "gather_rows(10x8, 3, 3x8)",
                                           "linear(3x8, 12x8, 3x12)"));
  ASSERT_TRUE(executor->run(*binding).ok());
  EXPECT_THAT(record.executed, ElementsAre("embedding", "gather_rows", "linear", "copy 144"));
  EXPECT_EQ(binding->portElements("input_ids"), 10);
  EXPECT_EQ(binding->portElements("cu_seqlens"), 3);
  EXPECT_EQ(binding->portElements("labels"), -1);
  EXPECT_EQ(binding->portDType("rows"), DType::I32);
}

TEST(Executor, PreparesTheSameExtentsOnce) {
  Record record;
  auto executor = make(record);
  auto first = bound(*executor, "evaluate", {10, 2, 1});
  size_t prepared = record.prepared.size();
  EXPECT_EQ(bound(*executor, "evaluate", {10, 2, 1}), first);
  EXPECT_EQ(record.prepared.size(), prepared);
  EXPECT_NE(bound(*executor, "evaluate", {11, 2, 1}), first);
  EXPECT_EQ(record.prepared.size(), 2 * prepared);
}

TEST(Executor, KeepsTheLatestBindings) {
  Record record;
  Plan plan = tinyPlan();
  auto executor = make(record);
  auto first = bound(*executor, "evaluate", {0, 0, 0});
  for (int64_t t = 1; t < static_cast<int64_t>(Executor::kMaxBindings); ++t)
    bound(*executor, "evaluate", {t % kTokensBound, 0, t / kTokensBound});
  EXPECT_EQ(bound(*executor, "evaluate", {0, 0, 0}), first); // used again, so the last to go
  bound(*executor, "evaluate", {0, 1, 0});
  EXPECT_EQ(bound(*executor, "evaluate", {0, 0, 0}), first);
  size_t prepared = record.prepared.size();
  bound(*executor, "evaluate", {1, 0, 0});
  EXPECT_GT(record.prepared.size(), prepared);
  EXPECT_TRUE(executor->run(*first).ok()); // who holds a binding may run it
}

TEST(Executor, RefusesExtentsThatThePlanIsNotMadeFor) {
  Record record;
  auto executor = make(record);
  auto message = [&](std::vector<int64_t> values, const char *program = "micro_step") {
    auto binding = executor->bind(program, values);
    return binding.ok() ? "" : binding.status().message();
  };
  EXPECT_EQ(message({41, 1, 1}), "program micro_step: T is 41; the plan is made for 0 to 40");
  EXPECT_EQ(message({1, -1, 1}), "program micro_step: S is -1; the plan is made for 0 to 5");
  EXPECT_EQ(message({1, 1}),
            "program micro_step: 2 symbol values were given; the plan has 3 symbols");
  EXPECT_EQ(message({1, 1, 1}, "train"), "the plan has no program train");
  EXPECT_EQ(message({40, 5, 3}), "");
  EXPECT_EQ(message({0, 0, 0}), "");
}

TEST(Executor, NamesTheInstructionThatFails) {
  Record record;
  auto executor = make(record);
  record.failToPrepare = "linear";
  auto binding = executor->bind("logits", std::vector<int64_t>{10, 2, 1});
  ASSERT_FALSE(binding.ok());
  EXPECT_EQ(
      binding.status().message(),
      "program logits, instruction 2 (linear) with T=10, S=2, M=1: the library wants more scratch");
  record.failToPrepare.clear();
  record.failToRun = "gather_rows";
  Status status = executor->run(*bound(*executor, "logits", {10, 2, 1}));
  EXPECT_EQ(status.message(),
            "program logits, instruction 1 (gather_rows): the device has stopped");
}

TEST(Executor, ChecksPorts) {
  Record record;
  auto executor = make(record);
  auto binding = bound(*executor, "evaluate", {2, 1, 1});
  std::vector<int32_t> two = {3, 4}, three = {1, 2, 3};
  std::vector<float> floats = {1, 2};
  EXPECT_TRUE(executor->setInput<int32_t>(*binding, "labels", two).ok());
  EXPECT_EQ(executor->setInput<int32_t>(*binding, "labels", three).message(),
            "program evaluate, input 'labels': got 3 values of i32; expected 2 of i32");
  EXPECT_EQ(executor->setInput<float>(*binding, "labels", floats).message(),
            "program evaluate, input 'labels': got 2 values of f32; expected 2 of i32");
  EXPECT_EQ(executor->setInput<float>(*binding, "loss", floats).message(),
            "program evaluate has no input 'loss'");
  EXPECT_EQ(executor->getScalar<float>(*binding, "labels").status().message(),
            "program evaluate has no output 'labels'");
  EXPECT_TRUE(executor->getScalar<float>(*binding, "loss").ok());
}

TEST(Executor, ReadsAndWritesStates) {
  Record record;
  auto executor = make(record);
  auto head = executor->findState("head");
  ASSERT_TRUE(head.ok());
  EXPECT_EQ(*head, 1u);
  EXPECT_EQ(executor->findState("tail").status().message(), "the plan has no state 'tail'");
  std::vector<float> values = {1, 2, 3, 4}, back(4);
  ASSERT_TRUE(executor->writeState(*head, 16, std::as_bytes(std::span(values))).ok());
  ASSERT_TRUE(executor->readState(*head, 16, std::as_writable_bytes(std::span(back))).ok());
  EXPECT_EQ(back, values);
  ASSERT_TRUE(executor->readState(*head, 0, std::as_writable_bytes(std::span(back))).ok());
  EXPECT_THAT(back, ElementsAre(0, 0, 0, 0));
  EXPECT_EQ(executor->writeState(*head, 376, std::as_bytes(std::span(values))).message(),
            "state 'head' has 384 bytes; bytes 376 to 392 were asked for");
  EXPECT_FALSE(
      executor->readState(*head, ~uint64_t{0}, std::as_writable_bytes(std::span(back))).ok());
}

TEST(Executor, ZeroesStates) {
  Record record;
  auto executor = make(record);
  std::vector<float> ones(kVocab * kWidth, 1.0f), back(ones.size());
  for (size_t i = 0; i < executor->plan().states.size(); ++i)
    ASSERT_TRUE(executor->writeState(i, 0, std::as_bytes(std::span(ones))).ok());
  ASSERT_TRUE(executor->zeroGradients().ok());
  for (size_t i = 0; i < executor->plan().states.size(); ++i) {
    ASSERT_TRUE(executor->readState(i, 0, std::as_writable_bytes(std::span(back))).ok());
    float expected = executor->plan().states[i].kind == StateKind::Gradient ? 0.0f : 1.0f;
    EXPECT_THAT(back, testing::Each(expected)) << i;
  }
  ASSERT_TRUE(executor->zeroState(kHead).ok());
  for (size_t i : {kHead, kEmbed}) {
    ASSERT_TRUE(executor->readState(i, 0, std::as_writable_bytes(std::span(back))).ok());
    EXPECT_THAT(back, testing::Each(i == kHead ? 0.0f : 1.0f)) << i;
  }
}

TEST(Executor, HighWaterIsThePeakAtTheBoundsAndBelowItOtherwise) {
  auto reachedWith = [](std::vector<int64_t> values, std::vector<const char *> programs) {
    Record record;
    auto executor = make(record);
    EXPECT_EQ(executor->highWaterBytes(), 0u);
    for (const char *program : programs)
      EXPECT_TRUE(executor->run(*bound(*executor, program, values)).ok());
    return executor->highWaterBytes();
  };
  uint64_t peak = tinyPlan().peakBytes;
  std::vector<const char *> all = {"micro_step", "optimizer_step", "evaluate", "logits"};
  EXPECT_EQ(reachedWith({kTokensBound, 5, 3}, all), peak);
  uint64_t half = reachedWith({kTokensBound / 2, 5, 3}, all), none = reachedWith({0, 0, 0}, all);
  EXPECT_LT(half, peak);
  EXPECT_LT(none, half);
  EXPECT_GT(none, 0u);
  EXPECT_LT(reachedWith({kTokensBound, 5, 3}, {"evaluate"}), peak);
}

TEST(Executor, ReplaysWhatItRecordedInTheSecondRun) {
  Record record;
  record.hasGraphs = true;
  auto executor = make(record);
  auto binding = bound(*executor, "logits", {10, 2, 1});
  const std::vector<std::string> work = {"embedding", "gather_rows", "linear", "copy 144"};
  ASSERT_TRUE(executor->start(*binding).ok());
  EXPECT_EQ(record.executed, work);
  std::vector<std::string> replay = {"graph"};
  replay.insert(replay.end(), work.begin(), work.end());
  for (int i = 0; i < 2; ++i) {
    record.executed.clear();
    ASSERT_TRUE(executor->start(*binding).ok());
    EXPECT_EQ(record.executed, replay) << i;
  }
  record.executed.clear();
  ASSERT_TRUE(executor->start(*bound(*executor, "logits", {11, 2, 1})).ok()); // another binding
  EXPECT_EQ(record.executed, work);
  record.executed.clear();
  executor->setObserver([](const Program &, size_t, std::chrono::nanoseconds) {});
  ASSERT_TRUE(executor->start(*binding).ok());
  EXPECT_EQ(record.executed, work);
  executor->setObserver({});
  executor->allowGraphs(false);
  record.executed.clear();
  ASSERT_TRUE(executor->start(*binding).ok());
  EXPECT_EQ(record.executed, work);
}

TEST(Executor, ReplaysReachAsFarAsRuns) {
  Record record;
  record.hasGraphs = true;
  auto executor = make(record);
  auto small = bound(*executor, "evaluate", {10, 2, 1});
  ASSERT_TRUE(executor->run(*small).ok());
  uint64_t reached = executor->highWaterBytes();
  auto large = bound(*executor, "evaluate", {20, 2, 1});
  ASSERT_TRUE(executor->run(*small).ok());
  EXPECT_EQ(executor->highWaterBytes(), reached);
  ASSERT_TRUE(executor->run(*large).ok());
  EXPECT_GT(executor->highWaterBytes(), reached);
}

TEST(Executor, AFaultInARecordNamesTheInstruction) {
  Record record;
  record.hasGraphs = true;
  auto executor = make(record);
  auto binding = bound(*executor, "logits", {10, 2, 1});
  ASSERT_TRUE(executor->start(*binding).ok());
  record.failToRun = "linear";
  EXPECT_EQ(
      executor->start(*binding).message(),
      "recording program logits: program logits, instruction 2 (linear): the device has stopped");
}

TEST(Executor, StreamsStartAndEndWithStreamZero) {
  Record record;
  Plan plan = tinyPlan();
  Program &logits = programOf(plan, "logits");
  // embedding and gather_rows on stream 1, the rest behind them.
  std::get<LaunchInstruction>(logits.instructions[0]).stream = 1;
  std::get<LaunchInstruction>(logits.instructions[1]).stream = 1;
  logits.instructions.insert(logits.instructions.begin() + 2, RecordInstruction{0, 1});
  logits.instructions.insert(logits.instructions.begin() + 3, WaitInstruction{0, 0});
  auto executor = make(record, std::move(plan));
  ASSERT_TRUE(executor->run(*bound(*executor, "logits", {10, 2, 1})).ok());
  EXPECT_THAT(record.executed, ElementsAre("record 1 on 0", "wait 1 on 1", "embedding",
                                           "gather_rows", "record 0 on 1", "wait 0 on 0", "linear",
                                           "copy 144", "record 2 on 1", "wait 2 on 0"));
}

TEST(Executor, OutputsAreReadBackAsTheyWere) {
  Record record;
  auto executor = make(record);
  auto outputs = executor->createOutputs("evaluate");
  ASSERT_TRUE(outputs.ok()) << outputs.status().message();
  auto binding = bound(*executor, "evaluate", {10, 2, 1});
  ASSERT_TRUE(executor->start(*binding).ok());
  ASSERT_TRUE(executor->readBack(*binding, **outputs).ok());
  ASSERT_TRUE((*outputs)->wait().ok());
  ASSERT_EQ(record.readBack.size(), 1u);
  EXPECT_TRUE((*outputs)->getScalar<float>("loss").ok());
  std::vector<float> counts(static_cast<size_t>(binding->portElements("expert_counts")));
  EXPECT_TRUE((*outputs)->get<float>("expert_counts", std::span<float>(counts)).ok());
  EXPECT_EQ((*outputs)->getScalar<float>("labels").status().message(),
            "program evaluate has no output 'labels'");
  EXPECT_EQ((*outputs)->getScalar<int32_t>("loss").status().message(),
            "program evaluate, output 'loss': got 1 values of i32; expected 1 of f32");
  EXPECT_EQ(executor->createOutputs("train").status().message(), "the plan has no program train");
}

TEST(Executor, TellsAnObserverOfEachInstruction) {
  Record record;
  auto executor = make(record);
  std::vector<std::string> seen;
  executor->setObserver(
      [&](const Program &program, size_t instruction, std::chrono::nanoseconds time) {
        EXPECT_GE(time.count(), 0);
        seen.push_back(program.name + " " + std::string(nameOf(program.instructions[instruction])));
      });
  auto binding = bound(*executor, "logits", {10, 2, 1});
  ASSERT_TRUE(executor->run(*binding).ok());
  EXPECT_THAT(
      seen, ElementsAre("logits embedding", "logits gather_rows", "logits linear", "logits copy"));
  executor->setObserver({});
  ASSERT_TRUE(executor->run(*binding).ok());
  EXPECT_EQ(seen.size(), 4u);
}

} // namespace
} // namespace switchyard

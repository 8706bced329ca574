#include "runtime/checkpoint/TrainingCheckpoint.h"

#include "runtime/checkpoint/Weights.h"
#include "runtime/core/Json.h"
#include "runtime/device/cpu/CpuDevice.h"
#include "runtime/plan/PlanFile.h"
#include "test/runtime/core/TestFolder.h"
#include "test/runtime/plan/TinyPlan.h"

#include <gmock/gmock.h>

#include <cstring>
#include <set>

namespace switchyard {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;
namespace fs = std::filesystem;

constexpr size_t kElements = test::kVocab * test::kWidth;

std::set<std::string> namesIn(const std::string &folder) {
  std::set<std::string> names;
  for (const fs::directory_entry &entry : fs::directory_iterator(folder))
    names.insert(entry.path().filename());
  return names;
}

/// An executor of the tiny plan whose state i holds i, i + 0.01, ...; a model folder; and a
/// checkpoint of both, "checkpoint-3".
class TrainingCheckpointTest : public ::testing::Test {
protected:
  void SetUp() override {
    Plan plan = test::tinyPlan();
    auto device = createCpuDevice(plan.target);
    ASSERT_TRUE(device.ok());
    auto executor = Executor::create(std::move(plan), std::move(*device));
    ASSERT_TRUE(executor.ok()) << executor.status().message();
    executor_ = std::move(*executor);
    for (size_t state = 0; state < executor_->plan().states.size(); ++state) {
      std::vector<float> content = values(state);
      ASSERT_TRUE(executor_->writeState(state, 0, std::as_bytes(std::span(content))).ok());
    }
    fs::create_directory(model_);
    folder_.write("model/config.json", R"({"model_type": "mixtral", "dtype": "float32"})");
    folder_.write("model/generation_config.json", "{}");
    folder_.write("spm.model", "pieces");
    Status status = saveTrainingCheckpoint(checkpoint_, *executor_, {3, 48}, model_,
                                           folder_.file("spm.model"), alone_);
    ASSERT_TRUE(status.ok()) << status.message();
  }

  static std::vector<float> values(size_t state) {
    std::vector<float> result(kElements);
    for (size_t i = 0; i < kElements; ++i)
      result[i] = static_cast<float>(state) + 0.01f * static_cast<float>(i);
    return result;
  }

  /// The message of an export that must fail as InvalidInput, and leave nothing.
  std::string refusal() {
    std::set<std::string> before = namesIn(folder_.path());
    Status status = exportTrainingCheckpoint(checkpoint_, folder_.file("hf"));
    EXPECT_EQ(status.code(), StatusCode::InvalidInput);
    EXPECT_EQ(namesIn(folder_.path()), before);
    std::string message = status.message();
    for (size_t at; (at = message.find(folder_.path() + "/")) != std::string::npos;)
      message.erase(at, folder_.path().size() + 1);
    return message;
  }

  void write(const std::string &name, std::string_view content) {
    folder_.write("checkpoint-3/" + name, content);
  }
  std::string read(const std::string &name) {
    return TestFolder::read(folder_.file("checkpoint-3/" + name));
  }

  TestFolder folder_;
  std::string model_ = folder_.file("model");
  std::string checkpoint_ = folder_.file("checkpoint-3");
  std::unique_ptr<Executor> executor_;
  Agreement alone_;
};

TEST_F(TrainingCheckpointTest, HoldsAllThatARunNeeds) {
  EXPECT_THAT(namesIn(checkpoint_),
              UnorderedElementsAre("checkpoint.json", "states.safetensors", "step.plan", "model"));
  EXPECT_THAT(namesIn(folder_.file("checkpoint-3/model")),
              UnorderedElementsAre("config.json", "generation_config.json", "tokenizer.model"));
  EXPECT_EQ(read("model/tokenizer.model"), "pieces");
  Result<Json> info = readJson(folder_.file("checkpoint-3/checkpoint.json"));
  ASSERT_TRUE(info.ok()) << info.status().message();
  EXPECT_EQ(*getInteger(*info, "step", 0, 10), 3);
  EXPECT_EQ(*getInteger(*info, "position", 0, 100), 48);
  EXPECT_EQ(*getString(*info, "model_fingerprint"), "0123456789abcdef");
  Result<Plan> plan = load(folder_.file("checkpoint-3/step.plan"));
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  EXPECT_EQ(serialize(*plan), serialize(executor_->plan()));

  // Every parameter and moment, no gradient.
  Result<SafetensorsFile> states =
      SafetensorsFile::open(folder_.file("checkpoint-3/states.safetensors"));
  ASSERT_TRUE(states.ok()) << states.status().message();
  EXPECT_EQ(states->tensors().size(), 6u);
  for (size_t index : {0, 1, 4, 5, 6, 7}) {
    const TensorEntry *entry = states->find(executor_->plan().states[index].name);
    ASSERT_TRUE(entry);
    std::vector<float> found(kElements);
    std::memcpy(found.data(), states->bytes(*entry)->data(), kElements * sizeof(float));
    EXPECT_EQ(found, values(index));
  }
  EXPECT_THAT(namesIn(folder_.path()), UnorderedElementsAre("model", "spm.model", "checkpoint-3"));
}

TEST_F(TrainingCheckpointTest, ExportsItsParameters) {
  Status status = exportTrainingCheckpoint(checkpoint_, folder_.file("hf"));
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_THAT(namesIn(folder_.file("hf")),
              UnorderedElementsAre("config.json", "generation_config.json", "tokenizer.model",
                                   "model.safetensors"));
  Result<Checkpoint> weights = Checkpoint::open(folder_.file("hf"));
  ASSERT_TRUE(weights.ok()) << weights.status().message();
  EXPECT_EQ(weights->names(), std::vector<std::string>({"embed", "head"}));
  std::vector<float> found(kElements);
  std::memcpy(found.data(), weights->bytes(*weights->find("head"))->data(),
              kElements * sizeof(float));
  EXPECT_EQ(found, values(1));
}

TEST_F(TrainingCheckpointTest, NeverWritesOverAnything) {
  Status status = saveTrainingCheckpoint(checkpoint_, *executor_, {4, 64}, model_, "", alone_);
  EXPECT_EQ(status.code(), StatusCode::InvalidInput);
  EXPECT_THAT(status.message(), HasSubstr("checkpoint-3"));
  EXPECT_EQ(*getInteger(*readJson(folder_.file("checkpoint-3/checkpoint.json")), "step", 0, 10), 3);
  EXPECT_EQ(exportTrainingCheckpoint(checkpoint_, model_).code(), StatusCode::InvalidInput);
  EXPECT_THAT(namesIn(model_), UnorderedElementsAre("config.json", "generation_config.json"));
}

TEST_F(TrainingCheckpointTest, ASaveThatFailsLeavesNothing) {
  std::string target = folder_.file("checkpoint-4");
  std::set<std::string> before = namesIn(folder_.path());
  Status status = saveTrainingCheckpoint(target, *executor_, {4, 64}, model_,
                                         folder_.file("none.model"), alone_);
  EXPECT_THAT(status.message(), HasSubstr("none.model: cannot be read: No such file"));
  status = saveTrainingCheckpoint(target, *executor_, {4, 64}, folder_.path(), "", alone_);
  EXPECT_THAT(status.message(), HasSubstr("/config.json: cannot be read: No such file"));
  EXPECT_EQ(namesIn(folder_.path()), before);
  status = saveTrainingCheckpoint(folder_.file("none/checkpoint-4"), *executor_, {4, 64}, model_,
                                  folder_.file("spm.model"), alone_);
  EXPECT_EQ(status.code(), StatusCode::Failed);
  EXPECT_THAT(status.message(), HasSubstr("none/checkpoint-4"));
}

TEST_F(TrainingCheckpointTest, AnExportThatIsStoppedLeavesNothing) {
  std::set<std::string> before = namesIn(folder_.path());
  std::atomic<bool> stop = true;
  Status status = exportTrainingCheckpoint(checkpoint_, folder_.file("hf"), &stop);
  EXPECT_EQ(status.code(), StatusCode::Failed);
  EXPECT_THAT(status.message(), HasSubstr("hf: stopped by a signal; nothing was written"));
  EXPECT_EQ(namesIn(folder_.path()), before);
}

TEST_F(TrainingCheckpointTest, NamesFilesThatAreMissing) {
  for (const char *name : {"model/config.json", "states.safetensors", "step.plan"}) {
    fs::rename(checkpoint_ + "/" + name, folder_.file("away"));
    EXPECT_EQ(refusal(), std::string("checkpoint-3/") + name +
                             ": cannot be read: No such file or directory; check the path");
    fs::rename(folder_.file("away"), checkpoint_ + "/" + name);
  }
  fs::remove(checkpoint_ + "/checkpoint.json");
  EXPECT_EQ(refusal(),
            "checkpoint-3: holds no checkpoint.json; expected a folder checkpoint-N that "
            "moe-run train wrote");
  checkpoint_ = folder_.file("none");
  EXPECT_THAT(refusal(), HasSubstr("none: holds no checkpoint.json"));
}

TEST_F(TrainingCheckpointTest, NamesWhatIsWrongInCheckpointJson) {
  const std::string whole = read("checkpoint.json");
  auto with = [&](const std::string &old, const std::string &replacement) {
    std::string text = whole;
    size_t at = text.find(old);
    EXPECT_NE(at, std::string::npos) << old;
    write("checkpoint.json", text.replace(at, old.size(), replacement));
    return refusal();
  };
  EXPECT_EQ(with("\"format_version\": 1", "\"format_version\": 2"),
            "checkpoint-3/checkpoint.json: \"format_version\" is 2, expected an integer in [1, 1]");
  EXPECT_EQ(
      with("0123456789abcdef", "0123456789abcdee"),
      "checkpoint-3/checkpoint.json: \"model_fingerprint\" is 0123456789abcdee, but step.plan "
      "beside it is of the model 0123456789abcdef");
  EXPECT_EQ(with("\"model_fingerprint\"", "\"fingerprint\""),
            "checkpoint-3/checkpoint.json: \"model_fingerprint\" is missing, expected a string");
  write("checkpoint.json", "{\n\"step\": 3,");
  EXPECT_THAT(refusal(), HasSubstr("checkpoint-3/checkpoint.json: is not valid JSON at line 2"));
  write("checkpoint.json", "");
  EXPECT_THAT(refusal(), HasSubstr("checkpoint-3/checkpoint.json: is not valid JSON at line 1"));
}

TEST_F(TrainingCheckpointTest, NamesFilesThatAreDamaged) {
  std::string states = read("states.safetensors");
  write("states.safetensors", std::string_view(states).substr(0, states.size() - 1));
  EXPECT_THAT(refusal(), HasSubstr("checkpoint-3/states.safetensors: "));
  write("states.safetensors", states);
  std::string plan = read("step.plan");
  write("step.plan", std::string_view(plan).substr(0, plan.size() / 2));
  EXPECT_THAT(refusal(), HasSubstr("checkpoint-3/step.plan: the plan file has "));
  write("step.plan", "plan");
  EXPECT_THAT(refusal(), HasSubstr("checkpoint-3/step.plan: "));
  write("step.plan", plan);
  write("model/config.json", "[]");
  EXPECT_THAT(refusal(), HasSubstr("checkpoint-3/model/config.json: is an array of 0, expected an "
                                   "object"));
}

TEST_F(TrainingCheckpointTest, NamesAPlanThatIsNotSafe) {
  Plan plan = executor_->plan();
  plan.states[1].offset = plan.states[0].offset;
  ASSERT_TRUE(writePlan(plan, checkpoint_ + "/step.plan").ok());
  EXPECT_THAT(refusal(), HasSubstr("checkpoint-3/step.plan: "));
}

TEST_F(TrainingCheckpointTest, NamesTensorsThatThePlanWantsOtherwise) {
  std::string path = checkpoint_ + "/states.safetensors";
  auto rewrite = [&](const TensorSpec &spec) {
    fs::remove(path);
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(path, std::span(&spec, 1));
    EXPECT_TRUE(writer.ok());
    std::vector<std::byte> bytes(kElements * (spec.dtype == TensorDType::F32 ? 4 : 2));
    EXPECT_TRUE(writer->append(bytes).ok() && writer->finish().ok());
    return refusal();
  };
  EXPECT_EQ(
      rewrite({"head", TensorDType::F32, {test::kVocab, test::kWidth}}),
      "checkpoint-3/states.safetensors: expected a tensor \"embed\" of type f32[12, 8], found "
      "none");
  EXPECT_THAT(rewrite({"embed", TensorDType::F32, {test::kWidth, test::kVocab}}),
              HasSubstr("expected a tensor \"embed\" of type f32[12, 8], found another"));
  EXPECT_THAT(rewrite({"embed", TensorDType::BF16, {test::kVocab, test::kWidth}}),
              HasSubstr("expected a tensor \"embed\" of type f32[12, 8], found another"));
}

} // namespace
} // namespace switchyard

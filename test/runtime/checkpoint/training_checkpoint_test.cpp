#include "runtime/checkpoint/TrainingCheckpoint.h"

#include "runtime/checkpoint/CheckpointSaver.h"
#include "runtime/checkpoint/Weights.h"
#include "runtime/core/Json.h"
#include "runtime/device/cpu/CpuDevice.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/plan/SavedStates.h"
#include "test/runtime/core/TestFolder.h"
#include "test/runtime/core/Thorough.h"
#include "test/runtime/plan/TinyPlan.h"

#include <gmock/gmock.h>

#include <cstring>
#include <iostream>
#include <map>
#include <numeric>
#include <random>
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
    options_ = {folder_.path(), model_, folder_.file("spm.model")};
    Status status = save(3);
    ASSERT_TRUE(status.ok()) << status.message();
  }

  Status save(int64_t step) {
    CheckpointInfo info;
    info.step = step;
    info.position = 48;
    info.seed = 42;
    info.samplingStrategy = "random";
    info.records = 30;
    info.tokens = 3000;
    info.globalBatch = 16;
    SY_ASSIGN_OR_RETURN(std::unique_ptr<CheckpointSaver> saver,
                        CheckpointSaver::create(*executor_, alone_, options_));
    SY_RETURN_IF_ERROR(saver->start(info));
    return saver->finish();
  }

  static std::vector<float> values(size_t state) {
    std::vector<float> result(kElements);
    for (size_t i = 0; i < kElements; ++i)
      result[i] = static_cast<float>(state) + 0.01f * static_cast<float>(i);
    return result;
  }

  /// What a resumed run reads: all.
  Status readAll() {
    SY_ASSIGN_OR_RETURN(TrainingCheckpoint checkpoint, TrainingCheckpoint::open(checkpoint_));
    for (size_t i = 0; i < checkpoint.manifest().states.size(); ++i)
      SY_RETURN_IF_ERROR(checkpoint.check(i, 0, checkpoint.manifest().states[i].count()));
    return {};
  }

  std::string shortened(std::string message) {
    for (size_t at; (at = message.find(folder_.path() + "/")) != std::string::npos;)
      message.erase(at, folder_.path().size() + 1);
    return message;
  }

  /// The message of an export that must fail as InvalidInput, and leave nothing.
  std::string refusal() {
    std::set<std::string> before = namesIn(folder_.path());
    Status status = exportTrainingCheckpoint(checkpoint_, folder_.file("hf"));
    EXPECT_EQ(status.code(), StatusCode::InvalidInput);
    EXPECT_EQ(namesIn(folder_.path()), before);
    return shortened(status.message());
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
  CheckpointSaverOptions options_;
};

constexpr char kStates[] = "states-00000-of-00001.safetensors";

TEST_F(TrainingCheckpointTest, HoldsAllThatARunNeeds) {
  EXPECT_THAT(namesIn(checkpoint_),
              UnorderedElementsAre("checkpoint.json", kStates, "step.plan", "model"));
  EXPECT_THAT(namesIn(folder_.file("checkpoint-3/model")),
              UnorderedElementsAre("config.json", "generation_config.json", "tokenizer.model"));
  EXPECT_EQ(read("model/tokenizer.model"), "pieces");
  Result<TrainingCheckpoint> checkpoint = TrainingCheckpoint::open(checkpoint_);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  const Manifest &manifest = checkpoint->manifest();
  EXPECT_EQ(manifest.info.step, 3);
  EXPECT_EQ(manifest.info.position, 48);
  EXPECT_EQ(manifest.info.seed, 42);
  EXPECT_EQ(manifest.info.samplingStrategy, "random");
  EXPECT_EQ(manifest.info.globalBatch, 16);
  EXPECT_EQ(manifest.modelFingerprint, "0123456789abcdef");
  EXPECT_EQ(manifest.mesh, Mesh());
  Result<Plan> plan = load(folder_.file("checkpoint-3/step.plan"));
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  EXPECT_EQ(serialize(*plan), serialize(executor_->plan()));

  // Every parameter and moment, no gradient.
  EXPECT_EQ(manifest.states.size(), 6u);
  for (size_t index : {0, 1, 4, 5, 6, 7}) {
    int64_t state = checkpoint->findState(executor_->plan().states[index].name);
    ASSERT_GE(state, 0);
    std::vector<float> found(kElements);
    auto bytes = std::as_writable_bytes(std::span(found));
    ASSERT_TRUE(checkpoint->read(state, 0, kElements, bytes).ok());
    EXPECT_EQ(found, values(index));
    ASSERT_TRUE(checkpoint->read(state, 5, 12, bytes.subspan(0, 28)).ok());
    EXPECT_EQ(found[0], values(index)[5]);
    EXPECT_EQ(found[6], values(index)[11]);
    EXPECT_THAT(checkpoint->read(state, 5, 12, bytes).message(), HasSubstr("do not fit into 384"));
    EXPECT_FALSE(checkpoint->read(state, 90, 97, bytes.subspan(0, 28)).ok());
  }
  EXPECT_THAT(namesIn(folder_.path()),
              UnorderedElementsAre("model", "spm.model", "checkpoint-3", "latest"));
  EXPECT_EQ(fs::read_symlink(folder_.file("latest")), "checkpoint-3");
}

// The memory for a save is there from the start: as much as the plan says, or less.
TEST_F(TrainingCheckpointTest, TakesThePlannedStagingMemory) {
  auto saver = CheckpointSaver::create(*executor_, alone_, options_);
  ASSERT_TRUE(saver.ok());
  EXPECT_EQ((*saver)->stagingBytes(), 6 * kElements * sizeof(float));
  EXPECT_EQ((*saver)->stagingBytes(), stagingBytes(executor_->plan()));
  options_.stagingLimit = uint64_t{1} << 62;
  EXPECT_EQ((*CheckpointSaver::create(*executor_, alone_, options_))->stagingBytes(),
            stagingBytes(executor_->plan()));
}

TEST_F(TrainingCheckpointTest, NeedsLittleStagingMemory) {
  options_.stagingLimit = 1;
  ASSERT_TRUE(save(4).ok());
  EXPECT_EQ(TestFolder::read(folder_.file("checkpoint-4/" + std::string(kStates))), read(kStates));
}

// Of a state that has many blocks: any part of it, whole blocks or not.
TEST(LargeState, IsReadInAnyParts) {
  Plan plan = test::tinyPlan();
  constexpr int64_t kCount = (int64_t{19} << 18) + 5; // 19 blocks and a bit
  const int32_t index = test::addState(plan, StateKind::Parameter, "large", {kCount});
  test::finish(plan);
  auto device = createCpuDevice(plan.target);
  auto executor = Executor::create(plan, std::move(*device));
  ASSERT_TRUE(executor.ok()) << executor.status().message();
  std::vector<float> values(kCount);
  std::iota(values.begin(), values.end(), 0.0F);
  ASSERT_TRUE((*executor)->writeState(index, 0, std::as_bytes(std::span(values))).ok());
  TestFolder folder;
  fs::create_directory(folder.file("model"));
  folder.write("model/config.json", "{}");
  Agreement alone;
  auto saver =
      CheckpointSaver::create(**executor, alone, {folder.path(), folder.file("model"), ""});
  ASSERT_TRUE(saver.ok());
  ASSERT_TRUE((*saver)->start({.step = 1, .samplingStrategy = "random", .globalBatch = 1}).ok());
  ASSERT_TRUE((*saver)->finish().ok());
  Result<TrainingCheckpoint> checkpoint = TrainingCheckpoint::open(folder.file("checkpoint-1"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  const auto state = static_cast<size_t>(checkpoint->findState("large"));
  constexpr int64_t kBlock = kChecksumBytes / sizeof(float);
  struct Range {
    int64_t begin, end, blocks;
  };
  for (Range range :
       {Range{0, kCount, 20}, Range{0, kBlock, 1}, Range{5, 6, 1}, Range{kBlock - 1, kBlock + 1, 2},
        Range{3, 18 * kBlock + 2, 19}, Range{kBlock, 19 * kBlock, 18},
        Range{18 * kBlock, kCount, 2}, Range{19 * kBlock + 1, kCount, 1}, Range{7, 7, 0}}) {
    SCOPED_TRACE(std::to_string(range.begin) + " to " + std::to_string(range.end));
    std::vector<float> found(range.end - range.begin);
    uint64_t bytes = 0;
    Status status = checkpoint->read(state, range.begin, range.end,
                                     std::as_writable_bytes(std::span(found)), &bytes);
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(std::ranges::equal(found, std::span(values).subspan(range.begin, found.size())));
    const bool hasLast = range.end > 19 * kBlock; // which is short
    EXPECT_EQ(bytes, static_cast<uint64_t>(range.blocks * kChecksumBytes) -
                         (hasLast ? kChecksumBytes - 5 * sizeof(float) : 0));
    EXPECT_TRUE(checkpoint->check(state, range.begin, range.end).ok());
  }
  // Damage in a block is seen by those who read it, and by nobody else.
  const std::string path = folder.file("checkpoint-1/" + std::string(kStates));
  std::string text = TestFolder::read(path);
  const size_t at = text.size() - kCount * sizeof(float) + (17 * kBlock + 3) * sizeof(float);
  text[at] = static_cast<char>(text[at] ^ 1);
  folder.write("checkpoint-1/" + std::string(kStates), text);
  for (auto [begin, end, whole] : {std::tuple{int64_t{0}, kCount, false},
                                   {17 * kBlock, 18 * kBlock, false},
                                   {18 * kBlock - 1, kCount, false},
                                   {int64_t{0}, 17 * kBlock, true},
                                   {18 * kBlock, kCount, true}})
    EXPECT_EQ(checkpoint->check(state, begin, end).ok(), whole) << begin << " to " << end;
}

TEST_F(TrainingCheckpointTest, KeepsTheNewest) {
  options_.totalLimit = 2;
  for (int64_t step : {4, 5, 10})
    ASSERT_TRUE(save(step).ok());
  EXPECT_THAT(checkpointSteps(folder_.path()), ::testing::ElementsAre(5, 10));
  EXPECT_EQ(*latestCheckpoint(folder_.path()), folder_.file("checkpoint-10"));
  EXPECT_THAT(namesIn(folder_.path()), UnorderedElementsAre("model", "spm.model", "checkpoint-5",
                                                            "checkpoint-10", "latest"));
  EXPECT_EQ(fs::read_symlink(folder_.file("latest")), "checkpoint-10");
}

TEST_F(TrainingCheckpointTest, FindsTheLatest) {
  EXPECT_EQ(*latestCheckpoint(folder_.path()), checkpoint_);
  fs::create_directory(folder_.file("checkpoint-9")); // nothing in it
  fs::copy(checkpoint_, folder_.file("checkpoint-007"));
  fs::copy(checkpoint_, folder_.file("checkpoint-8x"));
  fs::copy(checkpoint_, folder_.file(".checkpoint-8.1-0.tmp"));
  EXPECT_EQ(*latestCheckpoint(folder_.path()), checkpoint_);
  EXPECT_EQ(shortened(latestCheckpoint(model_).status().message()),
            "model: holds no checkpoint-N to resume from; leave --resume-from-checkpoint out, or "
            "name a checkpoint's folder");
}

TEST_F(TrainingCheckpointTest, SaysHowModelsDiffer) {
  Result<TrainingCheckpoint> checkpoint = TrainingCheckpoint::open(checkpoint_);
  ASSERT_TRUE(checkpoint.ok());
  Plan plan = executor_->plan();
  auto refused = [&](const char *config) {
    Result<Json> json = parseJson(config, "config");
    return shortened(checkSameModel(*checkpoint, plan, *json, "hf/config.json").message());
  };
  EXPECT_EQ(refused("{}"), ""); // the fingerprint is the same
  plan.states[4].shape = {test::kWidth, test::kVocab};
  EXPECT_EQ(refused("{}"), "checkpoint-3: state " + plan.states[4].name +
                               " has the shape [12, 8], but [8, 12] in the plan");
  plan.states[4].name = "other";
  EXPECT_EQ(refused("{}"), "checkpoint-3: has no state other, which the plan has");
  plan.modelFingerprint = "fedcba9876543210";
  EXPECT_EQ(
      refused(R"({"model_type": "olmoe", "use_cache": true, "layers": 2})"),
      "checkpoint-3: is a checkpoint of another model: in hf/config.json \"layers\" is 2, but "
      "null in the checkpoint, \"model_type\" is \"olmoe\", but \"mixtral\" in the "
      "checkpoint; give --model that model's folder, or another checkpoint");
}

/// One bit of one file, again and again.
TEST_F(TrainingCheckpointTest, FindsEveryFlippedBit) {
  ASSERT_TRUE(readAll().ok());
  const int64_t count = casesOf(1000, 10000);
  const std::string names[] = {"checkpoint.json",
                               kStates,
                               "step.plan",
                               "model/config.json",
                               "model/tokenizer.model",
                               "model/generation_config.json"};
  std::mt19937 random(7);
  std::map<std::string, int> found;
  for (int64_t i = 0; i < count; ++i) {
    const std::string &name = names[random() % std::size(names)];
    const std::string whole = read(name);
    std::string damaged = whole;
    const size_t bit = random() % (whole.size() * 8);
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ 1 << bit % 8);
    write(name, damaged);
    Status status = readAll();
    EXPECT_EQ(status.code(), StatusCode::InvalidInput) << name << ", bit " << bit;
    EXPECT_THAT(status.message(), HasSubstr(name)) << "bit " << bit;
    found[name] += status.code() == StatusCode::InvalidInput;
    write(name, whole);
  }
  std::cout << "faults: of " << count << " flipped bits found:";
  for (const auto &[name, number] : found)
    std::cout << " " << number << " in " << name << (name == found.rbegin()->first ? "\n" : ",");
  EXPECT_TRUE(readAll().ok());
}

TEST(ManifestTest, RanksShareEveryState) {
  Plan plan = test::newPlan();
  const AxisSet all = test::kFsdpAndEp;
  test::addState(plan, StateKind::Parameter, "flat", {1000, 7}, -1, DType::F32, {{}, all});
  test::addState(plan, StateKind::Parameter, "experts", {4, 33, 5}, -1, DType::BF16,
                 {Axis::Ep, Axis::Fsdp});
  test::addState(plan, StateKind::Parameter, "whole", {3}, -1, DType::BF16);
  test::addState(plan, StateKind::Gradient, "grad", {3}, 2);
  for (Mesh mesh : {Mesh{{1, 1, 1}}, Mesh{{2, 1, 2}}, Mesh{{3, 2, 4}}, Mesh{{5, 1, 1}}}) {
    plan.mesh = mesh;
    Result<Manifest> manifest = manifestOf(plan);
    ASSERT_TRUE(manifest.ok()) << manifest.status().message();
    manifest->info.globalBatch = 1;
    ASSERT_EQ(manifest->states.size(), 3u);
    ASSERT_EQ(static_cast<int64_t>(manifest->rankFiles.size()), mesh.numRanks());
    for (SavedRankFile &file : manifest->rankFiles)
      for (SavedPiece &piece : file.pieces)
        piece.checksums.assign(
            checksumBlocks(piece.elements.count(), manifest->states[piece.state].dtype), 1);
    // That pieces cover states exactly is what parsing checks.
    Result<Manifest> parsed = parseManifest(formatManifest(*manifest));
    ASSERT_TRUE(parsed.ok()) << parsed.status().message();
    EXPECT_EQ(formatManifest(*parsed), formatManifest(*manifest));
    // The host memory that the plan says is for the rank that saves most.
    uint64_t most = 0;
    for (const SavedRankFile &file : manifest->rankFiles) {
      uint64_t bytes = 0;
      for (const SavedPiece &piece : file.pieces)
        bytes += piece.elements.count() * kernels::byteSize(manifest->states[piece.state].dtype);
      most = std::max(most, bytes);
    }
    EXPECT_EQ(stagingBytes(plan), most);
    // Replicas write about as much as each other.
    if (mesh.size(Axis::Dp) > 1) {
      EXPECT_LT(manifest->rankFiles[0].pieces[0].elements.count(),
                localRange({1000, 7}, plan.states[0].sharding, mesh, 0).count());
    }
  }
}

TEST(ManifestTest, NamesWhatDoesNotFit) {
  Plan plan = test::newPlan();
  test::addState(plan, StateKind::Parameter, "a", {4, 2});
  auto refused = [&](auto change) {
    Manifest manifest = *manifestOf(plan);
    manifest.rankFiles[0].pieces[0].checksums = {1};
    manifest.info.globalBatch = 1;
    change(manifest);
    Result<Manifest> parsed = parseManifest(formatManifest(manifest));
    return parsed.ok() ? "" : parsed.status().message();
  };
  EXPECT_EQ(refused([](Manifest &) {}), "");
  EXPECT_EQ(refused([](Manifest &m) { m.rankFiles[0].pieces[0].elements.end = 7; }),
            "state a: its pieces do not follow each other from element 7 on");
  EXPECT_EQ(refused([](Manifest &m) { m.rankFiles[0].pieces.clear(); }),
            "state a: its pieces do not follow each other from element 0 on");
  EXPECT_EQ(refused([](Manifest &m) { m.rankFiles[0].pieces[0].elements.end = 9; }),
            "rank 0: \"elements\" is [0, 9], expected [begin, end] within 8");
  EXPECT_EQ(refused([](Manifest &m) { m.rankFiles[0].pieces[0].checksums.clear(); }),
            "rank 0: state a: \"checksums\" has 0 characters, expected 1 of 16 hexadecimal digits");
  EXPECT_EQ(refused([](Manifest &m) { m.states[0].shape = {4, 3}; }),
            "state a: \"tensors\" end at 8, expected 12");
  EXPECT_EQ(
      refused([](Manifest &m) { m.states[0].tensors[0].shape = {3}; }),
      "state a: tensor \"a\" of shape [3] does not fit to elements [0, 8), expected from 0 on");
  EXPECT_EQ(refused([](Manifest &m) { m.states.push_back(m.states[0]); }),
            "state a is there twice");
  EXPECT_EQ(refused([](Manifest &m) { m.files.push_back({"model/../../etc", 1, 1}); }),
            "\"name\" is \"model/../../etc\", expected one within the checkpoint's folder");
  EXPECT_EQ(refused([](Manifest &m) { m.mesh.sizes[1] = 0; }),
            "\"mesh\" is [1, 0, 1], expected [dp, fsdp, ep]");
  EXPECT_EQ(refused([](Manifest &m) { m.info.globalBatch = 0; }),
            "\"global_batch\" is 0, expected an integer in [1, 9223372036854775807]");
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
  const std::string before = read("checkpoint.json");
  Status status = save(3);
  EXPECT_EQ(status.code(), StatusCode::InvalidInput);
  EXPECT_THAT(status.message(), HasSubstr("checkpoint-3: exists already"));
  EXPECT_EQ(read("checkpoint.json"), before);
  EXPECT_EQ(exportTrainingCheckpoint(checkpoint_, model_).code(), StatusCode::InvalidInput);
  EXPECT_THAT(namesIn(model_), UnorderedElementsAre("config.json", "generation_config.json"));
}

TEST_F(TrainingCheckpointTest, ASaveThatFailsLeavesNothing) {
  std::set<std::string> before = namesIn(folder_.path());
  options_.tokenizerFile = folder_.file("none.model");
  EXPECT_THAT(save(4).message(), HasSubstr("none.model: cannot be read: No such file"));
  options_.modelFolder = folder_.path();
  EXPECT_THAT(save(4).message(), HasSubstr("/config.json: cannot be read: No such file"));
  EXPECT_EQ(namesIn(folder_.path()), before);
  options_.outputDir = folder_.file("none");
  Status status = save(4);
  EXPECT_EQ(status.code(), StatusCode::Failed);
  EXPECT_THAT(status.message(), HasSubstr("none/checkpoint-4"));
  {
    auto abandoned = CheckpointSaver::create(*executor_, alone_, {folder_.path(), model_, ""});
    ASSERT_TRUE(abandoned.ok());
    EXPECT_TRUE((*abandoned)->start({.step = 5, .samplingStrategy = "random"}).ok());
    EXPECT_TRUE((*abandoned)->isUnderway());
  }
  EXPECT_EQ(namesIn(folder_.path()), before);
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
  for (const char *name : {"model/config.json", kStates, "step.plan"}) {
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

TEST_F(TrainingCheckpointTest, NamesFilesThatAreDamaged) {
  const std::string advice = "; the file is damaged, take another checkpoint";
  auto with = [&](const std::string &name, auto change) {
    const std::string whole = read(name);
    std::string text = whole;
    change(text);
    write(name, text);
    std::string message = shortened(readAll().message());
    write(name, whole);
    return message;
  };
  const auto cut = [](std::string &text) { text.pop_back(); };
  const auto flip = [](std::string &text) { text.back() = static_cast<char>(text.back() ^ 1); };
  EXPECT_EQ(with("model/config.json", cut),
            "checkpoint-3/model/config.json: has 44 bytes, expected 45" + advice);
  EXPECT_EQ(with("model/config.json", flip),
            "checkpoint-3/model/config.json: does not have the checksum that checkpoint.json says" +
                advice);
  EXPECT_EQ(with("step.plan", flip),
            "checkpoint-3/step.plan: does not have the checksum that checkpoint.json says" +
                advice);
  const std::string states = "checkpoint-3/" + std::string(kStates);
  EXPECT_THAT(with(kStates, cut), HasSubstr(states + ": has "));
  EXPECT_THAT(with(kStates, flip),
              ::testing::MatchesRegex(states +
                                      ": state .*: the bytes from [0-9]+ to [0-9]+ do "
                                      "not have the checksum that checkpoint.json says" +
                                      advice));
  EXPECT_EQ(with(kStates, [](std::string &text) { text[text.find("  ")] = '\t'; }),
            states + ": its header does not have the checksum that checkpoint.json says" + advice);
  const std::string edited = "; the file is damaged or was edited, take another checkpoint";
  EXPECT_EQ(with("checkpoint.json", cut),
            "checkpoint-3/checkpoint.json: does not have the checksum that it says" + edited);
  EXPECT_EQ(with("checkpoint.json", [](std::string &text) { text[0] = '['; }),
            "checkpoint-3/checkpoint.json: does not begin with its checksum" + edited);
  EXPECT_EQ(with("checkpoint.json", [](std::string &text) { text.clear(); }),
            "checkpoint-3/checkpoint.json: does not begin with its checksum" + edited);
  write("model/config.json", "[]");
  EXPECT_THAT(refusal(), HasSubstr("checkpoint-3/model/config.json: has 2 bytes, expected 45"));
}

TEST_F(TrainingCheckpointTest, NamesTensorsThatAreNotTheManifests) {
  const std::string path = checkpoint_ + "/" + kStates;
  Manifest manifest = TrainingCheckpoint::open(checkpoint_)->manifest();
  manifest.states[0].name = "other";
  write("checkpoint.json", formatManifest(manifest));
  EXPECT_EQ(refusal(), "checkpoint-3/" + std::string(kStates) +
                           ": has no tensor \"other\" of 96 elements, which checkpoint.json says "
                           "it has");
}

} // namespace
} // namespace switchyard

#include "runtime/checkpoint/Weights.h"

#include "runtime/core/Floats.h"
#include "runtime/core/Json.h"
#include "test/runtime/core/TestFolder.h"

#include <gmock/gmock.h>

#include <cstring>
#include <map>
#include <numeric>

using namespace switchyard;
using kernels::DType;
using testing::HasSubstr;

namespace {

/// States with their memory, of a model with one expert stack: `qkv` [8, 2] of parts of 4, 2 and 2
/// rows, `gate_up` [2, 4, 3], `norm` [5].
struct States {
  explicit States(DType dtype = DType::F32) {
    add("qkv", dtype, {8, 2},
        concatSource({leafSource("q"), leafSource("k"), leafSource("v")}, {4, 2, 2}));
    add("gate_up", dtype, {2, 4, 3},
        stackSource("e", 0, 2, concatSource({leafSource("e.{e}.w1"), leafSource("e.{e}.w3")})));
    add("norm", dtype, {5}, leafSource("norm"));
  }

  void add(const std::string &name, DType dtype, std::vector<int64_t> shape, Source source) {
    int64_t count = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
    memory[name].resize(static_cast<size_t>(count * kernels::byteSize(dtype)));
    list.push_back({name, dtype, std::move(shape), std::move(source), memory[name].data()});
  }

  /// Element i of all states together becomes `first` + i.
  void number(float first) {
    for (HostState &state : list)
      for (size_t i = 0; i < memory[state.name].size() / kernels::byteSize(state.dtype);
           ++i, ++first) {
        std::byte *at = state.data + i * kernels::byteSize(state.dtype);
        uint16_t narrow = bf16FromFloat(first);
        if (state.dtype == DType::F32)
          std::memcpy(at, &first, 4);
        else
          std::memcpy(at, &narrow, 2);
      }
  }

  std::vector<float> values(const std::string &name) {
    const HostState &state = *std::ranges::find(list, name, &HostState::name);
    FloatFormat format = state.dtype == DType::F32 ? FloatFormat::F32 : FloatFormat::BF16;
    std::vector<float> floats(memory[name].size() / byteSize(format));
    convertFloats(format, memory[name], FloatFormat::F32,
                  std::as_writable_bytes(std::span(floats)));
    return floats;
  }

  std::map<std::string, std::vector<std::byte>> memory;
  std::vector<HostState> list;
};

class WeightsTest : public testing::Test {
protected:
  WeightsTest() {
    std::filesystem::create_directory(folder_.file("model"));
    folder_.write("model/config.json",
                  R"({"model_type": "tiny", "dtype": "float32", "eps": 1e-05})");
    options_.modelFolder = folder_.file("model");
  }

  /// Exports numbered states of `dtype` to the folder "out" and opens it.
  Checkpoint exported(DType dtype = DType::F32) {
    States states(dtype);
    states.number(1);
    Status status = exportFolder(folder_.file("out"), states.list, options_);
    EXPECT_TRUE(status.ok()) << status.message();
    Result<Checkpoint> checkpoint = Checkpoint::open(folder_.file("out"));
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status().message();
    return std::move(*checkpoint);
  }
  /// Replaces the weights of "out" by the one tensor.
  Checkpoint withOnly(const TensorSpec &spec, const std::vector<std::byte> &bytes) {
    std::filesystem::create_directories(folder_.file("out"));
    Result<CheckpointWriter> writer = CheckpointWriter::create(folder_.file("out"), {spec});
    EXPECT_TRUE(writer.ok() && writer->append(bytes).ok() && writer->finish().ok());
    return std::move(*Checkpoint::open(folder_.file("out")));
  }
  std::string shortened(std::string message) {
    for (size_t at; (at = message.find(folder_.path())) != std::string::npos;)
      message.replace(at, folder_.path().size(), "M");
    return message;
  }

  TestFolder folder_;
  ExportOptions options_;
};

std::vector<float> counting(float first, int count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), first);
  return values;
}

} // namespace

TEST_F(WeightsTest, ExportsAndLoadsTheSameValues) {
  Checkpoint checkpoint = exported();
  EXPECT_EQ(checkpoint.names(), std::vector<std::string>({"e.0.w1", "e.0.w3", "e.1.w1", "e.1.w3",
                                                          "k", "norm", "q", "v"}));
  EXPECT_EQ(checkpoint.find("q")->shape, std::vector<int64_t>({4, 2}));
  EXPECT_EQ(checkpoint.find("e.1.w3")->shape, std::vector<int64_t>({2, 3}));
  float first;
  std::memcpy(&first, checkpoint.bytes(*checkpoint.find("e.1.w3"))->data(), 4);
  EXPECT_EQ(first, 1 + 16 + 18);
  States states;
  Status status = loadStates(checkpoint, states.list);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(states.values("qkv"), counting(1, 16));
  EXPECT_EQ(states.values("gate_up"), counting(17, 24));
  EXPECT_EQ(states.values("norm"), counting(41, 5));
}

TEST_F(WeightsTest, ConvertsWhenAsked) {
  Checkpoint checkpoint = exported(DType::BF16);
  States states;
  ASSERT_TRUE(loadStates(checkpoint, states.list).ok());
  EXPECT_EQ(states.values("gate_up"), counting(17, 24));
  EXPECT_EQ(shortened(loadStates(checkpoint, states.list, {.convert = false}).message()),
            "M/out/model.safetensors: tensor \"q\": its dtype is BF16, expected F32 for state qkv, "
            "without conversion");
  States narrow(DType::BF16);
  ASSERT_TRUE(loadStates(checkpoint, narrow.list, {.convert = false}).ok());
  EXPECT_EQ(narrow.values("norm"), counting(41, 5));
}

TEST_F(WeightsTest, ConvertsHalfPrecision) {
  uint16_t bits[] = {0x3c00, 0xc000, 0x0001}; // 1, -2, 2^-24
  auto bytes = std::as_bytes(std::span(bits));
  Checkpoint checkpoint = withOnly({"h", TensorDType::F16, {3}}, {bytes.begin(), bytes.end()});
  for (DType dtype : {DType::F32, DType::BF16}) {
    States states;
    states.list.clear();
    states.add("half", dtype, {3}, leafSource("h"));
    ASSERT_TRUE(loadStates(checkpoint, states.list).ok());
    EXPECT_EQ(states.values("half"), std::vector<float>({1, -2, 0x1p-24f}));
  }
}

TEST_F(WeightsTest, ReadsOnlyTheRangeAskedFor) {
  Checkpoint checkpoint = exported();
  uint64_t headers = checkpoint.bytesRead();
  States states;
  std::vector<float> part(7);
  auto bytes = std::as_writable_bytes(std::span(part));
  ASSERT_TRUE(loadElements(checkpoint, states.list[1], 4, 11, bytes).ok()); // of e.0.w1 and e.0.w3
  EXPECT_EQ(part, counting(17 + 4, 7));
  EXPECT_EQ(checkpoint.bytesRead() - headers, 7u * 4);
  EXPECT_THAT(loadElements(checkpoint, states.list[1], 4, 12, bytes).message(),
              HasSubstr("elements [4, 12) do not fit into 28 bytes"));
  EXPECT_THAT(loadElements(checkpoint, states.list[1], 20, 27, bytes).message(),
              HasSubstr("the state's 24 elements"));
  EXPECT_FALSE(loadElements(checkpoint, states.list[1], -3, 4, bytes).ok());
}

TEST_F(WeightsTest, AsksTheCheckpointForSizesThatTheSourceDoesNotSay) {
  Checkpoint checkpoint = exported();
  States states;
  states.list[0].source.sizes.clear();
  Status status = loadStates(checkpoint, states.list);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(states.values("qkv"), counting(1, 16));
}

TEST_F(WeightsTest, NamesTensorsThatAreMissingExtraOrWrong) {
  Checkpoint checkpoint = exported();
  States states;
  states.add("more", DType::F32, {2}, leafSource("absent"));
  EXPECT_EQ(shortened(loadStates(checkpoint, states.list).message()),
            "M/out: lacks the tensor \"absent\" of state more; does the folder hold the model that "
            "the plan was compiled for?");
  states.list.erase(states.list.begin() + 2, states.list.end());
  EXPECT_EQ(shortened(loadStates(checkpoint, states.list).message()),
            "M/out/model.safetensors: tensor \"norm\" belongs to no state of the plan; does the "
            "folder hold the model that "
            "the plan was compiled for?");
  EXPECT_EQ(checkExtra(checkpoint, states.list).code(), StatusCode::InvalidInput);
  States other;
  other.list.pop_back();
  other.add("norm", DType::F32, {5, 1}, leafSource("norm"));
  EXPECT_EQ(shortened(loadStates(checkpoint, other.list).message()),
            "M/out/model.safetensors: tensor \"norm\": its shape is [5], expected [5, 1] for state "
            "norm; does the folder "
            "hold the model that the plan was compiled for?");
  other.list[0].source.children[0].name = "{x}";
  EXPECT_THAT(loadStates(checkpoint, other.list).message(),
              HasSubstr("state qkv: the tensor name \"{x}\" has braces"));
}

TEST_F(WeightsTest, RefusesDTypesThatAreNoWeights) {
  Checkpoint checkpoint = withOnly({"norm", TensorDType::I8, {2}}, std::vector<std::byte>(2));
  States states;
  states.list.clear();
  states.add("norm", DType::F32, {2}, leafSource("norm"));
  EXPECT_EQ(shortened(loadStates(checkpoint, states.list).message()),
            "M/out/model.safetensors: tensor \"norm\": its dtype is I8, expected F32, BF16 or F16 "
            "for state norm; quantized "
            "weights can't be trained");
  states.list[0].dtype = DType::I32;
  EXPECT_EQ(loadStates(checkpoint, states.list).message(),
            "state norm: is i32, expected f32 or bf16 for weights");
  EXPECT_EQ(exportFolder(folder_.file("new"), states.list, options_).message(),
            "state norm: is i32, expected f32 or bf16 for weights");
}

TEST_F(WeightsTest, ExportWritesAWholeModelFolder) {
  folder_.write("model/generation_config.json", "{\"x\": 1}");
  folder_.write("model/tokenizer.model", "pieces");
  folder_.write("model/notes.txt", "not copied");
  folder_.write("model/model.safetensors", "not copied either");
  options_.dtype = DType::BF16;
  options_.maxShardBytes = 40;
  Checkpoint checkpoint = exported();
  EXPECT_EQ(TestFolder::read(folder_.file("out/config.json")),
            "{\n  \"model_type\": \"tiny\",\n  \"dtype\": \"bfloat16\",\n  \"eps\": 1e-05\n}\n");
  EXPECT_EQ(TestFolder::read(folder_.file("out/generation_config.json")), "{\"x\": 1}");
  EXPECT_EQ(TestFolder::read(folder_.file("out/tokenizer.model")), "pieces");
  EXPECT_FALSE(fileExists(folder_.file("out/notes.txt")));
  EXPECT_TRUE(fileExists(folder_.file("out/model.safetensors.index.json")));
  EXPECT_FALSE(fileExists(folder_.file("out/model.safetensors")));
  EXPECT_EQ(checkpoint.find("q")->dtype, TensorDType::BF16);
  EXPECT_EQ(folder_.count(), 2u);
  States states;
  ASSERT_TRUE(loadStates(checkpoint, states.list).ok());
  EXPECT_EQ(states.values("gate_up"), counting(17, 24));
}

TEST_F(WeightsTest, ExportConvertsLargeStatesInPieces) {
  States states;
  states.list.clear();
  states.add("large", DType::F32, {3, 200000}, leafSource("large"));
  states.number(0);
  options_.dtype = DType::BF16;
  ASSERT_TRUE(exportFolder(folder_.file("out"), states.list, options_).ok());
  States narrow;
  narrow.list.clear();
  narrow.add("large", DType::BF16, {3, 200000}, leafSource("large"));
  ASSERT_TRUE(loadStates(*Checkpoint::open(folder_.file("out")), narrow.list).ok());
  std::vector<float> values = narrow.values("large");
  for (int i = 0; i < 600000; ++i)
    ASSERT_EQ(values[i], floatFromBf16(bf16FromFloat(float(i)))) << i;
}

TEST_F(WeightsTest, ExportUpdatesTheDTypeWhereItStands) {
  auto configOf = [&](const char *config) {
    folder_.write("model/config.json", config);
    std::filesystem::remove_all(folder_.file("out"));
    exported(DType::BF16);
    return readJson(folder_.file("out/config.json"))->dump();
  };
  EXPECT_EQ(configOf(R"({"torch_dtype": "float32"})"), R"({"torch_dtype":"bfloat16"})");
  EXPECT_EQ(configOf(R"({"torch_dtype": "float32", "dtype": null})"),
            R"({"torch_dtype":"bfloat16","dtype":"bfloat16"})");
  EXPECT_EQ(configOf(R"({"a": 1})"), R"({"a":1,"dtype":"bfloat16"})");
}

TEST_F(WeightsTest, ExportTakesATokenizerFromElsewhere) {
  folder_.write("model/tokenizer.json", "{\"its\": \"own\"}");
  folder_.write("model/vocab.json", "{}");
  folder_.write("model/special_tokens_map.json", "map");
  options_.tokenizerFile = folder_.write("other.model", "theirs");
  exported();
  EXPECT_EQ(TestFolder::read(folder_.file("out/tokenizer.model")), "theirs");
  EXPECT_EQ(TestFolder::read(folder_.file("out/special_tokens_map.json")), "map");
  EXPECT_FALSE(fileExists(folder_.file("out/tokenizer.json")));
  EXPECT_FALSE(fileExists(folder_.file("out/vocab.json")));
}

TEST_F(WeightsTest, ExportTakesATokenizerJsonFromElsewhereWithItsSettings) {
  folder_.write("model/tokenizer.model", "its own");
  folder_.write("model/tokenizer_config.json", "its own");
  folder_.write("model/special_tokens_map.json", "its own");
  std::filesystem::create_directory(folder_.file("else where"));
  folder_.write("else where/tokenizer_config.json", "settings");
  options_.tokenizerFile = folder_.write("else where/other", "{\"model\": {}}");
  exported();
  EXPECT_EQ(TestFolder::read(folder_.file("out/tokenizer.json")), "{\"model\": {}}");
  EXPECT_EQ(TestFolder::read(folder_.file("out/tokenizer_config.json")), "settings");
  EXPECT_FALSE(fileExists(folder_.file("out/special_tokens_map.json")));
  EXPECT_FALSE(fileExists(folder_.file("out/tokenizer.model")));
}

TEST_F(WeightsTest, ExportTakesAllOfAModelsOwnTokenizer) {
  const char *names[] = {"tokenizer.model",         "tokenizer.json",     "tokenizer_config.json",
                         "special_tokens_map.json", "vocab.json",         "merges.txt",
                         "added_tokens.json",       "chat_template.jinja"};
  for (const char *name : names)
    folder_.write(std::string("model/") + name, name);
  options_.tokenizerFile = folder_.file("model/../model/tokenizer.model");
  exported();
  for (const char *name : names)
    EXPECT_EQ(TestFolder::read(folder_.file(std::string("out/") + name)), name);
}

TEST_F(WeightsTest, AFailedExportLeavesNothing) {
  States states;
  auto fault = [&] {
    Status status = exportFolder(folder_.file("out"), states.list, options_);
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(folder_.count(), 1u) << "more than the model's folder";
    return shortened(status.message());
  };
  states.add("twice", DType::F32, {5}, leafSource("norm"));
  EXPECT_EQ(fault(), "M/out: a tensor called \"norm\" cannot be written: the name is there twice");
  states.list.pop_back();
  states.list[2].source.name = "{y}";
  EXPECT_THAT(fault(), HasSubstr("state norm: the tensor name \"{y}\" has braces"));
  states.list[2].source.name = "norm";
  folder_.write("model/config.json", "[]");
  EXPECT_EQ(fault(), "M/model/config.json: is an array of 0, expected an object");
  std::filesystem::remove(folder_.file("model/config.json"));
  EXPECT_EQ(fault(),
            "M/model/config.json: cannot be read: No such file or directory; check the path");
  folder_.write("model/config.json", "{}");
  options_.tokenizerFile = folder_.file("none");
  EXPECT_EQ(fault(), "M/none: cannot be read: No such file or directory; check the path");
}

TEST_F(WeightsTest, ExportRefusesMixedDTypesAndOccupiedTargets) {
  States states;
  states.add("narrow", DType::BF16, {2}, leafSource("narrow"));
  EXPECT_EQ(exportFolder(folder_.file("out"), states.list, options_).message(),
            "state qkv is f32 but state narrow is bf16; say which dtype to write");
  options_.dtype = DType::I32;
  EXPECT_EQ(exportFolder(folder_.file("out"), states.list, options_).message(),
            "weights are written as f32 or bf16 only");
  options_.dtype = DType::F32;
  Status occupied = exportFolder(folder_.file("model"), states.list, options_);
  EXPECT_EQ(
      shortened(occupied.message()),
      "M/model: exists already and is not an empty folder; choose another folder or remove it");
  EXPECT_EQ(occupied.code(), StatusCode::InvalidInput);
  EXPECT_EQ(folder_.count(), 1u);
}

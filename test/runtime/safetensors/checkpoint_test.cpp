#include "runtime/safetensors/Checkpoint.h"

#include "test/runtime/safetensors/TestCheckpoint.h"

#include <gmock/gmock.h>

using namespace switchyard;
using testing::HasSubstr;

namespace {

std::string oneByte(const std::string &name, char value) {
  return safetensorsText(R"({")" + name + R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                         {value});
}

class CheckpointTest : public testing::Test {
protected:
  CheckpointTest() {
    folder_.write("1.safetensors", oneByte("a", 'x'));
    folder_.write("2.safetensors", oneByte("b", 'y'));
  }
  void index(const std::string &map, const std::string &metadata = R"({"total_size": 2})") {
    folder_.write(kIndexFileName,
                  R"({"metadata": )" + metadata + R"(, "weight_map": )" + map + "}");
  }
  std::string fault() {
    Result<Checkpoint> checkpoint = Checkpoint::open(folder_.path());
    EXPECT_FALSE(checkpoint.ok());
    EXPECT_EQ(checkpoint.ok() ? StatusCode::Ok : checkpoint.status().code(),
              StatusCode::InvalidInput);
    std::string message = checkpoint.status().message(); // with the folder shortened
    for (size_t at; (at = message.find(folder_.path())) != std::string::npos;)
      message.replace(at, folder_.path().size(), "M");
    return message;
  }

  TestFolder folder_;
};

} // namespace

TEST_F(CheckpointTest, OpensShardsAndReadsOnlyHeaders) {
  index(R"({"a": "1.safetensors", "b": "2.safetensors"})");
  Result<Checkpoint> checkpoint = Checkpoint::open(folder_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ(checkpoint->names(), std::vector<std::string>({"a", "b"}));
  uint64_t headers = checkpoint->bytesRead();
  EXPECT_EQ(headers, oneByte("a", 'x').size() * 2 - 2);
  const TensorEntry *b = checkpoint->find("b");
  ASSERT_TRUE(b);
  EXPECT_EQ(checkpoint->pathOf(*b), folder_.file("2.safetensors"));
  auto bytes = checkpoint->bytes(*b);
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ(static_cast<char>((*bytes)[0]), 'y');
  EXPECT_EQ(checkpoint->bytesRead(), headers + 1);
  EXPECT_EQ(checkpoint->find("c"), nullptr);
}

TEST_F(CheckpointTest, PrefersTheSingleFile) {
  index(R"({"a": "nonsense/"})");
  folder_.write(kSingleFileName, oneByte("single", 'z'));
  Result<Checkpoint> checkpoint = Checkpoint::open(folder_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ(checkpoint->names(), std::vector<std::string>({"single"}));
  EXPECT_TRUE(Checkpoint::existsIn(folder_.path()));
}

TEST_F(CheckpointTest, RefusesAFolderWithoutWeights) {
  EXPECT_FALSE(Checkpoint::existsIn(folder_.path()));
  EXPECT_EQ(fault(), "M: has neither model.safetensors nor model.safetensors.index.json; name the "
                     "folder of a model with "
                     "weights in the safetensors format");
}

TEST_F(CheckpointTest, RefusesAnIndexOfAnotherForm) {
  folder_.write(kIndexFileName, "[]");
  EXPECT_EQ(fault(), "M/model.safetensors.index.json: is an array of 0, expected an object");
  folder_.write(kIndexFileName, "{}");
  EXPECT_EQ(fault(),
            "M/model.safetensors.index.json: \"weight_map\" is missing, expected an object");
  folder_.write(kIndexFileName, "{");
  EXPECT_THAT(fault(), HasSubstr("M/model.safetensors.index.json: is not valid JSON"));
  index(R"({"a": "1.safetensors", "a": "2.safetensors"})");
  EXPECT_THAT(fault(), HasSubstr("the key \"a\" is there twice in \"weight_map\""));
  index(R"({"a": 3})");
  EXPECT_EQ(fault(), "M/model.safetensors.index.json: tensor \"a\" is said to be in 3, expected "
                     "the name of a file in the same folder");
}

TEST_F(CheckpointTest, RefusesPathsThatEscape) {
  for (std::string path : {"/etc/passwd", "../1.safetensors", "..", ".", "", "sub/1.safetensors",
                           "a\\\\b", "1.safetensors\\u0000"}) {
    index(R"({"a": ")" + path + R"("})");
    EXPECT_THAT(fault(), HasSubstr("expected the name of a file in the same folder")) << path;
  }
}

TEST_F(CheckpointTest, RefusesAMissingShard) {
  index(R"({"a": "1.safetensors", "b": "3.safetensors"})");
  EXPECT_EQ(
      fault(),
      "M/3.safetensors: is missing, though model.safetensors.index.json lists it; fetch it again");
}

TEST_F(CheckpointTest, RefusesTensorsThatAreNotWhereTheIndexSays) {
  index(R"({"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"})");
  EXPECT_EQ(fault(), "M/2.safetensors: lacks the tensor \"c\", though model.safetensors.index.json "
                     "lists it there");
  index(R"({"a": "1.safetensors", "aa": "1.safetensors", "b": "2.safetensors"})");
  EXPECT_EQ(fault(), "M/1.safetensors: lacks the tensor \"aa\", though "
                     "model.safetensors.index.json lists it there");
  index(R"({"b": "1.safetensors", "a": "2.safetensors"})");
  EXPECT_EQ(fault(), "M/model.safetensors.index.json: tensor \"a\" is said to be in "
                     "\"2.safetensors\", but is in M/1.safetensors");
  folder_.write("2.safetensors", oneByte("a", 'y'));
  index(R"({"a": "1.safetensors", "b": "2.safetensors"})");
  EXPECT_EQ(fault(), "M/2.safetensors: tensor \"a\" is also in M/1.safetensors; keep one of them");
}

TEST_F(CheckpointTest, RefusesATensorThatIsNotListed) {
  folder_.write("2.safetensors",
                safetensorsText(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                R"("extra":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                                "yz"));
  index(R"({"a": "1.safetensors", "b": "2.safetensors"})");
  EXPECT_EQ(fault(), "M/2.safetensors: has the tensor \"extra\", which "
                     "model.safetensors.index.json does not list");
}

TEST_F(CheckpointTest, RefusesAWrongTotal) {
  index(R"({"a": "1.safetensors", "b": "2.safetensors"})", R"({"total_size": 3})");
  EXPECT_EQ(fault(), "M/model.safetensors.index.json: \"total_size\" is 3, expected 2, the sum of "
                     "the tensors' bytes");
  index(R"({"a": "1.safetensors", "b": "2.safetensors"})", R"({"total_size": "2"})");
  EXPECT_EQ(fault(), "M/model.safetensors.index.json: \"total_size\" is \"2\", expected an integer "
                     "in [0, 9223372036854775807]");
  index(R"({"a": "1.safetensors", "b": "2.safetensors"})", "{}");
  EXPECT_TRUE(Checkpoint::open(folder_.path()).ok());
}

TEST_F(CheckpointTest, NamesADamagedShard) {
  folder_.write("2.safetensors", "damaged.");
  index(R"({"a": "1.safetensors", "b": "2.safetensors"})");
  EXPECT_THAT(fault(), HasSubstr("M/2.safetensors: the header's length is"));
}

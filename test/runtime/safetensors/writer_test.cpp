#include "runtime/safetensors/Writer.h"

#include "runtime/core/Json.h"
#include "runtime/safetensors/Checkpoint.h"
#include "test/runtime/safetensors/TestCheckpoint.h"

#include <gmock/gmock.h>

using namespace switchyard;
using testing::HasSubstr;

static std::span<const std::byte> bytesOf(const std::string &text) {
  return std::as_bytes(std::span(text));
}

static std::string textOf(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}

TEST(SafetensorsWriter, WritesTheFormat) {
  TestFolder folder;
  std::vector<TensorSpec> specs = {{"x", TensorDType::F32, {2}},
                                   {"quo\"te", TensorDType::BF16, {1, 3}}};
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(folder.file("m"), specs);
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer->append(bytesOf("01234")).ok());
  ASSERT_TRUE(writer->append(bytesOf("567abcdef")).ok());
  ASSERT_TRUE(writer->finish().ok());
  std::string header =
      R"({"__metadata__":{"format":"pt"},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("quo\"te":{"dtype":"BF16","shape":[1,3],"data_offsets":[8,14]}})";
  while (header.size() % 8)
    header += ' ';
  EXPECT_EQ(TestFolder::read(folder.file("m")), safetensorsText(header, "01234567abcdef"));
  Result<SafetensorsFile> file = SafetensorsFile::open(folder.file("m"));
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(textOf(*file->bytes(*file->find("quo\"te"))), "abcdef");
}

TEST(SafetensorsWriter, RefusesTooFewAndTooManyBytes) {
  TestFolder folder;
  std::vector<TensorSpec> specs = {{"x", TensorDType::U8, {3}}};
  {
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(folder.file("m"), specs);
    ASSERT_TRUE(writer.ok());
    EXPECT_EQ(writer->append(bytesOf("1234")).message(),
              folder.file("m") + ": 4 bytes are more than the 3 that the declared tensors lack");
    EXPECT_EQ(writer->finish().message(),
              folder.file("m") + ": 3 bytes of the declared tensors were not written");
  }
  EXPECT_EQ(folder.count(), 0u);
}

TEST(SafetensorsWriter, RefusesSpecsThatAreWrong) {
  auto fault = [](std::vector<TensorSpec> specs) { return byteCounts(specs).status().message(); };
  EXPECT_EQ(fault({{"a", TensorDType::U8, {1}}, {"a", TensorDType::U8, {1}}}),
            "a tensor called \"a\" cannot be written: the name is there twice");
  EXPECT_EQ(fault({{"", TensorDType::U8, {1}}}),
            "a tensor called \"\" cannot be written: the name is not allowed");
  EXPECT_EQ(fault({{"__metadata__", TensorDType::U8, {1}}}),
            "a tensor called \"__metadata__\" cannot be written: the name is not allowed");
  EXPECT_EQ(fault({{"a", TensorDType::U8, {-1}}}),
            "tensor \"a\": the shape [-1] is negative or overflows 64 bits");
  EXPECT_EQ(fault({{"a", TensorDType::F32, {INT64_MAX}}}),
            "tensor \"a\": the shape [9223372036854775807] is negative or overflows 64 bits");
  EXPECT_EQ(fault({{"a", TensorDType::U8, {INT64_MAX}}, {"b", TensorDType::U8, {INT64_MAX}}}),
            "tensor \"b\": the shape [9223372036854775807] is negative or overflows 64 bits");
}

TEST(SafetensorsWriter, SortsByAlignmentThenName) {
  std::vector<TensorSpec> specs = {{"b", TensorDType::BF16, {}},
                                   {"c", TensorDType::F32, {}},
                                   {"a", TensorDType::F32, {}},
                                   {"d", TensorDType::I64, {}}};
  sortAsSafetensors(specs);
  std::string order;
  for (const TensorSpec &spec : specs)
    order += spec.name;
  EXPECT_EQ(order, "dacb");
}

TEST(CheckpointWriter, SplitsIntoShards) {
  TestFolder folder;
  std::vector<TensorSpec> specs = {{"a", TensorDType::U8, {3}},   {"b", TensorDType::U8, {2}},
                                   {"big", TensorDType::U8, {9}}, {"empty", TensorDType::U8, {0}},
                                   {"c", TensorDType::U8, {5}},   {"last", TensorDType::U8, {0}}};
  Result<CheckpointWriter> writer = CheckpointWriter::create(folder.path(), specs, 5);
  ASSERT_TRUE(writer.ok());
  std::string data = "aaabbBBBBBBBBBccccc";
  for (size_t at = 0; at < data.size(); at += 4) // chunks that do not end where tensors do
    ASSERT_TRUE(writer->append(bytesOf(data.substr(at, 4))).ok());
  ASSERT_TRUE(writer->finish().ok());
  EXPECT_EQ(folder.count(), 4u);
  Result<Checkpoint> checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ(textOf(*checkpoint->bytes(*checkpoint->find("b"))), "bb");
  EXPECT_EQ(textOf(*checkpoint->bytes(*checkpoint->find("big"))), "BBBBBBBBB");
  EXPECT_EQ(textOf(*checkpoint->bytes(*checkpoint->find("c"))), "ccccc");
  EXPECT_EQ(checkpoint->pathOf(*checkpoint->find("big")),
            folder.file("model-00002-of-00003.safetensors"));
  Result<Json> index = readJson(folder.file(kIndexFileName));
  ASSERT_TRUE(index.ok());
  EXPECT_EQ(index->find("metadata")->find("total_size")->integer(), 19);
}

TEST(CheckpointWriter, WritesOneFileWithoutAnIndex) {
  TestFolder folder;
  Result<CheckpointWriter> writer = CheckpointWriter::create(
      folder.path(), {{"a", TensorDType::U8, {3}}, {"b", TensorDType::U8, {2}}}, 5);
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer->append(bytesOf("aaabb")).ok());
  ASSERT_TRUE(writer->finish().ok());
  EXPECT_EQ(folder.count(), 1u);
  EXPECT_EQ(Checkpoint::open(folder.path())->names().size(), 2u);
}

TEST(CheckpointWriter, RefusesTooFewAndTooManyBytes) {
  TestFolder folder;
  std::vector<TensorSpec> specs = {{"a", TensorDType::U8, {3}}, {"b", TensorDType::U8, {2}}};
  Result<CheckpointWriter> few = CheckpointWriter::create(folder.path(), specs, 3);
  ASSERT_TRUE(few.ok());
  ASSERT_TRUE(few->append(bytesOf("aaa")).ok());
  EXPECT_THAT(
      few->finish().message(),
      HasSubstr(
          "model-00002-of-00002.safetensors: 2 bytes of the declared tensors were not written"));
  TestFolder other;
  Result<CheckpointWriter> many = CheckpointWriter::create(other.path(), specs, 3);
  ASSERT_TRUE(many.ok());
  EXPECT_THAT(many->append(bytesOf("aaabbb")).message(), HasSubstr("3 bytes are more than the 2"));
}

#include "runtime/safetensors/SafetensorsFile.h"

#include "test/runtime/safetensors/TestCheckpoint.h"

#include <gmock/gmock.h>

#include <random>

using namespace switchyard;
using testing::HasSubstr;

namespace {

const char kHeader[] =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]},)"
    R"("a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}, "c":{"dtype":"I64","shape":[0],)"
    R"("data_offsets":[28,28]}})";
const std::string kData = "abcdefghijklmnopqrstuvwxyz01";

class SafetensorsFileTest : public testing::Test {
protected:
  /// What is said about a file of that header and data, without the path in front.
  std::string fault(const std::string &header, const std::string &data = kData) {
    return rawFault(safetensorsText(header, data));
  }
  std::string rawFault(const std::string &text) {
    std::string path = folder_.write("m.safetensors", text);
    Result<SafetensorsFile> file = SafetensorsFile::open(path);
    EXPECT_FALSE(file.ok());
    if (file.ok())
      return "";
    EXPECT_EQ(file.status().code(), StatusCode::InvalidInput);
    EXPECT_EQ(file.status().message().find(path + ": "), 0u) << file.status().message();
    return file.status().message().substr(path.size() + 2);
  }
  /// The same for a file with the one tensor "a" of those fields.
  std::string tensorFault(const std::string &fields, const std::string &data = kData) {
    return fault(R"({"a":)" + fields + "}", data);
  }

  TestFolder folder_;
};

} // namespace

TEST_F(SafetensorsFileTest, ReadsTheHeaderThenTheBytesAskedFor) {
  Result<SafetensorsFile> file =
      SafetensorsFile::open(folder_.write("m", safetensorsText(kHeader, kData)));
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->tensors().size(), 3u);
  EXPECT_EQ(file->tensors()[0].name, "a");
  EXPECT_EQ(file->metadata().at("format"), "pt");
  uint64_t headerBytes = 8 + sizeof(kHeader) - 1;
  EXPECT_EQ(file->bytesRead(), headerBytes);
  const TensorEntry *b = file->find("b");
  ASSERT_TRUE(b);
  EXPECT_EQ(b->dtype, TensorDType::F32);
  EXPECT_EQ(b->shape, std::vector<int64_t>({2, 3}));
  EXPECT_EQ(b->count(), 6);
  auto text = [](std::span<const std::byte> bytes) {
    return std::string(reinterpret_cast<const char *>(bytes.data()), bytes.size());
  };
  EXPECT_EQ(text(*file->bytes(*b, 1, 3)), "ijklmnop");
  EXPECT_EQ(file->bytesRead(), headerBytes + 8);
  EXPECT_EQ(text(*file->bytes(*file->find("a"))), "abcd");
  EXPECT_EQ(text(*file->bytes(*file->find("c"))), "");
  EXPECT_EQ(file->bytesRead(), headerBytes + 12);
  EXPECT_EQ(file->find("d"), nullptr);
  EXPECT_EQ(file->bytes(*b, 2, 7).status().message(),
            file->path() + ": tensor \"b\": elements [2, 7) are asked for, it has 6");
  EXPECT_FALSE(file->bytes(*b, -1, 2).ok());
  EXPECT_FALSE(file->bytes(*b, 3, 2).ok());

  std::vector<std::byte> out(8);
  ASSERT_TRUE(file->read(*b, 1, 3, out).ok());
  EXPECT_EQ(text(out), "ijklmnop");
  EXPECT_EQ(file->bytesRead(), headerBytes + 20);
  EXPECT_EQ(file->read(*b, 2, 7, out).message(),
            file->path() + ": tensor \"b\": elements [2, 7) are asked for, it has 6");
}

TEST_F(SafetensorsFileTest, SeesThatTheFileChanged) {
  Result<SafetensorsFile> file =
      SafetensorsFile::open(folder_.write("m", safetensorsText(kHeader, kData)));
  ASSERT_TRUE(file.ok());
  folder_.write("m", "short");
  EXPECT_THAT(file->bytes(*file->find("a")).status().message(), HasSubstr("has 5 bytes, but had"));
  EXPECT_THAT(file->read(*file->find("c"), 0, 0, {}).message(), HasSubstr("has 5 bytes, but had"));
}

TEST_F(SafetensorsFileTest, RefusesAHeaderThatIsNone) {
  EXPECT_EQ(rawFault(""), "cannot be read: it has 0 bytes, expected 8 from 0 on");
  EXPECT_EQ(rawFault("1234567"), "cannot be read: it has 7 bytes, expected 8 from 0 on");
  EXPECT_EQ(
      rawFault(std::string("\x01\xe1\xf5\x05\0\0\0\0", 8)),
      "the header's length is 100000001, expected at most 100000000; is it a safetensors file?");
  EXPECT_EQ(rawFault(std::string(8, '\xff')),
            "the header's length is 18446744073709551615, expected at most 100000000; is it a "
            "safetensors file?");
  EXPECT_EQ(rawFault(std::string("\x05\0\0\0\0\0\0\0{}", 10)),
            "the header's length is 5, expected at most 2, what the file still has; it is cut off, "
            "fetch it again");
  EXPECT_EQ(fault(""), "the header is not a JSON object; is it a safetensors file?");
  EXPECT_EQ(fault("[]"), "the header is not a JSON object; is it a safetensors file?");
  EXPECT_EQ(fault(" {}", ""), "the header is not a JSON object; is it a safetensors file?");
  EXPECT_EQ(fault("{\"a\""), "header: is not valid JSON at line 1, column 5: the text ends here; "
                             "expected ':' after the key");
  EXPECT_EQ(
      fault(
          R"({"a":{"dtype":"U8","shape":[28],"data_offsets":[0,28]},"a":{"dtype":"U8","shape":[28],"data_offsets":[0,28]}})"),
      "header: the key \"a\" is there twice; keep one of them");
  EXPECT_THAT(tensorFault(R"({"dtype":"U8","dtype":"U8"})"),
              HasSubstr("the key \"dtype\" is there twice in \"a\""));
  EXPECT_THAT(tensorFault(R"([[[[1]]]])"), HasSubstr("nested deeper than 3"));
}

TEST_F(SafetensorsFileTest, RefusesMetadataThatIsNoStrings) {
  EXPECT_EQ(fault(R"({"__metadata__":3})", ""),
            "\"__metadata__\" is 3, expected an object of strings");
  EXPECT_EQ(fault(R"({"__metadata__":{"format":1}})", ""),
            "\"format\" of \"__metadata__\" is 1, expected a string");
}

TEST_F(SafetensorsFileTest, RefusesFieldsThatAreWrong) {
  EXPECT_EQ(tensorFault("3"),
            "tensor \"a\": is 3, expected an object with dtype, shape and data_offsets");
  EXPECT_EQ(tensorFault(R"({"dtype":"U8","shape":[28],"data_offsets":[0,28],"stride":[1]})"),
            "tensor \"a\": has the field \"stride\", expected only dtype, shape and data_offsets");
  EXPECT_EQ(tensorFault(R"({"shape":[28],"data_offsets":[0,28]})"),
            "tensor \"a\": \"dtype\" is missing, expected a string");
  EXPECT_EQ(tensorFault(R"({"dtype":"U8","data_offsets":[0,28]})"),
            "tensor \"a\": \"shape\" is missing, expected an array");
  EXPECT_EQ(tensorFault(R"({"dtype":"U8","shape":[28]})"),
            "tensor \"a\": \"data_offsets\" is missing, expected an array");
  EXPECT_EQ(tensorFault(R"({"dtype":"Q4","shape":[28],"data_offsets":[0,28]})"),
            "tensor \"a\": the dtype \"Q4\" is unknown, expected one such as \"F32\", \"BF16\", "
            "\"F16\" or \"I64\"");
  EXPECT_EQ(tensorFault(R"({"dtype":"U8","shape":[-28],"data_offsets":[0,28]})"),
            "tensor \"a\": \"shape\" has -28, expected integers from 0 on");
  EXPECT_EQ(tensorFault(R"({"dtype":"U8","shape":["x"],"data_offsets":[0,28]})"),
            "tensor \"a\": \"shape\" has \"x\", expected integers from 0 on");
  EXPECT_EQ(tensorFault(R"({"dtype":"U8","shape":[28],"data_offsets":[0.0,28]})"),
            "tensor \"a\": \"data_offsets\" has 0.0, expected integers from 0 on");
  EXPECT_EQ(
      tensorFault(R"({"dtype":"U8","shape":[28],"data_offsets":[0,18446744073709551615]})"),
      "tensor \"a\": \"data_offsets\" has 1.8446744073709552e+19, expected integers from 0 on");
  EXPECT_EQ(tensorFault(R"({"dtype":"U8","shape":[28],"data_offsets":[0,14,28]})"),
            "tensor \"a\": \"data_offsets\" is an array of 3, expected [begin, end]");
}

TEST_F(SafetensorsFileTest, RefusesSizesThatAreWrong) {
  EXPECT_EQ(tensorFault(R"({"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,28]})"),
            "tensor \"a\": the shape [4611686018427387904] overflows 64 bits");
  EXPECT_EQ(
      tensorFault(
          R"({"dtype":"U8","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,28]})"),
      "tensor \"a\": the shape [4294967296,4294967296,4294967296] overflows 64 bits");
  EXPECT_EQ(tensorFault(R"({"dtype":"F32","shape":[2,3],"data_offsets":[0,28]})"),
            "tensor \"a\": data_offsets [0, 28] are 28 bytes, expected 24 for F32 of shape [2,3]");
  EXPECT_EQ(tensorFault(R"({"dtype":"U8","shape":[28],"data_offsets":[28,0]})"),
            "tensor \"a\": data_offsets are [28, 0], expected begin <= end <= 28, the bytes behind "
            "the header; the file is cut off or damaged, fetch it again");
  EXPECT_THAT(tensorFault(R"({"dtype":"U8","shape":[29],"data_offsets":[0,29]})"),
              HasSubstr("data_offsets are [0, 29], expected begin <= end <= 28"));
}

TEST_F(SafetensorsFileTest, RefusesTensorsThatDoNotCoverTheFile) {
  auto two = [](const std::string &a, const std::string &b) {
    return R"({"b":{"dtype":"U8","shape":)" + b + R"(},"a":{"dtype":"U8","shape":)" + a + "}}";
  };
  EXPECT_EQ(fault(two(R"([14],"data_offsets":[0,14])", R"([15],"data_offsets":[13,28])")),
            "tensor \"b\": its bytes [13, 28) overlap those of tensor \"a\", which end at 14");
  EXPECT_EQ(fault(two(R"([14],"data_offsets":[0,14])", R"([13],"data_offsets":[15,28])")),
            "tensor \"b\": begins at 15, expected 14, where tensor \"a\" ends: the bytes between "
            "belong to no tensor");
  EXPECT_EQ(tensorFault(R"({"dtype":"U8","shape":[27],"data_offsets":[1,28]})"),
            "tensor \"a\": begins at 1, expected 0, where the header ends: the bytes between "
            "belong to no tensor");
  EXPECT_EQ(tensorFault(R"({"dtype":"U8","shape":[27],"data_offsets":[0,27]})"),
            "the tensors end at 27 but 28 bytes follow the header: the last 1 belong to no tensor");
  EXPECT_EQ(fault("{}", "x"),
            "the tensors end at 0 but 1 bytes follow the header: the last 1 belong to no tensor");
}

TEST_F(SafetensorsFileTest, MutationsNeverCrash) {
  std::string valid = safetensorsText(kHeader, kData);
  std::mt19937 random(11);
  int accepted = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string text = valid;
    for (int edits = 1 + random() % 3; edits > 0 && !text.empty(); --edits) {
      size_t at = random() % (random() % 2 ? text.size() : std::min<size_t>(text.size(), 12));
      switch (random() % 5) {
      case 0:
        text[at] = static_cast<char>(random());
        break;
      case 1:
        text[at] = "0123456789[]{},:\"-"[random() % 18];
        break;
      case 2:
        text.erase(at, 1 + random() % 9);
        break;
      case 3:
        text.insert(at, 1, "0123456789[]{},:\"-"[random() % 18]);
        break;
      default:
        text.resize(at);
        break;
      }
    }
    std::string path = folder_.write("m", text);
    Result<SafetensorsFile> file = SafetensorsFile::open(path);
    if (!file.ok()) {
      EXPECT_EQ(file.status().message().find(path + ": "), 0u) << file.status().message();
      continue;
    }
    ++accepted;
    for (const TensorEntry &entry : file->tensors()) { // every byte that is promised can be touched
      auto bytes = file->bytes(entry);
      ASSERT_TRUE(bytes.ok());
      unsigned sum = 0;
      for (std::byte byte : *bytes)
        sum += static_cast<unsigned>(byte);
      EXPECT_LE(sum, 255u * bytes->size());
    }
  }
  EXPECT_GT(accepted, 0); // a changed weight or name is no fault
}

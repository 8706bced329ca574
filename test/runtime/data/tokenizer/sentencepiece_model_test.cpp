#include "runtime/data/Tokenizer.h"
#include "runtime/data/tokenizer/SentencePieceModel.h"
#include "test/runtime/core/TestFolder.h"

#include <gmock/gmock.h>

#include <cstring>

namespace switchyard {
namespace {

using testing::HasSubstr;

constexpr const char *kDamaged = "its normalization table is damaged";

/// A table that turns "a" into "b": node 0 is the root, its child by 'a' has its value at 96.
struct Table {
  std::vector<uint32_t> units = std::vector<uint32_t>(256, 0x80000000u);
  std::string texts = std::string("b\0", 2);

  Table() {
    units[0] = 0;
    units['a'] = 'a' | 1u << 8 | 1u << 10; // a leaf, at 'a' ^ 1
    units['a' ^ 1] = 0x80000000u;
  }
  std::string bytes() const {
    uint32_t size = static_cast<uint32_t>(units.size() * sizeof(uint32_t));
    std::string result(sizeof(size) + size, '\0');
    std::memcpy(result.data(), &size, sizeof(size));
    std::memcpy(result.data() + sizeof(size), units.data(), size);
    return result + texts;
  }
};

std::string varint(uint64_t value) {
  std::string text;
  for (; value >= 0x80; value >>= 7)
    text += static_cast<char>(value | 0x80);
  return text + static_cast<char>(value);
}

std::string field(int number, const std::string &content) {
  return varint(number << 3 | 2) + varint(content.size()) + content;
}

/// A model of nothing but a normalizer (field 3) with `table` (field 2).
std::string modelWith(const std::string &table) {
  return field(3, field(2, table));
}

TEST(SentencePieceModel, TakesModelsWithAndWithoutATable) {
  EXPECT_EQ(checkSentencePieceModel(
                TestFolder::read(SWITCHYARD_SOURCE_DIR "/examples/tiny/tokenizer.model")),
            "");
  EXPECT_EQ(checkSentencePieceModel(modelWith(Table().bytes())), "");
  EXPECT_EQ(checkSentencePieceModel(modelWith("")), "");
}

TEST(SentencePieceModel, TheTableItTakesIsOneTheLibraryTakes) {
  TestFolder folder;
  std::string model = TestFolder::read(SWITCHYARD_SOURCE_DIR "/examples/tiny/tokenizer.model");
  // A second normalizer_spec merges into the first.
  std::string path = folder.write("tokenizer.model", model + modelWith(Table().bytes()));
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::load(path);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  std::vector<int32_t> ids;
  ASSERT_TRUE((*tokenizer)->encode("a cat", ids).ok());
  EXPECT_EQ(*(*tokenizer)->decode(ids), "b cbt");

  Table damaged;
  damaged.units[0] = 0x7fffffffu;
  path = folder.write("tokenizer.model", model + modelWith(damaged.bytes()));
  tokenizer = Tokenizer::load(path);
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_THAT(tokenizer.status().message(),
              HasSubstr(std::string("not a SentencePiece model (") + kDamaged + ")"));
}

TEST(SentencePieceModel, RefusesATrieThatLeavesItsArray) {
  Table root;
  root.units[0] = 1u << 18; // offset 256
  EXPECT_EQ(checkSentencePieceModel(modelWith(root.bytes())), kDamaged);
  Table child;
  child.units['a'] = 'a' | 1u << 8 | 1u << 19;
  EXPECT_EQ(checkSentencePieceModel(modelWith(child.bytes())), kDamaged);
  Table block;
  block.units.resize(255);
  EXPECT_EQ(checkSentencePieceModel(modelWith(block.bytes())), kDamaged);
  Table empty;
  empty.units.clear();
  EXPECT_EQ(checkSentencePieceModel(modelWith(empty.bytes())), kDamaged);
}

TEST(SentencePieceModel, RefusesAValueOutsideTheTexts) {
  Table table;
  table.units['a' ^ 1] = 0x80000000u | 2;
  EXPECT_EQ(checkSentencePieceModel(modelWith(table.bytes())), kDamaged);
  Table unended;
  unended.texts = "bb";
  EXPECT_EQ(checkSentencePieceModel(modelWith(unended.bytes())), kDamaged);
}

TEST(SentencePieceModel, RefusesEndlessMatches) {
  Table table;
  table.units['a'] = 'a' | 1u << 8 | static_cast<uint32_t>('a') << 10; // back to the root, a leaf
  table.units[0] = 0;
  EXPECT_EQ(checkSentencePieceModel(modelWith(table.bytes())), kDamaged);
  table.units['a'] = 'a' | static_cast<uint32_t>('a') << 10; // a cycle without a match is harmless
  EXPECT_EQ(checkSentencePieceModel(modelWith(table.bytes())), "");
}

TEST(SentencePieceModel, RefusesATableOfTheWrongSize) {
  std::string table = Table().bytes();
  EXPECT_EQ(checkSentencePieceModel(modelWith(table.substr(0, 4))), kDamaged);
  EXPECT_EQ(checkSentencePieceModel(modelWith(table.substr(0, 100))), kDamaged);
  EXPECT_EQ(checkSentencePieceModel(modelWith(std::string((1 << 20) + 1, '\0'))),
            "its normalization table has 1048577 bytes, expected at most 1048576");
}

TEST(SentencePieceModel, RefusesWhatIsNoProtocolBuffer) {
  for (const std::string &model :
       {std::string("\x1a\x05"
                    "ab"),
        std::string("\x0f"), std::string(20, '\xff'),
        std::string("\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), std::string("\x0d\x01")})
    EXPECT_EQ(checkSentencePieceModel(model), "it is no protocol buffer");
  EXPECT_EQ(checkSentencePieceModel(field(5, "\x12\x7f")), "its normalizer is no protocol buffer");
}

} // namespace
} // namespace switchyard

#include "runtime/data/Tokenizer.h"
#include "test/runtime/core/TestFolder.h"

#include <gmock/gmock.h>

namespace switchyard {
namespace {

using testing::HasSubstr;

std::string tinyModel() {
  return SWITCHYARD_SOURCE_DIR "/examples/tiny/tokenizer.model";
}

std::vector<int32_t> encode(const Tokenizer &tokenizer, std::string_view text) {
  std::vector<int32_t> ids;
  EXPECT_TRUE(tokenizer.encode(text, ids).ok());
  return ids;
}

TEST(Tokenizer, ReadsTheSpecialPieces) {
  Result<Tokenizer> tokenizer = Tokenizer::load(tinyModel());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_EQ(tokenizer->vocabSize(), 512);
  EXPECT_EQ(tokenizer->unkId(), 0);
  EXPECT_EQ(tokenizer->bosId(), 1);
  EXPECT_EQ(tokenizer->eosId(), 2);
}

TEST(Tokenizer, EncodesAndDecodesAnyText) {
  Result<Tokenizer> tokenizer = Tokenizer::load(tinyModel());
  ASSERT_TRUE(tokenizer.ok());
  for (std::string text : {"The opposite of hot is cold.", "two\n\nlines",
                           "caf\xc3\xa9 \xf0\x9f\x98\x80", "  spaces  ", "<s> is text</s>"}) {
    std::vector<int32_t> ids = encode(*tokenizer, text);
    Result<std::string> back = tokenizer->decode(ids);
    ASSERT_TRUE(back.ok());
    EXPECT_EQ(*back, text);
  }
  EXPECT_TRUE(encode(*tokenizer, "").empty());
}

TEST(Tokenizer, ReadsNoSpecialTokenOutOfText) {
  Result<Tokenizer> tokenizer = Tokenizer::load(tinyModel());
  ASSERT_TRUE(tokenizer.ok());
  for (int32_t id : encode(*tokenizer, "<s></s><unk>"))
    EXPECT_GT(id, tokenizer->eosId());
}

TEST(Tokenizer, AppendsToWhatIsThere) {
  Result<Tokenizer> tokenizer = Tokenizer::load(tinyModel());
  ASSERT_TRUE(tokenizer.ok());
  std::vector<int32_t> ids = {1};
  ASSERT_TRUE(tokenizer->encode("hot", ids).ok());
  EXPECT_EQ(ids.front(), 1);
  EXPECT_EQ(ids.size(), 1 + encode(*tokenizer, "hot").size());
}

TEST(Tokenizer, SurvivesTextThatIsNotUtf8) {
  Result<Tokenizer> tokenizer = Tokenizer::load(tinyModel());
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_FALSE(encode(*tokenizer, "\xff\xfe\x80 \xc3").empty());
  EXPECT_FALSE(encode(*tokenizer, std::string_view("a\0b", 3)).empty());
}

TEST(Tokenizer, RefusesIdsOutsideTheVocabulary) {
  Result<Tokenizer> tokenizer = Tokenizer::load(tinyModel());
  ASSERT_TRUE(tokenizer.ok());
  Result<std::string> text = tokenizer->decode({512});
  ASSERT_FALSE(text.ok());
  EXPECT_THAT(text.status().message(), HasSubstr("token id 512, expected 0 to 511"));
  EXPECT_FALSE(tokenizer->decode({-1}).ok());
}

TEST(Tokenizer, NamesAMissingFile) {
  TestFolder folder;
  Result<Tokenizer> tokenizer = Tokenizer::load(folder.file("tokenizer.model"));
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_EQ(tokenizer.status().code(), StatusCode::InvalidInput);
  EXPECT_THAT(tokenizer.status().message(), HasSubstr(folder.file("tokenizer.model")));
  EXPECT_FALSE(Tokenizer::load(folder.path()).ok());
}

TEST(Tokenizer, RefusesWhatIsNoModel) {
  TestFolder folder;
  std::string model = TestFolder::read(tinyModel());
  ASSERT_GT(model.size(), 1000u);
  for (std::string content : {std::string(), std::string("{\"model\": \"json\"}"),
                              std::string(1000, '\xff'), model.substr(0, model.size() / 2 + 1)}) {
    std::string path = folder.write("tokenizer.model", content);
    Result<Tokenizer> tokenizer = Tokenizer::load(path);
    ASSERT_FALSE(tokenizer.ok());
    EXPECT_EQ(tokenizer.status().code(), StatusCode::InvalidInput);
    EXPECT_THAT(tokenizer.status().message(), HasSubstr(path + ": not a SentencePiece model ("));
    EXPECT_THAT(tokenizer.status().message(),
                HasSubstr("expected the tokenizer.model that belongs to the model"));
  }
}

TEST(Tokenizer, RefusesAModelWithoutBosOrEos) {
  TestFolder folder;
  std::string model = TestFolder::read(tinyModel());
  // Protocol buffers merge a second trainer_spec (field 2) into the first: bos_piece is field 46,
  // eos_piece field 47.
  for (auto [name, tag] : {std::pair{"BOS", '\xf2'}, std::pair{"EOS", '\xfa'}}) {
    std::string patched = model + "\x12\x07" + tag + "\x02\x04nope";
    Result<Tokenizer> tokenizer = Tokenizer::load(folder.write("tokenizer.model", patched));
    ASSERT_FALSE(tokenizer.ok());
    EXPECT_THAT(tokenizer.status().message(),
                HasSubstr(std::string("has no ") + name + " piece, expected one"));
  }
}

} // namespace
} // namespace switchyard

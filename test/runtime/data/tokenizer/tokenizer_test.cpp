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

std::string loadError(const std::string &path) {
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::load(path);
  EXPECT_FALSE(tokenizer.ok());
  if (tokenizer.ok())
    return "";
  EXPECT_EQ(tokenizer.status().code(), StatusCode::InvalidInput);
  return tokenizer.status().message();
}

TEST(Tokenizer, IsOfTheKindThatTheContentSays) {
  TestFolder folder;
  for (const char *json : {"{}", " \n{\"model\": 1}", "\xef\xbb\xbf{"})
    EXPECT_EQ(*tokenizerName(folder.write("a", json)), "tokenizer.json") << json;
  EXPECT_EQ(*tokenizerName(folder.write("a.json", "no JSON")), "tokenizer.json");
  EXPECT_EQ(*tokenizerName(tinyModel()), "tokenizer.model");
  EXPECT_EQ(*tokenizerName(folder.write("a", "")), "tokenizer.model");
  EXPECT_EQ(loadError(folder.write("tokenizer.model", "{}")),
            folder.file("tokenizer.model") + ": it is no tokenizer.json: it has no \"model\"");
  EXPECT_THAT(loadError(folder.write("tokenizer.json", "\n\x0e")), HasSubstr("is not valid JSON"));
}

TEST(Tokenizer, OfAFolderIsItsTokenizerJsonFirst) {
  TestFolder folder;
  EXPECT_EQ(tokenizerIn(folder.path()), folder.file("tokenizer.json"));
  folder.write("tokenizer.model", "");
  EXPECT_EQ(tokenizerIn(folder.path()), folder.file("tokenizer.model"));
  folder.write("tokenizer.json", "");
  EXPECT_EQ(tokenizerIn(folder.path()), folder.file("tokenizer.json"));
}

TEST(Tokenizer, ReadsTheSpecialPieces) {
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::load(tinyModel());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_EQ((*tokenizer)->vocabSize(), 512);
  EXPECT_THAT((*tokenizer)->frame().before, testing::ElementsAre(1));
  EXPECT_THAT((*tokenizer)->frame().behind, testing::ElementsAre(2));
}

TEST(Tokenizer, EncodesAndDecodesAnyText) {
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::load(tinyModel());
  ASSERT_TRUE(tokenizer.ok());
  for (std::string text : {"The opposite of hot is cold.", "two\n\nlines",
                           "caf\xc3\xa9 \xf0\x9f\x98\x80", "  spaces  ", "<s> is text</s>"}) {
    std::vector<int32_t> ids = encode(**tokenizer, text);
    Result<std::string> back = (*tokenizer)->decode(ids);
    ASSERT_TRUE(back.ok());
    EXPECT_EQ(*back, text);
  }
  EXPECT_TRUE(encode(**tokenizer, "").empty());
}

TEST(Tokenizer, ReadsNoSpecialTokenOutOfText) {
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::load(tinyModel());
  ASSERT_TRUE(tokenizer.ok());
  for (int32_t id : encode(**tokenizer, "<s></s><unk>"))
    EXPECT_GT(id, 2);
}

TEST(Tokenizer, AppendsToWhatIsThere) {
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::load(tinyModel());
  ASSERT_TRUE(tokenizer.ok());
  std::vector<int32_t> ids = {1};
  ASSERT_TRUE((*tokenizer)->encode("hot", ids).ok());
  EXPECT_EQ(ids.front(), 1);
  EXPECT_EQ(ids.size(), 1 + encode(**tokenizer, "hot").size());
}

TEST(Tokenizer, SurvivesTextThatIsNotUtf8) {
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::load(tinyModel());
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_FALSE(encode(**tokenizer, "\xff\xfe\x80 \xc3").empty());
  EXPECT_FALSE(encode(**tokenizer, std::string_view("a\0b", 3)).empty());
}

TEST(Tokenizer, RefusesIdsOutsideTheVocabulary) {
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::load(tinyModel());
  ASSERT_TRUE(tokenizer.ok());
  Result<std::string> text = (*tokenizer)->decode(std::vector<int32_t>{512});
  ASSERT_FALSE(text.ok());
  EXPECT_THAT(text.status().message(), HasSubstr("token id 512, expected 0 to 511"));
  EXPECT_FALSE((*tokenizer)->decode(std::vector<int32_t>{-1}).ok());
}

TEST(Tokenizer, NamesAMissingFile) {
  TestFolder folder;
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::load(folder.file("tokenizer.model"));
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_EQ(tokenizer.status().code(), StatusCode::InvalidInput);
  EXPECT_THAT(tokenizer.status().message(), HasSubstr(folder.file("tokenizer.model")));
  EXPECT_FALSE(Tokenizer::load(folder.path()).ok());
}

TEST(Tokenizer, RefusesWhatIsNoModel) {
  TestFolder folder;
  std::string model = TestFolder::read(tinyModel());
  ASSERT_GT(model.size(), 1000u);
  for (const std::string &content :
       {std::string(), std::string("IQ== 0\nIg== 1\n"), std::string(1000, '\xff'),
        model.substr(0, model.size() / 2 + 1)}) {
    std::string path = folder.write("tokenizer.model", content);
    Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::load(path);
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
    Result<std::unique_ptr<Tokenizer>> tokenizer =
        Tokenizer::load(folder.write("tokenizer.model", patched));
    ASSERT_FALSE(tokenizer.ok());
    EXPECT_THAT(tokenizer.status().message(),
                HasSubstr(std::string("has no ") + name + " piece, expected one"));
  }
}

} // namespace
} // namespace switchyard

#include "runtime/data/Alpaca.h"
#include "test/runtime/core/TestFolder.h"

#include <gmock/gmock.h>

namespace switchyard {
namespace {

using testing::HasSubstr;

class Alpaca : public testing::Test {
protected:
  Alpaca() : tokenizer_(Tokenizer::load(SWITCHYARD_SOURCE_DIR "/examples/tiny/tokenizer.model")) {}

  Result<Dataset> load(std::string_view content, int64_t maxSeqLength = 512,
                       int64_t vocabSize = 512) {
    path_ = folder_.write("data.json", content);
    return loadAlpaca(path_, **tokenizer_, {maxSeqLength, vocabSize});
  }
  std::string loadError(std::string_view content, int64_t maxSeqLength = 512,
                        int64_t vocabSize = 512) {
    Result<Dataset> dataset = load(content, maxSeqLength, vocabSize);
    EXPECT_FALSE(dataset.ok());
    EXPECT_EQ(dataset.status().code(), StatusCode::InvalidInput);
    return dataset.ok() ? "" : dataset.status().message();
  }
  std::vector<int32_t> encode(const std::string &text) {
    std::vector<int32_t> ids = {1};
    EXPECT_TRUE((*tokenizer_)->encode(text, ids).ok());
    return ids;
  }

  TestFolder folder_;
  Result<std::unique_ptr<Tokenizer>> tokenizer_;
  std::string path_;
};

constexpr const char *kGood = R"({"instruction": "Add.", "input": "1 and 2", "output": "3"})";

TEST_F(Alpaca, HasBothTemplates) {
  EXPECT_EQ(alpacaPrompt("Say hello.", ""),
            "Below is an instruction that describes a task. Write a response that appropriately "
            "completes the request.\n\n### Instruction:\nSay hello.\n\n### Response:");
  EXPECT_EQ(alpacaPrompt("Add.", "1 and 2"),
            "Below is an instruction that describes a task, paired with an input that provides "
            "further context. Write a response that appropriately completes the request.\n\n"
            "### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:");
}

TEST_F(Alpaca, TokenisesAndMasksThePrompt) {
  Result<Dataset> dataset = load(std::string("[") + kGood + "]");
  ASSERT_TRUE(dataset.ok()) << dataset.status().message();
  ASSERT_EQ(dataset->size(), 1);
  SegmentView record = dataset->record(0);
  std::vector<int32_t> expected = encode(alpacaPrompt("Add.", "1 and 2") + " 3");
  expected.push_back(2);
  EXPECT_EQ(std::vector<int32_t>(record.ids.begin(), record.ids.end()), expected);
  int64_t prompt = static_cast<int64_t>(encode(alpacaPrompt("Add.", "1 and 2")).size());
  EXPECT_EQ(record.promptTokens, prompt);
  EXPECT_EQ(record.label(prompt - 1), kIgnoredLabel);
  EXPECT_EQ(record.label(prompt), record.ids[prompt]);
  EXPECT_EQ(record.target(prompt - 2), kIgnoredLabel);
  EXPECT_EQ(record.target(prompt - 1), record.ids[prompt]);
  EXPECT_EQ(record.target(record.numTokens() - 1), kIgnoredLabel);
}

TEST_F(Alpaca, PutsNoBosWhereTheTokenizerHasNone) {
  tokenizer_ = Tokenizer::load(SWITCHYARD_SOURCE_DIR
                               "/test/runtime/data/tokenizer/Inputs/qwen/tokenizer.json");
  ASSERT_TRUE(tokenizer_.ok()) << tokenizer_.status().message();
  Result<Dataset> dataset = load(std::string("[") + kGood + "]");
  ASSERT_TRUE(dataset.ok()) << dataset.status().message();
  std::vector<int32_t> prompt, all;
  ASSERT_TRUE((*tokenizer_)->encode(alpacaPrompt("Add.", "1 and 2"), prompt).ok());
  ASSERT_TRUE((*tokenizer_)->encode(alpacaPrompt("Add.", "1 and 2") + " 3", all).ok());
  ASSERT_EQ((*tokenizer_)->frame().behind.size(), 1u);
  all.push_back((*tokenizer_)->frame().behind[0]);
  SegmentView record = dataset->record(0);
  EXPECT_EQ(std::vector<int32_t>(record.ids.begin(), record.ids.end()), all);
  EXPECT_EQ(record.promptTokens, static_cast<int64_t>(prompt.size()));
}

TEST_F(Alpaca, ReadsTheTinySample) {
  Result<Dataset> dataset = loadAlpaca(SWITCHYARD_SOURCE_DIR "/examples/tiny/alpaca_sample.json",
                                       **tokenizer_, {512, 512});
  ASSERT_TRUE(dataset.ok()) << dataset.status().message();
  EXPECT_EQ(dataset->size(), 64);
  EXPECT_TRUE(dataset->skipped().empty());
  EXPECT_EQ(dataset->describeSkipped(), "");
}

TEST_F(Alpaca, ReadsLinesAsItReadsAnArray) {
  std::string two = R"({"instruction": "Say hello.", "output": "Hello."})";
  Result<Dataset> array = load(std::string("[") + kGood + ",\n" + two + "]");
  ASSERT_TRUE(array.ok());
  for (std::string lines :
       {std::string(kGood) + "\n" + two, std::string(kGood) + "\r\n\r\n" + two + "\r\n",
        "\xef\xbb\xbf" + std::string(kGood) + "\n\n" + two + "\n"}) {
    Result<Dataset> dataset = load(lines);
    ASSERT_TRUE(dataset.ok()) << dataset.status().message();
    ASSERT_EQ(dataset->size(), 2);
    for (int64_t i = 0; i < 2; ++i)
      EXPECT_TRUE(std::ranges::equal(dataset->record(i).ids, array->record(i).ids));
  }
}

TEST_F(Alpaca, TakesAMissingNullOrEmptyInputAsNone) {
  Result<Dataset> dataset = load(R"([{"instruction": "Hi", "output": "Ho"},
    {"instruction": "Hi", "input": null, "output": "Ho"},
    {"instruction": "Hi", "input": "", "output": "Ho", "text": "more keys are fine"}])");
  ASSERT_TRUE(dataset.ok()) << dataset.status().message();
  ASSERT_EQ(dataset->size(), 3);
  EXPECT_TRUE(std::ranges::equal(dataset->record(0).ids, dataset->record(1).ids));
  EXPECT_TRUE(std::ranges::equal(dataset->record(0).ids, dataset->record(2).ids));
}

TEST_F(Alpaca, NamesEveryRecordItCannotUse) {
  Result<Dataset> dataset = load(std::string("[") + kGood + R"(, 7,
    {"input": "", "output": "a"},
    {"instruction": "a", "input": ""},
    {"instruction": 3, "output": "a"},
    {"instruction": "a", "input": ["b"], "output": "a"},
    {"instruction": "a", "output": null},
    {"instruction": "a", "output": ""},)" +
                                 kGood + "]");
  ASSERT_TRUE(dataset.ok()) << dataset.status().message();
  ASSERT_EQ(dataset->size(), 2);
  EXPECT_EQ(dataset->record(1).record, 8);
  const std::vector<SkippedRecord> &skipped = dataset->skipped();
  ASSERT_EQ(skipped.size(), 7u);
  const char *reasons[] = {"it is 7, expected an object",
                           "\"instruction\" is missing",
                           "\"output\" is missing",
                           "\"instruction\" is 3, expected a string",
                           "\"input\" is an array of 1, expected a string",
                           "\"output\" is null, expected a string",
                           "its output is empty"};
  for (int64_t i = 0; i < 7; ++i) {
    EXPECT_EQ(skipped[i].index, i + 1);
    EXPECT_EQ(skipped[i].reason, reasons[i]);
  }
  EXPECT_EQ(dataset->describeSkipped(2),
            path_ + ": 7 of 9 records can't be used: record 1: it is 7, expected an object; record "
                    "2: \"instruction\" is missing; and 5 more");
}

TEST_F(Alpaca, CutsLongRecords) {
  std::string content = std::string("[") + kGood + "]";
  Result<Dataset> whole = load(content);
  ASSERT_TRUE(whole.ok());
  int64_t prompt = whole->record(0).promptTokens;
  ASSERT_GT(whole->length(0), prompt + 1);
  Result<Dataset> cut = load(content, prompt + 1);
  ASSERT_TRUE(cut.ok());
  EXPECT_EQ(cut->length(0), prompt + 1);
  EXPECT_EQ(cut->record(0).target(prompt - 1), cut->record(0).ids[prompt]);
  std::string message = loadError(content, prompt);
  EXPECT_THAT(message, HasSubstr("record 0: its prompt alone has " + std::to_string(prompt) +
                                 " tokens, which leaves none to predict within max_seq_length " +
                                 std::to_string(prompt)));
  EXPECT_THAT(message, HasSubstr("expected at least one usable record"));
}

TEST_F(Alpaca, NamesATokenTheModelDoesNotHave) {
  std::string message = loadError(std::string("[") + kGood + "]", 512, 300);
  EXPECT_THAT(message, HasSubstr(path_ + ": record 0 has token id "));
  EXPECT_THAT(message, HasSubstr("expected below the model's vocab_size, 300; is "));
  EXPECT_THAT(message, HasSubstr("tokenizer.model the model's own tokenizer?"));
}

TEST_F(Alpaca, SaysWhereAFileIsNoJson) {
  std::string message = loadError(std::string("[") + kGood + ",\n  {\"instruction\": }]");
  EXPECT_THAT(message, HasSubstr(path_));
  EXPECT_THAT(message, HasSubstr("line 2, column 19"));
  message = loadError(std::string(kGood) + "\n" + kGood + "\n{\"instruction\" 3}\n");
  EXPECT_THAT(message, HasSubstr("line 3, column 16"));
  EXPECT_THAT(message, HasSubstr("expected one Alpaca record a line, or a JSON array of them"));
  EXPECT_THAT(loadError("instruction,input,output\n"), HasSubstr("line 1, column 1"));
  EXPECT_THAT(loadError(std::string("[") + kGood), HasSubstr("line 1"));
  EXPECT_THAT(loadError(std::string(kGood) + "\n{\"output\": \"a\", \"output\": \"b\"}"),
              HasSubstr("(line 2; expected one"));
}

TEST_F(Alpaca, RefusesAFileWithoutRecords) {
  for (const char *content : {"", " \n\n", "[]"}) {
    std::string message = loadError(content);
    EXPECT_EQ(message, path_ + ": holds no record, expected a JSON array of Alpaca records or one "
                               "per line");
  }
}

TEST_F(Alpaca, NamesAMissingFile) {
  Result<Dataset> dataset = loadAlpaca(folder_.file("none.json"), **tokenizer_, {512, 512});
  ASSERT_FALSE(dataset.ok());
  EXPECT_EQ(dataset.status().code(), StatusCode::InvalidInput);
  EXPECT_THAT(dataset.status().message(), HasSubstr("none.json"));
}

TEST_F(Alpaca, RefusesSizesBelowOne) {
  Result<Dataset> dataset = load(kGood, 0);
  ASSERT_FALSE(dataset.ok());
  EXPECT_EQ(dataset.status().message(),
            "max_seq_length is 0 and vocab_size 512, expected both above 0");
}

} // namespace
} // namespace switchyard

#include "runtime/training/TrainingArguments.h"
#include "test/runtime/core/TestFolder.h"

#include <gmock/gmock.h>

#include <set>

namespace switchyard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string setError(std::string_view name, const std::string &value) {
  TrainingArguments arguments;
  Status status = setArgument(arguments, name, value);
  EXPECT_FALSE(status.ok()) << name << " took " << value;
  EXPECT_EQ(status.code(), StatusCode::Usage);
  return status.message();
}

class Config : public testing::Test {
protected:
  Status load(std::string_view text) {
    path_ = folder_.write("run.yaml", text);
    return loadConfig(path_, arguments_);
  }
  std::string loadError(std::string_view text) {
    Status status = load(text);
    EXPECT_FALSE(status.ok()) << text;
    EXPECT_EQ(status.code(), StatusCode::InvalidInput);
    std::string message = status.message();
    return message.starts_with(path_ + ": ") ? message.substr(path_.size() + 2) : message;
  }

  TestFolder folder_;
  std::string path_;
  TrainingArguments arguments_;
};

TEST(TrainingArguments, SetsEveryKindOfValue) {
  TrainingArguments arguments;
  for (auto [name, value] : {std::pair{"learning-rate", "1e-3"},
                             {"max_steps", "50"},
                             {"lr-scheduler-type", "cosine"},
                             {"output-dir", "out"},
                             {"precision", "bf16"},
                             {"packing", "true"},
                             {"debug-nonfinite", "true"},
                             {"max-seq-length", "1024"},
                             {"router-aux-loss-coef", "0.02"}})
    EXPECT_TRUE(setArgument(arguments, name, value).ok()) << name;
  EXPECT_EQ(arguments.learningRate, 1e-3);
  EXPECT_EQ(arguments.maxSteps, 50);
  EXPECT_EQ(arguments.lrSchedulerType, "cosine");
  EXPECT_EQ(arguments.outputDir, "out");
  EXPECT_EQ(arguments.precision, "bf16");
  EXPECT_EQ(arguments.packing, true);
  EXPECT_TRUE(arguments.debugNonfinite);
  EXPECT_EQ(arguments.maxSeqLength, 1024);
  EXPECT_EQ(arguments.routerAuxLossCoef, 0.02);
}

TEST(TrainingArguments, MessagesNameFlagValueAndExpectation) {
  EXPECT_EQ(setError("learning_rate", "fast"),
            "--learning-rate is \"fast\", expected a number from 0 to 1000000");
  EXPECT_EQ(setError("max-steps", "1.5"),
            "--max-steps is \"1.5\", expected an integer from -1 to 9007199254740992");
  EXPECT_EQ(setError("ranks", "1025"), "--ranks is \"1025\", expected an integer from 0 to 1024");
  EXPECT_EQ(setError("comm-timeout", "0"),
            "--comm-timeout is \"0\", expected a number from 0.01 to 10000000");
  EXPECT_EQ(setError("num-train-epochs", "0"),
            "--num-train-epochs is \"0\", expected a number above 0, at most 1000000000");
  EXPECT_EQ(setError("lr-scheduler-type", "polynomial"),
            "--lr-scheduler-type is \"polynomial\", expected one of "
            "linear|cosine|constant|constant_with_warmup");
  EXPECT_EQ(setError("packing", "yes"), "--packing is \"yes\", expected true or false");
  EXPECT_EQ(setError("data", ""), "--data is \"\", expected a text that is not empty");
  EXPECT_EQ(setError("learning-rat", "1"),
            "no argument is called \"learning-rat\"; did you mean learning_rate?");
  EXPECT_EQ(setError("fuze", "1"), "no argument is called \"fuze\"; did you mean fuse?");
  EXPECT_EQ(setError("fp16", "1"), "no argument is called \"fp16\"");
}

TEST(TrainingArguments, RefusesNumbersThatAreNone) {
  for (const char *text : {"", " 1", "1 ", "nan", "inf", "-inf", "1e999", "0x10", "1,5", "--1"})
    setError("learning_rate", text);
  for (const char *text : {"99999999999999999999", "1e3", "", "-2", "0x10"})
    setError("max_steps", text);
  setError("adam_beta1", "1.1");
  setError("max_grad_norm", "-1");
}

TEST(TrainingArguments, FieldsHaveDistinctNamesAndFlags) {
  std::set<std::string> flags;
  for (const ArgumentField &field : argumentFields()) {
    EXPECT_TRUE(flags.insert(field.flagName()).second) << field.name;
    EXPECT_EQ(field.flagName().find('_'), std::string::npos);
    EXPECT_GT(std::string(field.help).size(), 0u);
    EXPECT_EQ(field.isFlag(), std::set<std::string>({"packing", "fuse", "gather", "sync_each_batch",
                                                     "reshard_after_forward", "debug_nonfinite"})
                                  .contains(field.name));
  }
}

TEST(TrainingArguments, AFailureLeavesTheValue) {
  TrainingArguments arguments;
  EXPECT_FALSE(setArgument(arguments, "learning_rate", "-1").ok());
  EXPECT_FALSE(setArgument(arguments, "precision", "f8").ok());
  EXPECT_EQ(arguments.learningRate, 5e-5);
  EXPECT_FALSE(arguments.precision.has_value());
}

TEST(TrainingArguments, WarmupIsACountOrAShare) {
  TrainingArguments arguments;
  EXPECT_EQ(arguments.warmupStepsOf(50), 10);
  arguments.warmupSteps = 0;
  EXPECT_EQ(arguments.warmupStepsOf(50), 0);
  arguments.warmupSteps = 0.03;
  EXPECT_EQ(arguments.warmupStepsOf(50), 2);
  arguments.warmupSteps = 1;
  EXPECT_EQ(arguments.warmupStepsOf(50), 1);
}

TEST(TrainingArguments, PassesOnWhatAPlanIsCompiledFor) {
  TrainingArguments arguments;
  EXPECT_TRUE(arguments.compileArguments().empty());
  arguments.precision = "bf16";
  arguments.gradientAccumulationSteps = 16;
  arguments.packing = true;
  arguments.syncEachBatch = false;
  arguments.routerAuxLossCoef = 0.001;
  EXPECT_THAT(arguments.compileArguments(),
              ElementsAre("--precision", "bf16", "--gradient-accumulation-steps", "16", "--packing",
                          "--sync-each-batch=false", "--router-aux-loss-coef", "0.001"));
}

TEST(TrainingArguments, ChecksWhatGoesTogether) {
  TrainingArguments arguments;
  EXPECT_EQ(validateArguments(arguments).message(),
            "--model is missing, expected the folder of a Hugging Face checkpoint");
  arguments.model = "m";
  EXPECT_EQ(validateArguments(arguments).message(),
            "--data is missing, expected a file of Alpaca records");
  arguments.data = "d";
  EXPECT_EQ(validateArguments(arguments).message(),
            "--output-dir is missing, expected a folder for metrics and checkpoints");
  arguments.outputDir = "o";
  EXPECT_TRUE(validateArguments(arguments).ok());
  arguments.maxSteps = 0;
  EXPECT_EQ(validateArguments(arguments).message(),
            "--max-steps is 0, expected above 0, or -1 to train num_train_epochs");
  arguments.maxSteps = 5;
  arguments.warmupSteps = 2.5;
  EXPECT_EQ(validateArguments(arguments).message(),
            "--warmup-steps is 2.5, expected a whole number, or a share of all steps below 1");
  arguments.warmupSteps = 2;
  arguments.adamBeta2 = 1;
  EXPECT_EQ(validateArguments(arguments).message(),
            "--adam-beta2 is 1, expected below 1: its moment would never change");
}

TEST_F(Config, ReadsYaml) {
  Status status = load("# a run\nlearning_rate: 1e-3\nmax-steps: 50\nlr_scheduler_type: cosine\n"
                       "packing: true\nmodel: \"a folder\"\nresume_from_checkpoint: null\n");
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(arguments_.learningRate, 1e-3);
  EXPECT_EQ(arguments_.maxSteps, 50);
  EXPECT_EQ(arguments_.lrSchedulerType, "cosine");
  EXPECT_EQ(arguments_.packing, true);
  EXPECT_EQ(arguments_.model, "a folder");
  EXPECT_EQ(arguments_.resumeFromCheckpoint, "");
}

TEST_F(Config, ReadsJson) {
  Status status = load("{\n\t\"learning_rate\": 0.001,\n\t\"packing\": false, \"seed\": 7\n}\n");
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(arguments_.learningRate, 1e-3);
  EXPECT_EQ(arguments_.packing, false);
  EXPECT_EQ(arguments_.seed, 7);
}

TEST_F(Config, MessagesNameFileLineKeyAndExpectation) {
  EXPECT_EQ(loadError("seed: 1\nlearning_rate: fast\n"),
            "line 2: learning_rate is \"fast\", expected a number from 0 to 1000000");
  EXPECT_EQ(loadError("seed: 1\n\nlearning_rat: 1\n"),
            "line 3: unknown key \"learning_rat\"; did you mean learning_rate?");
  EXPECT_EQ(loadError("bf16: true\n"), "line 1: unknown key \"bf16\"");
  EXPECT_EQ(loadError("seed: 1\nseed: 2\n"), "line 2: seed is given twice, expected it once");
  EXPECT_EQ(loadError("max_steps: 1\nmax-steps: 2\n"),
            "line 2: max_steps is given twice, expected it once");
  EXPECT_EQ(loadError("report_to: [none]\n"),
            "line 1: report_to is a list, expected a single value");
  EXPECT_EQ(loadError("seed: {a: 1}\n"), "line 1: seed is a mapping, expected a single value");
  EXPECT_EQ(loadError("[1]: 2\n"), "line 1: a key is no text, expected one like learning_rate");
}

TEST_F(Config, RefusesWhatIsNoMapping) {
  for (const char *text : {"", "- 1\n", "text", "42", "seed: 1\n---\nseed: 2\n", ",p"})
    EXPECT_EQ(loadError(text), "expected one mapping of keys to values, such as "
                               "\"learning_rate: 1e-4\"");
}

TEST_F(Config, SaysWhereAFileIsNotReadable) {
  EXPECT_THAT(loadError("seed: 1\n  max_steps: [\n"),
              HasSubstr("line 2: not readable as YAML or JSON ("));
  EXPECT_THAT(loadError("{\"seed\": 1"), HasSubstr("not readable as YAML or JSON ("));
  EXPECT_THAT(loadError(std::string(100000, '[')), HasSubstr("not readable as YAML or JSON ("));
  EXPECT_THAT(loadError("a: &a [*a]\nb: *c\n"), HasSubstr("not readable as YAML or JSON ("));
  Status status = loadConfig(folder_.file("none.yaml"), arguments_);
  EXPECT_EQ(status.code(), StatusCode::InvalidInput);
  EXPECT_THAT(status.message(), HasSubstr("none.yaml"));
}

} // namespace
} // namespace switchyard

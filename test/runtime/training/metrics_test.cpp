#include "runtime/core/Json.h"
#include "runtime/training/Metrics.h"
#include "test/runtime/core/TestFolder.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

namespace switchyard {
namespace {

using testing::HasSubstr;

StepMetrics someMetrics(int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.epoch = 0.5;
  metrics.loss = 2.25;
  metrics.gradNorm = 1.5;
  metrics.learningRate = 5e-5;
  metrics.auxLoss = 2.0625;
  metrics.expertLoadMaxOverMean = 1.25;
  metrics.trainTokensPerSecond = 1000.5;
  metrics.stepTime = 0.125;
  metrics.peakMemoryBytes = 5'000'000'000;
  metrics.sentBytes = 6'000'000'000;
  metrics.overflowRounds = 7;
  metrics.expertLoadHistogram = {0, 1, 0, 2, 4, 1, 0, 0, 0};
  return metrics;
}

TEST(Metrics, WritesOneObjectWithTheContractsNames) {
  EXPECT_EQ(formatMetrics(someMetrics(3)),
            R"({"step":3,"epoch":0.5,"loss":2.25,"grad_norm":1.5,"learning_rate":5e-05,)"
            R"("aux_loss":2.0625,"expert_load_max_over_mean":1.25,)"
            R"("train_tokens_per_second":1000.5,"step_time":0.125,"mfu":null,)"
            R"("peak_memory_bytes":5000000000,"sent_bytes":6000000000,"overflow_rounds":7,)"
            R"("expert_load_histogram":[0,1,0,2,4,1,0,0,0]})");
  StepMetrics metrics = someMetrics(3);
  metrics.mfu = 0.5;
  EXPECT_THAT(formatMetrics(metrics), HasSubstr("\"mfu\":0.5"));
}

TEST(Metrics, NumbersAreThoseOfTheLine) {
  StepMetrics metrics = someMetrics(3);
  metrics.mfu = 0.5;
  Result<Json> line = parseJson(formatMetrics(metrics), "line");
  ASSERT_TRUE(line.ok());
  for (const auto &[name, number] : numbersOf(metrics)) {
    ASSERT_NE(line->find(name), nullptr) << name;
    EXPECT_EQ(line->find(name)->real(), number) << name;
  }
  // All but step and the histogram.
  EXPECT_EQ(numbersOf(metrics).size() + 2, line->members().size());
  EXPECT_EQ(numbersOf(someMetrics(3)).size() + 3, line->members().size()); // and mfu
}

TEST(Metrics, CountsExpertsByTheirLoad) {
  // Loads over the mean: 0, 1, 1, 2; then 0.2, 0.25, 1.75, 1.8; then none.
  const std::vector<double> counts = {0, 5, 5, 10, 4, 5, 35, 36, 0, 0, 0, 0};
  EXPECT_EQ(expertLoadHistogram(counts, 4), (std::vector<int64_t>{2, 1, 0, 0, 2, 0, 0, 2, 1}));
  EXPECT_EQ(expertLoadHistogram(std::vector<double>{0, 0, 0, 99}, 4)[8], 1);
  EXPECT_EQ(expertLoadHistogram({}, 4), std::vector<int64_t>(9));
}

TEST(Metrics, NonFiniteNumbersAreNullAndNamed) {
  StepMetrics metrics = someMetrics(1);
  metrics.loss = std::nan("");
  metrics.gradNorm = std::numeric_limits<double>::infinity();
  metrics.mfu = -std::numeric_limits<double>::infinity();
  std::string line = formatMetrics(metrics);
  Result<Json> parsed = parseJson(line, "line");
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  EXPECT_TRUE(parsed->find("loss")->isNull());
  EXPECT_TRUE(parsed->find("grad_norm")->isNull());
  EXPECT_TRUE(parsed->find("mfu")->isNull());
  EXPECT_EQ(parsed->find("aux_loss")->real(), 2.0625);
  EXPECT_THAT(line, HasSubstr(R"("non_finite":["loss","grad_norm","mfu"])"));
}

TEST(Metrics, AppendsLinesAtOnce) {
  TestFolder folder;
  std::string path = folder.file("metrics.jsonl");
  Result<MetricsFile> file = MetricsFile::open(path, 0);
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_TRUE(file->append(someMetrics(1)).ok());
  EXPECT_EQ(TestFolder::read(path), formatMetrics(someMetrics(1)) + "\n");
  MetricsFile moved = std::move(*file);
  ASSERT_TRUE(moved.append(someMetrics(2)).ok());
  EXPECT_EQ(TestFolder::read(path),
            formatMetrics(someMetrics(1)) + "\n" + formatMetrics(someMetrics(2)) + "\n");
}

TEST(Metrics, ANewRunStartsEmpty) {
  TestFolder folder;
  std::string path = folder.write("metrics.jsonl", formatMetrics(someMetrics(1)) + "\n");
  ASSERT_TRUE(MetricsFile::open(path, 0).ok());
  EXPECT_EQ(TestFolder::read(path), "");
}

TEST(Metrics, AResumedRunKeepsWhatWillNotBeDoneAgain) {
  TestFolder folder;
  std::string kept = formatMetrics(someMetrics(1)) + "\n" + formatMetrics(someMetrics(2)) + "\n";
  for (std::string rest : {std::string(), formatMetrics(someMetrics(3)) + "\n",
                           formatMetrics(someMetrics(2)).substr(0, 20), std::string("no json\n"),
                           std::string("{\"step\":\"1\"}\n")}) {
    std::string path = folder.write("metrics.jsonl", kept + rest);
    Result<MetricsFile> file = MetricsFile::open(path, 2);
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->append(someMetrics(3)).ok());
    EXPECT_EQ(TestFolder::read(path), kept + formatMetrics(someMetrics(3)) + "\n");
  }
}

TEST(Metrics, SaysWhyItCannotWrite) {
  TestFolder folder;
  Result<MetricsFile> file = MetricsFile::open(folder.file("none/metrics.jsonl"), 0);
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), StatusCode::Failed);
  EXPECT_THAT(file.status().message(), HasSubstr("none/metrics.jsonl: can't be written: No such"));
  // A device that is always full.
  Result<MetricsFile> full = MetricsFile::open("/dev/full", 0);
  if (full.ok()) {
    Status status = full->append(someMetrics(1));
    ASSERT_FALSE(status.ok());
    EXPECT_THAT(status.message(), HasSubstr("No space left on device"));
  }
}

} // namespace
} // namespace switchyard

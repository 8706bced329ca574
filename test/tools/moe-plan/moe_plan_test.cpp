// Runs moe-plan as a user does: exit codes and texts.
#include "runtime/plan/Diff.h"
#include "runtime/plan/Inspect.h"
#include "runtime/plan/InspectHtml.h"
#include "runtime/plan/PlanFile.h"
#include "test/runtime/plan/RanksPlan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sys/wait.h>

namespace switchyard {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Outcome {
  int exitCode = -1;
  std::string text; // standard output and error
};

Outcome runTool(const std::string &arguments) {
  std::string command = "'" SWITCHYARD_BIN_DIR "/moe-plan' " + arguments + " 2>&1";
  FILE *pipe = popen(command.c_str(), "r");
  Outcome outcome;
  char block[4096];
  while (size_t count = fread(block, 1, sizeof block, pipe))
    outcome.text.append(block, count);
  int status = pclose(pipe);
  outcome.exitCode = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

class MoePlan : public testing::Test {
protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "moe_plan_test";
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  /// Writes `plan` and returns the path, quoted for the shell.
  std::string written(const Plan &plan, const std::string &name) {
    std::string path = folder_ + "/" + name;
    EXPECT_TRUE(writePlan(plan, path).ok());
    return "'" + path + "'";
  }

  std::string folder_;
};

TEST_F(MoePlan, InspectPrintsThePlan) {
  Outcome outcome = runTool("inspect " + written(test::tinyPlan(), "tiny.plan"));
  EXPECT_EQ(outcome.exitCode, 0);
  EXPECT_EQ(outcome.text, inspect(test::tinyPlan()));
}

TEST_F(MoePlan, InspectPrintsWhatARankReads) {
  Plan plan = test::shardedPlan(Mesh{{1, 2, 2}});
  std::string path = written(plan, "ranks.plan");
  Outcome outcome = runTool("inspect --rank 3 " + path);
  EXPECT_EQ(outcome.exitCode, 0);
  EXPECT_EQ(outcome.text, *inspectRank(plan, 3));
  EXPECT_EQ(runTool("inspect " + path).text, inspect(plan));
  outcome = runTool("inspect --rank 4 " + path);
  EXPECT_EQ(outcome.exitCode, 2);
  EXPECT_THAT(outcome.text, HasSubstr("there is no rank 4; the plan has ranks 0 to 3"));
}

TEST_F(MoePlan, InspectWritesAPage) {
  std::string path = written(test::tinyPlan(), "tiny.plan"), page = folder_ + "/plan.html";
  Outcome outcome = runTool("inspect --html '" + page + "' " + path);
  EXPECT_EQ(outcome.exitCode, 0);
  EXPECT_EQ(outcome.text, "wrote " + page + "\n");
  std::ifstream stream(page);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(stream), {}), inspectHtml(test::tinyPlan()));
  outcome = runTool("inspect --html '" + folder_ + "/none/plan.html' " + path);
  EXPECT_EQ(outcome.exitCode, 1);
  EXPECT_THAT(outcome.text, HasSubstr("none/plan.html: "));
  outcome = runTool("inspect --rank 0 --html '" + page + "' " + path);
  EXPECT_EQ(outcome.exitCode, 2);
  EXPECT_THAT(outcome.text, HasSubstr("--rank excludes --html"));
}

TEST_F(MoePlan, VerifySaysInOneLineThatAPlanIsValid) {
  Outcome outcome = runTool("verify " + written(test::tinyPlan(), "tiny.plan"));
  EXPECT_EQ(outcome.exitCode, 0);
  EXPECT_THAT(outcome.text,
              testing::EndsWith("tiny.plan: valid: " + summary(test::tinyPlan()) + "\n"));
}

TEST_F(MoePlan, DiffSaysByItsExitCodeWhetherPlansAreTheSame) {
  Plan plan = test::tinyPlan(), other = plan;
  other.training.packing = true;
  std::string a = written(plan, "a.plan"), b = written(other, "b.plan");
  Outcome outcome = runTool("diff " + a + " " + a);
  EXPECT_EQ(outcome.exitCode, 0);
  EXPECT_EQ(outcome.text, "The plans are the same.\n");
  outcome = runTool("diff " + a + " " + b);
  EXPECT_EQ(outcome.exitCode, 1);
  EXPECT_EQ(outcome.text, diff(plan, other));
  EXPECT_EQ(outcome.text, "Settings\n  packing  no  yes\n");
  outcome = runTool("diff " + a + " '" + folder_ + "/missing.plan'");
  EXPECT_EQ(outcome.exitCode, 3);
  EXPECT_THAT(outcome.text, HasSubstr("missing.plan: cannot be read"));
}

TEST_F(MoePlan, RefusesAPlanThatIsNotSafe) {
  Plan plan = test::tinyPlan();
  plan.programs[0].buffers[0].offset = 4;
  std::string path = written(plan, "bad.plan");
  for (const char *command : {"verify ", "inspect "}) {
    Outcome outcome = runTool(command + path);
    EXPECT_EQ(outcome.exitCode, 3);
    EXPECT_THAT(outcome.text,
                AllOf(testing::StartsWith("moe-plan: error: "),
                      HasSubstr("bad.plan: plan: program micro_step: buffer 0: is at offset 4; "
                                "expected a multiple of 256\n")));
  }
}

TEST_F(MoePlan, RefusesFilesThatAreNoPlans) {
  std::ofstream(folder_ + "/config.json") << "{\"model_type\": \"mixtral\"}";
  Outcome outcome = runTool("verify '" + folder_ + "/config.json'");
  EXPECT_EQ(outcome.exitCode, 3);
  EXPECT_THAT(outcome.text, HasSubstr("config.json: not a plan file"));
  outcome = runTool("inspect '" + folder_ + "/missing.plan'");
  EXPECT_EQ(outcome.exitCode, 3);
  EXPECT_THAT(outcome.text, HasSubstr("missing.plan: cannot be read: No such file or directory"));
}

TEST_F(MoePlan, ExplainsWrongUse) {
  for (const char *arguments : {"", "inspect", "diff a", "inspect a b", "inspect --fast a"}) {
    Outcome outcome = runTool(arguments);
    EXPECT_EQ(outcome.exitCode, 2) << arguments;
    EXPECT_THAT(outcome.text,
                AllOf(testing::StartsWith("moe-plan: error: "), HasSubstr("moe-plan --help")))
        << arguments;
  }
  Outcome help = runTool("--help");
  EXPECT_EQ(help.exitCode, 0);
  EXPECT_THAT(help.text, AllOf(HasSubstr("inspect"), HasSubstr("verify"), HasSubstr("diff")));
}

} // namespace
} // namespace switchyard

#include "runtime/plan/InspectHtml.h"

#include "runtime/core/Json.h"
#include "runtime/plan/Inspect.h"
#include "runtime/plan/Layout.h"
#include "runtime/plan/Traffic.h"
#include "test/runtime/plan/RanksPlan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace switchyard {
namespace {

using testing::HasSubstr;
using testing::Not;

/// What the page shows.
Json dataOf(const std::string &page) {
  const std::string open = "<script type=\"application/json\" id=\"plan\">";
  size_t begin = page.find(open) + open.size(), end = page.find("</script>", begin);
  Result<Json> data = parseJson(page.substr(begin, end - begin), "page");
  EXPECT_TRUE(data.ok()) << data.status().message();
  return data.ok() ? std::move(*data) : Json();
}

const Json &programOf(const Json &data, const std::string &name) {
  for (const Json &program : data.find("programs")->items())
    if (program.find("name")->string() == name)
      return program;
  ADD_FAILURE() << "no program " << name;
  static const Json none;
  return none;
}

TEST(InspectHtml, IsAPageThatLoadsNothing) {
  std::string page = inspectHtml(test::tinyPlan());
  EXPECT_TRUE(page.starts_with("<!DOCTYPE html>\n"));
  EXPECT_TRUE(page.ends_with("</html>\n"));
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
  for (const char *load :
       {"http:", "https:", "src=", "href=", "@import", "url(", "fetch(", "@plan@"})
    EXPECT_THAT(page, Not(HasSubstr(load)));
  EXPECT_EQ(dataOf(page).find("text")->string(), inspect(test::tinyPlan()));
}

TEST(InspectHtml, HasMemoryAndWhatLiesInItAtEachInstruction) {
  const Plan plan = test::tinyPlan();
  Json data = dataOf(inspectHtml(plan));
  EXPECT_EQ(data.find("peak")->integer(), static_cast<int64_t>(plan.peakBytes));
  const Json &program = programOf(data, "logits");
  ASSERT_EQ(program.find("instructions")->items().size(), 4u);
  EXPECT_EQ(program.find("instructions")->items()[2].dump(),
            R"x(["linear","matrix product",0,"linear(x = %9 f32[3, 8], w = head f32[12, 8], )x"
            R"x(y = %10 f32[3, 12], workspace = %11 f32[524288])"])x");
  // x [40, 8] for two instructions, chosen [3, 8] and product [3, 12], from 256 to 256 bytes.
  EXPECT_EQ(
      program.find("buffers")->dump(),
      R"x([["embedding y (embed)","f32[T, 8]","transient",0,1280,0,1,"other"],)x"
      R"x(["gather_rows y","f32[3, 8]","transient",1280,96,1,2,"other"],)x"
      R"x(["linear y (head)","f32[3, 12]","transient",1536,144,2,3,"matrix product"],)x"
      R"x(["linear workspace (head)","f32[524288]","transient",1792,2097152,2,2,"matrix product"]])x");
  EXPECT_EQ(program.find("transient")->dump(), "[1280,1376,2097392,144]");
  EXPECT_EQ(program.find("comm")->dump(), "[0,0,0,0]");
}

TEST(InspectHtml, HasCollectivesAndTheirBytes) {
  const Plan plan = test::shardedPlan(Mesh{{1, 2, 2}});
  Json data = dataOf(inspectHtml(plan));
  for (const Program &program : plan.programs) {
    ProgramTraffic traffic = trafficOf(plan, program, symbolBounds(plan));
    uint64_t bytes = 0, calls = 0, foreseen = 0;
    for (const Json &row : programOf(data, program.name).find("collectives")->items())
      if (!row.items()[8].boolean()) {
        bytes += static_cast<uint64_t>(row.items()[6].integer());
        ++calls;
      }
    for (const Traffic &kind : traffic.expected)
      foreseen += kind.calls;
    EXPECT_EQ(bytes, sentBytes(traffic.expected)) << program.name;
    EXPECT_EQ(calls, foreseen) << program.name;
  }
  EXPECT_EQ(data.find("mesh")->string(), "fsdp=2,ep=2");
}

TEST(InspectHtml, ShowsNamesAsTextWhateverTheyAre) {
  Plan plan = test::tinyPlan();
  plan.states[0].name = "</script><script>alert(1)</script>";
  std::string page = inspectHtml(plan);
  EXPECT_THAT(page, Not(HasSubstr("<script>alert")));
  EXPECT_THAT(programOf(dataOf(page), "evaluate").find("buffers")->dump(),
              HasSubstr("embedding y (</script><script>alert(1)</script>)"));
}

} // namespace
} // namespace switchyard

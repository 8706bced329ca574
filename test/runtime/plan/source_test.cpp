#include "runtime/plan/Source.h"

#include <gmock/gmock.h>

#include <map>

using namespace switchyard;
using testing::HasSubstr;

using Shape = std::vector<int64_t>;

static std::vector<SourceSlice> slices(const Source &source, const Shape &shape,
                                       const LeafRows &rows = {}) {
  auto result = resolve(source, shape, rows);
  EXPECT_TRUE(result.ok()) << result.status().message();
  return result.ok() ? *result : std::vector<SourceSlice>();
}

static std::string fault(const Source &source, const Shape &shape, const LeafRows &rows = {}) {
  auto result = resolve(source, shape, rows);
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(result.ok() ? StatusCode::Ok : result.status().code(), StatusCode::InvalidInput);
  return result.status().message();
}

TEST(Source, ALeafIsTheWholeState) {
  auto found = slices(leafSource("norm.weight"), {3, 4});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].name, "norm.weight");
  EXPECT_EQ(found[0].shape, Shape({3, 4}));
  EXPECT_EQ(found[0].begin, 0);
  EXPECT_EQ(found[0].end, 12);
  EXPECT_EQ(slices(leafSource("scalar"), {})[0].end, 1);
}

TEST(Source, StackOfConcatCoversTheState) {
  Source gateUp =
      stackSource("e", 2, 4, concatSource({leafSource("x.{e}.w1"), leafSource("x.{e}.w3")}));
  auto found = slices(gateUp, {2, 6, 5});
  ASSERT_EQ(found.size(), 4u);
  const char *names[] = {"x.2.w1", "x.2.w3", "x.3.w1", "x.3.w3"};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(found[i].name, names[i]);
    EXPECT_EQ(found[i].shape, Shape({3, 5}));
    EXPECT_EQ(found[i].begin, 15 * i);
    EXPECT_EQ(found[i].end, 15 * (i + 1));
  }
}

TEST(Source, StacksNest) {
  auto found =
      slices(stackSource("a", 0, 2, stackSource("b", 0, 3, leafSource("{b}.{a}"))), {2, 3});
  ASSERT_EQ(found.size(), 6u);
  EXPECT_EQ(found[1].name, "1.0");
  EXPECT_EQ(found[3].name, "0.1");
  EXPECT_EQ(found[3].shape, Shape());
  EXPECT_EQ(found[5].end, 6);
}

TEST(Source, PartsOfAConcatHaveTheirSizes) {
  Source qkv = concatSource({leafSource("q"), leafSource("k"), leafSource("v")}, {4, 2, 2});
  auto found = slices(qkv, {8, 3});
  EXPECT_EQ(found[0].shape, Shape({4, 3}));
  EXPECT_EQ(found[2].shape, Shape({2, 3}));
  EXPECT_EQ(found[2].begin, 18);
  qkv.sizes = {4, 2};
  EXPECT_EQ(fault(qkv, {8, 3}), "the source joins 3 parts but gives 2 sizes");
  qkv.sizes = {4, 2, 3};
  EXPECT_EQ(fault(qkv, {8, 3}), "the source joins parts of 4 + 2 + 3 rows, expected a sum of 8");
  qkv.sizes = {4, 2, 1};
  EXPECT_EQ(fault(qkv, {8, 3}), "the source joins parts of 4 + 2 + 1 rows, expected a sum of 8");
  qkv.sizes = {9, -2, 1};
  EXPECT_THAT(fault(qkv, {8, 3}), HasSubstr("9 + -2 + 1"));
}

TEST(Source, AsksForSizesThatAreNotSaid) {
  std::map<std::string, int64_t> rows = {{"q", 4}, {"k", 2}, {"v", 2}};
  LeafRows ask = [&](const std::string &name) -> std::optional<int64_t> {
    auto found = rows.find(name);
    return found == rows.end() ? std::nullopt : std::optional(found->second);
  };
  Source qkv = concatSource({leafSource("q"), concatSource({leafSource("k"), leafSource("v")})});
  EXPECT_EQ(slices(qkv, {8, 3}, ask)[0].shape, Shape({4, 3}));
  rows["k"] = 3;
  EXPECT_EQ(fault(qkv, {8, 3}, ask), "the source joins parts of 4 + 5 rows, expected a sum of 8");
  rows["k"] = INT64_MAX;
  rows["v"] = INT64_MAX;
  EXPECT_EQ(fault(qkv, {8, 3}, ask),
            "the source joins parts of 9223372036854775807 + 9223372036854775807 rows, "
            "expected a sum of 4");
  Source three = concatSource({leafSource("a"), leafSource("b"), leafSource("c")});
  EXPECT_EQ(fault(three, {8, 3}, ask),
            "the source joins 3 parts of unknown size to 8 rows, which are no equal parts");
  Source stacks = concatSource(
      {stackSource("e", 0, 3, leafSource("x{e}")), stackSource("e", 0, 1, leafSource("y{e}"))});
  EXPECT_EQ(slices(stacks, {4, 2}).size(), 4u);
}

TEST(Source, RefusesATreeThatDoesNotFit) {
  EXPECT_EQ(fault(stackSource("e", 0, 3, leafSource("{e}")), {2, 5}),
            "the source stacks 3 parts, which is not dimension 0 of [2, 5]");
  EXPECT_EQ(fault(stackSource("e", 3, 3, leafSource("{e}")), {2}),
            "the source stacks e from 3 to 3, which is no range");
  EXPECT_THAT(fault(stackSource("e", INT64_MIN, INT64_MAX, leafSource("{e}")), {2}),
              HasSubstr("no range"));
  EXPECT_EQ(fault(stackSource("", 0, 2, leafSource("a")), {2}),
            "the source stacks over an index called \"\"");
  EXPECT_EQ(fault(stackSource("e", 0, 2, stackSource("e", 0, 2, leafSource("{e}"))), {2, 2}),
            "the source stacks twice over the index {e}");
  Source two = stackSource("e", 0, 2, leafSource("{e}"));
  two.children.push_back(leafSource("b"));
  EXPECT_EQ(fault(two, {2}), "the source stacks 2 parts, expected 1");
  EXPECT_EQ(fault(concatSource({}), {2}), "the source joins no parts");
  EXPECT_EQ(fault(concatSource({leafSource("a")}), {}),
            "the source joins parts along dimension 0 of a scalar");
  EXPECT_EQ(fault(leafSource(""), {2}), "the source has a tensor without a name");
  Source full = leafSource("a");
  full.children.push_back(leafSource("b"));
  EXPECT_EQ(fault(full, {2}), "the tensor \"a\" of the source has parts");
  Source unknown;
  unknown.kind = static_cast<Source::Kind>(9);
  EXPECT_EQ(fault(unknown, {2}), "the source is of an unknown kind");
}

TEST(Source, RefusesNamesThatAreNotDistinct) {
  EXPECT_EQ(fault(stackSource("e", 0, 2, leafSource("a")), {2}),
            "the tensor name \"a\" does not use the index {e}, so that all its values would name "
            "one tensor");
  EXPECT_EQ(fault(leafSource("a.{e}"), {2}),
            "the tensor name \"a.{e}\" has braces around what is no index here");
  EXPECT_THAT(fault(stackSource("e", 0, 2, leafSource("{e")), {2}), HasSubstr("has braces"));
  EXPECT_THAT(fault(stackSource("e", 0, 2, leafSource("{e}}")), {2}), HasSubstr("has braces"));
  EXPECT_EQ(fault(concatSource({leafSource("a"), leafSource("a")}), {2}),
            "the source names the tensor \"a\" twice");
  EXPECT_EQ(fault(stackSource("a", 0, 12, stackSource("b", 0, 12, leafSource("{a}{b}"))), {12, 12}),
            "the source names the tensor \"110\" twice");
}

TEST(Source, CapsDepthAndSizes) {
  Source deep = leafSource("a");
  for (int i = 1; i < kMaxSourceDepth; ++i)
    deep = concatSource({deep});
  slices(deep, {2});
  EXPECT_EQ(fault(concatSource({deep}), {2}), "the source is nested deeper than 8");
  EXPECT_THAT(fault(leafSource("a"), {int64_t{1} << 40, int64_t{1} << 40}),
              HasSubstr("has more than 281474976710656 elements"));
  EXPECT_EQ(fault(leafSource("a"), {3, 0}),
            "the shape [3, 0] is empty or has more than 281474976710656 elements");
  EXPECT_THAT(fault(leafSource("a"), {-3}), HasSubstr("the shape [-3] is empty"));
  int64_t many = kMaxSourceSlices + 1;
  EXPECT_EQ(fault(stackSource("e", 0, many, leafSource("{e}")), {many}),
            "the source names more than 131072 tensors");
}

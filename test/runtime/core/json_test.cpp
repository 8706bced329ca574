#include "runtime/core/Json.h"

#include "runtime/core/JsonScan.h"
#include "test/runtime/core/TestFolder.h"

#include <gmock/gmock.h>

#include <limits>
#include <random>

using namespace switchyard;
using testing::HasSubstr;

static Json parsed(std::string_view text) {
  Result<Json> json = parseJson(text, "a.json");
  EXPECT_TRUE(json.ok()) << json.status().message();
  return json.ok() ? std::move(*json) : Json();
}

static std::string fault(std::string_view text, const JsonLimits &limits = {}) {
  Result<Json> json = parseJson(text, "a.json", limits);
  EXPECT_FALSE(json.ok()) << text;
  if (json.ok())
    return "";
  EXPECT_EQ(json.status().code(), StatusCode::InvalidInput);
  return json.status().message();
}

TEST(Json, HoldsEveryKind) {
  Json json = parsed(
      R"({"n": null, "b": true, "i": -3, "d": 1e-5, "s": "x\n\u00e9", "a": [1, [2]], "o": {}})");
  ASSERT_TRUE(json.isObject());
  EXPECT_TRUE(json.find("n")->isNull());
  EXPECT_TRUE(json.find("b")->boolean());
  EXPECT_EQ(json.find("i")->integer(), -3);
  EXPECT_EQ(json.find("d")->real(), 1e-5);
  EXPECT_EQ(json.find("s")->string(), "x\n\xc3\xa9");
  EXPECT_EQ(json.find("a")->items()[1].items()[0].integer(), 2);
  EXPECT_TRUE(json.find("o")->members().empty());
  EXPECT_EQ(json.find("absent"), nullptr);
  EXPECT_EQ(json.find("a")->find("absent"), nullptr);
  EXPECT_EQ(json.members()[2].key, "i");
}

TEST(Json, IntegersBeyondInt64AreReal) {
  EXPECT_EQ(parsed("9223372036854775807").integer(), std::numeric_limits<int64_t>::max());
  Json json = parsed("9223372036854775808");
  EXPECT_FALSE(json.isInteger());
  EXPECT_EQ(json.real(), 0x1p63);
  json =
      parsed(R"({"model_max_length": 1000000000000000019884624838656, "least": -9223372036854775808,
                    "less": -9223372036854775809, "id": 9223372036854775807,
                    "text": "123456789012345678901234567890 \"-1234567890123456789012"})");
  EXPECT_EQ(json.find("model_max_length")->real(), 1e30);
  EXPECT_EQ(json.find("least")->integer(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(json.find("less")->real(), -0x1p63);
  EXPECT_EQ(json.find("id")->integer(), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(json.find("text")->string(),
            "123456789012345678901234567890 \"-1234567890123456789012");
}

TEST(Json, FindsAmongManyMembers) {
  Json built = Json::object();
  for (int i = 0; i < 1000; ++i)
    built.set("key" + std::to_string(i * 7 % 1000), i);
  built.set("key7", "replaced");
  Json json = parsed(built.dump());
  EXPECT_EQ(json.members().size(), 1000u);
  EXPECT_EQ(json.find("key7")->string(), "replaced");
  EXPECT_EQ(json.members()[1].key, "key7");
  EXPECT_EQ(json.find("key14")->integer(), 2);
  EXPECT_EQ(json.find("key1000"), nullptr);
}

TEST(Json, SkipsAByteOrderMark) {
  EXPECT_EQ(parsed("\xef\xbb\xbf 3").integer(), 3);
}

TEST(Json, RefusesWhatIsNoJsonWithItsPlace) {
  EXPECT_EQ(fault("{\"a\": 1,\n \"b\" 2}"),
            "a.json: is not valid JSON at line 2, column 6: expected ':' after the key");
  EXPECT_EQ(
      fault("[1, 2"),
      "a.json: is not valid JSON at line 1, column 6: the text ends here; expected ',' or ']'");
  EXPECT_THAT(fault(""), HasSubstr("the text ends here; expected a value"));
  EXPECT_THAT(fault("  "), HasSubstr("the text ends here; expected a value"));
  EXPECT_THAT(fault("{} {}"),
              HasSubstr("line 1, column 4: there is more after the end of the value"));
  EXPECT_THAT(fault("{'a': 1}"), HasSubstr("expected a key in double quotes"));
  EXPECT_THAT(fault("[1,]"), HasSubstr("expected a value"));
  EXPECT_THAT(fault("[NaN]"), HasSubstr("line 1, column 2: expected a value"));
  EXPECT_THAT(fault("[01]"), HasSubstr("leading zero"));
  EXPECT_THAT(fault("[1.]"), HasSubstr("expected a digit"));
  EXPECT_THAT(fault("[\"a\nb\"]"), HasSubstr("a control character in a string"));
  EXPECT_THAT(fault("[\"\\x\"]"), HasSubstr("an unknown escape"));
  EXPECT_THAT(fault("[\"\\u12\"]"), HasSubstr("four hexadecimal digits"));
  EXPECT_THAT(fault("[\"a"), HasSubstr("a string is not closed"));
  EXPECT_THAT(fault("[\"\xff\"]"), HasSubstr("is not valid JSON: "));
  EXPECT_THAT(fault(std::string_view("[1]\0", 4)), HasSubstr("is not valid JSON"));
}

TEST(Json, RefusesDuplicateKeys) {
  EXPECT_EQ(fault(R"({"a": 1, "b": 2, "a": 3})"),
            "a.json: the key \"a\" is there twice; keep one of them");
  EXPECT_EQ(fault(R"([{"outer": {"a": 1, "\u0061": 3}}])"),
            "a.json: the key \"a\" is there twice in \"outer\"; keep one of them");
}

TEST(Json, CapsSizeNestingAndValues) {
  EXPECT_EQ(fault("[1, 2]", {.maxBytes = 5}),
            "a.json: has 6 bytes, at most 5 are read as JSON; split it");
  EXPECT_EQ(fault("[1, 2, 3]", {.maxValues = 3}),
            "a.json: it has more values than are read at once; split it");
  EXPECT_TRUE(parseJson("[1, 2, 3]", "a.json", {.maxValues = 4}).ok());
  EXPECT_TRUE(parseJson("[[{\"a\": 1}]]", "a.json", {.maxDepth = 3}).ok());
  EXPECT_EQ(
      fault("[[{\"a\": []}]]", {.maxDepth = 3}),
      "a.json: is not valid JSON at line 1, column 9: arrays and objects are nested deeper than 3");
  EXPECT_THAT(fault(std::string(1000000, '['), {.maxDepth = 1 << 30}),
              HasSubstr("deeper than 256"));
}

TEST(Json, WritesWhatItReads) {
  std::string text = R"({"a":[1,-2.5,1e-05,1000000.0,true,null,"q\"\\\n\t\u0001"],"o":{},"l":[]})";
  EXPECT_EQ(parsed(text).dump(), text);
  EXPECT_EQ(parsed(R"({"a":[1,{}]})").dump(2), "{\n  \"a\": [\n    1,\n    {}\n  ]\n}");
  EXPECT_EQ(Json(std::numeric_limits<double>::infinity()).dump(), "null");
  EXPECT_EQ(parsed(Json(0.1f + 0.0).dump()).real(), double(0.1f));
}

TEST(Json, DescribesValuesShortly) {
  EXPECT_EQ(parsed("\"abc\"").describe(), "\"abc\"");
  EXPECT_EQ(parsed('"' + std::string(50, 'x') + '"').describe(),
            '"' + std::string(40, 'x') + "...\"");
  EXPECT_EQ(Json(std::string(39, 'x') + "\xc3\xa9\xc3\xa9").describe(),
            '"' + std::string(39, 'x') + "...\"");
  EXPECT_EQ(parsed("[1, 2]").describe(), "an array of 2");
  EXPECT_EQ(parsed("{}").describe(), "an object");
  EXPECT_EQ(parsed("1.5").describe(), "1.5");
}

TEST(Json, AccessorsNameTheField) {
  Json json = parsed(R"({"s": "x", "i": 3, "d": 0.5, "b": true, "a": [], "o": {}})");
  EXPECT_EQ(*getString(json, "s"), "x");
  EXPECT_EQ(*getInteger(json, "i", 0, 3), 3);
  EXPECT_EQ(*getNumber(json, "d", 0, 1), 0.5);
  EXPECT_EQ(*getNumber(json, "i", 0, 5), 3.0);
  EXPECT_TRUE(*getBool(json, "b"));
  EXPECT_TRUE((*getArray(json, "a"))->isArray());
  EXPECT_TRUE((*getObject(json, "o"))->isObject());
  EXPECT_EQ(getString(json, "i").status().message(), "\"i\" is 3, expected a string");
  EXPECT_EQ(getString(json, "z").status().message(), "\"z\" is missing, expected a string");
  EXPECT_EQ(getInteger(json, "i", 4, 9).status().message(),
            "\"i\" is 3, expected an integer in [4, 9]");
  EXPECT_EQ(getInteger(json, "d", 0, 9).status().message(),
            "\"d\" is 0.5, expected an integer in [0, 9]");
  EXPECT_EQ(getNumber(json, "s", 0, 1).status().message(),
            "\"s\" is \"x\", expected a number in [0, 1]");
  EXPECT_EQ(getNumber(json, "d", 1, 2).status().message(),
            "\"d\" is 0.5, expected a number in [1, 2]");
  EXPECT_EQ(getBool(json, "i").status().message(), "\"i\" is 3, expected true or false");
  EXPECT_EQ(getArray(json, "o").status().message(), "\"o\" is an object, expected an array");
  EXPECT_EQ(getObject(json, "a").status().message(), "\"a\" is an array of 0, expected an object");
}

TEST(Json, ReadsAFile) {
  TestFolder folder;
  EXPECT_EQ(readJson(folder.write("a.json", "[7]"))->items()[0].integer(), 7);
  std::string missing = folder.file("b.json");
  EXPECT_EQ(readJson(missing).status().message(),
            missing + ": cannot be read: No such file or directory; check the path");
  EXPECT_THAT(readJson(folder.write("c.json", "{")).status().message(),
              HasSubstr("c.json: is not valid JSON"));
}

// The scan must find the fault of every text that simdjson refuses (invalid UTF-8 excepted) and
// none in the others.
TEST(Json, MutationsNeverCrash) {
  std::string valid = R"({"a": [1, -2.5e3, {"b": "x\u00e9\\"}, null, true], "c": {"d": [[], {}]}})";
  std::mt19937 random(7);
  for (int i = 0; i < 5000; ++i) {
    std::string text = valid;
    for (int edits = 1 + random() % 3; edits > 0; --edits) {
      size_t at = random() % text.size();
      switch (random() % 3) {
      case 0:
        text[at] = "{}[]\",:0e-.\\tnx "[random() % 16];
        break;
      case 1:
        text.erase(at, 1 + random() % 4);
        break;
      default:
        text.insert(at, 1, "{}[]\",:0e-.\\tnx "[random() % 16]);
      }
      if (text.empty())
        text = " ";
    }
    Result<Json> json = parseJson(text, "a.json");
    if (json.ok())
      EXPECT_EQ(findJsonFault(text, 32).message, "") << text;
    else
      EXPECT_EQ(json.status().message().find("a.json: "), 0u) << text;
  }
}

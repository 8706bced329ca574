#include "runtime/plan/ModelFingerprint.h"

#include <gtest/gtest.h>

#include <algorithm>

using namespace switchyard;

static std::string fingerprintOf(const char *text) {
  Result<Json> json = parseJson(text, "config.json");
  EXPECT_TRUE(json.ok());
  return modelFingerprint(*json);
}

TEST(ModelFingerprint, IgnoresWhatChangesNothing) {
  const std::string expected = fingerprintOf(R"({"hidden_size": 64, "rope": {"a": 1, "b": [2]}})");
  EXPECT_EQ(expected.size(), 16u);
  EXPECT_EQ(expected, fingerprintOf(R"({"rope": {"b": [2], "a": 1}, "hidden_size": 64})"));
  EXPECT_EQ(expected, fingerprintOf(R"({"hidden_size": 64, "rope": {"a": 1, "b": [2], "c": null},
                                       "use_cache": true, "torch_dtype": "bfloat16",
                                       "pad_token_id": null})"));
}

TEST(ModelFingerprint, SeesEverythingElse) {
  const std::string expected = fingerprintOf(R"({"hidden_size": 64, "rope": {"a": 1, "b": [2]}})");
  EXPECT_NE(expected, fingerprintOf(R"({"hidden_size": 65, "rope": {"a": 1, "b": [2]}})"));
  EXPECT_NE(expected, fingerprintOf(R"({"hidden_size": 64, "rope": {"a": 1, "b": [3]}})"));
  EXPECT_NE(expected, fingerprintOf(R"({"hidden_size": 64, "rope": {"a": 1}, "b": [2]})"));
  // Only the top level has keys without effect.
  EXPECT_NE(expected,
            fingerprintOf(R"({"hidden_size": 64, "rope": {"a": 1, "b": [2], "use_cache": true}})"));
}

TEST(ModelFingerprint, KeysWithoutEffectAreSorted) {
  EXPECT_TRUE(std::ranges::is_sorted(configKeysWithoutEffect()));
}

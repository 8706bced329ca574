#include "runtime/data/tokenizer/TokenDecoder.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

std::string decode(const std::string &json, std::vector<std::string> tokens) {
  Result<Json> parsed = parseJson(json, "test");
  EXPECT_TRUE(parsed.ok()) << parsed.status().message();
  Result<TokenDecoder> decoder = TokenDecoder::read(*parsed, UnicodeClasses());
  if (!decoder.ok())
    return decoder.status().message();
  Result<std::string> text = decoder->decode(std::move(tokens));
  return text.ok() ? *text : text.status().message();
}

// What tokenizers 0.23 does.
TEST(TokenDecoder, DecodesEachWay) {
  EXPECT_EQ(decode("null", {"a", "b"}), "a b");
  EXPECT_EQ(decode(R"({"type": "Fuse"})", {"a", "b"}), "ab");
  EXPECT_EQ(decode(R"({"type": "ByteLevel"})", {"Ġa", "Ã", "©", "中"}), " aé中");
  EXPECT_EQ(decode(R"({"type": "ByteLevel"})", {"Ã", "a"}), "\xef\xbf\xbd"
                                                            "a");
  EXPECT_EQ(decode(R"({"type": "ByteFallback"})", {"<0xC3>", "<0xa9>", "b", "<0xC3>"}),
            "éb\xef\xbf\xbd");
  EXPECT_EQ(decode(R"({"type": "ByteFallback"})", {"<0xC3>", "<0xC3>", "<0xGG>"}),
            "\xef\xbf\xbd\xef\xbf\xbd<0xGG>");
  EXPECT_EQ(decode(R"({"type": "Metaspace", "replacement": "_"})", {"_a", "_b"}), "a b");
  EXPECT_EQ(decode(R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "never"})",
                   {"_a", "_b"}),
            " a b");
  EXPECT_EQ(
      decode(R"({"type": "Replace", "pattern": {"String": "_"}, "content": " "})", {"_a_", "b"}),
      " a b");
  EXPECT_EQ(decode(R"({"type": "Strip", "content": " ", "start": 1, "stop": 2})", {"  a   ", " "}),
            " a ");
  EXPECT_EQ(decode(R"({"type": "Sequence", "decoders": [
              {"type": "Replace", "pattern": {"String": "_"}, "content": " "},
              {"type": "ByteFallback"}, {"type": "Fuse"},
              {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})",
                   {"_caf", "<0xC3>", "<0xA9>", "_b"}),
            "café b");
}

TEST(TokenDecoder, NamesWhatItDoesNotRead) {
  EXPECT_EQ(decode(R"({"type": "WordPiece"})", {}),
            "a decoder of the type \"WordPiece\" is not read; ByteFallback, ByteLevel, Fuse, "
            "Metaspace, Replace, Strip and Sequence are");
  EXPECT_EQ(decode(R"({"type": "Strip", "content": "", "start": 1, "stop": 0})", {}),
            "\"content\" is empty, expected one character");
  EXPECT_EQ(decode(R"({"type": "Strip", "content": " ", "start": -1, "stop": 0})", {}),
            "\"start\" is -1, expected an integer in [0, 2147483647]");
}

} // namespace
} // namespace switchyard

#include "runtime/data/tokenizer/TokenDecoder.h"

#include "runtime/data/tokenizer/ReadParts.h"
#include "runtime/data/tokenizer/Utf8.h"

#include <algorithm>

namespace switchyard {

namespace {

constexpr const char *kReplacementCharacter = "\xef\xbf\xbd";

/// The byte that a token as `<0x0A>` stands for; -1: it is no such token.
int byteOf(const std::string &token) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>')
    return -1;
  int byte = 0;
  for (char digit : {token[3], token[4]}) {
    size_t value = kHex.find(digit >= 'a' && digit <= 'f' ? static_cast<char>(digit - 32) : digit);
    if (value == std::string_view::npos)
      return -1;
    byte = byte * 16 + static_cast<int>(value);
  }
  return byte;
}

Result<int64_t> readCount(const Json &json, const char *key) {
  return getInteger(json, key, 0, INT32_MAX);
}

} // namespace

/// One step over all tokens.
class TokenDecoder::Applier {
public:
  Applier(std::vector<std::string> &tokens, TextStore &texts) : tokens_(tokens), texts_(texts) {}

  Status operator()(const ByteFallback & /*step*/) {
    std::vector<std::string> made;
    std::string bytes;
    auto addBytes = [&] {
      if (bytes.empty())
        return;
      if (repairUtf8(bytes))
        made.insert(made.end(), bytes.size(), kReplacementCharacter);
      else
        made.push_back(bytes);
      bytes.clear();
    };
    for (std::string &token : tokens_) {
      if (int byte = byteOf(token); byte >= 0) {
        bytes += static_cast<char>(byte);
        continue;
      }
      addBytes();
      made.push_back(std::move(token));
    }
    addBytes();
    tokens_ = std::move(made);
    return {};
  }

  Status operator()(const ByteLevel &step) {
    std::string bytes;
    for (const std::string &token : tokens_)
      if (!step.alphabet.toBytes(token, bytes))
        bytes += token;
    tokens_ = {repairUtf8(bytes).value_or(bytes)};
    return {};
  }

  Status operator()(const Fuse & /*step*/) {
    std::string text;
    for (const std::string &token : tokens_)
      text += token;
    tokens_ = {std::move(text)};
    return {};
  }

  Status operator()(const Metaspace &step) {
    for (size_t i = 0; i < tokens_.size(); ++i)
      SY_RETURN_IF_ERROR(replace(TextPattern::ofText(step.replacement),
                                 i == 0 && step.prepends ? "" : " ", tokens_[i]));
    return {};
  }

  Status operator()(const Replace &step) {
    for (std::string &token : tokens_)
      SY_RETURN_IF_ERROR(replace(step.pattern, step.with, token));
    return {};
  }

  Status operator()(const Strip &step) {
    for (std::string &token : tokens_) {
      std::string_view left = token;
      for (int64_t i = 0; i < step.atStart && left.starts_with(step.character); ++i)
        left.remove_prefix(step.character.size());
      for (int64_t i = 0; i < step.atEnd && left.ends_with(step.character); ++i)
        left.remove_suffix(step.character.size());
      token = std::string(left);
    }
    return {};
  }

private:
  Status replace(const TextPattern &pattern, const std::string &with, std::string &token) {
    SY_ASSIGN_OR_RETURN(std::vector<TextRange> matches, pattern.find(token));
    if (matches.empty())
      return {};
    SY_ASSIGN_OR_RETURN(std::string_view replaced, texts_.keepReplaced(token, matches, with));
    token = std::string(replaced);
    return {};
  }

  std::vector<std::string> &tokens_;
  TextStore &texts_;
};

Result<TokenDecoder> TokenDecoder::read(const Json &json, const UnicodeClasses &classes) {
  TokenDecoder decoder;
  decoder.isNone_ = json.isNull();
  if (!json.isNull())
    SY_RETURN_IF_ERROR(decoder.add(json, classes));
  return decoder;
}

Status TokenDecoder::add(const Json &json, const UnicodeClasses &classes) {
  SY_ASSIGN_OR_RETURN(std::string type, getString(json, "type"));
  if (type == "Sequence") {
    SY_ASSIGN_OR_RETURN(const Json *inner, getArray(json, "decoders"));
    for (const Json &one : inner->items())
      SY_RETURN_IF_ERROR(add(one, classes));
    return {};
  }
  if (type == "ByteFallback") {
    steps_.emplace_back(ByteFallback{});
  } else if (type == "ByteLevel") {
    steps_.emplace_back(ByteLevel{});
  } else if (type == "Fuse") {
    steps_.emplace_back(Fuse{});
  } else if (type == "Metaspace") {
    SY_ASSIGN_OR_RETURN(std::string replacement, getString(json, "replacement"));
    const Json *scheme = json.find("prepend_scheme");
    bool prepends = !scheme || !scheme->isString() || scheme->string() != "never";
    if (replacement.empty())
      return Status::invalidInput("\"replacement\" is empty, expected one character");
    steps_.emplace_back(Metaspace{std::move(replacement), prepends});
  } else if (type == "Replace") {
    SY_ASSIGN_OR_RETURN(TextPattern pattern, TextPattern::read(json, classes));
    SY_ASSIGN_OR_RETURN(std::string with, getString(json, "content"));
    steps_.emplace_back(Replace{std::move(pattern), std::move(with)});
  } else if (type == "Strip") {
    SY_ASSIGN_OR_RETURN(std::string character, getString(json, "content"));
    SY_ASSIGN_OR_RETURN(int64_t atStart, readCount(json, "start"));
    SY_ASSIGN_OR_RETURN(int64_t atEnd, readCount(json, "stop"));
    if (character.empty())
      return Status::invalidInput("\"content\" is empty, expected one character");
    steps_.emplace_back(Strip{std::move(character), atStart, atEnd});
  } else {
    return unknownType(
        "a decoder of the type", type,
        "is not read; ByteFallback, ByteLevel, Fuse, Metaspace, Replace, Strip and Sequence are");
  }
  return checkStepCount(steps_.size());
}

Result<std::string> TokenDecoder::decode(std::vector<std::string> tokens) const {
  size_t bytes = 0;
  for (const std::string &token : tokens)
    bytes += token.size();
  TextStore texts(bytes);
  for (const Step &step : steps_)
    SY_RETURN_IF_ERROR(std::visit(Applier(tokens, texts), step));
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (isNone_ && i > 0)
      text += ' ';
    text += tokens[i];
  }
  return text;
}

} // namespace switchyard

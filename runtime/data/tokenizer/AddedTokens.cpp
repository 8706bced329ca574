#include "runtime/data/tokenizer/AddedTokens.h"

#include "runtime/data/tokenizer/Utf8.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <unordered_map>

namespace switchyard {

namespace {

// Bounds what is compared at each place of a text.
constexpr size_t kMaxTokenBytes = 1024;

Result<AddedToken> readToken(const Json &json) {
  AddedToken token;
  if (!json.isObject())
    return Status::invalidInput("it is " + json.describe() + ", expected an object");
  SY_ASSIGN_OR_RETURN(int64_t id, getInteger(json, "id", 0, INT32_MAX));
  token.id = static_cast<int32_t>(id);
  SY_ASSIGN_OR_RETURN(token.content, getString(json, "content"));
  SY_ASSIGN_OR_RETURN(token.isSingleWord, getBool(json, "single_word"));
  SY_ASSIGN_OR_RETURN(token.stripsLeft, getBool(json, "lstrip"));
  SY_ASSIGN_OR_RETURN(token.stripsRight, getBool(json, "rstrip"));
  SY_ASSIGN_OR_RETURN(token.isNormalized, getBool(json, "normalized"));
  SY_ASSIGN_OR_RETURN(token.isSpecial, getBool(json, "special"));
  token.found = token.content;
  return token;
}

UChar32 firstCharacter(std::string_view text, size_t &end) {
  end = 0;
  return nextCharacter(text, end);
}

/// `text` without the characters of `set` that it begins with.
std::string_view withoutLeading(std::string_view text, const icu::UnicodeSet &set) {
  size_t end;
  while (!text.empty() && set.contains(firstCharacter(text, end)))
    text.remove_prefix(end);
  return text;
}

/// `text` without the characters of `set` that it ends with.
std::string_view withoutTrailing(std::string_view text, const icu::UnicodeSet &set) {
  size_t begin;
  while (!text.empty() && set.contains(lastCharacter(text, begin)))
    text = text.substr(0, begin);
  return text;
}

} // namespace

Status TokenFinder::add(const AddedToken &token) {
  if (token.found.empty() || token.found.size() > kMaxTokenBytes)
    return Status::invalidInput(fmt::format("it is looked for as a text of {} bytes, expected 1 to "
                                            "{}",
                                            token.found.size(), kMaxTokenBytes));
  tokens_.push_back(token);
  return {};
}

Status TokenFinder::finish(const UnicodeClasses &classes) {
  std::ranges::sort(tokens_, {}, &AddedToken::found);
  auto twice = std::ranges::adjacent_find(tokens_, {}, &AddedToken::found);
  if (twice != tokens_.end())
    return Status::invalidInput(
        fmt::format("the tokens {} and {} are both looked for as {}, expected different texts",
                    twice->id, (twice + 1)->id, quoteJson(twice->found)));
  for (const AddedToken &token : tokens_)
    firsts_[static_cast<uint8_t>(token.found[0])] = true;
  words_ = classes.wordBorders();
  words_.freeze();
  spaces_ = classes.spaces();
  spaces_.freeze();
  return {};
}

const AddedToken *TokenFinder::longestAt(std::string_view text) const {
  // Those of the tokens, which are in order, that begin as the text does up to `length`.
  std::span<const AddedToken> alike = tokens_;
  const AddedToken *longest = nullptr;
  for (size_t length = 0; length < text.size() && !alike.empty(); ++length) {
    auto byteAt = [length](const AddedToken &token) {
      return static_cast<uint8_t>(token.found[length]);
    };
    auto range = std::ranges::equal_range(alike, static_cast<uint8_t>(text[length]), {}, byteAt);
    alike = {range.begin(), range.end()};
    // The shortest is the first.
    if (!alike.empty() && alike.front().found.size() == length + 1) {
      longest = &alike.front();
      alike = alike.subspan(1);
    }
  }
  return longest;
}

bool TokenFinder::isInWord(std::string_view before, std::string_view behind) const {
  size_t ignored;
  return (!before.empty() && words_.contains(lastCharacter(before, ignored))) ||
         (!behind.empty() && words_.contains(firstCharacter(behind, ignored)));
}

void TokenFinder::split(TextPiece piece, std::vector<TextPiece> &pieces) const {
  std::string_view text = piece.text;
  auto add = [&](size_t begin, size_t end, int32_t token) {
    if (begin < end)
      pieces.push_back({text.substr(begin, end - begin), token, piece.isAtStart && begin == 0});
  };
  size_t done = 0;
  size_t spacesEnd = 0; // of those that were stripped last
  for (size_t at = 0; at < text.size();) {
    const AddedToken *token =
        firsts_[static_cast<uint8_t>(text[at])] ? longestAt(text.substr(at)) : nullptr;
    if (!token) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + token->found.size();
    // The next one is looked for right behind, even where this one is left out or takes more.
    at = end;
    if (token->isSingleWord && isInWord(text.substr(0, begin), text.substr(end)))
      continue;
    if (token->stripsLeft)
      begin = done < begin ? done + withoutTrailing(text.substr(done, begin - done), spaces_).size()
                           : done;
    if (token->stripsRight && end >= spacesEnd)
      spacesEnd = text.size() - withoutLeading(text.substr(end), spaces_).size();
    if (token->stripsRight)
      end = spacesEnd;
    add(done, begin, -1);
    add(begin, end, token->id);
    done = end;
  }
  add(done, text.size(), -1);
}

Result<AddedTokens> AddedTokens::read(const Json &json, const TextNormalizer &normalizer,
                                      const UnicodeClasses &classes, int32_t modelSize,
                                      const IdOfText &modelId) {
  if (!json.isNull() && !json.isArray())
    return Status::invalidInput("it is " + json.describe() + ", expected an array");
  AddedTokens added;
  std::unordered_map<std::string, int32_t> ids;
  int32_t nextId = modelSize;
  for (size_t i = 0; i < json.items().size(); ++i) {
    auto fail = [&](const Status &status) { return status.within(fmt::format("token {}", i)); };
    Result<AddedToken> token = readToken(json.items()[i]);
    if (!token.ok())
      return fail(token.status());
    if (token->content.empty())
      continue; // as tokenizers does
    std::optional<int32_t> known = modelId(token->content);
    auto [place, isNew] = ids.try_emplace(token->content, known.value_or(nextId));
    nextId += isNew && !known ? 1 : 0;
    if (place->second != token->id)
      return fail(Status::invalidInput(
          fmt::format("{} has the id {}, but its place in the vocabulary or behind it makes it {}",
                      quoteJson(token->content), token->id, place->second)));
    if (token->isNormalized) {
      TextStore texts(token->content.size());
      Result<std::string_view> found = normalizer.apply(token->content, texts);
      if (!found.ok())
        return fail(found.status());
      token->found = *found;
    }
    added.tokens_[token->id] = std::move(*token);
  }
  for (const auto &[id, token] : added.tokens_)
    if (Status status = (token.isNormalized ? added.normalized_ : added.plain_).add(token);
        !status.ok())
      return status.within(Json(token.content).describe());
  SY_RETURN_IF_ERROR(added.plain_.finish(classes));
  SY_RETURN_IF_ERROR(added.normalized_.finish(classes));
  return added;
}

Result<std::vector<TextPiece>> AddedTokens::split(std::string_view text,
                                                  const TextNormalizer &normalizer,
                                                  TextStore &texts) const {
  std::vector<TextPiece> plain, pieces;
  plain_.split({text, -1, true}, plain);
  for (TextPiece piece : plain) {
    if (piece.token >= 0) {
      pieces.push_back(piece);
      continue;
    }
    SY_ASSIGN_OR_RETURN(piece.text, normalizer.apply(piece.text, texts));
    normalized_.split(piece, pieces);
  }
  return pieces;
}

} // namespace switchyard

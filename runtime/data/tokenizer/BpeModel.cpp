#include "runtime/data/tokenizer/BpeModel.h"

#include "runtime/data/tokenizer/ReadParts.h"
#include "runtime/data/tokenizer/Utf8.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <functional>

namespace switchyard {

namespace {

constexpr int64_t kMaxId = (1 << 24) - 1;

/// A flag that may be missing or null.
Status readFlag(const Json &json, const char *key, bool &flag) {
  const Json *value = json.find(key);
  if (!value || value->isNull())
    return {};
  SY_ASSIGN_OR_RETURN(flag, getBool(json, key));
  return {};
}

/// Two tokens: ["a", "b"], or "a b".
Status readMerge(const Json &json, std::string_view &left, std::string_view &right) {
  auto items = json.items();
  if (items.size() == 2 && items[0].isString() && items[1].isString()) {
    left = items[0].string();
    right = items[1].string();
    return {};
  }
  if (json.isString()) {
    std::string_view text = json.string();
    size_t space = text.find(' ');
    if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos) {
      left = text.substr(0, space);
      right = text.substr(space + 1);
      return {};
    }
  }
  return Status::invalidInput("it is " + json.describe() +
                              ", expected two tokens: [\"a\", \"b\"] or \"a b\"");
}

} // namespace

MergeTable::MergeTable(size_t count)
    : slots_(std::bit_ceil(2 * count + 2)),
      shift_(64 - std::countr_zero(static_cast<uint64_t>(slots_.size()))) {}

void MergeTable::set(int32_t left, int32_t right, Merge merge) {
  uint64_t key = keyOf(left, right);
  slots_[place(key)] = {key, merge};
}

Result<BpeModel> BpeModel::read(const Json &json, bool ofBytes) {
  if (!json.isObject())
    return Status::invalidInput("it is " + json.describe() + ", expected an object");
  BpeModel model;
  model.ofBytes_ = ofBytes;
  SY_RETURN_IF_ERROR(model.readOptions(json));
  SY_RETURN_IF_ERROR(model.readVocabulary(json));
  SY_RETURN_IF_ERROR(model.readMerges(json));
  model.readBytes();
  return model;
}

Status BpeModel::readOptions(const Json &json) {
  if (json.find("type")) { // older files have none
    SY_ASSIGN_OR_RETURN(std::string type, getString(json, "type"));
    if (type != "BPE")
      return unknownType("a model of the type", type,
                         "is not read; BPE, and SentencePiece's own files (tokenizer.model), are");
  }
  if (const Json *dropout = json.find("dropout"); dropout && !dropout->isNull())
    SY_RETURN_IF_ERROR(getNumber(json, "dropout", 0, 0).status());
  for (const char *key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json *affix = json.find(key);
    if (affix && !affix->isNull() && !(affix->isString() && affix->string().empty()))
      return Status::invalidInput(
          fmt::format("{} is {}, expected null or \"\"", quoteJson(key), affix->describe()));
  }
  if (const Json *unknown = json.find("unk_token"); unknown && !unknown->isNull()) {
    SY_ASSIGN_OR_RETURN(unknown_, getString(json, "unk_token"));
  }
  SY_RETURN_IF_ERROR(readFlag(json, "fuse_unk", fusesUnknown_));
  SY_RETURN_IF_ERROR(readFlag(json, "byte_fallback", fallsBackToBytes_));
  return readFlag(json, "ignore_merges", ignoresMerges_);
}

Status BpeModel::readVocabulary(const Json &json) {
  SY_ASSIGN_OR_RETURN(const Json *vocabulary, getObject(json, "vocab"));
  int64_t last = -1;
  for (const auto &[token, id] : vocabulary->members()) {
    SY_ASSIGN_OR_RETURN(int64_t number, getInteger(*vocabulary, token, 0, kMaxId));
    last = std::max(last, number);
  }
  tokens_.resize(last + 1);
  std::vector<bool> isTaken(last + 1);
  ids_.reserve(vocabulary->members().size());
  for (const auto &[token, id] : vocabulary->members()) {
    int64_t number = id.integer();
    if (isTaken[number])
      return Status::invalidInput(
          fmt::format("the vocabulary has the id {} twice, for {} and {}, expected one token",
                      number, quoteJson(tokens_[number]), quoteJson(token)));
    isTaken[number] = true;
    tokens_[number] = token;
    ids_.emplace(token, static_cast<int32_t>(number));
  }
  unknownId_ = idOf(unknown_);
  return {};
}

Status BpeModel::readMerges(const Json &json) {
  SY_ASSIGN_OR_RETURN(const Json *merges, getArray(json, "merges"));
  merges_ = MergeTable(merges->items().size());
  uint32_t rank = 0;
  for (size_t i = 0; i < merges->items().size(); ++i) {
    const Json &item = merges->items()[i];
    if (item.isString() && item.string().starts_with("#version"))
      continue;
    std::string_view left, right;
    if (Status status = readMerge(item, left, right); !status.ok())
      return status.within(fmt::format("merge {}", i));
    int32_t ids[3];
    std::string merged = std::string(left) + std::string(right);
    std::string_view tokens[3] = {left, right, merged};
    for (int k = 0; k < 3; ++k) {
      std::optional<int32_t> id = idOf(tokens[k]);
      if (!id)
        return Status::invalidInput(
            fmt::format("merge {}, of {} and {}, needs the token {}, which the vocabulary lacks", i,
                        quoteJson(left), quoteJson(right), quoteJson(tokens[k])));
      ids[k] = *id;
    }
    merges_.set(ids[0], ids[1], {rank++, ids[2]});
  }
  return {};
}

void BpeModel::readBytes() {
  for (int byte = 0; byte < 256; ++byte)
    fallbacks_[byte] = idOf(fmt::format("<0x{:02X}>", byte)).value_or(-1);
  if (!ofBytes_)
    return;
  for (int byte = 0; byte < 256; ++byte)
    byteIds_[byte] = idOf(alphabet_.character(static_cast<uint8_t>(byte))).value_or(-1);
  if (!ignoresMerges_)
    return;
  wholes_.reserve(ids_.size());
  for (const auto &[token, id] : ids_)
    if (std::string bytes; alphabet_.toBytes(token, bytes))
      wholes_.emplace(std::move(bytes), id);
}

std::optional<int32_t> BpeModel::idOf(std::string_view token) const {
  auto known = ids_.find(token);
  return known == ids_.end() ? std::nullopt : std::optional(known->second);
}

/// Makes the symbols of a piece, character by character.
class BpeModel::Symbols {
public:
  Symbols(const BpeModel &model, std::vector<Scratch::Symbol> &symbols)
      : model_(model), symbols_(symbols) {
    symbols_.clear();
  }

  void addKnown(int32_t id) {
    addUnknown();
    add(id);
  }

  /// `character` is UTF-8.
  Status addOther(std::string_view character) {
    auto fallback = [&](char byte) { return model_.fallbacks_[static_cast<uint8_t>(byte)]; };
    if (model_.fallsBackToBytes_ &&
        std::ranges::all_of(character, [&](char byte) { return fallback(byte) >= 0; })) {
      for (char byte : character)
        add(fallback(byte));
      return {};
    }
    if (model_.unknown_.empty() || (hasUnknown_ && model_.fusesUnknown_))
      return {};
    if (!model_.unknownId_)
      return Status::failed(fmt::format("there is no token for the character {}, and none for the "
                                        "unknown token {}",
                                        quoteJson(character), quoteJson(model_.unknown_)));
    addUnknown();
    hasUnknown_ = true;
    return {};
  }

  /// What has not been added yet: unknown characters wait for others, with which they fuse.
  void addUnknown() {
    if (hasUnknown_)
      add(*model_.unknownId_);
    hasUnknown_ = false;
  }

private:
  void add(int32_t id) {
    auto at = static_cast<int32_t>(symbols_.size());
    symbols_.push_back({id, at - 1, at + 1});
  }

  const BpeModel &model_;
  std::vector<Scratch::Symbol> &symbols_;
  bool hasUnknown_ = false;
};

Status BpeModel::split(std::string_view piece, Scratch &scratch) const {
  Symbols symbols(*this, scratch.symbols);
  for (size_t at = 0; at < piece.size();) {
    size_t begin = at;
    int32_t id;
    if (ofBytes_) {
      id = byteIds_[static_cast<uint8_t>(piece[at++])];
    } else {
      nextCharacter(piece, at);
      id = idOf(piece.substr(begin, at - begin)).value_or(-1);
    }
    if (id >= 0)
      symbols.addKnown(id);
    else if (ofBytes_)
      SY_RETURN_IF_ERROR(symbols.addOther(alphabet_.character(static_cast<uint8_t>(piece[begin]))));
    else
      SY_RETURN_IF_ERROR(symbols.addOther(piece.substr(begin, at - begin)));
  }
  symbols.addUnknown();
  if (!scratch.symbols.empty())
    scratch.symbols.back().next = -1;
  return {};
}

/// Queues the symbol at `at` and the next one, if they can be merged.
void BpeModel::consider(Scratch &scratch, int32_t at) const {
  const Scratch::Symbol &left = scratch.symbols[at];
  if (left.next < 0)
    return;
  if (const MergeTable::Merge *merge = merges_.find(left.id, scratch.symbols[left.next].id))
    scratch.candidates.push_back(
        {uint64_t{merge->rank} << 32 | static_cast<uint32_t>(at), merge->id});
}

void BpeModel::merge(Scratch &scratch) const {
  std::vector<Scratch::Symbol> &symbols = scratch.symbols;
  std::vector<Scratch::Candidate> &candidates = scratch.candidates;
  auto order = &Scratch::Candidate::order; // std's heaps have the largest in front
  candidates.clear();
  for (size_t at = 0; at < symbols.size(); ++at)
    consider(scratch, static_cast<int32_t>(at));
  std::ranges::make_heap(candidates, std::greater<>(), order);
  auto considerLater = [&](int32_t at) {
    const size_t count = candidates.size();
    consider(scratch, at);
    if (candidates.size() > count)
      std::ranges::push_heap(candidates, std::greater<>(), order);
  };
  while (!candidates.empty()) {
    std::ranges::pop_heap(candidates, std::greater<>(), order);
    Scratch::Candidate top = candidates.back();
    candidates.pop_back();
    auto at = static_cast<int32_t>(top.order & UINT32_MAX);
    Scratch::Symbol &left = symbols[at];
    if (left.id < 0 || left.next < 0)
      continue;
    // One of the two may have been merged with another one since.
    Scratch::Symbol &right = symbols[left.next];
    const MergeTable::Merge *merge = merges_.find(left.id, right.id);
    if (!merge || merge->id != top.id)
      continue;
    left.id = top.id;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0)
      symbols[left.next].previous = at;
    if (left.previous >= 0)
      considerLater(left.previous);
    considerLater(at);
  }
}

Status BpeModel::encode(std::string_view piece, Scratch &scratch, std::vector<int32_t> &ids) const {
  if (ignoresMerges_) {
    const Ids &wholes = ofBytes_ ? wholes_ : ids_;
    if (auto whole = wholes.find(piece); whole != wholes.end()) {
      ids.push_back(whole->second);
      return {};
    }
  }
  if (piece.size() > INT32_MAX)
    return Status::failed(fmt::format("can't encode a piece of {} bytes", piece.size()));
  SY_RETURN_IF_ERROR(split(piece, scratch));
  merge(scratch);
  for (const Scratch::Symbol &symbol : scratch.symbols)
    if (symbol.id >= 0)
      ids.push_back(symbol.id);
  return {};
}

} // namespace switchyard

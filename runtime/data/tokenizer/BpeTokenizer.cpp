#include "runtime/data/tokenizer/BpeTokenizer.h"

#include "runtime/core/Json.h"
#include "runtime/data/tokenizer/AddedTokens.h"
#include "runtime/data/tokenizer/BpeModel.h"
#include "runtime/data/tokenizer/PreTokenizer.h"
#include "runtime/data/tokenizer/RecordFrame.h"
#include "runtime/data/tokenizer/TextNormalizer.h"
#include "runtime/data/tokenizer/TokenDecoder.h"
#include "runtime/data/tokenizer/UnicodeClasses.h"
#include "runtime/data/tokenizer/Utf8.h"

#include <algorithm>

namespace switchyard {

namespace {

/// The parts of a tokenizer.json, in the order in which a text comes to them.
struct Parts {
  TextNormalizer normalizer;
  AddedTokens added;
  PreTokenizer preTokenizer;
  BpeModel model;
  TokenDecoder decoder;

  std::optional<int32_t> idOf(std::string_view token) const {
    for (const auto &[id, known] : added.tokens())
      if (known.content == token)
        return id;
    return model.idOf(token);
  }

  int64_t vocabSize() const {
    auto size = static_cast<int64_t>(model.tokens().size());
    for (const auto &[id, token] : added.tokens())
      size = std::max<int64_t>(size, id + int64_t{1});
    return size;
  }
};

class BpeTokenizer : public Tokenizer {
public:
  BpeTokenizer(const std::string &path, Parts parts, Frame frame)
      : Tokenizer(path, parts.vocabSize(), std::move(frame)), parts_(std::move(parts)) {}

  Status encode(std::string_view text, std::vector<int32_t> &ids) const override {
    const size_t count = ids.size();
    Status status = append(text, ids);
    if (!status.ok())
      ids.resize(count);
    return status.within(path());
  }

private:
  Status append(std::string_view text, std::vector<int32_t> &ids) const {
    std::optional<std::string> repaired = repairUtf8(text);
    if (repaired)
      text = *repaired;
    TextStore texts(text.size());
    SY_ASSIGN_OR_RETURN(std::vector<TextPiece> pieces,
                        parts_.added.split(text, parts_.normalizer, texts));
    SY_RETURN_IF_ERROR(parts_.preTokenizer.apply(pieces, texts));
    BpeModel::Scratch scratch;
    for (const TextPiece &piece : pieces) {
      if (piece.token >= 0)
        ids.push_back(piece.token);
      else
        SY_RETURN_IF_ERROR(parts_.model.encode(piece.text, scratch, ids));
    }
    return {};
  }

  Result<std::string> decodeKnown(std::span<const int32_t> ids) const override {
    const auto &added = parts_.added.tokens();
    const auto &known = parts_.model.tokens();
    std::vector<std::string> tokens;
    for (int32_t id : ids) {
      auto token = added.find(id);
      if (token != added.end() && !(token->second.isSpecial && token->second.isFoundAsIs()))
        tokens.push_back(token->second.found);
      if (token == added.end() && static_cast<size_t>(id) < known.size() && !known[id].empty())
        tokens.push_back(known[id]);
    }
    Result<std::string> text = parts_.decoder.decode(std::move(tokens));
    return text.ok() ? text : Result<std::string>(text.status().within(path()));
  }

  Parts parts_;
};

/// Reads the parts of one file; a failure says in which part it is.
class Reader {
public:
  Reader(const std::string &path, const Json &json) : path_(path), json_(json) {}

  Result<std::unique_ptr<Tokenizer>> read() {
    if (!json_.isObject() || !json_.find("model"))
      return fail("it is no tokenizer.json: it has no \"model\"");
    if (const Json *version = json_.find("version");
        version && !(version->isString() && version->string() == "1.0"))
      return fail("\"version\" is " + version->describe() + ", expected \"1.0\"");
    SY_RETURN_IF_ERROR(take("normalizer", parts_.normalizer, [&](const Json &json) {
      return TextNormalizer::read(json, classes_);
    }));
    SY_RETURN_IF_ERROR(take("pre_tokenizer", parts_.preTokenizer, [&](const Json &json) {
      return PreTokenizer::read(json, !parts_.normalizer.isNone(), classes_);
    }));
    SY_RETURN_IF_ERROR(take("model", parts_.model, [&](const Json &json) {
      return BpeModel::read(json, parts_.preTokenizer.endsInBytes());
    }));
    SY_RETURN_IF_ERROR(take("added_tokens", parts_.added, [&](const Json &json) {
      return AddedTokens::read(json, parts_.normalizer, classes_, parts_.model.size(),
                               [&](std::string_view token) { return parts_.model.idOf(token); });
    }));
    SY_RETURN_IF_ERROR(take("decoder", parts_.decoder,
                            [&](const Json &json) { return TokenDecoder::read(json, classes_); }));
    Tokenizer::Frame frame;
    SY_RETURN_IF_ERROR(take("post_processor", frame, [&](const Json &json) {
      return readPostProcessor(json, parts_.vocabSize());
    }));
    SY_ASSIGN_OR_RETURN(int32_t eos,
                        readEosId(path_, parts_.vocabSize(),
                                  [&](std::string_view token) { return parts_.idOf(token); }));
    if (frame.behind.empty() || frame.behind.back() != eos)
      frame.behind.push_back(eos);
    return std::unique_ptr<Tokenizer>(
        std::make_unique<BpeTokenizer>(path_, std::move(parts_), std::move(frame)));
  }

private:
  Status fail(const std::string &why) const { return Status::invalidInput(path_ + ": " + why); }

  template <typename Part, typename Read>
  Status take(const char *key, Part &part, const Read &read) const {
    const Json *json = json_.find(key);
    Result<Part> result = read(json ? *json : null_);
    if (!result.ok())
      return result.status().within(quoteJson(key)).within(path_);
    part = std::move(*result);
    return {};
  }

  const std::string &path_;
  const Json &json_;
  const Json null_; // stands for a part that is missing
  UnicodeClasses classes_;
  Parts parts_;
};

} // namespace

Result<std::unique_ptr<Tokenizer>> loadBpeTokenizer(const std::string &path) {
  SY_ASSIGN_OR_RETURN(Json json, readJson(path));
  return Reader(path, json).read();
}

} // namespace switchyard

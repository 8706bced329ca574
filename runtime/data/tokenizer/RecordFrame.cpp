#include "runtime/data/tokenizer/RecordFrame.h"

#include "runtime/core/File.h"
#include "runtime/data/tokenizer/ReadParts.h"

#include <fmt/format.h>

#include <filesystem>

namespace switchyard {

namespace {

/// Appends the ids that a template has under the name `token`.
Status addSpecial(const Json &json, const std::string &token, int64_t vocabSize,
                  std::vector<int32_t> &ids) {
  SY_ASSIGN_OR_RETURN(const Json *known, getObject(json, "special_tokens"));
  Result<const Json *> special = getObject(*known, token);
  if (!special.ok())
    return special.status().within("\"special_tokens\"");
  SY_ASSIGN_OR_RETURN(const Json *items, getArray(**special, "ids"));
  for (const Json &item : items->items()) {
    if (!item.isInteger() || item.integer() < 0 || item.integer() >= vocabSize)
      return Status::invalidInput(fmt::format("the special token {} has the id {}, expected an "
                                              "integer in [0, {}]",
                                              quoteJson(token), item.describe(), vocabSize - 1));
    ids.push_back(static_cast<int32_t>(item.integer()));
  }
  return {};
}

Result<Tokenizer::Frame> readTemplate(const Json &json, int64_t vocabSize) {
  SY_ASSIGN_OR_RETURN(const Json *single, getArray(json, "single"));
  Tokenizer::Frame frame;
  int texts = 0;
  for (const Json &piece : single->items()) {
    if (piece.find("SpecialToken")) {
      SY_ASSIGN_OR_RETURN(const Json *special, getObject(piece, "SpecialToken"));
      SY_ASSIGN_OR_RETURN(std::string token, getString(*special, "id"));
      SY_RETURN_IF_ERROR(
          addSpecial(json, token, vocabSize, texts == 0 ? frame.before : frame.behind));
      continue;
    }
    SY_ASSIGN_OR_RETURN(const Json *sequence, getObject(piece, "Sequence"));
    const Json *id = sequence->find("id");
    texts += id && id->isString() && id->string() == "A" ? 1 : 2;
  }
  if (texts != 1)
    return Status::invalidInput("\"single\" is not one text (\"Sequence\" \"A\") with special "
                                "tokens around it");
  return frame;
}

/// The text of a token: "</s>" or {"content": "</s>", ...}. Empty: there is none.
Result<std::string> tokenText(const std::string &path, const char *key) {
  if (!fileExists(path))
    return std::string();
  SY_ASSIGN_OR_RETURN(Json json, readJson(path));
  const Json *token = json.find(key);
  if (!token || token->isNull())
    return std::string();
  Result<std::string> text =
      token->isObject() ? getString(*token, "content") : getString(json, key);
  if (!text.ok())
    return text.status().within(path);
  return text;
}

} // namespace

Result<Tokenizer::Frame> readPostProcessor(const Json &json, int64_t vocabSize) {
  Tokenizer::Frame frame;
  if (json.isNull())
    return frame;
  SY_ASSIGN_OR_RETURN(std::string type, getString(json, "type"));
  if (type == "ByteLevel")
    return frame;
  if (type == "TemplateProcessing")
    return readTemplate(json, vocabSize);
  if (type != "Sequence")
    return unknownType("a post-processor of the type", type,
                       "is not read; ByteLevel, TemplateProcessing and Sequence are");
  SY_ASSIGN_OR_RETURN(const Json *inner, getArray(json, "processors"));
  for (const Json &one : inner->items()) {
    SY_ASSIGN_OR_RETURN(Tokenizer::Frame around, readPostProcessor(one, vocabSize));
    frame.before.insert(frame.before.begin(), around.before.begin(), around.before.end());
    frame.behind.insert(frame.behind.end(), around.behind.begin(), around.behind.end());
  }
  return frame;
}

Result<int32_t> readEosId(const std::string &path, int64_t vocabSize,
                          const std::function<std::optional<int32_t>(std::string_view)> &idOf) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  for (const char *name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const std::string file = joinPath(folder, name);
    SY_ASSIGN_OR_RETURN(std::string token, tokenText(file, "eos_token"));
    if (token.empty())
      continue;
    if (std::optional<int32_t> id = idOf(token))
      return *id;
    return Status::invalidInput(fmt::format("{}: \"eos_token\" is {}, expected a token of {}", file,
                                            quoteJson(token), path));
  }
  const std::string file = joinPath(folder, "config.json");
  if (fileExists(file)) {
    SY_ASSIGN_OR_RETURN(Json config, readJson(file));
    const Json *id = config.find("eos_token_id");
    if (id && !id->items().empty())
      id = &id->items().front();
    if (id && !id->isNull()) {
      if (!id->isInteger() || id->integer() < 0 || id->integer() >= vocabSize)
        return Status::invalidInput(
            fmt::format("{}: \"eos_token_id\" is {}, expected an integer in "
                        "[0, {}]",
                        file, id->describe(), vocabSize - 1));
      return static_cast<int32_t>(id->integer());
    }
  }
  return Status::invalidInput(path + ": no file beside it names the EOS token to end each record "
                                     "with; expected \"eos_token\" in tokenizer_config.json or "
                                     "special_tokens_map.json, or \"eos_token_id\" in config.json");
}

} // namespace switchyard

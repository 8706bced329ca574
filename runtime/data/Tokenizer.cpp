#include "runtime/data/Tokenizer.h"

#include "runtime/core/File.h"
#include "runtime/data/tokenizer/BpeTokenizer.h"
#include "runtime/data/tokenizer/SentencePieceTokenizer.h"

#include <algorithm>

namespace switchyard {

Result<std::string> tokenizerName(const std::string &path) {
  SY_ASSIGN_OR_RETURN(FileReader file, FileReader::open(path));
  SY_ASSIGN_OR_RETURN(std::string start, file.read(0, std::min<uint64_t>(file.size(), 64)));
  // No protocol buffer begins so.
  std::string_view text = start;
  if (text.starts_with("\xef\xbb\xbf"))
    text.remove_prefix(3);
  size_t first = text.find_first_not_of(" \t\r\n");
  bool isJson = path.ends_with(".json") || (first != std::string_view::npos && text[first] == '{');
  return std::string(isJson ? kTokenizerJson : kTokenizerModel);
}

std::string tokenizerIn(const std::string &folder) {
  std::string json = joinPath(folder, kTokenizerJson);
  std::string sentencePiece = joinPath(folder, kTokenizerModel);
  return !fileExists(json) && fileExists(sentencePiece) ? sentencePiece : json;
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::load(const std::string &path) {
  SY_ASSIGN_OR_RETURN(std::string name, tokenizerName(path));
  return name == kTokenizerJson ? loadBpeTokenizer(path) : loadSentencePieceTokenizer(path);
}

Result<std::string> Tokenizer::decode(std::span<const int32_t> ids) const {
  for (int32_t id : ids)
    if (id < 0 || id >= vocabSize_)
      return Status::invalidInput(path_ + ": token id " + std::to_string(id) + ", expected 0 to " +
                                  std::to_string(vocabSize_ - 1));
  return decodeKnown(ids);
}

} // namespace switchyard

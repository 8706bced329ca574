// Text to token ids with a SentencePiece `tokenizer.model` (Kudo and Richardson 2018), as the
// LlamaTokenizer of transformers does for Mixtral: no special token is read out of the text, and
// the caller puts BOS and EOS around it.
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace switchyard {

class Tokenizer {
public:
  /// InvalidInput: no such file, no SentencePiece model, one without a BOS or EOS piece.
  static Result<Tokenizer> load(const std::string &path);
  Tokenizer(Tokenizer &&) noexcept;
  Tokenizer &operator=(Tokenizer &&) noexcept;
  ~Tokenizer();

  const std::string &path() const { return path_; }
  int64_t vocabSize() const { return vocabSize_; }
  int32_t bosId() const { return bosId_; }
  int32_t eosId() const { return eosId_; }
  int32_t unkId() const { return unkId_; }

  /// Appends the ids of `text` to `ids`. Bytes that are not UTF-8 become the replacement
  /// character. Threads may share one tokenizer.
  Status encode(std::string_view text, std::vector<int32_t> &ids) const;

  /// The text of `ids`; control pieces have none. Ids outside the vocabulary are InvalidInput.
  Result<std::string> decode(const std::vector<int32_t> &ids) const;

private:
  Tokenizer();

  std::string path_;
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  int64_t vocabSize_ = 0;
  int32_t bosId_ = 0;
  int32_t eosId_ = 0;
  int32_t unkId_ = 0;
};

} // namespace switchyard

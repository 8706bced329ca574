// Text to token ids: with a SentencePiece model (tokenizer/SentencePieceTokenizer.h), or with the
// tokenizer.json of Hugging Face's tokenizers (tokenizer/BpeTokenizer.h).
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

class Tokenizer {
public:
  /// What stands before and behind the text of a record: BOS, or nothing; EOS.
  struct Frame {
    std::vector<int32_t> before;
    std::vector<int32_t> behind;
  };

  /// Which of the two it is, the content says. InvalidInput: no such file, neither of the two, one
  /// that asks for what is not read, one without an EOS (or, of SentencePiece, BOS) token.
  static Result<std::unique_ptr<Tokenizer>> load(const std::string &path);
  virtual ~Tokenizer() = default;

  const std::string &path() const { return path_; }
  /// All ids are below.
  int64_t vocabSize() const { return vocabSize_; }
  const Frame &frame() const { return frame_; }

  /// Appends the ids of `text` to `ids`, without a frame. Bytes that are not UTF-8 become the
  /// replacement character. Threads may share one tokenizer.
  virtual Status encode(std::string_view text, std::vector<int32_t> &ids) const = 0;

  /// The text of `ids`; special tokens have none. Ids outside the vocabulary are InvalidInput.
  Result<std::string> decode(std::span<const int32_t> ids) const;

protected:
  Tokenizer(std::string path, int64_t vocabSize, Frame frame)
      : path_(std::move(path)), vocabSize_(vocabSize), frame_(std::move(frame)) {}

private:
  virtual Result<std::string> decodeKnown(std::span<const int32_t> ids) const = 0;

  std::string path_;
  int64_t vocabSize_;
  Frame frame_;
};

inline constexpr const char *kTokenizerJson = "tokenizer.json";
inline constexpr const char *kTokenizerModel = "tokenizer.model";

/// The tokenizer of the model in `folder`: its tokenizer.json, as transformers takes it first, else
/// its tokenizer.model. Where there is neither, the former.
std::string tokenizerIn(const std::string &folder);

/// What the tokenizer at `path` is called in a model's folder: tokenizer.json or tokenizer.model.
Result<std::string> tokenizerName(const std::string &path);

} // namespace switchyard

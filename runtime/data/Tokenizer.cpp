#include "runtime/data/Tokenizer.h"

#include "runtime/core/File.h"
#include "runtime/data/SentencePieceModel.h"

#include <sentencepiece_processor.h>

#include <exception>

namespace switchyard {

namespace {

constexpr uint64_t kMaxModelBytes = uint64_t{256} << 20;

Status notAModel(const std::string &path, const std::string &why) {
  return Status::invalidInput(path + ": not a SentencePiece model (" + why +
                              "); expected the tokenizer.model that belongs to the model");
}

} // namespace

Tokenizer::Tokenizer() : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {}
Tokenizer::Tokenizer(Tokenizer &&) noexcept = default;
Tokenizer &Tokenizer::operator=(Tokenizer &&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::load(const std::string &path) {
  SY_ASSIGN_OR_RETURN(std::string model, readFile(path, kMaxModelBytes));
  if (model.empty())
    return notAModel(path, "the file is empty");
  if (std::string why = checkSentencePieceModel(model); !why.empty())
    return notAModel(path, why);
  Tokenizer tokenizer;
  tokenizer.path_ = path;
  sentencepiece::SentencePieceProcessor &processor = *tokenizer.processor_;
  try {
    if (auto status = processor.LoadFromSerializedProto(model); !status.ok())
      return notAModel(path, status.message());
  } catch (const std::exception &error) {
    return notAModel(path, error.what());
  }
  tokenizer.vocabSize_ = processor.GetPieceSize();
  tokenizer.bosId_ = processor.bos_id();
  tokenizer.eosId_ = processor.eos_id();
  tokenizer.unkId_ = processor.unk_id();
  if (tokenizer.bosId_ < 0 || tokenizer.eosId_ < 0)
    return Status::invalidInput(path + ": has no " + (tokenizer.bosId_ < 0 ? "BOS" : "EOS") +
                                " piece, expected one to put around each record");
  return tokenizer;
}

Status Tokenizer::encode(std::string_view text, std::vector<int32_t> &ids) const {
  static_assert(sizeof(int) == sizeof(int32_t));
  try {
    std::vector<int> pieces;
    if (auto status = processor_->Encode(text, &pieces); !status.ok())
      return Status::failed(path_ + ": can't encode a text: " + status.message());
    ids.insert(ids.end(), pieces.begin(), pieces.end());
  } catch (const std::exception &error) {
    return Status::failed(path_ + ": can't encode a text: " + error.what());
  }
  return {};
}

Result<std::string> Tokenizer::decode(const std::vector<int32_t> &ids) const {
  for (int32_t id : ids)
    if (id < 0 || id >= vocabSize_)
      return Status::invalidInput(path_ + ": token id " + std::to_string(id) + ", expected 0 to " +
                                  std::to_string(vocabSize_ - 1));
  try {
    std::string text;
    if (auto status = processor_->Decode(ids, &text); !status.ok())
      return Status::failed(path_ + ": can't decode ids: " + status.message());
    return text;
  } catch (const std::exception &error) {
    return Status::failed(path_ + ": can't decode ids: " + error.what());
  }
}

} // namespace switchyard

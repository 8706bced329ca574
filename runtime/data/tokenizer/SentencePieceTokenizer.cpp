#include "runtime/data/tokenizer/SentencePieceTokenizer.h"

#include "runtime/core/File.h"
#include "runtime/data/tokenizer/SentencePieceModel.h"

#include <sentencepiece_processor.h>

#include <exception>

namespace switchyard {

namespace {

constexpr uint64_t kMaxModelBytes = uint64_t{256} << 20;

class SentencePieceTokenizer : public Tokenizer {
public:
  SentencePieceTokenizer(const std::string &path,
                         std::unique_ptr<sentencepiece::SentencePieceProcessor> processor)
      : Tokenizer(path, processor->GetPieceSize(), {{processor->bos_id()}, {processor->eos_id()}}),
        processor_(std::move(processor)) {}

  Status encode(std::string_view text, std::vector<int32_t> &ids) const override {
    static_assert(sizeof(int) == sizeof(int32_t));
    try {
      std::vector<int> pieces;
      if (auto status = processor_->Encode(text, &pieces); !status.ok())
        return Status::failed(path() + ": can't encode a text: " + status.message());
      ids.insert(ids.end(), pieces.begin(), pieces.end());
    } catch (const std::exception &error) {
      return Status::failed(path() + ": can't encode a text: " + error.what());
    }
    return {};
  }

private:
  Result<std::string> decodeKnown(std::span<const int32_t> ids) const override {
    try {
      std::string text;
      if (auto status = processor_->Decode(std::vector<int>(ids.begin(), ids.end()), &text);
          !status.ok())
        return Status::failed(path() + ": can't decode ids: " + status.message());
      return text;
    } catch (const std::exception &error) {
      return Status::failed(path() + ": can't decode ids: " + error.what());
    }
  }

  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
};

Status notAModel(const std::string &path, const std::string &why) {
  return Status::invalidInput(path + ": not a SentencePiece model (" + why +
                              "); expected the tokenizer.model that belongs to the model");
}

} // namespace

Result<std::unique_ptr<Tokenizer>> loadSentencePieceTokenizer(const std::string &path) {
  SY_ASSIGN_OR_RETURN(std::string model, readFile(path, kMaxModelBytes));
  if (model.empty())
    return notAModel(path, "the file is empty");
  if (std::string why = checkSentencePieceModel(model); !why.empty())
    return notAModel(path, why);
  auto processor = std::make_unique<sentencepiece::SentencePieceProcessor>();
  try {
    if (auto status = processor->LoadFromSerializedProto(model); !status.ok())
      return notAModel(path, status.message());
  } catch (const std::exception &error) {
    return notAModel(path, error.what());
  }
  if (processor->bos_id() < 0 || processor->eos_id() < 0)
    return Status::invalidInput(path + ": has no " + (processor->bos_id() < 0 ? "BOS" : "EOS") +
                                " piece, expected one to put around each record");
  return std::unique_ptr<Tokenizer>(
      std::make_unique<SentencePieceTokenizer>(path, std::move(processor)));
}

} // namespace switchyard

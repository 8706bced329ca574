// Token ids with a SentencePiece `tokenizer.model` (Kudo and Richardson 2018), as the
// LlamaTokenizer of transformers made them for Mixtral: no special token is read out of a text.
#pragma once

#include "runtime/data/Tokenizer.h"

namespace switchyard {

/// InvalidInput: no such file, no SentencePiece model, one without a BOS or EOS piece.
Result<std::unique_ptr<Tokenizer>> loadSentencePieceTokenizer(const std::string &path);

} // namespace switchyard

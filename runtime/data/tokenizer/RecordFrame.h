// What stands around a record where the tokenizer is a tokenizer.json: the special tokens that its
// "post_processor" adds, and the EOS token, which is named beside it.
//
// As transformers 5: where there is a tokenizer.json, its post-processor says whether there is a
// BOS token, and add_bos_token of tokenizer_config.json counts for nothing. The EOS token ends each
// record in any case, as in Alpaca's own training script, but stands there once.
#pragma once

#include "runtime/core/Json.h"
#include "runtime/data/Tokenizer.h"

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace switchyard {

/// The tokens around a text as "post_processor" (which may be null) has them. TemplateProcessing,
/// ByteLevel (which adds none) and Sequence of these are read; InvalidInput: another type, a
/// template that is not one text with tokens around it, ids not below `vocabSize`.
Result<Tokenizer::Frame> readPostProcessor(const Json &json, int64_t vocabSize);

/// The EOS token of the tokenizer.json at `path`: "eos_token" of tokenizer_config.json or of
/// special_tokens_map.json, or "eos_token_id" of config.json, the first that there is beside it.
/// `idOf` knows the tokens. InvalidInput: there is none, or one that the tokenizer does not have.
Result<int32_t> readEosId(const std::string &path, int64_t vocabSize,
                          const std::function<std::optional<int32_t>(std::string_view)> &idOf);

} // namespace switchyard

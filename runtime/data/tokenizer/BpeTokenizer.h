// Token ids with the tokenizer.json of Hugging Face's tokenizers, where its model is byte pair
// encoding: OLMoE, Qwen, Llama 3, Mixtral. README.md says what of it is read.
#pragma once

#include "runtime/data/Tokenizer.h"

namespace switchyard {

/// InvalidInput: no such file, no JSON, a part that is not read (by name), ids or merges that do
/// not fit together, no EOS token beside it.
Result<std::unique_ptr<Tokenizer>> loadBpeTokenizer(const std::string &path);

} // namespace switchyard

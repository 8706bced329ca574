// Instruction data in the Alpaca schema (Taori et al. 2023): records of `instruction`, `input` and
// `output`, as one JSON array or as JSON lines.
//
// A record becomes BOS + encode(prompt + " " + output) + EOS, cut to maxSeqLength; the first
// len(BOS + encode(prompt)) labels are masked.
#pragma once

#include "runtime/core/Status.h"
#include "runtime/data/Dataset.h"
#include "runtime/data/Tokenizer.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace switchyard {

struct AlpacaOptions {
  int64_t maxSeqLength = 0; // tokens kept of a record
  int64_t vocabSize = 0;    // of the model: ids are below it
};

/// The Alpaca prompt, up to "### Response:"; without the input's section where `input` is empty.
std::string alpacaPrompt(std::string_view instruction, std::string_view input);

/// Reads and tokenises `path`. A record that can't be used (not an object, a field missing or no
/// string, an empty output, nothing to predict after the cut) is in skipped(); `input` may be
/// missing, null or empty. InvalidInput: no JSON (with line and column), no usable record, a token
/// id that is not below vocabSize.
Result<Dataset> loadAlpaca(const std::string &path, const Tokenizer &tokenizer,
                           const AlpacaOptions &options);

} // namespace switchyard

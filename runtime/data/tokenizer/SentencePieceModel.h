// Checks a SentencePiece model before the library sees it.
//
// The library verifies the protocol buffer and the pieces, but follows the normalizer's table
// (precompiled_charsmap: a double-array trie, Aoe 1989, as darts-clone stores it, and the texts its
// values point into) without looking at bounds: a damaged table reads outside it.
#pragma once

#include <string>
#include <string_view>

namespace switchyard {

/// What is wrong with the serialized ModelProto `model`; empty if nothing is.
std::string checkSentencePieceModel(std::string_view model);

} // namespace switchyard

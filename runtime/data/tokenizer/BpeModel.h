// Byte pair encoding (Sennrich et al. 2016) as tokenizers' model "BPE" does it: a vocabulary, and
// pairs of its tokens in the order in which they are merged.
#pragma once

#include "runtime/core/Json.h"
#include "runtime/core/Status.h"
#include "runtime/data/tokenizer/ByteAlphabet.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace switchyard {

/// What pairs of tokens become.
class MergeTable {
public:
  struct Merge {
    uint32_t rank; // the lower, the earlier
    int32_t id;
  };

  explicit MergeTable(size_t count = 0);
  /// At most as many as were announced. A pair that is there already gets the new value.
  void set(int32_t left, int32_t right, Merge merge);
  /// Null: they are not merged.
  const Merge *find(int32_t left, int32_t right) const {
    const Slot &slot = slots_[place(keyOf(left, right))];
    return slot.key == kEmpty ? nullptr : &slot.merge;
  }

private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge{};
  };

  static uint64_t keyOf(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  /// Where `key` is, or would be.
  size_t place(uint64_t key) const {
    size_t at = (key * 0x9e3779b97f4a7c15) >> shift_;
    while (slots_[at].key != key && slots_[at].key != kEmpty)
      at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  std::vector<Slot> slots_; // a power of two, at most half of it taken
  int shift_;
};

class BpeModel {
public:
  /// Memory that encode() uses again from piece to piece; each thread has its own.
  struct Scratch {
    struct Symbol {
      int32_t id; // -1: merged into the one before it
      int32_t previous;
      int32_t next;
    };
    struct Candidate {
      uint64_t order; // the merge's rank, then where its left symbol is
      int32_t id;     // of the merged symbol
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> candidates; // a heap
  };

  /// Of tokenizer.json's "model". `ofBytes`: encode() gets bytes where the vocabulary is in the
  /// byte-level alphabet (ByteAlphabet.h). InvalidInput: another type of model, dropout, prefixes
  /// or suffixes of words, an id that is huge or there twice, a merge of tokens that the vocabulary
  /// lacks.
  static Result<BpeModel> read(const Json &json, bool ofBytes);

  /// Appends the ids of `piece`, in time n log n. Fails for a character that has no token, where
  /// there is an unknown token that is not in the vocabulary.
  Status encode(std::string_view piece, Scratch &scratch, std::vector<int32_t> &ids) const;

  /// How many tokens the vocabulary has.
  int32_t size() const { return static_cast<int32_t>(ids_.size()); }
  /// The id of `token`, as tokenizer.json writes it.
  std::optional<int32_t> idOf(std::string_view token) const;
  /// By id, as tokenizer.json writes them; of ids that are not used the text is empty.
  const std::vector<std::string> &tokens() const { return tokens_; }

private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  using Ids = std::unordered_map<std::string, int32_t, Hash, std::equal_to<>>;
  class Symbols;

  Status readOptions(const Json &json);
  Status readVocabulary(const Json &json);
  Status readMerges(const Json &json);
  void readBytes();
  Status split(std::string_view piece, Scratch &scratch) const;
  void merge(Scratch &scratch) const;
  void consider(Scratch &scratch, int32_t at) const;

  Ids ids_;
  std::vector<std::string> tokens_;
  MergeTable merges_;
  std::string unknown_; // empty: characters without a token are left out
  std::optional<int32_t> unknownId_;
  bool fusesUnknown_ = false;
  bool fallsBackToBytes_ = false;
  bool ignoresMerges_ = false; // of a piece that is a token as a whole
  bool ofBytes_ = false;
  std::array<int32_t, 256> fallbacks_; // "<0x00>" and so on; -1: none
  // Where it is of bytes:
  ByteAlphabet alphabet_;
  std::array<int32_t, 256> byteIds_; // -1: none
  Ids wholes_;                       // the tokens as bytes, where merges may be ignored
};

} // namespace switchyard

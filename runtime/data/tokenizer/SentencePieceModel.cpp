#include "runtime/data/tokenizer/SentencePieceModel.h"

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace switchyard {

namespace {

// Field numbers of sentencepiece_model.proto.
constexpr uint64_t kNormalizerSpec = 3;
constexpr uint64_t kDenormalizerSpec = 5;
constexpr uint64_t kPrecompiledCharsmap = 2;

// The rules that SentencePiece comes with take a quarter of this.
constexpr size_t kMaxTableBytes = size_t{1} << 20;
// The library keeps the matches of one position in an array of 32.
constexpr uint8_t kMaxMatches = 31;

/// Reads the fields of one protocol buffer message.
class MessageReader {
public:
  explicit MessageReader(std::string_view bytes) : rest_(bytes) {}

  /// Goes to the next field; false at the end or at a fault.
  bool next() {
    uint64_t key;
    if (rest_.empty() || broken_)
      return false;
    if (!readVarint(key) || key > UINT32_MAX)
      return fail();
    field_ = key >> 3;
    bytes_ = {};
    uint64_t value;
    switch (key & 7) {
    case 0:
      return readVarint(value) || fail();
    case 1:
      return take(8);
    case 2:
      return readVarint(value) ? take(value) : fail();
    case 5:
      return take(4);
    default:
      return fail();
    }
  }

  uint64_t field() const { return field_; }
  std::string_view bytes() const { return bytes_; }
  bool broken() const { return broken_; }

private:
  bool fail() {
    broken_ = true;
    return false;
  }
  bool take(uint64_t size) {
    if (size > rest_.size())
      return fail();
    bytes_ = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return true;
  }
  bool readVarint(uint64_t &value) {
    value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      auto byte = static_cast<uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80)
        return true;
    }
    return false;
  }

  std::string_view rest_;
  std::string_view bytes_;
  uint64_t field_ = 0;
  bool broken_ = false;
};

/// One element of darts-clone's double array.
struct Unit {
  uint32_t bits;

  uint32_t label() const { return bits & (0x80000000u | 0xff); }
  bool hasLeaf() const { return (bits >> 8) & 1; }
  uint32_t offset() const { return (bits >> 10) << ((bits & (1u << 9)) >> 6); }
  uint32_t value() const { return bits & 0x7fffffffu; }
};

/// Whether no key can lead a search outside `units`, to a value outside the texts, or to more
/// matches than the library has room for. `units` is not empty.
bool isSoundTrie(const std::vector<Unit> &units, size_t textBytes) {
  // By node: one more than the most matches on a path to it, 0 where none has been found. A node is
  // looked at again only when that grows, so a cycle ends too.
  std::vector<uint8_t> matches(units.size(), 0);
  std::vector<uint32_t> pending;
  auto reach = [&](uint32_t node, uint8_t found) {
    // A search goes on to node ^ byte, which can be anywhere in the node's block of 256.
    if ((node | 0xff) >= units.size() || found > kMaxMatches)
      return false;
    if (matches[node] <= found) {
      matches[node] = static_cast<uint8_t>(found + 1);
      pending.push_back(node);
    }
    return true;
  };
  if (!reach(units[0].offset(), 0))
    return false;
  while (!pending.empty()) {
    uint32_t node = pending.back();
    pending.pop_back();
    auto found = static_cast<uint8_t>(matches[node] - 1);
    for (uint32_t byte = 0; byte < 256; ++byte) {
      uint32_t place = node ^ byte;
      Unit unit = units[place];
      if (unit.label() != byte)
        continue;
      uint32_t child = place ^ unit.offset();
      if (!reach(child, static_cast<uint8_t>(found + unit.hasLeaf())))
        return false;
      if (unit.hasLeaf() && units[child].value() >= textBytes)
        return false;
    }
  }
  return true;
}

/// The table: the trie's size in bytes, the trie, then texts that each end with a zero byte.
std::string checkTable(std::string_view table) {
  if (table.empty())
    return "";
  if (table.size() > kMaxTableBytes)
    return "its normalization table has " + std::to_string(table.size()) +
           " bytes, expected at most " + std::to_string(kMaxTableBytes);
  constexpr const char *kBroken = "its normalization table is damaged";
  uint32_t trieBytes;
  if (table.size() <= sizeof(trieBytes))
    return kBroken;
  std::memcpy(&trieBytes, table.data(), sizeof(trieBytes));
  table.remove_prefix(sizeof(trieBytes));
  if (trieBytes == 0 || trieBytes >= table.size() || trieBytes % sizeof(Unit) != 0 ||
      table.back() != '\0')
    return kBroken;
  std::vector<Unit> units(trieBytes / sizeof(Unit));
  std::memcpy(units.data(), table.data(), trieBytes);
  return isSoundTrie(units, table.size() - trieBytes) ? "" : kBroken;
}

} // namespace

std::string checkSentencePieceModel(std::string_view model) {
  MessageReader reader(model);
  while (reader.next()) {
    if (reader.field() != kNormalizerSpec && reader.field() != kDenormalizerSpec)
      continue;
    MessageReader spec(reader.bytes());
    while (spec.next())
      if (spec.field() == kPrecompiledCharsmap)
        if (std::string why = checkTable(spec.bytes()); !why.empty())
          return why;
    if (spec.broken())
      return "its normalizer is no protocol buffer";
  }
  return reader.broken() ? "it is no protocol buffer" : "";
}

} // namespace switchyard

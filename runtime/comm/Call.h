// One collective call as a backend sees it, and what the ranks of a group must agree about before
// any byte moves.
#pragma once

#include "runtime/comm/Communicator.h"

namespace switchyard::comm {

enum class Op : uint8_t {
  None,
  AllGather,
  ReduceScatter,
  AllReduce,
  AllToAllV,
  ExchangeCounts,
  Broadcast,
  Barrier,
  DeviceWait, // no call: a rank waits for its GPU
};

/// "all_gather", "all_to_all_v", ...
std::string_view name(Op op);
std::string_view name(Reduction reduction);

/// What a rank says of its call to the others, as bytes. Ranks agree if `terms` are equal.
struct Header {
  struct Terms {
    Op op = Op::None;
    Reduction reduction = Reduction::Sum;
    kernels::DType dtype = kernels::DType::F32; // of the first transfer, of rows that are added
    uint8_t adds = 0;
    uint8_t zero[4] = {};
    int64_t transfers = 0; // transfers, or pieces per rank of an allToAllV
    int64_t count =
        0; // elements of the first transfer, bytes of a broadcast or row, counts per rank
    int64_t root = 0;
    uint64_t fingerprint = 0; // of all dtypes and counts
    bool operator==(const Terms &) const = default;
  } terms;
  int64_t instruction = -1;
  char program[48] = {};  // ends in 0
  char problem[160] = {}; // ends in 0; not empty: this rank's arguments are wrong, and how
};

/// The arguments of a call; which of them are used depends on the op.
struct Call {
  Header header;
  std::span<const Transfer> transfers;
  std::span<const std::byte> send;
  std::span<std::byte> receive;
  Rows sendRows;
  Rows receiveRows;
  int64_t rowBytes = 0;
  bool adds = false;

  Op op() const { return header.terms.op; }
  int root() const { return static_cast<int>(header.terms.root); }
  /// Of an allToAllV, per rank.
  int64_t pieces() const { return header.terms.transfers; }
  void say(const std::string &problem);
};

/// The row at which a piece starts: `piece` = rank * pieces per rank + its number.
int64_t offsetOf(const Rows &rows, int64_t piece);

/// One rank's side of a call. Counts are those of an allToAllV.
struct Posted {
  const Header *header = nullptr;
  std::span<const int64_t> sendCounts;
  std::span<const int64_t> receiveCounts;
};

/// Whether a group's ranks agree, from what all of them posted: the same on every rank. Messages
/// name the ranks by their numbers in the world.
Status agree(std::span<const Posted> posted, std::span<const int> worldRanks);

/// The same of the counts of an allToAllV, after agree().
Status agreeRows(std::span<const Posted> posted, std::span<const int> worldRanks);

/// Copies what is not there already.
void copyBytes(void *to, const void *from, int64_t bytes);

/// Copies rows that an allToAllV receives, or adds them.
void receiveBytes(const Call &call, void *to, const void *from, int64_t bytes);

inline std::byte *at(void *base, int64_t bytes) {
  return base ? static_cast<std::byte *>(base) + bytes : nullptr;
}
inline const std::byte *at(const void *base, int64_t bytes) {
  return base ? static_cast<const std::byte *>(base) + bytes : nullptr;
}

} // namespace switchyard::comm

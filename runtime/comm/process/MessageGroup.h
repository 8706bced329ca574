// A group whose ranks are processes that send each other messages. What a collective does is here,
// the same for every way of sending: reductions are done by the ranks themselves, in rank order.
#pragma once

#include "runtime/comm/Call.h"
#include "runtime/comm/RankTable.h"

#include <algorithm>

namespace switchyard::comm {

/// How bytes go between the members of a group. Two members' messages match in the order in which
/// they are started. A failure means that a rank is lost; it is returned late enough for the watch,
/// which knows which one, to end the process.
class Messages {
public:
  virtual ~Messages() = default;

  /// Start to send or receive; the memory is in use until wait() returns. `bytes` may be 0.
  virtual Status send(int member, const void *data, int64_t bytes) = 0;
  virtual Status receive(int member, void *data, int64_t bytes) = 0;

  /// Returns when all that was started is done.
  virtual Status wait() = 0;

  /// Makes room for as many messages at once to and from each member.
  virtual void reserve(int64_t messages) = 0;

  /// Gives back what the way of sending holds; nothing may be sent afterwards.
  virtual void close() = 0;

  /// Bytes of host memory.
  virtual uint64_t memoryBytes() const = 0;
};

/// Sleeps for the time in which the watch ends the process, if `status` is a failure; returns it.
Status afterTheWatch(Status status);

/// A part of a piece of rows that goes in one message.
struct Chunk {
  int64_t piece = 0;
  int64_t begin = 0; // its first byte in the piece
  int64_t bytes = 0; // 0: there is none left

  /// Goes on to the next one of at most `most` bytes, where piece i has `bytesOf(i)`; false if
  /// there is none.
  template <typename BytesOf>
  bool next(int64_t pieces, int64_t most, const BytesOf &bytesOf) {
    begin += bytes;
    bytes = 0;
    for (; piece < pieces; ++piece, begin = 0)
      if (begin < bytesOf(piece)) {
        bytes = std::min(most, bytesOf(piece) - begin);
        return true;
      }
    return false;
  }
};

class MessageGroup final : public Group {
public:
  MessageGroup(std::shared_ptr<RankTable> table, const std::shared_ptr<const GroupMembers> &members,
               int worldRank, std::unique_ptr<Messages> messages, int64_t scratchBytes);

  void reserveRows(int64_t pieces) override;
  void close() { messages_->close(); }
  uint64_t memoryBytes() const;

private:
  Status run(const Call &call) override;
  Status exchangeHeaders(const Call &call);
  Status exchangeRowCounts(const Call &call);
  Status shareAll(void *all, int64_t bytes);
  Status allGatherTransfers(const Call &call);
  template <typename SliceOf>
  Status reduceSlices(const Call &call, const Transfer &transfer, const SliceOf &sliceOf, void *to);
  Status reduceScatterTransfer(const Call &call, const Transfer &transfer);
  Status allReduceTransfer(const Call &call, const Transfer &transfer);
  Status exchangeRows(const Call &call);
  Status addRows(const Call &call);
  Status exchangeCountsOf(const Call &call);
  Status broadcastBytes(const Call &call);

  std::unique_ptr<Messages> messages_;
  std::vector<Header> headers_; // by rank
  std::vector<int64_t> counts_; // of an allToAllV by rank: the counts sent, the counts received
  std::vector<Chunk> chunks_;   // of addRows by rank: those received, those sent
  std::vector<std::byte> scratch_;
  std::vector<Posted> posted_;
  std::vector<const void *> sources_;
};

} // namespace switchyard::comm

#include "runtime/comm/process/MessageGroup.h"

#include "runtime/comm/Reduce.h"

#include <ctime>

namespace switchyard::comm {
namespace {

/// A part of a buffer in elements.
struct Slice {
  int64_t begin;
  int64_t count;
};

const std::byte *sent(const Call &call, int r, int64_t j) {
  return at(call.send.data(), offsetOf(call.sendRows, r * call.pieces() + j) * call.rowBytes);
}
std::byte *received(const Call &call, int r, int64_t j) {
  return at(call.receive.data(), offsetOf(call.receiveRows, r * call.pieces() + j) * call.rowBytes);
}
int64_t bytesSent(const Call &call, int r, int64_t j) {
  return call.sendRows.counts[r * call.pieces() + j] * call.rowBytes;
}
int64_t bytesReceived(const Call &call, int r, int64_t j) {
  return call.receiveRows.counts[r * call.pieces() + j] * call.rowBytes;
}

void receiveOwnRows(const Call &call, int self) {
  for (int64_t j = 0; j < call.pieces(); ++j)
    receiveBytes(call, received(call, self, j), sent(call, self, j), bytesSent(call, self, j));
}

} // namespace

Status afterTheWatch(Status status) {
  if (!status.ok()) {
    timespec time{0, 999'999'000};
    nanosleep(&time, nullptr);
  }
  return status;
}

MessageGroup::MessageGroup(std::shared_ptr<RankTable> table,
                           const std::shared_ptr<const GroupMembers> &members, int worldRank,
                           std::unique_ptr<Messages> messages, int64_t scratchBytes)
    : Group(std::move(table), members, worldRank), messages_(std::move(messages)),
      headers_(members->ranks.size()), chunks_(2 * members->ranks.size()),
      posted_(members->ranks.size()), sources_(members->ranks.size()) {
  // A group of one reduces without scratch.
  if (members->ranks.size() > 1)
    scratch_.resize(static_cast<size_t>(scratchBytes));
  messages_->reserve(16);
}

void MessageGroup::reserveRows(int64_t pieces) {
  auto count = static_cast<size_t>(size());
  auto all = static_cast<size_t>(pieces) * count;
  if (counts_.size() < 2 * all * count)
    counts_.resize(2 * all * count);
  messages_->reserve(pieces);
}

uint64_t MessageGroup::memoryBytes() const {
  return sizeof(*this) + messages_->memoryBytes() + headers_.capacity() * sizeof(Header) +
         scratch_.capacity() + counts_.capacity() * sizeof(int64_t) +
         chunks_.capacity() * sizeof(Chunk) + posted_.capacity() * sizeof(Posted) +
         sources_.capacity() * sizeof(void *);
}

Status MessageGroup::run(const Call &call) {
  SY_RETURN_IF_ERROR(exchangeHeaders(call));
  SY_RETURN_IF_ERROR(agree(posted_, ranks()));
  if (call.op() == Op::AllToAllV) {
    SY_RETURN_IF_ERROR(exchangeRowCounts(call));
    SY_RETURN_IF_ERROR(agreeRows(posted_, ranks()));
  }
  switch (call.op()) {
  case Op::AllGather:
    return allGatherTransfers(call);
  case Op::ReduceScatter:
    for (const Transfer &transfer : call.transfers)
      SY_RETURN_IF_ERROR(reduceScatterTransfer(call, transfer));
    return {};
  case Op::AllReduce:
    for (const Transfer &transfer : call.transfers)
      SY_RETURN_IF_ERROR(allReduceTransfer(call, transfer));
    return {};
  case Op::AllToAllV:
    return call.adds ? addRows(call) : exchangeRows(call);
  case Op::ExchangeCounts:
    return exchangeCountsOf(call);
  case Op::Broadcast:
    return broadcastBytes(call);
  case Op::None:
  case Op::DeviceWait:
  case Op::Barrier: // to have every rank's header is a barrier
    return {};
  }
  return {};
}

Status MessageGroup::exchangeHeaders(const Call &call) {
  headers_[rank()] = call.header;
  SY_RETURN_IF_ERROR(shareAll(headers_.data(), sizeof(Header)));
  for (int r = 0; r < size(); ++r)
    posted_[r].header = &headers_[r];
  return {};
}

/// Every rank learns every rank's counts.
Status MessageGroup::exchangeRowCounts(const Call &call) {
  reserveRows(call.pieces());
  size_t count = call.sendRows.counts.size();
  auto countsOf = [&](int r) { return std::span(counts_).subspan(r * 2 * count, 2 * count); };
  std::ranges::copy(call.sendRows.counts, countsOf(rank()).begin());
  std::ranges::copy(call.receiveRows.counts, countsOf(rank()).subspan(count).begin());
  SY_RETURN_IF_ERROR(shareAll(counts_.data(), static_cast<int64_t>(2 * count * sizeof(int64_t))));
  for (int r = 0; r < size(); ++r) {
    posted_[r].sendCounts = countsOf(r).first(count);
    posted_[r].receiveCounts = countsOf(r).subspan(count);
  }
  return {};
}

/// Gathers `bytes` bytes of every rank, which lie in their place in `all` already.
Status MessageGroup::shareAll(void *all, int64_t bytes) {
  for (int r = 0; r < size(); ++r)
    if (r != rank())
      SY_RETURN_IF_ERROR(messages_->receive(r, at(all, r * bytes), bytes));
  for (int r = 0; r < size(); ++r)
    if (r != rank())
      SY_RETURN_IF_ERROR(messages_->send(r, at(all, rank() * bytes), bytes));
  return messages_->wait();
}

Status MessageGroup::allGatherTransfers(const Call &call) {
  for (const Transfer &transfer : call.transfers) {
    int64_t bytes = transfer.count * kernels::byteSize(transfer.dtype);
    for (int r = 0; r < size(); ++r)
      if (r != rank())
        SY_RETURN_IF_ERROR(messages_->receive(r, at(transfer.receive, r * bytes), bytes));
  }
  for (const Transfer &transfer : call.transfers) {
    int64_t bytes = transfer.count * kernels::byteSize(transfer.dtype);
    copyBytes(at(transfer.receive, rank() * bytes), transfer.send, bytes);
    for (int r = 0; r < size(); ++r)
      if (r != rank())
        SY_RETURN_IF_ERROR(messages_->send(r, transfer.send, bytes));
  }
  return messages_->wait();
}

/// Reduces every rank's slice `sliceOf(r)` of all send buffers on rank r, into `to` of r. The
/// slices differ by one element at most; they go in pieces that fit the scratch.
template <typename SliceOf>
Status MessageGroup::reduceSlices(const Call &call, const Transfer &transfer,
                                  const SliceOf &sliceOf, void *to) {
  int64_t element = kernels::byteSize(transfer.dtype);
  int64_t piece = static_cast<int64_t>(scratch_.size()) / size() / 64 * 64 / element;
  if (size() == 1)
    piece = transfer.count;
  int64_t longest = 0;
  for (int r = 0; r < size(); ++r)
    longest = std::max(longest, sliceOf(r).count);
  for (int64_t begin = 0; begin < longest; begin += piece) {
    auto lengthOf = [&](int r) { return std::clamp<int64_t>(sliceOf(r).count - begin, 0, piece); };
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) {
        sources_[r] = at(transfer.send, (sliceOf(r).begin + begin) * element);
        continue;
      }
      sources_[r] = scratch_.data() + r * piece * element;
      SY_RETURN_IF_ERROR(
          messages_->receive(r, scratch_.data() + r * piece * element, lengthOf(rank()) * element));
      SY_RETURN_IF_ERROR(messages_->send(r, at(transfer.send, (sliceOf(r).begin + begin) * element),
                                         lengthOf(r) * element));
    }
    SY_RETURN_IF_ERROR(messages_->wait());
    if (lengthOf(rank()) > 0)
      reduceInOrder(transfer.dtype, call.header.terms.reduction, sources_, lengthOf(rank()),
                    at(to, begin * element));
  }
  return {};
}

Status MessageGroup::reduceScatterTransfer(const Call &call, const Transfer &transfer) {
  auto sliceOf = [&](int r) { return Slice{r * transfer.count, transfer.count}; };
  return reduceSlices(call, transfer, sliceOf, transfer.receive);
}

Status MessageGroup::allReduceTransfer(const Call &call, const Transfer &transfer) {
  int64_t element = kernels::byteSize(transfer.dtype);
  auto sliceOf = [&](int r) {
    int64_t begin = transfer.count * r / size();
    return Slice{begin, transfer.count * (r + 1) / size() - begin};
  };
  SY_RETURN_IF_ERROR(
      reduceSlices(call, transfer, sliceOf, at(transfer.receive, sliceOf(rank()).begin * element)));
  Slice mine = sliceOf(rank());
  for (int r = 0; r < size(); ++r) {
    if (r == rank())
      continue;
    SY_RETURN_IF_ERROR(messages_->receive(r, at(transfer.receive, sliceOf(r).begin * element),
                                          sliceOf(r).count * element));
    SY_RETURN_IF_ERROR(
        messages_->send(r, at(transfer.receive, mine.begin * element), mine.count * element));
  }
  return messages_->wait();
}

Status MessageGroup::exchangeRows(const Call &call) {
  for (int r = 0; r < size(); ++r)
    for (int64_t j = 0; j < call.pieces() && r != rank(); ++j)
      SY_RETURN_IF_ERROR(messages_->receive(r, received(call, r, j), bytesReceived(call, r, j)));
  for (int r = 0; r < size(); ++r)
    for (int64_t j = 0; j < call.pieces() && r != rank(); ++j)
      SY_RETURN_IF_ERROR(messages_->send(r, sent(call, r, j), bytesSent(call, r, j)));
  receiveOwnRows(call, rank());
  return messages_->wait();
}

/// What arrives goes through the scratch, in chunks that fit it, to be added.
Status MessageGroup::addRows(const Call &call) {
  receiveOwnRows(call, rank());
  int64_t slot = static_cast<int64_t>(scratch_.size()) / size() / 64 * 64;
  std::ranges::fill(chunks_, Chunk());
  for (bool isDone = false; !isDone;) {
    isDone = true;
    for (int r = 0; r < size(); ++r) {
      if (r == rank())
        continue;
      Chunk &in = chunks_[r], &out = chunks_[size() + r];
      auto receivedBytes = [&](int64_t j) { return bytesReceived(call, r, j); };
      auto sentBytes = [&](int64_t j) { return bytesSent(call, r, j); };
      if (in.next(call.pieces(), slot, receivedBytes))
        SY_RETURN_IF_ERROR(messages_->receive(r, scratch_.data() + r * slot, in.bytes));
      if (out.next(call.pieces(), slot, sentBytes))
        SY_RETURN_IF_ERROR(messages_->send(r, at(sent(call, r, out.piece), out.begin), out.bytes));
      isDone &= in.bytes == 0 && out.bytes == 0;
    }
    SY_RETURN_IF_ERROR(messages_->wait());
    for (int r = 0; r < size(); ++r)
      if (const Chunk &in = chunks_[r]; in.bytes > 0)
        receiveBytes(call, at(received(call, r, in.piece), in.begin), scratch_.data() + r * slot,
                     in.bytes);
  }
  return {};
}

Status MessageGroup::exchangeCountsOf(const Call &call) {
  auto bytes = static_cast<int64_t>(call.send.size()) / size();
  for (int r = 0; r < size(); ++r)
    if (r != rank())
      SY_RETURN_IF_ERROR(messages_->receive(r, at(call.receive.data(), r * bytes), bytes));
  for (int r = 0; r < size(); ++r)
    if (r != rank())
      SY_RETURN_IF_ERROR(messages_->send(r, at(call.send.data(), r * bytes), bytes));
  copyBytes(at(call.receive.data(), rank() * bytes), at(call.send.data(), rank() * bytes), bytes);
  return messages_->wait();
}

Status MessageGroup::broadcastBytes(const Call &call) {
  auto bytes = static_cast<int64_t>(call.receive.size());
  if (rank() != call.root()) {
    SY_RETURN_IF_ERROR(messages_->receive(call.root(), call.receive.data(), bytes));
    return messages_->wait();
  }
  for (int r = 0; r < size(); ++r)
    if (r != rank())
      SY_RETURN_IF_ERROR(messages_->send(r, call.receive.data(), bytes));
  return messages_->wait();
}

} // namespace switchyard::comm

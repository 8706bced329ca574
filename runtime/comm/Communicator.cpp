#include "runtime/comm/Communicator.h"

#include "runtime/comm/DeviceGroup.h"
#include "runtime/comm/RankTable.h"
#include "runtime/core/Fingerprint.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <numeric>

namespace switchyard {

using comm::Call;
using comm::Op;

namespace {

/// No buffer is larger: products below cannot overflow.
constexpr int64_t kMaxBytes = int64_t{1} << 48;

Call callOf(Op op, Where where) {
  Call call;
  call.header.terms.op = op;
  call.header.instruction = where.instruction;
  size_t length = std::min(where.program.size(), sizeof(call.header.program) - 1);
  std::copy_n(where.program.data(), length, call.header.program); // may be null
  return call;
}

bool overlap(const void *a, int64_t aBytes, const void *b, int64_t bBytes) {
  auto aBegin = reinterpret_cast<uintptr_t>(a);
  auto bBegin = reinterpret_cast<uintptr_t>(b);
  return aBytes > 0 && bBytes > 0 && aBegin < bBegin + static_cast<uint64_t>(bBytes) &&
         bBegin < aBegin + static_cast<uint64_t>(aBytes);
}

/// What is wrong with a transfer whose send buffer has `sendParts` times its count and whose
/// receive buffer `receiveParts` times; in place, the two begin `inPlaceBytes` apart (receive minus
/// send). Empty if nothing is.
std::string problemOf(const Transfer &transfer, int64_t sendParts, int64_t receiveParts,
                      int64_t inPlaceParts) {
  int64_t element = kernels::byteSize(transfer.dtype);
  int64_t parts = std::max(sendParts, receiveParts);
  if (transfer.count < 0 || transfer.count > kMaxBytes / element / parts)
    return fmt::format("the count is {}, not in [0, 2^48 bytes]", transfer.count);
  if (transfer.count == 0)
    return "";
  if (!transfer.send || !transfer.receive)
    return fmt::format("the {} buffer of {} elements is null", transfer.send ? "receive" : "send",
                       transfer.count);
  auto send = reinterpret_cast<intptr_t>(transfer.send);
  auto receive = reinterpret_cast<intptr_t>(transfer.receive);
  if (send % element != 0 || receive % element != 0)
    return fmt::format("the {} buffer is not aligned to the {} bytes of {}",
                       send % element ? "send" : "receive", element, kernels::name(transfer.dtype));
  int64_t bytes = transfer.count * element;
  if (receive - send != inPlaceParts * bytes &&
      overlap(transfer.send, sendParts * bytes, transfer.receive, receiveParts * bytes))
    return fmt::format("send and receive overlap by less than in place allows (receive is {} bytes "
                       "from send, in place it is {})",
                       receive - send, inPlaceParts * bytes);
  return "";
}

/// Sets the call's terms from its transfers, and checks them.
void describeTransfers(Call &call, std::span<const Transfer> transfers, int64_t sendParts,
                       int64_t receiveParts, int64_t inPlaceParts) {
  call.transfers = transfers;
  comm::Header::Terms &terms = call.header.terms;
  terms.transfers = static_cast<int64_t>(transfers.size());
  for (size_t i = 0; i < transfers.size(); ++i) {
    const Transfer &transfer = transfers[i];
    int64_t words[] = {static_cast<int64_t>(transfer.dtype), transfer.count};
    terms.fingerprint = fingerprint({reinterpret_cast<const char *>(words), sizeof(words)},
                                    i == 0 ? 0 : terms.fingerprint);
    std::string problem = problemOf(transfer, sendParts, receiveParts, inPlaceParts);
    if (problem.empty() || call.header.problem[0])
      continue;
    call.say(transfers.size() == 1 ? problem : fmt::format("buffer {}: {}", i, problem));
  }
  if (!transfers.empty()) {
    terms.dtype = transfers[0].dtype;
    terms.count = transfers[0].count;
  }
}

/// "rank 2 of the group", and its piece where it has several.
std::string pieceText(int64_t piece, int64_t pieces) {
  std::string text = fmt::format("rank {} of the group", piece / pieces);
  return pieces == 1 ? text : text + fmt::format(", piece {}", piece % pieces);
}

/// The first piece of rows that are received which lies over those before it, if pieces are gone
/// through in the order `at`; or -1.
template <typename At>
int64_t overlapOf(const Rows &rows, const At &at) {
  int64_t end = 0;
  for (int64_t i = 0; i < static_cast<int64_t>(rows.counts.size()); ++i) {
    int64_t piece = at(i);
    if (rows.counts[piece] == 0)
      continue;
    if (rows.offsets[piece] < end)
      return piece;
    end = rows.offsets[piece] + rows.counts[piece];
  }
  return -1;
}

std::string problemOf(std::string_view side, const Rows &rows, int groupSize, int64_t rowBytes,
                      size_t bufferBytes) {
  auto size = static_cast<size_t>(groupSize);
  size_t count = rows.counts.size();
  if (count == 0 || count % size != 0 || (!rows.offsets.empty() && rows.offsets.size() != count))
    return fmt::format("{} has {} counts and {} offsets for a group of {}", side, count,
                       rows.offsets.size(), size);
  auto capacity = static_cast<int64_t>(bufferBytes / static_cast<uint64_t>(rowBytes));
  int64_t end = 0;
  for (size_t i = 0; i < count; ++i) {
    int64_t number = rows.counts[i];
    int64_t offset = rows.offsets.empty() ? end : rows.offsets[i];
    if (number < 0 || offset < 0 || number > capacity || offset > capacity - number)
      return fmt::format(
          "{} {} rows at row {} for {}, where the buffer holds {}", side, number, offset,
          pieceText(static_cast<int64_t>(i), static_cast<int64_t>(count / size)), capacity);
    end = offset + number;
  }
  return "";
}

/// What is wrong with the rows of an allToAllV whose row has `rowBytes` > 0; empty if nothing is.
std::string problemOfRows(const Call &call, int groupSize) {
  const Rows &sent = call.sendRows, &received = call.receiveRows;
  std::string problem = problemOf("it sends", sent, groupSize, call.rowBytes, call.send.size());
  if (problem.empty())
    problem = problemOf("it receives", received, groupSize, call.rowBytes, call.receive.size());
  if (!problem.empty())
    return problem;
  int64_t pieces = call.pieces();
  if (sent.counts.size() != received.counts.size())
    return fmt::format("it sends {} pieces to each rank and receives {}, not the same number",
                       pieces, received.counts.size() / static_cast<size_t>(groupSize));
  if (!received.offsets.empty()) {
    int64_t over = overlapOf(received, [](int64_t i) { return i; });
    auto byPiece = [&](int64_t i) { return i % groupSize * pieces + i / groupSize; };
    if (over >= 0 && overlapOf(received, byPiece) >= 0)
      return fmt::format("it receives {} rows at row {} for {}, over those of the ranks before",
                         received.counts[over], received.offsets[over], pieceText(over, pieces));
  }
  if (overlap(call.send.data(), static_cast<int64_t>(call.send.size()), call.receive.data(),
              static_cast<int64_t>(call.receive.size())))
    return "send and receive overlap; all_to_all_v is not done in place";
  int64_t element = kernels::byteSize(call.header.terms.dtype);
  auto misaligned = [&](const std::byte *data) {
    return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(element) != 0;
  };
  if (call.adds && (call.rowBytes % element != 0 || misaligned(call.send.data()) ||
                    misaligned(call.receive.data())))
    return fmt::format("rows of {} bytes that are added are not whole, aligned {} elements",
                       call.rowBytes, kernels::name(call.header.terms.dtype));
  return "";
}

} // namespace

Group::Group(std::shared_ptr<comm::RankTable> table,
             std::shared_ptr<const comm::GroupMembers> members, int worldRank)
    : table_(std::move(table)), members_(std::move(members)), worldRank_(worldRank),
      rank_(static_cast<int>(std::ranges::find(members_->ranks, worldRank) -
                             members_->ranks.begin())) {}

Group::~Group() = default;

int Group::size() const {
  return static_cast<int>(members_->ranks.size());
}

std::span<const int> Group::ranks() const {
  return members_->ranks;
}

Status Group::execute(Call &call) {
  table_->enter(worldRank_, members_->id, call.header);
  Status status = run(call);
  table_->leave(worldRank_, members_->id);
  if (status.ok())
    return status;
  const comm::Header &header = call.header;
  std::string place(header.program[0] ? header.program : "start");
  if (header.instruction >= 0)
    place += fmt::format(", instruction {}", header.instruction);
  return status.within(
      fmt::format("{}: {} over ranks {}", place, name(call.op()), fmt::join(ranks(), ", ")));
}

Status Group::allGather(Where where, std::span<const Transfer> transfers) {
  Call call = callOf(Op::AllGather, where);
  describeTransfers(call, transfers, 1, size(), -rank());
  return execute(call);
}

Status Group::reduceScatter(Where where, Reduction reduction, std::span<const Transfer> transfers) {
  Call call = callOf(Op::ReduceScatter, where);
  call.header.terms.reduction = reduction;
  describeTransfers(call, transfers, size(), 1, rank());
  return execute(call);
}

Status Group::allReduce(Where where, Reduction reduction, std::span<const Transfer> transfers) {
  Call call = callOf(Op::AllReduce, where);
  call.header.terms.reduction = reduction;
  describeTransfers(call, transfers, 1, 1, 0);
  return execute(call);
}

Status Group::allToAllV(Where where, int64_t rowBytes, std::span<const std::byte> send,
                        Rows sendRows, std::span<std::byte> receive, Rows receiveRows,
                        std::optional<kernels::DType> added) {
  Call call = callOf(Op::AllToAllV, where);
  comm::Header::Terms &terms = call.header.terms;
  terms.count = rowBytes;
  terms.transfers = static_cast<int64_t>(sendRows.counts.size()) / size();
  terms.adds = added.has_value();
  terms.dtype = added.value_or(kernels::DType::F32);
  call.rowBytes = rowBytes;
  call.adds = added.has_value();
  call.send = send;
  call.receive = receive;
  call.sendRows = sendRows;
  call.receiveRows = receiveRows;
  if (rowBytes < 1 || rowBytes > kMaxBytes)
    call.say(fmt::format("a row has {} bytes, not at least 1", rowBytes));
  else
    call.say(problemOfRows(call, size()));
  return execute(call);
}

Status Group::exchangeCounts(Where where, std::span<const int64_t> send,
                             std::span<int64_t> receive) {
  Call call = callOf(Op::ExchangeCounts, where);
  call.header.terms.count = static_cast<int64_t>(send.size()) / size();
  call.send = std::as_bytes(send);
  call.receive = std::as_writable_bytes(receive);
  if (send.size() != receive.size() || send.size() % static_cast<size_t>(size()) != 0)
    call.say(fmt::format("it sends {} counts and receives {}, not the same multiple of {} ranks",
                         send.size(), receive.size(), size()));
  else if (overlap(send.data(), static_cast<int64_t>(send.size_bytes()), receive.data(),
                   static_cast<int64_t>(receive.size_bytes())))
    call.say("send and receive overlap; counts are not exchanged in place");
  return execute(call);
}

Status Group::broadcast(Where where, std::span<std::byte> data, int root) {
  Call call = callOf(Op::Broadcast, where);
  call.header.terms.count = static_cast<int64_t>(data.size());
  call.header.terms.root = root;
  call.receive = data;
  if (root < 0 || root >= size())
    call.say(fmt::format("the root is rank {} of a group of {}", root, size()));
  return execute(call);
}

Status Group::barrier(Where where) {
  Call call = callOf(Op::Barrier, where);
  return execute(call);
}

Communicator::Communicator(int rank, int size, std::shared_ptr<comm::RankTable> table)
    : rank_(rank), size_(size), table_(std::move(table)) {}

Communicator::~Communicator() = default;

void Communicator::useDevices(std::unique_ptr<DeviceGroups> devices) {
  devices_ = std::move(devices);
}

Status Communicator::finishDevices() {
  return devices_ ? devices_->finish() : Status();
}

Communicator::DeviceWait::DeviceWait(Communicator *communicator)
    : communicator_(communicator && communicator->size() > 1 ? communicator : nullptr) {
  if (!communicator_)
    return;
  comm::RankTable &table = communicator_->table();
  comm::RankState state = table.state(communicator_->rank());
  Call call = callOf(Op::DeviceWait, {state.program, state.instruction});
  table.enter(communicator_->rank(), 0, call.header);
}

Communicator::DeviceWait::~DeviceWait() {
  if (communicator_)
    communicator_->table().leave(communicator_->rank(), 0);
}

void Communicator::setWhere(Where where) {
  table_->setWhere(rank_, where);
}

Status Communicator::addWorld() {
  auto members = std::make_shared<comm::GroupMembers>();
  members->ranks.resize(size_);
  std::iota(members->ranks.begin(), members->ranks.end(), 0);
  table_->addGroups(0, std::vector<int>(size_, 0));
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Group> group, makeGroup(std::move(members)));
  groups_.push_back(std::move(group));
  return world().barrier({});
}

Result<Group *> Communicator::createGroup(std::span<const int> ranks) {
  // Every rank learns every rank's set, so that all of them come to the same verdict.
  bool valid = groups_.size() < kMaxGroups && std::ranges::find(ranks, rank_) != ranks.end();
  for (size_t i = 0; i < ranks.size(); ++i)
    valid &= ranks[i] >= 0 && ranks[i] < size_ && (i == 0 || ranks[i] > ranks[i - 1]);
  std::vector<int32_t> mine(size_, valid ? 0 : -1);
  if (valid)
    for (int rank : ranks)
      mine[rank] = 1;
  auto size = static_cast<size_t>(size_);
  std::vector<int32_t> all(size * size);
  SY_RETURN_IF_ERROR(world().allGather({}, {kernels::DType::I32, mine.data(), all.data(), size_}));

  auto setOf = [&](size_t rank) { return std::span(all).subspan(rank * size, size); };
  for (size_t r = 0; r < size; ++r)
    if (setOf(r)[0] < 0)
      return Status::failed(fmt::format(
          "rank {} cannot make a group: a group is a set of ranks of the world, ascending, with "
          "the rank itself among them, and there are at most {} groups",
          r, kMaxGroups));
  std::vector<int> leaders(size);
  for (size_t r = 0; r < size; ++r) {
    leaders[r] = static_cast<int>(std::ranges::find(setOf(r), 1) - setOf(r).begin());
    for (size_t q = 0; q < size; ++q)
      if (setOf(r)[q] == 1 && !std::ranges::equal(setOf(r), setOf(q)))
        return Status::failed(fmt::format(
            "no group: rank {} says that rank {} is in its group, which gives another set; every "
            "member gives the same one",
            r, q));
  }
  auto members = std::make_shared<comm::GroupMembers>();
  members->id = static_cast<int>(groups_.size());
  members->ranks.assign(ranks.begin(), ranks.end());
  table_->addGroups(members->id, std::move(leaders));
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Group> group, makeGroup(std::move(members)));
  groups_.push_back(std::move(group));
  // The first call sets up what the backend sets up late.
  SY_RETURN_IF_ERROR(groups_.back()->barrier({}));
  if (devices_) {
    SY_ASSIGN_OR_RETURN(groups_.back()->onDevice_, devices_->make(*this, *groups_.back()));
  }
  return groups_.back().get();
}

Status checkOptions(const CommunicatorOptions &options, int size) {
  if (size < 1 || size > Communicator::kMaxRanks)
    return Status::usage(
        fmt::format("{} ranks: there must be 1 to {}", size, Communicator::kMaxRanks));
  if (options.timeout.count() < 10 || options.timeout > std::chrono::hours(24 * 365))
    return Status::usage(fmt::format("the timeout between ranks is {} ms, not 10 ms to a year",
                                     options.timeout.count()));
  int64_t least = std::max<int64_t>(4096, int64_t{64} * size);
  if (options.scratchBytes < least || options.scratchBytes > kMaxBytes)
    return Status::usage(fmt::format("{} bytes of scratch for a group of {} ranks: at least {} are "
                                     "needed",
                                     options.scratchBytes, size, least));
  if (options.failureFolder.empty())
    return {};
  std::error_code error;
  std::filesystem::create_directories(options.failureFolder, error);
  if (error)
    return Status::failed(fmt::format("{}: the folder for records of lost ranks cannot be made: {}",
                                      options.failureFolder, error.message()));
  return {};
}

} // namespace switchyard

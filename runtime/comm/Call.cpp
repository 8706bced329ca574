#include "runtime/comm/Call.h"

#include "runtime/comm/Reduce.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

namespace switchyard::comm {

std::string_view name(Op op) {
  switch (op) {
  case Op::None:
    return "";
  case Op::AllGather:
    return "all_gather";
  case Op::ReduceScatter:
    return "reduce_scatter";
  case Op::AllReduce:
    return "all_reduce";
  case Op::AllToAllV:
    return "all_to_all_v";
  case Op::ExchangeCounts:
    return "exchange_counts";
  case Op::Broadcast:
    return "broadcast";
  case Op::Barrier:
    return "barrier";
  case Op::DeviceWait:
    return "a wait for its GPU";
  }
  return "an unknown collective";
}

std::string_view name(Reduction reduction) {
  return reduction == Reduction::Sum ? "sum" : "max";
}

void Call::say(const std::string &problem) {
  size_t length = std::min(problem.size(), sizeof(header.problem) - 1);
  std::memcpy(header.problem, problem.data(), length);
  header.problem[length] = 0;
}

int64_t offsetOf(const Rows &rows, int64_t piece) {
  if (!rows.offsets.empty())
    return rows.offsets[piece];
  int64_t offset = 0;
  for (int64_t before = 0; before < piece; ++before)
    offset += rows.counts[before];
  return offset;
}

void copyBytes(void *to, const void *from, int64_t bytes) {
  if (bytes > 0 && to != from)
    std::memcpy(to, from, static_cast<size_t>(bytes));
}

void receiveBytes(const Call &call, void *to, const void *from, int64_t bytes) {
  if (!call.adds)
    return copyBytes(to, from, bytes);
  const void *sources[] = {to, from};
  kernels::DType dtype = call.header.terms.dtype;
  if (bytes > 0)
    reduceInOrder(dtype, Reduction::Sum, sources, bytes / kernels::byteSize(dtype), to);
}

namespace {

std::string placeOf(const Header &header) {
  std::string place = header.program[0] ? header.program : "the start";
  return header.instruction < 0 ? place
                                : fmt::format("{}, instruction {}", place, header.instruction);
}

std::string describe(const Header &header) {
  const Header::Terms &terms = header.terms;
  std::string text(name(terms.op));
  switch (terms.op) {
  case Op::ReduceScatter:
  case Op::AllReduce:
    text += fmt::format(" ({})", name(terms.reduction));
    [[fallthrough]];
  case Op::AllGather:
    if (terms.transfers > 0)
      text += fmt::format(" of {} {}", terms.count, kernels::name(terms.dtype));
    if (terms.transfers != 1)
      text += fmt::format(" and others, {} buffers", terms.transfers);
    break;
  case Op::AllToAllV:
    text += fmt::format(" of rows of {} bytes in {} pieces per rank", terms.count, terms.transfers);
    if (terms.adds)
      text += fmt::format(", adding {}", kernels::name(terms.dtype));
    break;
  case Op::ExchangeCounts:
    text += fmt::format(" of {} per rank", terms.count);
    break;
  case Op::Broadcast:
    text += fmt::format(" of {} bytes from rank {} of the group", terms.count, terms.root);
    break;
  case Op::None:
  case Op::Barrier:
  case Op::DeviceWait:
    break;
  }
  return fmt::format("{} at {}", text, placeOf(header));
}

} // namespace

Status agree(std::span<const Posted> posted, std::span<const int> worldRanks) {
  for (size_t r = 0; r < posted.size(); ++r)
    if (posted[r].header->problem[0])
      return Status::failed(
          fmt::format("on rank {}, {}", worldRanks[r], posted[r].header->problem));
  for (size_t r = 1; r < posted.size(); ++r)
    if (posted[r].header->terms != posted[0].header->terms)
      return Status::failed(fmt::format(
          "the ranks disagree: rank {} calls {}, rank {} calls {}; all ranks of a group must make "
          "the same calls in the same order",
          worldRanks[0], describe(*posted[0].header), worldRanks[r], describe(*posted[r].header)));
  return {};
}

Status agreeRows(std::span<const Posted> posted, std::span<const int> worldRanks) {
  auto pieces = static_cast<size_t>(posted[0].header->terms.transfers);
  for (size_t s = 0; s < posted.size(); ++s)
    for (size_t r = 0; r < posted.size(); ++r)
      for (size_t j = 0; j < pieces; ++j) {
        int64_t sent = posted[s].sendCounts[r * pieces + j];
        int64_t expected = posted[r].receiveCounts[s * pieces + j];
        if (sent != expected)
          return Status::failed(fmt::format(
              "rank {} sends {} rows{} to rank {}, which expects {}", worldRanks[s], sent,
              pieces > 1 ? fmt::format(" in piece {}", j) : "", worldRanks[r], expected));
      }
  return {};
}

} // namespace switchyard::comm

#include "runtime/plan/Traffic.h"

#include "runtime/plan/Layout.h"

namespace switchyard {

uint64_t bytesSent(CollectiveKind kind, int64_t ranks, uint64_t bytes) {
  auto n = static_cast<uint64_t>(ranks);
  return kind == CollectiveKind::AllReduce ? 2 * bytes / n * (n - 1) + 2 * bytes % n * (n - 1) / n
                                           : (n - 1) * bytes;
}

uint64_t sentBytes(const TrafficByKind &traffic) {
  uint64_t sum = 0;
  for (const Traffic &each : traffic)
    sum += each.bytes;
  return sum;
}

namespace {

/// The pair of which one rank's part counts: what is gathered, or scattered.
uint32_t partOf(const CollectiveInstruction &collective, size_t pair) {
  bool isOutput = collective.kind == CollectiveKind::ReduceScatter;
  return collective.operands[2 * pair + (isOutput ? 1 : 0)];
}

} // namespace

CollectiveBytes bytesOf(const Plan &plan, const Program &program,
                        const CollectiveInstruction &collective, std::span<const int64_t> values) {
  int64_t ranks = plan.mesh.groupSize(collective.axes);
  if (collective.kind == CollectiveKind::TokenExchange ||
      collective.kind == CollectiveKind::TokenReturn) {
    bool isReturn = collective.kind == CollectiveKind::TokenReturn;
    uint64_t bytes = bytesOf(program.buffers[collective.operands[isReturn ? 2 : 0]], values);
    return {bytes - bytes / static_cast<uint64_t>(ranks), bytes};
  }
  uint64_t bytes = 0;
  for (size_t pair = 0; 2 * pair < collective.operands.size(); ++pair)
    bytes += bytesSent(collective.kind, ranks,
                       bytesOf(program.buffers[partOf(collective, pair)], values));
  return {bytes, bytes};
}

ProgramTraffic trafficOf(const Plan &plan, const Program &program,
                         std::span<const int64_t> values) {
  ProgramTraffic result;
  size_t bodyEnd = 0; // instructions before it are in a repeat
  for (size_t i = 0; i < program.instructions.size(); ++i) {
    if (const auto *repeat = std::get_if<RepeatInstruction>(&program.instructions[i]))
      bodyEnd = i + 1 + repeat->length;
    const auto *collective = std::get_if<CollectiveInstruction>(&program.instructions[i]);
    if (!collective)
      continue;
    auto kind = static_cast<size_t>(collective->kind);
    auto [expected, worst] = bytesOf(plan, program, *collective, values);
    ++result.worst[kind].calls;
    result.worst[kind].bytes += worst;
    if (i < bodyEnd)
      continue;
    ++result.expected[kind].calls;
    result.expected[kind].bytes += expected;
  }
  return result;
}

} // namespace switchyard

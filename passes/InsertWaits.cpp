// insert-waits: orders what must be ordered among instructions on different streams, by events.
//
// A map from bytes to who wrote them last and who has read them since says which instructions one
// depends on. Vector clocks (Lamport 1978, Mattern 1989) say which of these it is behind already:
// the clock of a stream has, for each other stream, the number of its instructions that are known
// to be done. A wait is inserted for the others, unless one of them is behind another.

#include "passes/KernelTypes.h"
#include "passes/Passes.h"
#include "passes/PlanInstructions.h"

#include "llvm/ADT/TypeSwitch.h"

#include <array>
#include <map>

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_INSERTWAITS
#include "passes/Passes.h.inc"

namespace {

constexpr uint32_t kStreams = 8;
/// For each stream, a number of instructions: the first so many of it.
using Clock = std::array<int, kStreams>;

/// Bytes [begin, end) of an arena.
struct Range {
  plan::Arena arena;
  int64_t begin, end;
};

/// Where the buffers of a module lie.
class Addresses {
public:
  explicit Addresses(ModuleOp module);

  /// Fails, with a diagnostic, for a buffer without an address.
  FailureOr<Range> rangeOf(Value value);

private:
  SymbolBounds symbols_;
  llvm::DenseMap<StringAttr, std::optional<int64_t>> stateOffsets_;
  llvm::DenseMap<Value, Range> ranges_;
};

Addresses::Addresses(ModuleOp module) : symbols_(module) {
  for (moe::StateOp state : module.getOps<moe::StateOp>()) {
    std::optional<int64_t> offset;
    if (IntegerAttr attribute = state.getOffsetAttr())
      offset = attribute.getInt();
    stateOffsets_[state.getSymNameAttr()] = offset;
  }
}

FailureOr<Range> Addresses::rangeOf(Value value) {
  if (auto known = ranges_.find(value); known != ranges_.end())
    return known->second;
  auto buffer = value.getDefiningOp<plan::BufferOp>();
  std::optional<int64_t> offset = buffer.getStateAttr()
                                      ? stateOffsets_.lookup(buffer.getStateAttr().getAttr())
                                      : buffer.getOffsetValue();
  if (!offset)
    return buffer.emitOpError("has no address yet; run assign-addresses before insert-waits");
  FailureOr<kernels::OperandType> type = operandType(buffer.getTensorType(), symbols_, buffer);
  if (failed(type))
    return failure();
  std::optional<int64_t> bytes = byteSize(*type, symbols_.bounds());
  if (!bytes)
    return buffer.emitOpError("is larger than 2^62 bytes at the symbols' bounds");
  if (IntegerAttr reserve = buffer.getReserveAttr())
    bytes = std::max(*bytes, reserve.getInt() * kernels::byteSize(type->dtype));
  Range range{buffer.getArena(), *offset, *offset + *bytes};
  ranges_.insert({value, range});
  return range;
}

/// Who used the bytes of an arena last.
class LastUses {
public:
  /// Raises `needed` to what an access to [begin, end) depends on.
  void collect(int64_t begin, int64_t end, bool writes, Clock &needed) const;
  /// Enters an access by instruction `number` of `stream`.
  void enter(int64_t begin, int64_t end, bool writes, uint32_t stream, int number);

private:
  struct Segment {
    int64_t end;
    Clock written{}; // the last writer
    Clock read{};    // those that have read since
  };
  void splitAt(int64_t at);

  std::map<int64_t, Segment> segments_; // by begin, without overlaps
};

void LastUses::collect(int64_t begin, int64_t end, bool writes, Clock &needed) const {
  auto segment = segments_.upper_bound(begin);
  if (segment != segments_.begin())
    --segment;
  for (; segment != segments_.end() && segment->first < end; ++segment) {
    if (segment->second.end <= begin)
      continue;
    for (uint32_t stream = 0; stream < kStreams; ++stream) {
      needed[stream] = std::max(needed[stream], segment->second.written[stream]);
      if (writes)
        needed[stream] = std::max(needed[stream], segment->second.read[stream]);
    }
  }
}

void LastUses::splitAt(int64_t at) {
  auto segment = segments_.lower_bound(at);
  if (segment == segments_.begin())
    return;
  --segment;
  if (segment->second.end <= at)
    return;
  segments_.emplace(at, segment->second);
  segment->second.end = at;
}

void LastUses::enter(int64_t begin, int64_t end, bool writes, uint32_t stream, int number) {
  if (begin >= end)
    return;
  splitAt(begin);
  splitAt(end);
  auto first = segments_.lower_bound(begin), last = segments_.lower_bound(end);
  if (writes) {
    segments_.erase(first, last);
    segments_[begin] = {end, {}, {}};
    segments_[begin].written[stream] = number;
    return;
  }
  int64_t at = begin;
  for (auto segment = first; segment != last; ++segment) { // fill the gaps before each, too
    if (at < segment->first)
      segments_[at] = {segment->first, {}, {}};
    at = segment->second.end;
  }
  if (at < end)
    segments_[at] = {end, {}, {}};
  for (auto segment = segments_.lower_bound(begin);
       segment != segments_.end() && segment->first < end; ++segment)
    segment->second.read[stream] = number;
}

bool meetsOthers(Operation *op) {
  return op->walk([](plan::CollectiveOp) { return WalkResult::interrupt(); }).wasInterrupted();
}

uint32_t streamOf(Operation *op) {
  return llvm::TypeSwitch<Operation *, uint32_t>(op)
      .Case<plan::LaunchOp, plan::CopyOp, plan::CollectiveOp, plan::RepeatOp>(
          [](auto instruction) { return instruction.getStream(); });
}

class WaitInserter {
public:
  explicit WaitInserter(Addresses &addresses) : addresses_(addresses) {}

  LogicalResult visit(Operation *op);

private:
  /// The instructions of a stream so far, and the clock at the end of each.
  struct Stream {
    SmallVector<Operation *> instructions;
    std::vector<Clock> clocks;
    Clock clock{};
  };
  void waitFor(const Clock &needed, uint32_t stream, Operation *op);
  Value eventBehind(uint32_t stream, int number);

  Addresses &addresses_;
  LastUses lastUses_[4];
  Stream streams_[kStreams];
  llvm::DenseMap<Operation *, Value> events_;
  uint32_t lastMeeting_ = 0; // the stream of the last collective
  int lastMeetingNumber_ = 0;
};

Value WaitInserter::eventBehind(uint32_t stream, int number) {
  Operation *op = streams_[stream].instructions[number - 1];
  Value &event = events_[op];
  if (!event) {
    OpBuilder builder(op->getContext());
    builder.setInsertionPointAfter(op);
    event = plan::RecordOp::create(builder, op->getLoc(), plan::EventType::get(op->getContext()),
                                   stream);
  }
  return event;
}

/// Puts waits before `op` for those of the needed instructions that its stream is not behind.
void WaitInserter::waitFor(const Clock &needed, uint32_t stream, Operation *op) {
  Clock &clock = streams_[stream].clock;
  SmallVector<uint32_t> awaited;
  for (uint32_t other = 0; other < kStreams; ++other)
    if (other != stream && needed[other] > clock[other])
      awaited.push_back(other);
  auto endOf = [&](uint32_t other) -> const Clock & {
    return streams_[other].clocks[needed[other] - 1];
  };
  OpBuilder builder(op);
  for (uint32_t other : awaited) {
    bool isImplied = llvm::any_of(awaited, [&](uint32_t third) {
      return third != other && endOf(third)[other] >= needed[other];
    });
    if (isImplied)
      continue;
    plan::WaitOp::create(builder, op->getLoc(), eventBehind(other, needed[other]), stream);
    for (uint32_t third = 0; third < kStreams; ++third)
      clock[third] = std::max(clock[third], endOf(other)[third]);
  }
}

LogicalResult WaitInserter::visit(Operation *op) {
  uint32_t stream = streamOf(op);
  Accesses accesses = accessesOf(op);
  SmallVector<Range> reads, writes;
  for (auto [values, ranges] : {std::pair(&accesses.reads, &reads), {&accesses.writes, &writes}})
    for (Value value : *values) {
      FailureOr<Range> range = addresses_.rangeOf(value);
      if (failed(range))
        return failure();
      ranges->push_back(*range);
    }

  Clock needed{};
  for (const Range &range : reads)
    lastUses_[static_cast<int>(range.arena)].collect(range.begin, range.end, false, needed);
  for (const Range &range : writes)
    lastUses_[static_cast<int>(range.arena)].collect(range.begin, range.end, true, needed);
  bool meets = meetsOthers(op);
  if (meets)
    needed[lastMeeting_] = std::max(needed[lastMeeting_], lastMeetingNumber_);
  waitFor(needed, stream, op);

  Stream &own = streams_[stream];
  own.instructions.push_back(op);
  int number = own.clock[stream] = static_cast<int>(own.instructions.size());
  own.clocks.push_back(own.clock);
  for (const Range &range : reads)
    lastUses_[static_cast<int>(range.arena)].enter(range.begin, range.end, false, stream, number);
  for (const Range &range : writes)
    lastUses_[static_cast<int>(range.arena)].enter(range.begin, range.end, true, stream, number);
  if (meets)
    std::tie(lastMeeting_, lastMeetingNumber_) = std::tuple(stream, number);
  return success();
}

struct InsertWaits : impl::InsertWaitsBase<InsertWaits> {
  using InsertWaitsBase::InsertWaitsBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (!hasMesh(module))
      return markAllAnalysesPreserved();
    Addresses addresses(module);
    for (plan::ProgramOp program : module.getOps<plan::ProgramOp>()) {
      if (!program.getBody().getOps<plan::RecordOp>().empty()) {
        program.emitOpError("@") << program.getSymName()
                                 << " has events already; insert-waits runs once";
        return signalPassFailure();
      }
      WaitInserter inserter(addresses);
      for (Operation *op : instructionsOf(program))
        if (failed(inserter.visit(op)))
          return signalPassFailure();
    }
  }
};

} // namespace
} // namespace switchyard::passes

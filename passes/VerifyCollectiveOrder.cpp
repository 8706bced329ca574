// verify-collective-order: proves of a program with streams that no two instructions race, and that
// ranks which meet cannot wait for each other forever.
//
// One walk over the list with a vector clock for each stream, which only events advance. What an
// instruction must be behind is found by address: for each stream, a segment tree over the bytes
// that programs use has the last instruction that read and that wrote them. Nothing is shared with
// insert-waits, which this pass checks.

#include "passes/KernelTypes.h"
#include "passes/Passes.h"

#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace switchyard::passes {

#define GEN_PASS_DEF_VERIFYCOLLECTIVEORDER
#include "passes/Passes.h.inc"

namespace {

constexpr uint32_t kMaxStreams = 8;

/// Bytes of an arena, and places between them in the order of (arena, byte) over all arenas.
struct Extent {
  plan::Arena arena;
  int64_t begin = 0, end = 0;
  int firstPlace = 0, lastPlace = 0;
};

struct Access {
  Value buffer;
  bool writes;
};

/// What an op does with each of its buffers.
void addAccesses(Operation &op, SmallVectorImpl<Access> &accesses) {
  auto add = [&](ValueRange buffers, bool writes) {
    for (Value buffer : buffers)
      accesses.push_back({buffer, writes});
  };
  llvm::TypeSwitch<Operation *>(&op)
      .Case([&](plan::LaunchOp launch) {
        add(launch.getIns(), false);
        add(launch.getUpdates(), true);
        add(launch.getOuts(), true);
        if (launch.getWorkspace())
          add(launch.getWorkspace(), true);
      })
      .Case([&](plan::CopyOp copy) {
        add(copy.getFrom(), false);
        add(copy.getTo(), true);
      })
      .Case([&](plan::CollectiveOp collective) {
        add(collective.getIns(), false);
        add(collective.getUpdates(), true);
        add(collective.getOuts(), true);
      })
      .Case([&](plan::RepeatOp repeat) {
        add(repeat.getAllCounts(), false);
        add(repeat.getRound(), true);
        for (Operation &inner : repeat.getBody().front())
          addAccesses(inner, accesses);
      });
}

std::string axesText(dist::AxesAttr axes) {
  std::string text = "[";
  llvm::raw_string_ostream stream(text);
  llvm::interleaveComma(axes.getAxes(), stream, [&](dist::Axis axis) {
    stream << '"' << dist::stringifyAxis(axis) << '"';
  });
  return text + "]";
}

/// An instruction as messages call it: `launch "add"`, `all_gather over ["fsdp"]`.
std::string textOf(Operation *op) {
  return llvm::TypeSwitch<Operation *, std::string>(op)
      .Case([](plan::LaunchOp launch) { return "launch \"" + launch.getKernel().str() + "\""; })
      .Case([](plan::CollectiveOp collective) {
        return plan::stringifyCollectiveKind(collective.getKind()).str() + " over " +
               axesText(collective.getAxes());
      })
      .Case([](plan::RepeatOp repeat) { return "repeat over " + axesText(repeat.getAxes()); })
      .Default([](Operation *other) { return other->getName().stripDialect().str(); });
}

std::string textOf(Value value, const Extent &extent) {
  auto buffer = value.getDefiningOp<plan::BufferOp>();
  std::string name = plan::stringifyArena(buffer.getArena()).str();
  if (buffer.getStateAttr())
    name += " @" + buffer.getState()->str();
  if (buffer.getPort())
    name += " " + plan::stringifyPort(*buffer.getPort()).str() + " \"" +
            buffer.getPortName()->str() + "\"";
  return llvm::formatv("{0} [{1}, {2})", name, extent.begin, extent.end).str();
}

/// Where the buffers that a module's programs use lie.
class MemoryMap {
public:
  LogicalResult build(ModuleOp module);
  const Extent &operator[](Value value) const { return extents_.find(value)->second; }
  int numPlaces() const { return numPlaces_; }

private:
  FailureOr<Extent> measure(plan::BufferOp buffer);

  std::optional<SymbolBounds> symbols_;
  llvm::DenseMap<StringAttr, moe::StateOp> states_;
  llvm::DenseMap<Value, Extent> extents_;
  int numPlaces_ = 0;
};

FailureOr<Extent> MemoryMap::measure(plan::BufferOp buffer) {
  IntegerAttr offset = buffer.getOffsetAttr();
  if (buffer.getStateAttr())
    offset = states_.lookup(buffer.getStateAttr().getAttr()).getOffsetAttr();
  if (!offset)
    return buffer.emitOpError(
        "has no address yet; run assign-addresses before verify-collective-order");
  RankedTensorType type = buffer.getTensorType();
  FailureOr<kernels::OperandType> operand = operandType(type, *symbols_, buffer);
  if (failed(operand))
    return failure();
  int64_t elementBytes = type.getElementTypeBitWidth() / 8, elements = 1;
  for (const kernels::Extent &dim : operand->shape) {
    int64_t count =
        dim.symbol < 0 ? dim.offset : dim.scale * symbols_->bounds()[dim.symbol] + dim.offset;
    if (__builtin_mul_overflow(elements, count, &elements))
      return buffer.emitOpError("is larger than 2^62 bytes at the symbols' bounds");
  }
  if (IntegerAttr reserve = buffer.getReserveAttr())
    elements = std::max(elements, reserve.getInt());
  Extent extent{buffer.getArena(), offset.getInt(), 0, 0, 0};
  if (__builtin_mul_overflow(elements, elementBytes, &elements) ||
      __builtin_add_overflow(extent.begin, elements, &extent.end))
    return buffer.emitOpError("is larger than 2^62 bytes at the symbols' bounds");
  return extent;
}

LogicalResult MemoryMap::build(ModuleOp module) {
  symbols_.emplace(module);
  for (moe::StateOp state : module.getOps<moe::StateOp>())
    states_[state.getSymNameAttr()] = state;
  std::vector<std::pair<plan::Arena, int64_t>> bounds;
  for (plan::ProgramOp program : module.getOps<plan::ProgramOp>())
    for (auto buffer : program.getBody().front().getOps<plan::BufferOp>()) {
      if (buffer.getBuffer().use_empty())
        continue;
      FailureOr<Extent> extent = measure(buffer);
      if (failed(extent))
        return failure();
      bounds.emplace_back(extent->arena, extent->begin);
      bounds.emplace_back(extent->arena, extent->end);
      extents_.insert({buffer.getBuffer(), *extent});
    }
  llvm::sort(bounds);
  bounds.erase(std::unique(bounds.begin(), bounds.end()), bounds.end());
  auto placeOf = [&](plan::Arena arena, int64_t byte) {
    return static_cast<int>(llvm::lower_bound(bounds, std::pair(arena, byte)) - bounds.begin());
  };
  for (auto &[value, extent] : extents_) {
    extent.firstPlace = placeOf(extent.arena, extent.begin);
    extent.lastPlace = placeOf(extent.arena, extent.end);
  }
  numPlaces_ = static_cast<int>(bounds.size());
  return success();
}

/// For each place, the number of the last instruction that touched it: a segment tree. Numbers only
/// grow, so nothing has to be pushed down.
class LastTouch {
public:
  explicit LastTouch(int numPlaces) {
    while (size_ < numPlaces)
      size_ *= 2;
    whole_.resize(2 * size_);
    some_.resize(2 * size_);
  }
  void touch(const Extent &extent, int number) {
    if (extent.firstPlace < extent.lastPlace)
      touch(1, 0, size_, extent, number);
  }
  /// The largest number in the extent, 0 for none.
  int last(const Extent &extent) const {
    return extent.firstPlace < extent.lastPlace ? last(1, 0, size_, extent) : 0;
  }

private:
  void touch(int node, int low, int high, const Extent &extent, int number) {
    some_[node] = number;
    if (extent.firstPlace <= low && high <= extent.lastPlace) {
      whole_[node] = number;
      return;
    }
    int middle = (low + high) / 2;
    if (extent.firstPlace < middle)
      touch(2 * node, low, middle, extent, number);
    if (middle < extent.lastPlace)
      touch(2 * node + 1, middle, high, extent, number);
  }
  int last(int node, int low, int high, const Extent &extent) const {
    if (extent.firstPlace <= low && high <= extent.lastPlace)
      return some_[node];
    int number = whole_[node], middle = (low + high) / 2;
    if (extent.firstPlace < middle)
      number = std::max(number, last(2 * node, low, middle, extent));
    if (middle < extent.lastPlace)
      number = std::max(number, last(2 * node + 1, middle, high, extent));
    return number;
  }

  int size_ = 1;
  std::vector<int> whole_, some_; // by node: set for all of it; the largest below it
};

/// The proof for one program.
class OrderProof {
public:
  OrderProof(plan::ProgramOp program, const MemoryMap &memory)
      : program_(program), memory_(memory), lastWrite_(memory.numPlaces()) {}

  LogicalResult run();

private:
  using Clock = SmallVector<int, kMaxStreams>;
  struct Stream {
    SmallVector<Operation *> instructions;
    Clock clock = Clock(kMaxStreams, 0); // how many of each stream are done for sure
    std::optional<LastTouch> reads, writes;
  };

  LogicalResult checkForm(Operation &op);
  LogicalResult wait(plan::WaitOp op);
  LogicalResult visit(Operation &op);
  LogicalResult checkRaces(Operation &op, ArrayRef<Access> accesses);
  LogicalResult checkMeeting(Operation &op);
  LogicalResult checkCounts(Operation *op, Value counts, dist::AxesAttr axes);
  LogicalResult checkRepeat(plan::RepeatOp op);
  LogicalResult checkExchange(plan::CollectiveOp op);
  LogicalResult refuseRace(Operation &op, const Access &access, uint32_t stream, int number,
                           bool otherWrites);
  std::string whatIsWrong(Operation *first, Operation *second);
  InFlightDiagnostic error(Operation *op) {
    return op->emitError("verify-collective-order: @") << program_.getSymName() << ": ";
  }

  plan::ProgramOp program_;
  const MemoryMap &memory_;
  Stream streams_[kMaxStreams];
  llvm::DenseMap<Value, Clock> events_;
  SmallVector<Operation *> list_; // instructions, in order
  LastTouch lastWrite_;           // by place in `list_`, from 1, whatever the stream
  Operation *meeting_ = nullptr;  // the last instruction in which ranks meet
  int meetingNumber_ = 0;         // on its stream
};

uint32_t streamOf(Operation *op) {
  return llvm::TypeSwitch<Operation *, uint32_t>(op)
      .Case<plan::LaunchOp, plan::CopyOp, plan::CollectiveOp, plan::RepeatOp, plan::RecordOp,
            plan::WaitOp>([](auto instruction) { return instruction.getStream(); });
}

LogicalResult OrderProof::checkForm(Operation &op) {
  auto repeat = dyn_cast<plan::RepeatOp>(op);
  if (!repeat)
    return success();
  for (Operation &inner : repeat.getBody().front()) {
    if (streamOf(&inner) != repeat.getStream())
      return error(&inner) << textOf(&inner) << " is on stream " << streamOf(&inner) << " inside a "
                           << textOf(repeat) << " on stream " << repeat.getStream()
                           << "; rounds run on the repeat's stream, put it there";
  }
  return success();
}

LogicalResult OrderProof::wait(plan::WaitOp op) {
  auto record = op.getEvent().getDefiningOp<plan::RecordOp>();
  if (record.getStream() == op.getStream())
    return error(op) << "stream " << op.getStream()
                     << " waits for an event of its own, which orders nothing; record the event "
                        "on the stream of the instruction to wait for";
  for (auto [mine, its] : llvm::zip_equal(streams_[op.getStream()].clock, events_[op.getEvent()]))
    mine = std::max(mine, its);
  return success();
}

/// Which of the events between two instructions was meant to order them, and why it does not.
std::string OrderProof::whatIsWrong(Operation *first, Operation *second) {
  uint32_t from = streamOf(first), to = streamOf(second);
  for (auto wait : program_.getBody().getOps<plan::WaitOp>()) {
    auto record = wait.getEvent().getDefiningOp<plan::RecordOp>();
    bool recordsBehind = first->isBeforeInBlock(record);
    bool waitsBefore = wait->isBeforeInBlock(second);
    if (!first->isBeforeInBlock(wait))
      continue;
    if (waitsBefore && wait.getStream() == to && record.getStream() == from && !recordsBehind)
      return llvm::formatv("the event that stream {0} waits for is recorded on stream {1} before "
                           "{2}; record it behind that",
                           to, from, textOf(first));
    if (waitsBefore && wait.getStream() == to && recordsBehind && record.getStream() != from)
      return llvm::formatv("the event that stream {0} waits for is recorded on stream {1}; record "
                           "it on stream {2}",
                           to, record.getStream(), from);
    if (waitsBefore && wait.getStream() != to && recordsBehind && record.getStream() == from)
      return llvm::formatv("stream {0} waits for it, but not stream {1}; put the wait on stream "
                           "{1}",
                           wait.getStream(), to);
    if (!waitsBefore && wait.getStream() == to && recordsBehind && record.getStream() == from)
      return llvm::formatv("stream {0} waits for it only behind {1}; put the wait before that", to,
                           textOf(second));
  }
  return llvm::formatv("stream {0} never waits for it; record an event behind it on stream {1} "
                       "and let stream {0} wait (insert-waits does)",
                       to, from);
}

LogicalResult OrderProof::refuseRace(Operation &op, const Access &access, uint32_t stream,
                                     int number, bool otherWrites) {
  Operation *other = streams_[stream].instructions[number - 1];
  const Extent &mine = memory_[access.buffer];
  SmallVector<Access> others;
  addAccesses(*other, others);
  const auto *touched = llvm::find_if(others, [&](const Access &candidate) {
    const Extent &its = memory_[candidate.buffer];
    return candidate.writes == otherWrites && its.firstPlace < mine.lastPlace &&
           mine.firstPlace < its.lastPlace;
  });
  const char *verb = !access.writes ? "reads" : otherWrites ? "writes" : "overwrites";
  std::string where = textOf(access.buffer, mine);
  if (touched->buffer != access.buffer)
    where += ", which shares memory with " + textOf(touched->buffer, memory_[touched->buffer]) +
             " that ";
  else
    where += ", which ";
  InFlightDiagnostic diagnostic =
      error(&op) << textOf(&op) << " on stream " << streamOf(&op) << " " << verb << " " << where
                 << textOf(other) << " on stream " << stream << (otherWrites ? " writes" : " reads")
                 << ", and nothing orders the two: " << whatIsWrong(other, &op);
  diagnostic.attachNote(other->getLoc()) << "the " << textOf(other) << " is here";
  return diagnostic;
}

LogicalResult OrderProof::checkRaces(Operation &op, ArrayRef<Access> accesses) {
  uint32_t own = streamOf(&op);
  for (uint32_t stream = 0; stream < kMaxStreams; ++stream) {
    Stream &other = streams_[stream];
    int done = streams_[own].clock[stream];
    if (stream == own || static_cast<size_t>(done) == other.instructions.size())
      continue;
    for (const Access &access : accesses) {
      const Extent &extent = memory_[access.buffer];
      if (int number = other.writes->last(extent); number > done)
        return refuseRace(op, access, stream, number, true);
      if (!access.writes)
        continue;
      if (int number = other.reads->last(extent); number > done)
        return refuseRace(op, access, stream, number, false);
    }
  }
  return success();
}

/// Each rank is in a group of every collective, so any two of them share a rank with each other's
/// groups: all have to be in one order.
LogicalResult OrderProof::checkMeeting(Operation &op) {
  bool meets = op.walk([](plan::CollectiveOp) { return WalkResult::interrupt(); }).wasInterrupted();
  if (!meets)
    return success();
  if (meeting_ && streamOf(meeting_) != streamOf(&op) &&
      streams_[streamOf(&op)].clock[streamOf(meeting_)] < meetingNumber_) {
    InFlightDiagnostic diagnostic =
        error(&op) << textOf(&op) << " on stream " << streamOf(&op) << " and " << textOf(meeting_)
                   << " on stream " << streamOf(meeting_)
                   << " have ranks in common and no order, so one rank can start the first and "
                      "another the second, and both wait forever: "
                   << whatIsWrong(meeting_, &op);
    diagnostic.attachNote(meeting_->getLoc()) << "the " << textOf(meeting_) << " is here";
    return diagnostic;
  }
  meeting_ = &op;
  meetingNumber_ = static_cast<int>(streams_[streamOf(&op)].instructions.size()) + 1;
  return success();
}

/// Counts are the same on all ranks of a group if an all_gather over just these ranks wrote them
/// last.
LogicalResult OrderProof::checkCounts(Operation *op, Value counts, dist::AxesAttr axes) {
  const Extent &extent = memory_[counts];
  std::string what = textOf(op) + " takes its counts from " + textOf(counts, extent);
  const char *fix = "; let it take the counts that an all_gather over ";
  int writer = lastWrite_.last(extent);
  if (writer == 0)
    return error(op) << what << ", which nothing has written, so ranks may have different ones"
                     << fix << axesText(axes) << " yields";
  Operation *last = list_[writer - 1];
  SmallVector<Access> accesses;
  addAccesses(*last, accesses);
  if (llvm::none_of(accesses,
                    [&](const Access &access) { return access.writes && access.buffer == counts; }))
    return error(op) << what << ", over which " << textOf(last)
                     << " has written something else; keep the counts as long as they are needed";
  auto gather = dyn_cast<plan::CollectiveOp>(last);
  if (!gather || gather.getKind() != plan::CollectiveKind::AllGather)
    return error(op) << what << ", which " << textOf(last)
                     << " has written, so ranks may have different ones" << fix << axesText(axes)
                     << " yields";
  if (gather.getAxes() != axes)
    return error(op) << what << ", which were gathered over " << axesText(gather.getAxes())
                     << ", so they are not those of its own groups" << fix << axesText(axes)
                     << " yields";
  return success();
}

LogicalResult OrderProof::checkRepeat(plan::RepeatOp op) {
  if (failed(checkCounts(op, op.getAllCounts(), op.getAxes())))
    return failure();
  const Extent &counts = memory_[op.getAllCounts()], &round = memory_[op.getRound()];
  auto overlap = [](const Extent &a, const Extent &b) {
    return a.firstPlace < b.lastPlace && b.firstPlace < a.lastPlace;
  };
  for (Operation &inner : op.getBody().front()) {
    SmallVector<Access> accesses;
    addAccesses(inner, accesses);
    for (const Access &access : accesses) {
      const Extent &extent = memory_[access.buffer];
      if (access.writes && overlap(extent, counts))
        return error(&inner) << textOf(&inner) << " writes " << textOf(access.buffer, extent)
                             << ", from which the " << textOf(op)
                             << " around it counts its rounds; write elsewhere";
      if (access.writes && overlap(extent, round))
        return error(&inner) << textOf(&inner) << " writes " << textOf(access.buffer, extent)
                             << ", in which the " << textOf(op)
                             << " around it keeps the round; write elsewhere";
    }
    auto collective = dyn_cast<plan::CollectiveOp>(inner);
    if (collective && failed(checkExchange(collective)))
      return failure();
  }
  return success();
}

LogicalResult OrderProof::checkExchange(plan::CollectiveOp op) {
  if (op.getKind() != plan::CollectiveKind::TokenExchange &&
      op.getKind() != plan::CollectiveKind::TokenReturn)
    return success();
  // ins(rows, all_counts, round)
  auto repeat = dyn_cast<plan::RepeatOp>(op->getParentOp());
  Value round = op.getIns().size() > 2 ? op.getIns()[2] : Value();
  if (round && !repeat)
    return error(op) << textOf(op) << " takes its round from " << textOf(round, memory_[round])
                     << " outside of any repeat, so ranks may be in different ones; leave the "
                        "round out";
  if (round && round != repeat.getRound())
    return error(op) << textOf(op) << " takes its round from " << textOf(round, memory_[round])
                     << ", which is not that of the " << textOf(repeat)
                     << " around it, so ranks may be in different ones; use the repeat's";
  return checkCounts(op, op.getIns()[1], op.getAxes());
}

LogicalResult OrderProof::visit(Operation &op) {
  if (failed(checkForm(op)))
    return failure();
  uint32_t stream = streamOf(&op);
  Stream &own = streams_[stream];
  if (auto record = dyn_cast<plan::RecordOp>(op)) {
    if (record.getEvent().use_empty())
      return error(record) << "nothing waits for the event recorded on stream " << stream
                           << "; a wait is missing, or the event is";
    events_[record.getEvent()] = own.clock;
    return success();
  }
  if (auto waits = dyn_cast<plan::WaitOp>(op))
    return wait(waits);

  SmallVector<Access> accesses;
  addAccesses(op, accesses);
  if (auto repeat = dyn_cast<plan::RepeatOp>(op); repeat && failed(checkRepeat(repeat)))
    return failure();
  if (auto collective = dyn_cast<plan::CollectiveOp>(op);
      collective && failed(checkExchange(collective)))
    return failure();
  if (failed(checkMeeting(op)) || failed(checkRaces(op, accesses)))
    return failure();

  list_.push_back(&op);
  own.instructions.push_back(&op);
  own.clock[stream] = static_cast<int>(own.instructions.size());
  if (!own.reads) {
    own.reads.emplace(memory_.numPlaces());
    own.writes.emplace(memory_.numPlaces());
  }
  for (const Access &access : accesses) {
    const Extent &extent = memory_[access.buffer];
    (access.writes ? own.writes : own.reads)->touch(extent, own.clock[stream]);
    if (access.writes)
      lastWrite_.touch(extent, static_cast<int>(list_.size()));
  }
  return success();
}

LogicalResult OrderProof::run() {
  for (Operation &op : program_.getBody().front())
    if (!isa<plan::BufferOp>(op) && failed(visit(op)))
      return failure();
  return success();
}

struct VerifyCollectiveOrder : impl::VerifyCollectiveOrderBase<VerifyCollectiveOrder> {
  using VerifyCollectiveOrderBase::VerifyCollectiveOrderBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    MemoryMap memory;
    if (failed(memory.build(module)))
      return signalPassFailure();
    for (plan::ProgramOp program : module.getOps<plan::ProgramOp>())
      if (failed(OrderProof(program, memory).run()))
        return signalPassFailure();
    markAllAnalysesPreserved();
  }
};

} // namespace
} // namespace switchyard::passes

// Streams and events. Instructions on one stream run in the list's order; those on different
// streams only as far as records and waits say, which vector clocks follow: for each stream, up to
// which instruction of each other stream it is behind. A repeat may run never, so what is learned
// by waits inside it is forgotten behind it, and what its body replaces is not.
#include "runtime/plan/Layout.h"
#include "runtime/plan/VerifyProgram.h"

#include <algorithm>
#include <array>
#include <map>

namespace switchyard {
namespace {

using kernels::Role;

/// By stream: the number of its instructions that are done.
using Clock = std::array<int64_t, kMaxStreams>;

/// An access that later ones of the same bytes may have to be behind.
struct Event {
  int64_t tick = 0; // its number on its stream, from 1
  size_t instruction = 0;
  uint32_t stream = 0;
  bool isWrite = false;
};
using Events = std::vector<Event>;

/// Accesses of the bytes of an arena.
class History {
public:
  /// Calls `visit` with the events of each part of [begin, end), which it may change.
  template <typename Visit>
  Status forEach(uint64_t begin, uint64_t end, const Visit &visit) {
    split(begin);
    split(end);
    auto at = spans_.lower_bound(begin);
    for (uint64_t covered = begin; covered < end; ++at) {
      if (at == spans_.end() || at->first > covered) {
        // Bytes that nothing touched yet.
        uint64_t until = at == spans_.end() ? end : std::min(end, at->first);
        at = spans_.emplace_hint(at, covered, Span{until, {}});
      }
      SY_RETURN_IF_ERROR(visit(at->second.events));
      covered = at->second.end;
    }
    return {};
  }

  /// Makes one span of those in [begin, end), which have the same events.
  void merge(uint64_t begin, uint64_t end) {
    auto first = spans_.find(begin);
    if (first == spans_.end())
      return;
    spans_.erase(std::next(first), spans_.lower_bound(end));
    first->second.end = end;
  }

private:
  struct Span {
    uint64_t end = 0;
    Events events;
  };

  void split(uint64_t at) {
    auto next = spans_.lower_bound(at);
    if (next == spans_.begin())
      return;
    auto previous = std::prev(next);
    if (previous->second.end <= at)
      return;
    spans_.emplace_hint(next, at, Span{previous->second.end, previous->second.events});
    previous->second.end = at;
  }

  std::map<uint64_t, Span> spans_;
};

class OrderVerifier {
public:
  OrderVerifier(const Plan &plan, const Program &program)
      : plan_(plan), program_(program), bounds_(symbolBounds(plan)) {}

  Status verify() {
    SY_RETURN_IF_ERROR(collectRecords());
    for (size_t i = 0; i < program_.instructions.size(); ++i) {
      const auto *repeat = std::get_if<RepeatInstruction>(&program_.instructions[i]);
      SY_RETURN_IF_ERROR(repeat ? followRepeat(i, *repeat) : follow(i));
      if (repeat)
        i += repeat->length;
    }
    return {};
  }

private:
  static constexpr size_t kNone = ~size_t{0};

  /// An event of the plan.
  struct Recorded {
    size_t instruction = kNone;
    size_t repeat = kNone; // the one that it is in
    bool isDone = false;
    Clock clock = {};
  };

  std::string instructionText(size_t index) const {
    return "instruction " + std::to_string(index) + " (" +
           std::string(nameOf(program_.instructions[index])) + ")";
  }

  Status collectRecords() {
    size_t count = 0;
    for (const Instruction &instruction : program_.instructions) {
      count += std::holds_alternative<RecordInstruction>(instruction);
      isOrdered_ &= streamOf(instruction) == streamOf(program_.instructions[0]);
    }
    recorded_.resize(count);
    size_t repeat = kNone, repeatEnd = 0;
    for (size_t i = 0; i < program_.instructions.size(); ++i) {
      if (const auto *found = std::get_if<RepeatInstruction>(&program_.instructions[i])) {
        repeat = i;
        repeatEnd = i + 1 + found->length;
      }
      const auto *record = std::get_if<RecordInstruction>(&program_.instructions[i]);
      if (!record)
        continue;
      auto fault = [&](const std::string &text) {
        return Status::invalidInput("records event " + std::to_string(record->event) + text)
            .within(instructionText(i));
      };
      if (record->event >= count)
        return fault("; expected less than " + std::to_string(count) +
                     ", the number of records in the program");
      Recorded &event = recorded_[record->event];
      if (event.instruction != kNone)
        return fault(", as " + instructionText(event.instruction) +
                     " does; expected each to be recorded once");
      event.instruction = i;
      event.repeat = i < repeatEnd ? repeat : kNone;
    }
    return {};
  }

  Status followRepeat(size_t index, const RepeatInstruction &repeat) {
    std::vector<Access> accesses = accessesOf(program_.instructions[index]);
    begin(index);
    SY_RETURN_IF_ERROR(access(index, accesses[0]));
    std::array<Clock, kMaxStreams> before = known_;
    repeat_ = index;
    firstTicks_ = ticks_;
    for (int round = 0; round < 2; ++round) {
      begin(index);
      SY_RETURN_IF_ERROR(access(index, accesses[1]));
      for (size_t i = index + 1; i <= index + repeat.length; ++i)
        SY_RETURN_IF_ERROR(follow(i));
    }
    repeat_ = kNone;
    known_ = before;
    for (uint32_t stream = 0; stream < kMaxStreams; ++stream)
      known_[stream][stream] = ticks_[stream];
    return {};
  }

  /// Counts an instruction on its stream.
  void begin(size_t index) {
    uint32_t stream = streamOf(program_.instructions[index]);
    known_[stream][stream] = ++ticks_[stream];
  }

  Status follow(size_t index) {
    const Instruction &instruction = program_.instructions[index];
    begin(index);
    if (const auto *record = std::get_if<RecordInstruction>(&instruction)) {
      recorded_[record->event].isDone = true;
      recorded_[record->event].clock = known_[record->stream];
      return {};
    }
    if (const auto *wait = std::get_if<WaitInstruction>(&instruction))
      return follow(*wait).within(instructionText(index));
    if (isOrdered_)
      return {};
    for (const Access &each : accessesOf(instruction))
      SY_RETURN_IF_ERROR(access(index, each));
    if (const auto *collective = std::get_if<CollectiveInstruction>(&instruction))
      return meet(index, *collective);
    return {};
  }

  Status follow(const WaitInstruction &wait) {
    std::string event = "waits for event " + std::to_string(wait.event);
    if (wait.event >= recorded_.size())
      return Status::invalidInput(event + "; the program records " +
                                  std::to_string(recorded_.size()));
    const Recorded &recorded = recorded_[wait.event];
    if (recorded.repeat != kNone && recorded.repeat != repeat_)
      return Status::invalidInput(event + ", which " + instructionText(recorded.instruction) +
                                  " records inside a repeat that may not run; expected a record "
                                  "behind the repeat");
    if (!recorded.isDone)
      return Status::invalidInput(event + ", which " + instructionText(recorded.instruction) +
                                  " records later; expected the record before the wait");
    Clock &known = known_[wait.stream];
    for (uint32_t stream = 0; stream < kMaxStreams; ++stream)
      known[stream] = std::max(known[stream], recorded.clock[stream]);
    return {};
  }

  bool isBehind(uint32_t stream, const Event &event) const {
    return known_[stream][event.stream] >= event.tick;
  }

  /// Puts an access at the end of `events`, in place of those that it is behind for whoever is
  /// behind it.
  void add(Events &events, const Event &event) const {
    std::erase_if(events, [&](const Event &old) {
      if (old.stream == event.stream)
        return event.isWrite || !old.isWrite;
      // Inside a repeat, only what the repeat did itself is replaced.
      return event.isWrite && (repeat_ == kNone || old.tick > firstTicks_[old.stream]);
    });
    events.push_back(event);
  }

  Status access(size_t index, const Access &access) {
    if (isOrdered_)
      return {};
    const Buffer &buffer = program_.buffers[access.buffer];
    uint32_t stream = streamOf(program_.instructions[index]);
    Event event{ticks_[stream], index, stream, access.role != Role::In};
    History &history = histories_[static_cast<size_t>(buffer.arena)];
    uint64_t end = buffer.offset + capacityOf(buffer, bounds_);
    SY_RETURN_IF_ERROR(history.forEach(buffer.offset, end, [&](Events &events) -> Status {
      for (const Event &old : events)
        if ((event.isWrite || old.isWrite) && !isBehind(stream, old))
          return unordered(event, old, access);
      add(events, event);
      return {};
    }));
    if (event.isWrite && repeat_ == kNone)
      history.merge(buffer.offset, end);
    return {};
  }

  Status unordered(const Event &event, const Event &old, const Access &access) const {
    const Buffer &buffer = program_.buffers[access.buffer];
    return Status::invalidInput(
               (event.isWrite ? "writes '" : "reads '") + access.operand + "', buffer " +
               std::to_string(access.buffer) + " (" + typeText(plan_, buffer.dtype, buffer.shape) +
               " at " + std::string(name(buffer.arena)) + "+" + std::to_string(buffer.offset) +
               "), on stream " + std::to_string(event.stream) + " while " +
               instructionText(old.instruction) + " may still be " +
               (old.isWrite ? "writing" : "reading") + " it on stream " +
               std::to_string(old.stream) + "; expected a wait between them")
        .within(instructionText(event.instruction));
  }

  /// Ranks that meet in two groups have to come to both in one order.
  Status meet(size_t index, const CollectiveInstruction &collective) {
    if (plan_.mesh.groupSize(collective.axes) == 1)
      return {};
    for (const Event &old : meetings_)
      if (!isBehind(collective.stream, old))
        return Status::invalidInput(
                   "meets the ranks of " + text(collective.axes) + " on stream " +
                   std::to_string(collective.stream) + " with no order to " +
                   instructionText(old.instruction) + " over " +
                   text(std::get<CollectiveInstruction>(program_.instructions[old.instruction])
                            .axes) +
                   " on stream " + std::to_string(old.stream) +
                   "; expected a wait between them, or ranks can wait for each other forever")
            .within(instructionText(index));
    add(meetings_, {ticks_[collective.stream], index, collective.stream, true});
    return {};
  }

  const Plan &plan_;
  const Program &program_;
  std::vector<int64_t> bounds_;
  bool isOrdered_ = true; // there is one stream
  std::vector<Recorded> recorded_;
  std::array<Clock, kMaxStreams> known_ = {}; // by stream: what it is behind, itself included
  Clock ticks_ = {};
  Clock firstTicks_ = {}; // when the current repeat began
  size_t repeat_ = kNone; // the current one
  History histories_[kNumArenas];
  Events meetings_;
};

} // namespace

Status verifyOrder(const Plan &plan, const Program &program) {
  return OrderVerifier(plan, program).verify();
}

} // namespace switchyard

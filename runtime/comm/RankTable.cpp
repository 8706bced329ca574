#include "runtime/comm/RankTable.h"

#include <algorithm>

namespace switchyard::comm {
namespace {

void setProgram(RankState &state, std::string_view program) {
  size_t length = std::min(program.size(), sizeof(state.program) - 1);
  std::copy_n(program.data(), length, state.program); // may be null
  state.program[length] = 0;
}

} // namespace

int64_t nowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

int RankState::waitingGroup() const {
  int longest = -1;
  for (int group = 0; group < Communicator::kMaxGroups; ++group)
    if (calls[group].op != Op::None && (longest < 0 || calls[group].since < calls[longest].since))
      longest = group;
  return longest;
}

RankTable::RankTable(int size) : rows_(static_cast<size_t>(size)) {}

RankState RankTable::state(int rank) const {
  const Row &row = rows_[rank];
  std::lock_guard lock(row.mutex);
  return row.state;
}

void RankTable::setState(int rank, const RankState &state) {
  Row &row = rows_[rank];
  std::lock_guard lock(row.mutex);
  row.state = state;
}

void RankTable::setWhere(int rank, Where where) {
  Row &row = rows_[rank];
  std::lock_guard lock(row.mutex);
  setProgram(row.state, where.program);
  row.state.instruction = where.instruction;
}

void RankTable::enter(int rank, int group, const Header &header) {
  Row &row = rows_[rank];
  std::lock_guard lock(row.mutex);
  setProgram(row.state, header.program);
  row.state.instruction = header.instruction;
  CallState &call = row.state.calls[group];
  if (header.terms.op != Op::DeviceWait) // which ranks may do differently often
    ++call.entered;
  call.op = header.terms.op;
  call.instruction = header.instruction;
  call.since = nowMs();
}

void RankTable::leave(int rank, int group) {
  Row &row = rows_[rank];
  std::lock_guard lock(row.mutex);
  row.state.calls[group].op = Op::None;
}

void RankTable::addGroups(int id, std::vector<int> leaders) {
  std::lock_guard lock(groupsMutex_);
  if (leaders_.size() <= static_cast<size_t>(id))
    leaders_.resize(id + 1);
  leaders_[id] = std::move(leaders);
}

std::vector<int> RankTable::members(int rank, int id) const {
  std::lock_guard lock(groupsMutex_);
  std::vector<int> result;
  if (static_cast<size_t>(id) >= leaders_.size())
    return result;
  const std::vector<int> &leaders = leaders_[id];
  for (int r = 0; r < static_cast<int>(leaders.size()); ++r)
    if (leaders[r] == leaders[rank])
      result.push_back(r);
  return result;
}

int RankTable::awaitedBy(int rank, int id) const {
  int awaited = -1;
  // Each turn follows one wait; a circle of waits ends after as many turns as there are ranks.
  for (int turn = 0; turn < size(); ++turn) {
    const CallState call = state(rank).calls[id];
    int next = -1;
    int nextGroup = -1;
    for (int member : members(rank, id)) {
      RankState other = state(member);
      // What a GPU waits for is nothing that hosts count: a host that waits for its own has come.
      if (call.op == Op::DeviceWait ? other.calls[id].op == Op::DeviceWait
                                    : other.calls[id].entered >= call.entered)
        continue;
      int group = other.waitingGroup();
      if (group < 0)
        return member;
      if (next < 0) {
        next = member;
        nextGroup = group;
      }
    }
    if (next < 0)
      return awaited;
    awaited = rank = next;
    id = nextGroup;
  }
  return awaited;
}

} // namespace switchyard::comm

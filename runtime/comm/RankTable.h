// Where every rank stands: what failure records say, and how the rank that keeps others waiting is
// found.
#pragma once

#include "runtime/comm/Call.h"

#include <array>
#include <mutex>

namespace switchyard::comm {

/// A group as all ranks know it: its number in the order of creation (0 is the world) and its
/// members' numbers in the world, ascending.
struct GroupMembers {
  int id = 0;
  std::vector<int> ranks;
};

/// Milliseconds of a steady clock.
int64_t nowMs();

/// One rank's side of one group.
struct CallState {
  uint32_t entered = 0; // calls so far, the current one counted; without DeviceWait
  Op op = Op::None;     // None: in no call
  int64_t instruction = -1;
  int64_t since = 0; // when it entered the current call, as nowMs()
};

struct RankState {
  char program[sizeof(Header::program)] = {};
  int64_t instruction = -1;
  std::array<CallState, Communicator::kMaxGroups> calls = {};

  /// The group of the call that it is in longest, or -1.
  int waitingGroup() const;
};

/// Safe between threads.
class RankTable {
public:
  explicit RankTable(int size);

  int size() const { return static_cast<int>(rows_.size()); }
  RankState state(int rank) const;
  void setState(int rank, const RankState &state);

  void setWhere(int rank, Where where);
  void enter(int rank, int group, const Header &header);
  void leave(int rank, int group);

  /// Group `id` of rank r is that of `leaders[r]`, its lowest member. A second time is the same.
  void addGroups(int id, std::vector<int> leaders);
  /// The members of that group `id` in which `rank` is.
  std::vector<int> members(int rank, int id) const;

  /// The rank for which `rank`, in a call of group `id`, waits: a member that has not come to that
  /// call. If that one waits too, in another group, the one for which it waits, and so on. -1: all
  /// members came.
  int awaitedBy(int rank, int id) const;

private:
  struct Row {
    mutable std::mutex mutex;
    RankState state;
  };
  std::vector<Row> rows_;
  mutable std::mutex groupsMutex_;
  std::vector<std::vector<int>> leaders_; // by group id
};

} // namespace switchyard::comm

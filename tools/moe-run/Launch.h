// How many ranks a command has and where they run: threads of this process, processes that a
// launcher started, of which this is one, or processes that this one is to start.
#pragma once

#include "runtime/comm/Agreement.h"
#include "runtime/comm/process/RankPlace.h"
#include "runtime/plan/Plan.h"

#include <functional>
#include <optional>
#include <string>

namespace switchyard {

class Launch {
public:
  /// `ranks` is what --ranks says; 0: it was not given, and means the launcher's number, or 1.
  /// Looks at the environment only. Usage: the launcher has another number.
  static Result<Launch> create(int64_t ranks);

  /// Whether ranks are to be threads of this process. Those on GPUs are processes each: then this
  /// one only starts them, by startRanks(), and does nothing else.
  bool hasThreads() const { return kind_ == Kind::Threads; }
  /// spawnRanks() (SpawnRanks.h): the whole job.
  Status startRanks() const;

  int ranks() const { return ranks_; }
  /// Those on this host.
  int ranksHere() const { return ranksHere_; }
  /// Whether this process compiles and speaks for all: the one that has rank 0.
  bool isLeader() const { return !place_ || place_->rank == 0; }
  /// This process's number among those, where ranks are processes.
  int rankHere() const { return place_ ? place_->rankOnHost : 0; }
  /// "4 ranks (threads)", "1 rank (mpi)", "2 ranks (torchrun)"; empty for one rank without a
  /// launcher.
  std::string describe() const;

  /// The worker threads of a rank: `threads`, or if it is 0 this host's cores over its ranks.
  int threadsPerRank(int64_t threads) const;

  /// Usage, with both numbers, if `plan` is for another number of ranks.
  Status checkPlan(const Plan &plan) const;

  struct Tasks {
    /// Reads on each process what its ranks share. The leader's plan is there.
    std::function<Status(const Plan &plan)> load;
    /// What each rank does, on its own thread where ranks are threads.
    std::function<Status(const Plan &plan, Agreement &agreement)> run;
  };

  /// Connects the ranks and does `tasks`. `plan` is the leader's; other processes receive it. The
  /// failure of one rank is that of all. DoesNotFit: the machine has not the memory for all thread
  /// ranks. On other processes than the leader's a failure that all know of has no message.
  Status run(Plan plan, const CommunicatorOptions &options, const Tasks &tasks) const;

private:
  enum class Kind : uint8_t { Single, Threads, Mpi, Tcp };

  Launch(Kind kind, int ranks) : kind_(kind), ranks_(ranks), ranksHere_(ranks) {}
  Launch(Kind kind, const RankPlace &place)
      : kind_(kind), ranks_(place.size), ranksHere_(place.sizeOfHost), place_(place) {}

  Status runThreads(const Plan &plan, const CommunicatorOptions &options, const Tasks &tasks) const;
  Status runProcess(Plan plan, const CommunicatorOptions &options, const Tasks &tasks) const;

  Kind kind_;
  int ranks_;
  int ranksHere_;
  std::optional<RankPlace> place_; // of processes
};

} // namespace switchyard

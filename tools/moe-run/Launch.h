// How many ranks a command has and where they run: threads of this process, or processes that
// mpirun started, of which this is one.
#pragma once

#include "runtime/comm/Agreement.h"
#include "runtime/plan/Plan.h"

#include <functional>
#include <string>

namespace switchyard {

class Launch {
public:
  /// `ranks` is what --ranks says; 0: it was not given, and means mpirun's number, or 1. Looks at
  /// the environment only. Usage: mpirun has another number.
  static Result<Launch> create(int64_t ranks);

  int ranks() const { return ranks_; }
  /// Those on this host.
  int ranksHere() const { return ranksHere_; }
  /// Whether this process compiles and speaks for all: the one that has rank 0.
  bool isLeader() const { return processRank_ == 0; }
  /// "4 ranks (threads)", "1 rank (mpi)"; empty for one rank without a launcher.
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
  enum class Kind : uint8_t { Single, Threads, Mpi };

  Launch(Kind kind, int ranks, int ranksHere, int processRank)
      : kind_(kind), ranks_(ranks), ranksHere_(ranksHere), processRank_(processRank) {}

  Status runThreads(const Plan &plan, const CommunicatorOptions &options, const Tasks &tasks) const;
  Status runProcess(Plan plan, const CommunicatorOptions &options, const Tasks &tasks) const;

  Kind kind_;
  int ranks_;
  int ranksHere_;
  int processRank_;
};

} // namespace switchyard

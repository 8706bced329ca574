// A process's place in a job of several, as its launcher says it in the environment.
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace switchyard {

/// Where the ranks of a job first meet: on rank 0's host, at the first of these TCP ports on which
/// it can listen.
struct MeetingPlace {
  std::string host;
  std::vector<uint16_t> ports;
  uint64_t job = 0;  // what the job's ranks, and hardly anyone else, have in common
  int listener = -1; // of rank 0: a socket that listens there already, or -1
};

struct RankPlace {
  std::string launcher; // "mpirun", "torchrun", "srun", "moe-run"
  int rank = 0;
  int size = 1;
  int rankOnHost = 0;
  int sizeOfHost = 1; // the ranks on this host
  /// Nothing: the launcher names none, and ranks can meet through MPI only.
  std::optional<MeetingPlace> meeting;
};

/// The value of an environment variable, or null.
using Environment = std::function<const char *(const char *variable)>;

/// Reads, in this order, what torchrun (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT) or
/// SpawnRanks.h set, mpirun's variables (Open MPI's, then PMI's) and those of an srun step. With
/// mpirun and srun, MASTER_ADDR and MASTER_PORT go first where they are set; else srun's ranks meet
/// on the first host of the step, and mpirun's on theirs if there is but one. Nothing if there is
/// no launcher; Usage, naming the variable, if they contradict each other.
Result<std::optional<RankPlace>> rankPlace(const Environment &environment);

/// The same of this process.
Result<std::optional<RankPlace>> rankPlace();

/// The first host of a Slurm node list: "node03" of "node[03-05,9],gpu1". Empty if it has none.
std::string firstHost(const std::string &nodeList);

} // namespace switchyard

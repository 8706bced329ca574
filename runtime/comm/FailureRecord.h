// What a survivor leaves when another rank is lost: a line on standard error and a line of JSON,
// then the end of the process with exit code 5.
//
//   {"event": "rank_lost", "time": "2026-03-01T12:00:00Z", "host": "node3", "backend": "mpi",
//    "rank": 0, "lost_rank": 2, "reason": "died", "detail": "its connection closed",
//    "ranks": [{"rank": 0, "program": "micro_step", "instruction": 12, "doing": "all_reduce",
//               "group": [0, 1, 2, 3], "seconds": 0.21}, ...]}
//
// `ranks` are all ranks of the world where they were last seen; `program` is "" before the first
// program; `doing`, `group` and `seconds` stand only for a rank that is in a collective.
#pragma once

#include "runtime/comm/RankTable.h"

namespace switchyard::comm {

struct Loss {
  enum class Reason : uint8_t { Died, Stalled, Failed };
  int rank = -1; // -1: a group hangs though all came
  Reason reason = Reason::Died;
  std::string detail;
};

/// "died", "stalled", "failed".
std::string_view name(Loss::Reason reason);

/// The line of JSON, without its newline, that `rank` writes.
std::string failureRecord(const Loss &loss, int rank, std::string_view backend,
                          const RankTable &table);

/// Appends the record to failure-rank-<rank>.jsonl in `folder` (if there is one) and says on
/// standard error what happened and where the record is.
void reportLoss(const Loss &loss, int rank, std::string_view backend, const RankTable &table,
                const std::string &folder);

/// Ends the process with exit code 5, at once: no destructor, no collective, no exit handler.
[[noreturn]] void endProcess();

} // namespace switchyard::comm

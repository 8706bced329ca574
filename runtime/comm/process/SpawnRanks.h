// Starts the ranks of a job as processes of this host, and sees to it that they end together.
#pragma once

#include "runtime/core/Status.h"

namespace switchyard {

/// Starts this program again for each of `ranks` ranks, with the same arguments and with what
/// rankPlace() reads in its environment, and waits until all have ended. To be called before this
/// process has threads, or anything else that its end should not wait for.
///
/// SIGINT and SIGTERM go on to the ranks, which are a process group of their own, and end this
/// process too if they end a rank. When a rank fails, the others are given the time to notice and
/// to leave their records, then ended. None is left behind, even where this process is killed.
///
/// The failure of a rank that failed by itself goes before RankFailed; it has no message, for the
/// rank has said it. RankFailed, with a message: a rank was ended by a signal.
Status spawnRanks(int ranks);

} // namespace switchyard

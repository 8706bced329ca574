// SIGINT and SIGTERM as a request, for the time in which a command has something to finish or to
// clean up first.
#pragma once

#include <atomic>

#include <sys/types.h>

namespace switchyard {

/// While it lives, the first SIGINT or SIGTERM sets requested() and goes on to the child program,
/// if there is one; the second one ends this program at once. One at a time.
class StopSignals {
public:
  StopSignals();
  StopSignals(const StopSignals &) = delete;
  ~StopSignals();

  const std::atomic<bool> &requested() const;

  /// From now on a request also ends `child`; so does one that came before. 0: there is none.
  void setChild(pid_t child);
};

} // namespace switchyard

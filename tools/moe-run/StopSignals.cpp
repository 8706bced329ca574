#include "tools/moe-run/StopSignals.h"

#include <csignal>

namespace switchyard {

namespace {

// All that a signal handler may touch: a signal belongs to the process, and so do these.
std::atomic<bool> stopRequested = false;
std::atomic<pid_t> childProgram = 0;
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<pid_t>::is_always_lock_free);

constexpr int kSignals[] = {SIGINT, SIGTERM};

void setHandlers(void (*handler)(int)) {
  for (int signal : kSignals)
    std::signal(signal, handler);
}

void onSignal(int) {
  setHandlers(SIG_DFL);
  stopRequested = true;
  if (pid_t child = childProgram; child > 0)
    kill(child, SIGTERM);
}

} // namespace

StopSignals::StopSignals() {
  stopRequested = false;
  setHandlers(onSignal);
}

StopSignals::~StopSignals() {
  setHandlers(SIG_DFL);
  childProgram = 0;
}

const std::atomic<bool> &StopSignals::requested() const {
  return stopRequested;
}

void StopSignals::setChild(pid_t child) {
  childProgram = child;
  if (child > 0 && stopRequested)
    kill(child, SIGTERM);
}

} // namespace switchyard

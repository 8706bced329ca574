#include "tools/moe-run/CrashReport.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <sys/prctl.h>
#include <unistd.h>

namespace switchyard {

namespace {

struct Crash {
  int signal;
  const char *text;
  struct sigaction before;
};

// All that a signal handler may touch.
Crash crashes[] = {{SIGSEGV, " crashed (SIGSEGV)\n", {}},
                   {SIGBUS, " crashed (SIGBUS)\n", {}},
                   {SIGFPE, " crashed (SIGFPE)\n", {}},
                   {SIGILL, " crashed (SIGILL)\n", {}},
                   {SIGABRT, " crashed (SIGABRT)\n", {}}};

void append(char *line, const char *text) {
  std::strncat(line, text, 127 - std::strlen(line));
}

void onCrash(int signal, siginfo_t *info, void *) {
  for (Crash &crash : crashes) {
    if (crash.signal != signal)
      continue;
    char line[128] = "";
    append(line, program_invocation_short_name);
    append(line, ": error: ");
    char name[16] = {}; // the kernel's limit
    prctl(PR_GET_NAME, name);
    append(line, std::strncmp(name, "rank ", 5) == 0 ? name : "a rank");
    append(line, crash.text);
    (void)!write(STDERR_FILENO, line, std::strlen(line));
    // A fault comes again when this returns; what was sent does not.
    sigaction(signal, &crash.before, nullptr);
    if (info->si_code <= 0)
      raise(signal);
  }
}

} // namespace

CrashReport::CrashReport() {
  for (Crash &crash : crashes) {
    struct sigaction action{};
    action.sa_sigaction = onCrash;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(crash.signal, &action, &crash.before);
  }
}

CrashReport::~CrashReport() {
  for (Crash &crash : crashes)
    sigaction(crash.signal, &crash.before, nullptr);
}

void CrashReport::nameThread(int rank) {
  prctl(PR_SET_NAME, ("rank " + std::to_string(rank)).c_str());
}

} // namespace switchyard

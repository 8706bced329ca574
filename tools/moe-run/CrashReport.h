// One line that names the rank whose thread crashed: all ranks of the process end with it.
#pragma once

namespace switchyard {

/// While it lives, a signal such as SIGSEGV writes "moe-run: error: rank 2 crashed (SIGSEGV)", with
/// this program's name, to standard error, then does what it did before. One at a time.
class CrashReport {
public:
  CrashReport();
  CrashReport(const CrashReport &) = delete;
  ~CrashReport();

  /// Makes this thread, and those that it starts from now on, the threads of `rank`: they get its
  /// name, which debuggers show too.
  static void nameThread(int rank);
};

} // namespace switchyard

// The progress of a training run for the person who watches: one line that is redrawn on a
// terminal, plain lines in a log.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace switchyard {

struct ProgressState {
  int64_t step = 0; // updates done
  int64_t totalSteps = 0;
  double loss = 0;
  double tokensPerSecond = 0;
  double secondsLeft = 0;
};

/// "step 12/50  loss 2.3456  1234 tokens/s  ETA 0:32", in at most `width` columns: what does not
/// fit goes, the time left first, then the speed.
std::string formatProgress(const ProgressState &state, int64_t width);

/// "0:32", "12:05", "3:04:05", "2d 03:04"; "?" if it is not finite.
std::string formatDuration(double seconds);

class Progress {
public:
  /// Writes to `stream`. `firstStep` is the number of updates done before this run.
  Progress(std::FILE *stream, bool isTerminal, int64_t firstStep, int64_t totalSteps);
  /// On stderr, as the stream is.
  static Progress standardError(int64_t firstStep, int64_t totalSteps);

  /// Update `step` is done and took `stepTime` seconds. On a terminal the line is redrawn;
  /// elsewhere a line is written if `log` says so (every logging_steps, and the last).
  void update(int64_t step, double loss, double tokensPerSecond, double stepTime, bool log);

  /// Takes the line off the terminal, so that something else can be written.
  void clear();
  /// Leaves the last line standing.
  void finish();

private:
  std::FILE *stream_;
  bool isTerminal_;
  int64_t firstStep_;
  int64_t totalSteps_;
  double meanStepTime_ = 0;
  bool drawn_ = false;
};

} // namespace switchyard

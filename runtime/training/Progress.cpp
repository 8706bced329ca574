#include "runtime/training/Progress.h"

#include <algorithm>
#include <cmath>
#include <sys/ioctl.h>
#include <unistd.h>

namespace switchyard {

namespace {

constexpr int64_t kDefaultWidth = 80;
constexpr int64_t kUnlimited = 1 << 20;
// The time left follows the last ten steps or so.
constexpr double kMeanWeight = 0.1;

template <typename... Args>
std::string print(const char *format, Args... args) {
  char text[64];
  int length = std::snprintf(text, sizeof(text), format, args...);
  return std::string(text, std::clamp<int>(length, 0, sizeof(text) - 1));
}

int64_t terminalWidth(std::FILE *stream) {
  winsize size{};
  if (::ioctl(::fileno(stream), TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
    return kDefaultWidth;
  return size.ws_col;
}

} // namespace

std::string formatDuration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e12)
    return "?";
  long long total = std::llround(seconds);
  long long days = total / 86400, hours = total / 3600 % 24, minutes = total / 60 % 60;
  if (days > 0)
    return print("%lldd %02lld:%02lld", days, hours, minutes);
  if (hours > 0)
    return print("%lld:%02lld:%02lld", hours, minutes, total % 60);
  return print("%lld:%02lld", minutes, total % 60);
}

std::string formatProgress(const ProgressState &state, int64_t width) {
  std::string line = print("step %lld/%lld", static_cast<long long>(state.step),
                           static_cast<long long>(state.totalSteps));
  for (const std::string &part :
       {print("loss %.4f", state.loss), print("%.0f tokens/s", state.tokensPerSecond),
        "ETA " + formatDuration(state.secondsLeft)}) {
    if (static_cast<int64_t>(line.size() + 2 + part.size()) > width)
      break;
    line += "  " + part;
  }
  return line.substr(0, std::max<int64_t>(width, 0));
}

Progress::Progress(std::FILE *stream, bool isTerminal, int64_t firstStep, int64_t totalSteps)
    : stream_(stream), isTerminal_(isTerminal), firstStep_(firstStep), totalSteps_(totalSteps) {}

Progress Progress::standardError(int64_t firstStep, int64_t totalSteps) {
  return Progress(stderr, ::isatty(STDERR_FILENO) == 1, firstStep, totalSteps);
}

void Progress::update(int64_t step, double loss, double tokensPerSecond, double stepTime,
                      bool log) {
  meanStepTime_ =
      step <= firstStep_ + 1 ? stepTime : meanStepTime_ + kMeanWeight * (stepTime - meanStepTime_);
  ProgressState state{step, totalSteps_, loss, tokensPerSecond,
                      meanStepTime_ * static_cast<double>(totalSteps_ - step)};
  if (isTerminal_) {
    // A full last column makes some terminals wrap, so it stays free. ESC [K clears what a longer
    // line left behind.
    std::string line = formatProgress(state, terminalWidth(stream_) - 1);
    std::fprintf(stream_, "\r%s\x1b[K", line.c_str());
    drawn_ = true;
  } else if (log || step == totalSteps_) {
    std::fprintf(stream_, "%s\n", formatProgress(state, kUnlimited).c_str());
  }
  std::fflush(stream_);
}

void Progress::clear() {
  if (drawn_)
    std::fputs("\r\x1b[K", stream_);
  drawn_ = false;
  std::fflush(stream_);
}

void Progress::finish() {
  if (drawn_)
    std::fputc('\n', stream_);
  drawn_ = false;
  std::fflush(stream_);
}

} // namespace switchyard

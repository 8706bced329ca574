#include "runtime/training/Progress.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>

namespace switchyard {
namespace {

/// A stream whose text can be read back.
class MemoryStream {
public:
  MemoryStream() : stream_(::open_memstream(&text_, &size_)) {}
  MemoryStream(const MemoryStream &) = delete;
  ~MemoryStream() {
    std::fclose(stream_);
    std::free(text_);
  }
  std::FILE *stream() { return stream_; }
  std::string text() {
    std::fflush(stream_);
    return {text_, size_};
  }

private:
  char *text_ = nullptr;
  size_t size_ = 0;
  std::FILE *stream_;
};

TEST(Progress, FormatsDurations) {
  EXPECT_EQ(formatDuration(0.4), "0:00");
  EXPECT_EQ(formatDuration(32), "0:32");
  EXPECT_EQ(formatDuration(725), "12:05");
  EXPECT_EQ(formatDuration(3 * 3600 + 4 * 60 + 5), "3:04:05");
  EXPECT_EQ(formatDuration(2 * 86400 + 3 * 3600 + 4 * 60), "2d 03:04");
  EXPECT_EQ(formatDuration(std::nan("")), "?");
  EXPECT_EQ(formatDuration(std::numeric_limits<double>::infinity()), "?");
  EXPECT_EQ(formatDuration(-1), "?");
}

TEST(Progress, DropsWhatANarrowTerminalCannotShow) {
  ProgressState state{12, 50, 2.34561, 1234.4, 32};
  std::string whole = "step 12/50  loss 2.3456  1234 tokens/s  ETA 0:32";
  EXPECT_EQ(formatProgress(state, 80), whole);
  EXPECT_EQ(formatProgress(state, static_cast<int64_t>(whole.size())), whole);
  EXPECT_EQ(formatProgress(state, static_cast<int64_t>(whole.size()) - 1),
            "step 12/50  loss 2.3456  1234 tokens/s");
  EXPECT_EQ(formatProgress(state, 30), "step 12/50  loss 2.3456");
  EXPECT_EQ(formatProgress(state, 12), "step 12/50");
  EXPECT_EQ(formatProgress(state, 6), "step 1");
  EXPECT_EQ(formatProgress(state, 0), "");
  EXPECT_EQ(formatProgress(state, -5), "");
}

TEST(Progress, RedrawsOneLineOnATerminal) {
  MemoryStream stream;
  Progress progress(stream.stream(), true, 0, 4);
  progress.update(1, 2.5, 100, 2, false);
  progress.update(2, 2.25, 100, 2, true);
  EXPECT_EQ(stream.text(), "\rstep 1/4  loss 2.5000  100 tokens/s  ETA 0:06\x1b[K"
                           "\rstep 2/4  loss 2.2500  100 tokens/s  ETA 0:04\x1b[K");
  progress.clear();
  EXPECT_TRUE(stream.text().ends_with("\r\x1b[K"));
  progress.update(4, 2, 100, 2, false);
  progress.finish();
  EXPECT_TRUE(stream.text().ends_with("step 4/4  loss 2.0000  100 tokens/s  ETA 0:00\x1b[K\n"));
  size_t size = stream.text().size();
  progress.finish();
  progress.clear();
  EXPECT_EQ(stream.text().size(), size);
}

TEST(Progress, WritesPlainLinesElsewhere) {
  MemoryStream stream;
  Progress progress(stream.stream(), false, 10, 13);
  progress.update(11, 2.5, 100, 1, false);
  progress.update(12, 2.25, 100, 1, true);
  progress.update(13, 2, 100, 1, false); // the last is always shown
  progress.clear();
  progress.finish();
  EXPECT_EQ(stream.text(), "step 12/13  loss 2.2500  100 tokens/s  ETA 0:01\n"
                           "step 13/13  loss 2.0000  100 tokens/s  ETA 0:00\n");
}

TEST(Progress, TheTimeLeftFollowsTheRecentSteps) {
  MemoryStream stream;
  Progress progress(stream.stream(), false, 0, 1001);
  progress.update(1, 1, 1, 1000, false); // a slow first step
  for (int64_t step = 2; step <= 100; ++step)
    progress.update(step, 1, 1, 1, false);
  progress.update(101, 1, 1, 1, true);
  EXPECT_EQ(stream.text(), "step 101/1001  loss 1.0000  1 tokens/s  ETA 15:24\n");
}

TEST(Progress, ShowsALossThatIsNoNumber) {
  EXPECT_EQ(formatProgress({1, 2, std::numeric_limits<double>::infinity(), 1, 0}, 80),
            "step 1/2  loss inf  1 tokens/s  ETA 0:00");
}

} // namespace
} // namespace switchyard

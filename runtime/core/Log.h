// Messages to a person, on standard error: `error: ...`, `warning: ...`, plain lines for progress.
// Results never go here.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <string>
#include <utility>

namespace spdlog {
class logger;
}

namespace switchyard {

/// Passed to what has something to say; there is no global one. Copies write to the same place.
/// Safe between threads.
class Log {
public:
  enum class Level : int { Debug, Info, Warning, Error, Off };

  /// Writes messages of `level` and above to standard error.
  explicit Log(Level level = Level::Info);

  template <typename... Arguments>
  void debug(fmt::format_string<Arguments...> format, Arguments &&...arguments) const {
    if (enabled(Level::Debug))
      write(Level::Debug, fmt::format(format, std::forward<Arguments>(arguments)...));
  }
  template <typename... Arguments>
  void info(fmt::format_string<Arguments...> format, Arguments &&...arguments) const {
    if (enabled(Level::Info))
      write(Level::Info, fmt::format(format, std::forward<Arguments>(arguments)...));
  }
  template <typename... Arguments>
  void warning(fmt::format_string<Arguments...> format, Arguments &&...arguments) const {
    if (enabled(Level::Warning))
      write(Level::Warning, fmt::format(format, std::forward<Arguments>(arguments)...));
  }
  template <typename... Arguments>
  void error(fmt::format_string<Arguments...> format, Arguments &&...arguments) const {
    if (enabled(Level::Error))
      write(Level::Error, fmt::format(format, std::forward<Arguments>(arguments)...));
  }

  bool enabled(Level level) const;

private:
  void write(Level level, const std::string &message) const;

  std::shared_ptr<spdlog::logger> logger_;
};

} // namespace switchyard

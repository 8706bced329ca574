#include "runtime/core/Log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

namespace switchyard {

static spdlog::level::level_enum spdlogLevel(Log::Level level) {
  switch (level) {
  case Log::Level::Debug:
    return spdlog::level::debug;
  case Log::Level::Info:
    return spdlog::level::info;
  case Log::Level::Warning:
    return spdlog::level::warn;
  case Log::Level::Error:
    return spdlog::level::err;
  case Log::Level::Off:
    break;
  }
  return spdlog::level::off;
}

// A logger of our own rather than spdlog's registry, which is global.
Log::Log(Level level)
    : logger_(std::make_shared<spdlog::logger>("switchyard",
                                               std::make_shared<spdlog::sinks::stderr_sink_mt>())) {
  logger_->set_pattern("%v");
  logger_->set_level(spdlogLevel(level));
  logger_->flush_on(spdlog::level::debug);
}

bool Log::enabled(Level level) const {
  return logger_->should_log(spdlogLevel(level));
}

void Log::write(Level level, const std::string &message) const {
  std::string_view prefix = level == Level::Warning ? "warning: "
                            : level == Level::Error ? "error: "
                                                    : "";
  logger_->log(spdlogLevel(level), "{}{}", prefix, message);
}

} // namespace switchyard

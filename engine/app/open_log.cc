// Tested by the e2e suite.
#include "engine/app/open_log.h"

#include <unistd.h>

#include <cstdlib>

namespace mobula {

absl::StatusOr<std::unique_ptr<Log>> OpenLog(const LogConfig& config) {
  const bool to_stderr = config.path.empty();
  const bool terminal =
      (to_stderr || config.path == "-") && isatty(to_stderr ? STDERR_FILENO : STDOUT_FILENO) == 1;
  Log::Options options;
  options.level = config.level;
  options.format = config.format.value_or(terminal ? LogFormat::kText : LogFormat::kJson);
  // People read the daemon's lines for the single case, without its fields.
  if (options.format == LogFormat::kDaemon) options.burst = 20;
  options.path = config.path;
  options.rotate_size = config.rotate_size;
  options.rotate_keep = config.rotate_keep;
  options.colour = terminal && options.format == LogFormat::kText && getenv("NO_COLOR") == nullptr;
  options.over_status_line = terminal && to_stderr && options.format == LogFormat::kText;
  return Log::Open(options);
}

}  // namespace mobula

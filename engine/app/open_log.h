// Opens the log as a configuration and the terminal want it.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/base/log.h"
#include "engine/config/config.h"

namespace mobula {

// Text on a terminal, in colour unless NO_COLOR is set (no-color.org), else JSON; the configuration may say
// otherwise.
absl::StatusOr<std::unique_ptr<Log>> OpenLog(const LogConfig& config);

}  // namespace mobula

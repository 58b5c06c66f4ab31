// `mobula config migrate`: the X-Ray daemon's file as a configuration of ours, on standard output.
//
// Room:   cold.
// Errors: those of the daemon for a file named with -c, and those of our loader for values it would refuse, told of the
//         daemon's keys.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mobula {

// The text that is printed: what the daemon mode runs when it is given this file and no flags.
absl::StatusOr<std::string> MigrateDaemonFile(const std::string& path);

absl::Status MigrateCommand(const std::string& path);

}  // namespace mobula

// Tested by tests/unit/engine/app/daemon_command_test.cc and tests/e2e/daemon_test.py.
#include "engine/app/migrate_command.h"

#include <fmt/format.h>

#include <cstdio>
#include <optional>
#include <string_view>

#include "engine/base/status_macros.h"
#include "engine/config/daemon_settings.h"
#include "engine/config/loader.h"

namespace mobula {

absl::StatusOr<std::string> MigrateDaemonFile(const std::string& path) {
  ASSIGN_OR_RETURN(const DaemonSettings settings, LoadDaemonFile(path, DaemonKeys::kStrict));
  ASSIGN_OR_RETURN(MigratedSettings migrated, MigrateDaemonSettings(settings, path));
  // The file alone is judged, whatever this process's environment would put over it.
  ConfigInput input;
  input.environment = [](std::string_view) { return std::optional<std::string>(); };
  input.names = std::move(migrated.names);
  RETURN_IF_ERROR(ParseConfig(migrated.text, fmt::format("{}, migrated", path), input).status());
  return std::move(migrated.text);
}

absl::Status MigrateCommand(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, MigrateDaemonFile(path));
  std::fputs(text.c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace mobula

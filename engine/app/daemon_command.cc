// Tested by tests/unit/engine/app/daemon_command_test.cc and tests/e2e/daemon_test.py.
#include "engine/app/daemon_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <utility>

#include "engine/app/run_command.h"
#include "engine/app/version.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/config/daemon_settings.h"
#include "engine/config/loader.h"

namespace mobula {
namespace {

// Where the daemon looks when no file is named.
const std::vector<std::string>& DefaultPlaces() {
  static const std::vector<std::string> kPlaces = {"/etc/amazon/xray/cfg.yaml", "cfg.yaml"};
  return kPlaces;
}

// One log line for each of `message`, to `path`.
void WriteErrors(std::string_view message, const std::string& path) {
  Log::Options options;
  options.format = LogFormat::kDaemon;
  options.path = path;
  const absl::StatusOr<std::unique_ptr<Log>> log = Log::Open(options);
  if (!log.ok()) return;
  for (int line = 0; !message.empty(); ++line) {
    const size_t end = std::min(message.find('\n'), message.size());
    (*log)->Error("config", message.substr(0, end), {{"key", line}});
    message.remove_prefix(std::min(end + 1, message.size()));
  }
}

absl::StatusOr<DaemonSettings> FindSettings(const DaemonFlags& flags,
                                            const std::vector<std::string>& places,
                                            std::string* origin) {
  if (flags.config && !flags.config->empty()) {
    *origin = *flags.config;
    return LoadDaemonFile(*flags.config, DaemonKeys::kStrict);
  }
  for (const std::string& place : places) {
    // One that is there and cannot be read is a mistake, not a reason to look further.
    if (access(place.c_str(), F_OK) != 0) continue;
    *origin = place;
    return LoadDaemonFile(place, DaemonKeys::kLoose);
  }
  *origin = "built-in defaults";
  return DaemonSettings();
}

}  // namespace

bool IsDaemonCommandLine(const std::vector<std::string>& words) {
  if (words.empty()) return true;
  const std::string& program = words.front();
  if (program.substr(program.rfind('/') + 1) == "xray" || words.size() == 1) return true;
  const std::string& first = words[1];
  const bool ours =
      words.size() == 2 && (first == "--help" || first == "-h" || first == "--version");
  return !first.empty() && first.front() == '-' && !ours;
}

absl::StatusOr<DaemonConfig> LoadDaemonConfig(const DaemonFlags& flags,
                                              const std::vector<std::string>& places) {
  DaemonConfig out;
  ASSIGN_OR_RETURN(DaemonSettings settings, FindSettings(flags, places, &out.origin));
  ApplyDaemonFlags(flags, &settings);
  ASSIGN_OR_RETURN(MigratedSettings migrated, MigrateDaemonSettings(settings, out.origin));
  ConfigInput input;
  input.sets = std::move(migrated.sets);
  input.names = std::move(migrated.names);
  ASSIGN_OR_RETURN(out.config,
                   ParseConfig(migrated.text, fmt::format("{}, migrated", out.origin), input));
  out.config.of_daemon = true;
  for (std::string& warning : migrated.warnings) out.config.warnings.push_back(std::move(warning));
  return out;
}

int DaemonCommand(const std::vector<std::string>& args) {
  DaemonFlags flags;
  if (const absl::Status parsed = ParseDaemonFlags(args, &flags); !parsed.ok()) {
    std::fprintf(stderr, "%s\n", std::string(parsed.message()).c_str());
    std::fputs(DaemonUsage().c_str(), stdout);
    return 2;
  }
  if (flags.help) {
    std::fputs(DaemonUsage().c_str(), stdout);
    return 0;
  }
  if (flags.version.value_or(false)) {
    std::printf("AWS X-Ray daemon version: %s\n", std::string(kVersion).c_str());
    return 0;
  }
  const absl::StatusOr<DaemonConfig> loaded = LoadDaemonConfig(flags, DefaultPlaces());
  if (!loaded.ok()) {
    const std::string message(loaded.status().message());
    WriteErrors(message, "");
    if (flags.log_file && !flags.log_file->empty()) WriteErrors(message, *flags.log_file);
    return 1;
  }
  return RunAgent(loaded->config, loaded->origin, RunStyle::kDaemon,
                  [flags]() -> absl::StatusOr<Config> {
                    ASSIGN_OR_RETURN(DaemonConfig again, LoadDaemonConfig(flags, DefaultPlaces()));
                    return std::move(again.config);
                  });
}

}  // namespace mobula

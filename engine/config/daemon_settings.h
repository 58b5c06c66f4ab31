// What the X-Ray daemon's file and flags say, and the same as a configuration of ours.
//
// Room:   cold.
// Errors: InvalidArgument, in the daemon's words where people may look for them: "Regoin flag is invalid. ...".
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/config/daemon_flags.h"

namespace mobula {

template <class T>
struct DaemonSetting {
  T value{};
  std::string source;  // "Socket.UDPAddress", "-b"; empty: the daemon's default
  std::string place;   // of a file's: "cfg.yaml:3:15"
};

struct DaemonSettings {
  DaemonSetting<std::string> udp_address = {"127.0.0.1:2000", "", ""};
  DaemonSetting<std::string> tcp_address = {"127.0.0.1:2000", "", ""};
  DaemonSetting<int64_t> buffer_mb;    // 0 and less: as fits
  DaemonSetting<int64_t> concurrency;  // 0: as fits
  DaemonSetting<std::string> endpoint;
  DaemonSetting<std::string> region;
  DaemonSetting<bool> log_rotation = {true, "", ""};
  DaemonSetting<std::string> log_level = {"prod", "", ""};  // dev, debug, info, warn, error or prod
  DaemonSetting<std::string> log_path;                      // empty: standard output
  DaemonSetting<bool> local_mode;
  DaemonSetting<std::string> resource_arn;
  DaemonSetting<std::string> role_arn;
  DaemonSetting<bool> no_verify_ssl;
  DaemonSetting<std::string> proxy_address;
  DaemonSetting<bool> takeover;       // only a flag's
  std::vector<std::string> warnings;  // what was given and does not count
};

// A file named with -c may hold no unknown key; in one found at a default place they are ignored.
enum class DaemonKeys : uint8_t { kStrict, kLoose };

// A file of version 1 or 2; `name` stands for it in messages.
absl::StatusOr<DaemonSettings> ParseDaemonFile(std::string_view text, std::string_view name,
                                               DaemonKeys keys);
absl::StatusOr<DaemonSettings> LoadDaemonFile(const std::string& path, DaemonKeys keys);

// Flags win over the file, also with nothing: `-n ""` takes the file's region away.
void ApplyDaemonFlags(const DaemonFlags& flags, DaemonSettings* settings);

// The same as a configuration of ours, for engine/config/loader.h.
struct MigratedSettings {
  std::string text;  // with a comment behind each value that says where it came from
  // What flags said, once more, for ConfigInput::sets: it wins over the environment, as the file does not.
  std::vector<std::string> sets;
  std::map<std::string, std::string> names;  // for ConfigInput::names: the daemon's keys and flags
  std::vector<std::string> warnings;         // the settings', and what is more than there is
};

// `origin` stands for the file at the top of the text.
absl::StatusOr<MigratedSettings> MigrateDaemonSettings(const DaemonSettings& settings,
                                                       std::string_view origin);

}  // namespace mobula

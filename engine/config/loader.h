// Reads a configuration file, the environment and flags into Config, or says exactly what is wrong with them.
//
// Room:   cold. yaml-cpp stays behind this door.
// Errors: InvalidArgument, one line per mistake, every mistake of the file at once:
//           agent.yaml:12:5: receivers.udp.enginee: unknown key (did you mean "engine"?)
//           agent.yaml:14:14: receivers.udp.workers: "many": expected auto, per-core or a number from 1 to 64
//           environment MOBULA_LOG_LEVEL: log.level: "loud": expected debug, info, warn or error
//         NotFound or PermissionDenied when the file cannot be read. A value that came out of ${file:...}
//         or ${env:...} is never repeated in a message, nor is a proxy's password: it may be a secret.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/file_exposure.h"
#include "engine/config/config.h"
#include "engine/config/overrides.h"
#include "engine/config/yaml_tree.h"

namespace mobula {

// What is read when no file is named.
inline constexpr std::string_view kDefaultConfigPath = "/etc/mobula/mobula.yaml";

inline constexpr size_t kConfigFileBytesMax = size_t{1} << 20;

// Where values come from; flags win over the environment, and that over the file.
struct ConfigInput {
  std::string path;  // "-": standard input; empty: default_path if it exists, else no file
  // "receivers.udp.address=127.0.0.1:3000" from --set, "--log.level=debug" from a flag of an option's name
  // (engine/config/option_flags.h); the last one wins.
  std::vector<std::string> sets;
  // The environment in which ${env:NAME} is looked up; empty: the process's own.
  std::function<std::optional<std::string>(std::string_view)> environment;
  // All of the environment, searched for MOBULA_…; empty: nothing when `environment` is given, else the
  // process's own.
  std::function<Variables()> variables;
  std::string default_path{kDefaultConfigPath};
  // What messages call options of the text and of `sets` that somebody gave by another name: "-p" for
  // "backends.xray.http_proxy".
  std::map<std::string, std::string> names{};
};

// The file that LoadConfig reads; empty: none.
std::string ConfigPath(const ConfigInput& input);
// The text of a configuration file; of one that is larger, a little more than is allowed. `exposure`, if given, says
// who else may read or change it.
absl::StatusOr<std::string> ReadConfigFile(const std::string& path,
                                           FileExposure* exposure = nullptr);
// That anybody may change the file, or somebody who is not root or us; empty: nobody.
std::string AnybodyMayChange(const std::string& path, const FileExposure& exposure);
std::string AStrangerMayChange(const std::string& path, const FileExposure& exposure);
absl::StatusOr<Config> LoadConfig(const ConfigInput& input);
// The same from text; `name` stands for the file in messages.
absl::StatusOr<Config> ParseConfig(std::string_view text, std::string_view name,
                                   const ConfigInput& input = {});

// The configuration in force, as engine/config/effective.h has it.
absl::StatusOr<YamlNode> LoadEffective(const ConfigInput& input);
absl::StatusOr<YamlNode> ParseEffective(std::string_view text, std::string_view name,
                                        const ConfigInput& input = {});

}  // namespace mobula

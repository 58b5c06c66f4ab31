// Reads a configuration file into Config, or says exactly what is wrong with it.
//
// Room:   cold. yaml-cpp stays behind this door.
// Errors: InvalidArgument, one line per mistake, every mistake of the file at once:
//           agent.yaml:12:5: receivers.udp.enginee: unknown key (did you mean "engine"?)
//           agent.yaml:14:14: receivers.udp.workers: "many": expected auto, per-core or a number from 1 to 64
//         NotFound or PermissionDenied when the file cannot be read. A value that came out of ${file:...}
//         or ${env:...} is never repeated in a message: it may be a secret.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/config/config.h"

namespace mobula {

struct ConfigInput {
  std::string path;  // "-": standard input
  std::vector<std::string>
      sets;  // "receivers.udp.address=127.0.0.1:3000", from --set; they win over the file
  // The environment; empty: the process's own.
  std::function<std::optional<std::string>(std::string_view)> environment;
};

// The text of a configuration file; at most a little over 1 MiB is read, which ParseConfig refuses.
absl::StatusOr<std::string> ReadConfigFile(const std::string& path);
absl::StatusOr<Config> LoadConfig(const ConfigInput& input);
// The same from text; `name` stands for the file in messages.
absl::StatusOr<Config> ParseConfig(std::string_view text, std::string_view name,
                                   const ConfigInput& input = {});

}  // namespace mobula

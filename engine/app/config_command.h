// `mobula config print`: the configuration in force, and where each value came from.
//
// Room: cold.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "engine/config/loader.h"

namespace mobula {

// kYaml: a configuration of the same meaning, each value with a comment that says where it came from.
// kJson: [{"name": "log.level", "value": "debug", "origin": "MOBULA_LOG_LEVEL"}, ...].
// Either way references stay references, and a password in a URL is `***`.
enum class PrintFormat : uint8_t { kYaml, kJson };

// Prints to standard output; fails as LoadConfig does.
absl::Status PrintConfigCommand(const ConfigInput& input, PrintFormat format);

// `tree` as engine/config/effective.h makes it.
std::string FormatConfig(const YamlNode& tree, PrintFormat format);

}  // namespace mobula

// The X-Ray daemon's command line, by the rules of Go's `flag` package it was written with.
//
// Room:   cold.
// Errors: InvalidArgument with the one line Go prints, such as "flag needs an argument: -m".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace mobula {

// What was given; the last of several counts.
struct DaemonFlags {
  std::optional<std::string> resource_arn;
  std::optional<bool> local_mode;
  std::optional<int64_t> buffer_memory;
  std::optional<std::string> region;
  std::optional<std::string> bind;
  std::optional<std::string> bind_tcp;
  std::optional<std::string> role_arn;
  std::optional<std::string> config;
  std::optional<std::string> log_file;
  std::optional<std::string> log_level;
  std::optional<std::string> proxy_address;
  std::optional<bool> takeover;  // ours
  std::optional<bool> version;
  bool help = false;  // nothing behind it was read
};

// `args` without the program's name. Ends, without an error, at the first operand, `-` or `--`. On an error
// `*flags` holds what came before it.
absl::Status ParseDaemonFlags(const std::vector<std::string>& args, DaemonFlags* flags);

// What -h prints.
std::string DaemonUsage();

// A whole number as Go writes it: a sign, 0x, 0o, 0b or 0 in front of the digits, single _ between them.
std::optional<int64_t> ParseGoInt(std::string_view text);

}  // namespace mobula

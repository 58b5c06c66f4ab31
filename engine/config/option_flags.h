// Options as flags: --receivers.udp.address=VALUE or --receivers.udp.address VALUE.
//
// Room: cold.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace mobula {

// Whether an argument is a flag that names an option, known or not: `--`, and a first word of the table or a name
// with a dot. One without `=` takes the next argument as its value.
bool IsOptionFlag(std::string_view arg);

// What was left of a command line, as entries for ConfigInput::sets. InvalidArgument for what is no flag, for one
// that names no option, and for one without a value; no value is told.
absl::StatusOr<std::vector<std::string>> SetsFromFlags(const std::vector<std::string>& args);

}  // namespace mobula

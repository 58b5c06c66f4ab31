// Switches as AWS tools write them in variables and profiles.
//
// Room: cold.
#pragma once

#include <string_view>

#include "absl/strings/match.h"
#include "engine/aws/credentials.h"

namespace mobula {

// "true" in any case; everything else is off.
inline bool IsTrueText(std::string_view text) {
  return absl::EqualsIgnoreCase(absl::string_view(text.data(), text.size()), "true");
}
inline bool IsTrue(const Environment& environment, std::string_view variable) {
  return IsTrueText(environment(variable).value_or(""));
}

}  // namespace mobula

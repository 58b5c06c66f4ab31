// Who AWS says the holder of some credentials is: the answer of STS's GetCallerIdentity, which needs no permission.
//
// Room:   cold.
// Errors: FailedPrecondition for an answer that is none.
// Limits: 64 KiB.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mobula {

struct CallerIdentity {
  std::string account;  // twelve digits
  std::string arn;
};

// The body of the call, of type application/x-www-form-urlencoded.
inline constexpr std::string_view kGetCallerIdentity =
    "Action=GetCallerIdentity&Version=2011-06-15";

absl::StatusOr<CallerIdentity> ParseCallerIdentity(std::string_view body);

}  // namespace mobula

// One role to assume, as a configuration says it and as STS wants it.
//
// Room:   cold.
// Limits: STS AssumeRole: external_id 2..1224, session_name and source_identity 2..64, at most 50 tags;
//         validated where the configuration is read.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace mobula {

struct AwsRole {
  std::string role_arn;
  std::string external_id;                   // empty: none
  std::string session_name = "xray-daemon";  // trust policies and CloudTrail filters may match it
  // DurationSeconds; a role assumed by an assumed role (any pod's) gets one hour at most.
  std::chrono::nanoseconds duration = std::chrono::hours(1);
  std::vector<std::pair<std::string, std::string>> session_tags;
  std::string source_identity;

  friend bool operator==(const AwsRole&, const AwsRole&) = default;
};

}  // namespace mobula

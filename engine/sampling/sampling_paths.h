// The calls that X-Ray SDKs make to whoever answers for sampling.
//
// Room: cold.
#pragma once

#include <string_view>

namespace mobula {

inline constexpr std::string_view kRulesPath = "/GetSamplingRules";
inline constexpr std::string_view kTargetsPath = "/SamplingTargets";  // GetSamplingTargets
inline constexpr std::string_view kSummariesPath =
    "/SamplingStatisticSummaries";  // GetSamplingStatisticSummaries

inline bool IsSamplingPath(std::string_view path) {
  return path == kRulesPath || path == kTargetsPath || path == kSummariesPath;
}

}  // namespace mobula

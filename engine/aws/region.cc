// Tested by tests/unit/engine/aws/region_test.cc.
#include "engine/aws/region.h"

#include <fmt/format.h>

#include "absl/strings/ascii.h"
#include "engine/aws/shared_profile.h"
#include "engine/base/aws_region.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

struct Partition {
  std::string_view region_prefix;
  std::string_view suffix;
};

// Regions that begin with none of these are in the public partition or in GovCloud, which share a suffix.
constexpr Partition kPartitions[] = {
    {"cn-", "amazonaws.com.cn"},    {"us-iso-", "c2s.ic.gov"},      {"us-isob-", "sc2s.sgov.gov"},
    {"us-isof-", "csp.hci.ic.gov"}, {"eu-isoe-", "cloud.adc-e.uk"}, {"eusc-", "amazonaws.eu"},
};

absl::StatusOr<std::string> FindRegion(const std::string& configured, const std::string& profile,
                                       const Environment& environment) {
  if (!configured.empty()) return configured;
  for (const std::string_view name : {"AWS_REGION", "AWS_DEFAULT_REGION"}) {
    if (const auto region = environment(name)) return *region;
  }
  const std::string name = SharedProfile::FindName(profile, environment);
  ASSIGN_OR_RETURN(const SharedProfile found,
                   SharedProfile::Load(SharedProfile::FindPaths(environment), name));
  std::string region = found.Get("region");
  if (!region.empty()) return region;
  return absl::FailedPreconditionError(fmt::format(
      "no AWS region: set `region` of the backend, AWS_REGION or AWS_DEFAULT_REGION, or "
      "`region` of profile \"{}\" in the AWS config file",
      name));
}

}  // namespace

absl::StatusOr<std::string> ResolveRegion(const std::string& configured, const std::string& profile,
                                          const Environment& environment) {
  ASSIGN_OR_RETURN(std::string region, FindRegion(configured, profile, environment));
  if (!IsAwsRegion(region)) {
    return absl::InvalidArgumentError(fmt::format("\"{}\" is no AWS region", region));
  }
  return region;
}

std::string DefaultEndpoint(std::string_view service, std::string_view region) {
  std::string_view suffix = "amazonaws.com";
  for (const Partition& partition : kPartitions) {
    if (region.starts_with(partition.region_prefix)) suffix = partition.suffix;
  }
  return fmt::format("https://{}.{}.{}", service, region, suffix);
}

absl::StatusOr<HttpUrl> ResolveEndpoint(std::string_view service, const std::string& configured,
                                        std::string_view region, const Environment& environment) {
  std::string variable = fmt::format("AWS_ENDPOINT_URL_{}", service);
  absl::AsciiStrToUpper(&variable);
  std::string url = environment(variable).value_or(configured);
  if (url.empty()) url = environment("AWS_ENDPOINT_URL").value_or(DefaultEndpoint(service, region));
  return ParseHttpUrl(url);
}

}  // namespace mobula

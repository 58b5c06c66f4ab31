// Tested by tests/unit/engine/aws/region_finder_test.cc and tests/fuzz/aws_document_fuzz.cc.
#include "engine/aws/region_document.h"

#include <algorithm>
#include <optional>

#include "engine/base/aws_region.h"
#include "engine/segment/json_reader.h"

namespace mobula {
namespace {

// "arn:aws:ecs:eu-west-1:123456789012:task/…"
absl::StatusOr<std::string> RegionOfArn(std::string_view arn) {
  std::string_view rest = arn;
  std::string_view region;
  for (int part = 0; part < 4; ++part) {
    region = rest.substr(0, rest.find(':'));
    rest.remove_prefix(std::min(rest.size(), region.size() + 1));
  }
  if (!arn.starts_with("arn:") || !IsAwsRegion(region)) {
    return absl::FailedPreconditionError("its TaskARN is no ARN with a region");
  }
  return std::string(region);
}

// "eu-west-1b", or "us-west-2-lax-1a": the region ends with the first number.
absl::StatusOr<std::string> RegionOfZone(std::string_view zone) {
  const size_t digit = std::min(zone.find_first_of("0123456789"), zone.size());
  const size_t end = std::min(zone.find_first_not_of("0123456789", digit), zone.size());
  const std::string_view region = zone.substr(0, end);
  if (digit == zone.size() || !IsAwsRegion(region) || region.find('-') == std::string_view::npos) {
    return absl::FailedPreconditionError("its AvailabilityZone is none");
  }
  return std::string(region);
}

}  // namespace

absl::StatusOr<std::string> RegionOfTask(std::string_view text) {
  const std::optional<JsonValue> json = ParseJson(text);
  if (!json) return absl::FailedPreconditionError("it is no JSON");
  if (const std::string_view arn = json->FindString("TaskARN"); !arn.empty()) {
    return RegionOfArn(arn);
  }
  if (const std::string_view zone = json->FindString("AvailabilityZone"); !zone.empty()) {
    return RegionOfZone(zone);
  }
  return absl::FailedPreconditionError("it has no TaskARN and no AvailabilityZone");
}

absl::StatusOr<std::string> RegionOfInstance(std::string_view text) {
  const std::optional<JsonValue> json = ParseJson(text);
  const std::string_view region = json ? json->FindString("region") : std::string_view();
  if (IsAwsRegion(region)) return std::string(region);
  return absl::FailedPreconditionError("the instance identity document has no region");
}

}  // namespace mobula

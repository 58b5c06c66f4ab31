// Which region to talk to, and where its services are.
//
// Room:   cold.
// Errors: FailedPrecondition naming every place that was looked at; InvalidArgument for a region or
//         URL that cannot be one.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/aws/credentials.h"
#include "engine/http/http_url.h"

namespace mobula {

// `configured`, AWS_REGION, AWS_DEFAULT_REGION, or the region of the profile.
absl::StatusOr<std::string> ResolveRegion(const std::string& configured, const std::string& profile,
                                          const Environment& environment);

// https://<service>.<region>.<suffix of the region's partition>
std::string DefaultEndpoint(std::string_view service, std::string_view region);

// AWS_ENDPOINT_URL_<SERVICE>, `configured`, AWS_ENDPOINT_URL, or the default.
absl::StatusOr<HttpUrl> ResolveEndpoint(std::string_view service, const std::string& configured,
                                        std::string_view region, const Environment& environment);

}  // namespace mobula

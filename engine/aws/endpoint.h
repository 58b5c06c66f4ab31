// Where an AWS service is, and how it is reached: endpoint, forward proxy, trust.
//
// Room:   cold.
// Errors: InvalidArgument for what cannot be an endpoint, or for settings of a backend that ask for FIPS or dual-stack
//         together with an endpoint; the message names the setting or variable.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/aws/credentials.h"
#include "engine/http/http_client.h"

namespace mobula {

// A backend's word on it; empty members leave it to the environment, then to the profile, then to AWS's rules.
struct AwsEndpointSettings {
  std::string endpoint;
  std::string profile;
  std::optional<bool> fips;        // AWS_USE_FIPS_ENDPOINT, use_fips_endpoint
  std::optional<bool> dual_stack;  // AWS_USE_DUALSTACK_ENDPOINT, use_dualstack_endpoint
  std::string http_proxy;          // HTTPS_PROXY, HTTP_PROXY, NO_PROXY in either case
  std::string ca_file;             // AWS_CA_BUNDLE, ca_bundle
  bool verify = true;

  friend bool operator==(const AwsEndpointSettings&, const AwsEndpointSettings&) = default;
};

// https://<service>[-fips].<region>.<suffix of the region's partition>
std::string DefaultEndpoint(std::string_view service, std::string_view region, bool fips,
                            bool dual_stack);

// URL, proxy, trust and verification of a client for `service` ("xray", "sts", "sso"): AWS_ENDPOINT_URL_<SERVICE>,
// `settings.endpoint`, AWS_ENDPOINT_URL, the profile's endpoint_url, or the default. The rest of the options
// keep their defaults. AWS_IGNORE_CONFIGURED_ENDPOINT_URLS passes over the variables and the profile;
// AWS_STS_REGIONAL_ENDPOINTS=legacy means https://sts.amazonaws.com for the regions that ever used it. A custom
// endpoint stands above FIPS and dual-stack of the environment or the profile. A profile that cannot be read counts
// as empty, unless it was chosen by name.
absl::StatusOr<HttpClient::Options> ResolveService(std::string_view service,
                                                   std::string_view region,
                                                   const AwsEndpointSettings& settings,
                                                   const Environment& environment);

// The URL in that order of places, as it is written there; empty: the default endpoint, or a profile that cannot be read.
std::string CustomEndpoint(std::string_view service, const AwsEndpointSettings& settings,
                           const Environment& environment);

// The region of the signature for calls to `url`: `region`, but that of STS's global endpoint is us-east-1.
std::string SigningRegion(std::string_view region, const HttpUrl& url);

}  // namespace mobula

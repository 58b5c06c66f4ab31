// The X-Ray service as a backend's configuration means it: where it is, how it is reached, as whom.
//
// Room:   cold.
// Errors: those of AwsContext::FindRegion and ResolveService.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/aws/aws_client.h"
#include "engine/aws/aws_context.h"
#include "engine/config/config.h"

namespace mobula {

struct XrayService {
  std::string region;
  HttpClient::Options http;
  std::shared_ptr<CredentialsProvider> credentials;
};

// For that look-up: slow metadata is waited for this long and longer, since meanwhile receivers hold what comes.
inline constexpr Duration kFindRegionMax = std::chrono::seconds(25);

// Looks the region up, which may take until `deadline`, and begins to fetch the credentials. Not to be called
// on the context's loop.
absl::StatusOr<XrayService> FindXrayService(const XrayBackendConfig& config, AwsContext* aws,
                                            Time deadline);

// Where a backend's documents go, as far as it can be known before anybody is asked: what the configuration leaves to
// the environment and the shared files is filled in. An empty member: metadata says it, or it is the standard.
struct XrayPlace {
  std::string endpoint;
  std::string region;
  std::string profile;
};
XrayPlace PlaceOf(const XrayBackendConfig& config, const Environment& environment);

// As whom the backend acts in `region`.
AwsIdentity IdentityOf(const XrayBackendConfig& config, const std::string& region);
// How the backend reaches X-Ray.
AwsEndpointSettings XrayEndpointSettings(const XrayBackendConfig& config);

// For calls other than segments.
AwsClient::Options XrayClientOptions(const XrayService& service, const AwsContext& aws);

// The form the service's operators know of the X-Ray daemon, behind our own name.
std::string XrayUserAgent(std::string_view version, const Environment& environment);

}  // namespace mobula

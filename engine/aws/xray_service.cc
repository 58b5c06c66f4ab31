// Tested by tests/unit/engine/aws/xray_service_test.cc.
#include "engine/aws/xray_service.h"

#include <fmt/format.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "engine/aws/region_finder.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

constexpr std::string_view kArchitecture =
#if defined(__x86_64__)
    "amd64";
#elif defined(__aarch64__)
    "arm64";
#else
    "unknown";
#endif

}  // namespace

AwsEndpointSettings XrayEndpointSettings(const XrayBackendConfig& config) {
  AwsEndpointSettings settings;
  settings.endpoint = config.endpoint;
  settings.profile = config.profile;
  settings.fips = config.fips;
  settings.dual_stack = config.dual_stack;
  settings.http_proxy = config.http_proxy;
  settings.ca_file = config.tls.ca;
  settings.verify = config.tls.verify;
  return settings;
}

XrayPlace PlaceOf(const XrayBackendConfig& config, const Environment& environment) {
  XrayPlace place;
  place.endpoint = CustomEndpoint("xray", XrayEndpointSettings(config), environment);
  place.region = config.region;
  if (place.region.empty()) {
    if (auto found = FindRegionInSettings(config.profile, environment)) {
      place.region = std::move(found->name);
    }
  }
  place.profile = config.profile;
  for (const char* const name : {"AWS_PROFILE", "AWS_DEFAULT_PROFILE"}) {
    if (place.profile.empty()) place.profile = environment(name).value_or("");
  }
  return place;
}

AwsIdentity IdentityOf(const XrayBackendConfig& config, const std::string& region) {
  AwsIdentity identity;
  identity.profile = config.profile;
  identity.roles = config.via;
  if (!config.role.role_arn.empty()) identity.roles.push_back(config.role);
  identity.region = region;
  identity.sts = XrayEndpointSettings(config);
  identity.sts.endpoint = config.sts_endpoint;
  // An endpoint of X-Ray that is not verified says nothing about STS, which gives keys away.
  identity.sts.verify = true;
  return identity;
}

absl::StatusOr<XrayService> FindXrayService(const XrayBackendConfig& config, AwsContext* aws,
                                            Time deadline) {
  XrayService service;
  ASSIGN_OR_RETURN(FoundRegion region, aws->FindRegion(config.region, config.profile, deadline));
  service.region = std::move(region.name);
  ASSIGN_OR_RETURN(service.http, ResolveService("xray", service.region,
                                                XrayEndpointSettings(config), aws->environment()));
  service.credentials = aws->Credentials(IdentityOf(config, service.region));
  return service;
}

AwsClient::Options XrayClientOptions(const XrayService& service, const AwsContext& aws) {
  AwsClient::Options options;
  options.service = "xray";
  options.region = service.region;
  options.http = service.http;
  options.credentials = service.credentials;
  options.user_agent = aws.user_agent();
  options.log = aws.log();
  return options;
}

std::string XrayUserAgent(std::string_view version, const Environment& environment) {
  std::string where = environment("AWS_EXECUTION_ENV").value_or("UNKNOWN");
  for (char& c : where) {
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c))) c = '_';
  }
  return fmt::format("mobula/{0} xray-agent/xray-daemon/{0} exec-env/{1} OS/linux-{2}", version,
                     where, kArchitecture);
}

}  // namespace mobula

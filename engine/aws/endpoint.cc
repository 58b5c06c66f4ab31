// Tested by tests/unit/engine/aws/endpoint_test.cc.
#include "engine/aws/endpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "engine/aws/flag_text.h"
#include "engine/aws/shared_profile.h"
#include "engine/base/status_macros.h"
#include "engine/http/forward_proxy.h"

namespace mobula {
namespace {

struct Partition {
  std::string_view region_prefix;
  std::string_view suffix;
  std::string_view dual_stack_suffix;
};

// Regions that begin with none of these are in the public partition.
constexpr Partition kPartitions[] = {
    {"us-gov-", "amazonaws.com", "api.aws"},
    {"cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"},
    {"us-iso-", "c2s.ic.gov", "api.aws.ic.gov"},
    {"us-isob-", "sc2s.sgov.gov", "api.aws.scloud"},
    {"us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"},
    {"eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"},
    {"eusc-", "amazonaws.eu", "api.amazonwebservices.eu"},
};
constexpr Partition kPublic = {"", "amazonaws.com", "api.aws"};

constexpr std::string_view kGlobalSts = "sts.amazonaws.com";
// The regions older than STS's regional endpoints: only they have a legacy mode.
constexpr std::string_view kLegacyStsRegions[] = {
    "ap-northeast-1", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ca-central-1",
    "eu-central-1",   "eu-north-1", "eu-west-1",      "eu-west-2",      "eu-west-3",
    "sa-east-1",      "us-east-1",  "us-east-2",      "us-west-1",      "us-west-2",
};

// One resolution: each setting from the backend, the environment or the profile.
class Resolver {
 public:
  Resolver(std::string_view service, std::string_view region, const AwsEndpointSettings& settings,
           const Environment& environment)
      : service_(service), region_(region), settings_(settings), environment_(environment) {}

  std::string RunCustom() {
    LoadProfile().IgnoreError();
    return FindCustom().url;
  }

  absl::StatusOr<HttpClient::Options> Run() {
    RETURN_IF_ERROR(CheckOwnSettings());
    RETURN_IF_ERROR(LoadProfile());
    HttpClient::Options options;
    ASSIGN_OR_RETURN(options.url, FindUrl());
    ASSIGN_OR_RETURN(options.proxy,
                     FindForwardProxy(settings_.http_proxy, options.url, environment_));
    options.ca_file = settings_.ca_file;
    if (options.ca_file.empty()) options.ca_file = Find("AWS_CA_BUNDLE", "ca_bundle");
    options.verify = settings_.verify;
    return options;
  }

 private:
  [[nodiscard]] absl::Status CheckOwnSettings() const {
    if (settings_.endpoint.empty()) return absl::OkStatus();
    for (const auto& [name, value] :
         {std::pair("fips", settings_.fips), {"dual_stack", settings_.dual_stack}}) {
      if (value.value_or(false)) {
        return absl::InvalidArgumentError(fmt::format(
            "`endpoint` and `{}` exclude each other: give the {} endpoint itself, or no endpoint",
            name, name));
      }
    }
    return absl::OkStatus();
  }

  absl::Status LoadProfile() {
    absl::StatusOr<SharedProfile> profile =
        SharedProfile::Load(SharedProfile::FindPaths(environment_),
                            SharedProfile::FindName(settings_.profile, environment_));
    // Containers often run as somebody who may not look into HOME; then there is no profile to speak of.
    const bool chosen = !settings_.profile.empty() || environment_("AWS_PROFILE").has_value() ||
                        environment_("AWS_CONFIG_FILE").has_value();
    if (profile.ok()) {
      profile_ = *std::move(profile);
    } else if (chosen) {
      return profile.status();
    }
    return absl::OkStatus();
  }

  // The variable, else the profile's setting; empty when neither is there.
  [[nodiscard]] std::string Find(std::string_view variable, std::string_view key) const {
    if (const auto value = environment_(variable)) return *value;
    return profile_.Get(key);
  }

  [[nodiscard]] bool FindFlag(const std::optional<bool>& own, std::string_view variable,
                              std::string_view key) const {
    return own ? *own : IsTrueText(Find(variable, key));
  }

  struct Place {
    std::string url;
    std::string name;
  };
  // Empty: nobody names a URL.
  [[nodiscard]] Place FindCustom() const {
    std::string variable = fmt::format("AWS_ENDPOINT_URL_{}", service_);
    absl::AsciiStrToUpper(&variable);
    const bool ignore =
        IsTrueText(Find("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls"));
    const auto look = [&](std::string_view name) {
      return ignore ? std::string() : environment_(name).value_or("");
    };
    if (std::string url = look(variable); !url.empty()) return {std::move(url), variable};
    if (!settings_.endpoint.empty()) return {settings_.endpoint, "`endpoint`"};
    if (std::string url = look("AWS_ENDPOINT_URL"); !url.empty()) {
      return {std::move(url), "AWS_ENDPOINT_URL"};
    }
    if (std::string url = profile_.Get("endpoint_url"); !url.empty() && !ignore) {
      return {std::move(url), "endpoint_url of the profile"};
    }
    return {};
  }

  [[nodiscard]] absl::StatusOr<HttpUrl> FindUrl() const {
    if (const Place custom = FindCustom(); !custom.url.empty()) {
      return Parse(custom.url, custom.name);
    }
    const bool fips = FindFlag(settings_.fips, "AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint");
    const bool dual_stack =
        FindFlag(settings_.dual_stack, "AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint");
    if (!fips && !dual_stack && IsLegacySts()) {
      return ParseHttpUrl(fmt::format("https://{}", kGlobalSts));
    }
    return ParseHttpUrl(DefaultEndpoint(service_, region_, fips, dual_stack));
  }

  [[nodiscard]] bool IsLegacySts() const {
    return service_ == "sts" &&
           absl::EqualsIgnoreCase(Find("AWS_STS_REGIONAL_ENDPOINTS", "sts_regional_endpoints"),
                                  "legacy") &&
           std::find(std::begin(kLegacyStsRegions), std::end(kLegacyStsRegions), region_) !=
               std::end(kLegacyStsRegions);
  }

  static absl::StatusOr<HttpUrl> Parse(const std::string& text, std::string_view where) {
    absl::StatusOr<HttpUrl> url = ParseHttpUrl(text);
    if (url.ok()) return url;
    return absl::InvalidArgumentError(
        fmt::format("{}: {}", where, std::string(url.status().message())));
  }

  const std::string_view service_;
  const std::string_view region_;
  const AwsEndpointSettings& settings_;
  const Environment& environment_;
  SharedProfile profile_;
};

}  // namespace

std::string DefaultEndpoint(std::string_view service, std::string_view region, bool fips,
                            bool dual_stack) {
  const Partition* partition = &kPublic;
  for (const Partition& candidate : kPartitions) {
    if (region.starts_with(candidate.region_prefix)) partition = &candidate;
  }
  // GovCloud's plain STS is a FIPS endpoint already, and there is no other.
  const bool plain_is_fips = service == "sts" && region.starts_with("us-gov-") && !dual_stack;
  return fmt::format("https://{}{}.{}.{}", service == "sso" ? "portal.sso" : service,
                     fips && !plain_is_fips ? "-fips" : "", region,
                     dual_stack ? partition->dual_stack_suffix : partition->suffix);
}

absl::StatusOr<HttpClient::Options> ResolveService(std::string_view service,
                                                   std::string_view region,
                                                   const AwsEndpointSettings& settings,
                                                   const Environment& environment) {
  return Resolver(service, region, settings, environment).Run();
}

std::string CustomEndpoint(std::string_view service, const AwsEndpointSettings& settings,
                           const Environment& environment) {
  return Resolver(service, "", settings, environment).RunCustom();
}

std::string SigningRegion(std::string_view region, const HttpUrl& url) {
  return std::string(url.host == kGlobalSts ? "us-east-1" : region);
}

}  // namespace mobula

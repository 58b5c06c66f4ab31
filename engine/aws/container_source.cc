// Tested by tests/unit/engine/aws/container_source_test.cc.
#include "engine/aws/container_source.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "engine/aws/credentials_document.h"
#include "engine/aws/retrying_client.h"
#include "engine/base/small_file.h"
#include "engine/base/status_macros.h"
#include "engine/segment/json_reader.h"

namespace mobula {
namespace {

constexpr std::string_view kRelative = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
constexpr std::string_view kFull = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
constexpr std::string_view kToken = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
constexpr std::string_view kTokenFile = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
constexpr std::string_view kRelativeHost = "http://169.254.170.2";
constexpr std::string_view kSource = "container";
constexpr std::string_view kWho = "the credentials endpoint";
constexpr size_t kBytesMax = 64 * 1024;
constexpr size_t kTokenBytesMax = 12 * 1024;

// Where plain http stays within the machine.
bool IsLocal(const std::string& host) {
  in_addr v4;
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    const uint32_t address = ntohl(v4.s_addr);
    return address >> 24 == 127 || host == "169.254.170.2" || host == "169.254.170.23";
  }
  in6_addr v6;
  if (::inet_pton(AF_INET6, host.c_str(), &v6) == 1) {
    in6_addr pod_identity;
    ::inet_pton(AF_INET6, "fd00:ec2::23", &pod_identity);
    return IN6_IS_ADDR_LOOPBACK(&v6) || std::memcmp(&v6, &pod_identity, sizeof v6) == 0;
  }
  return host == "localhost" || absl::EndsWith(host, ".localhost");
}

absl::Status Wrong(std::string_view variable, std::string_view what) {
  return absl::FailedPreconditionError(fmt::format("{} {}", variable, what));
}

bool IsTarget(std::string_view target) {
  return target.starts_with('/') &&
         std::all_of(target.begin(), target.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

// What goes into Authorization; empty: nothing.
absl::StatusOr<std::string> FindToken(const Environment& environment) {
  std::string_view variable = kToken;
  std::string token;
  if (const auto path = environment(kTokenFile)) {
    variable = kTokenFile;
    absl::StatusOr<std::string> text = ReadSmallFile(*path, kBytesMax);
    if (!text.ok()) {
      return Wrong(variable, fmt::format("names a token that is not to be had: {}",
                                         std::string(text.status().message())));
    }
    token = *std::move(text);
    // An editor's line end; one inside would begin another header.
    while (token.ends_with('\n') || token.ends_with('\r')) token.pop_back();
    if (token.empty()) return Wrong(variable, "names an empty file");
  } else {
    token = environment(kToken).value_or("");
  }
  if (token.size() > kTokenBytesMax) return Wrong(variable, "gives too long a token");
  if (token.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos) {
    return Wrong(variable, "gives a token with a line end inside, which is not allowed");
  }
  return token;
}

class ContainerSource final : public CredentialsSource {
 public:
  ContainerSource(IoLoop* loop, Environment environment)
      : loop_(loop), environment_(std::move(environment)) {}

  void Fetch(Time deadline, Done done) override {
    if (const absl::Status status = Ask(deadline, done); !status.ok()) {
      loop_->Post([done = std::move(done), status] { done(OfSource(kSource, status)); });
    }
  }

 private:
  absl::Status Ask(Time deadline, const Done& done) {
    ASSIGN_OR_RETURN(ContainerEndpoint endpoint, FindContainerEndpoint(environment_));
    ASSIGN_OR_RETURN(const std::string token, FindToken(environment_));
    HttpClient::Options options;
    options.url = std::move(endpoint.url);
    options.ca_file = environment_("AWS_CA_BUNDLE").value_or("");
    options.body_bytes_max = kBytesMax;
    options.idle_connections_max = 0;  // the next call is hours away
    ASSIGN_OR_RETURN(http_, RetryingClient::Create(loop_, std::move(options)));
    RetryingClient::Call call;
    call.target = std::move(endpoint.target);
    call.headers = {{"Accept", "application/json"}};
    if (!token.empty()) call.headers.emplace_back("Authorization", token);
    call.tries = 3;
    call.timeout = std::chrono::seconds(2);
    call.deadline = deadline;
    http_->Send(std::move(call), [done, url = http_->url()](const HttpResponse& response) {
      absl::StatusOr<Credentials> credentials = ReadAnswer(response, url);
      if (!credentials.ok()) credentials = OfSource(kSource, credentials.status());
      done(std::move(credentials));
    });
    return absl::OkStatus();
  }

  static absl::StatusOr<Credentials> ReadAnswer(const HttpResponse& response, const HttpUrl& url) {
    RETURN_IF_ERROR(CheckAnswer(response, kWho, url));
    const std::optional<JsonValue> json = ParseJson(response.body);
    const std::string what = fmt::format("the answer of {} at {}", kWho, url.Authority());
    if (!json) return absl::UnavailableError(fmt::format("{} is no JSON", what));
    ASSIGN_OR_RETURN(Credentials credentials, ReadCredentials(*json, what, {}));
    credentials.source = kSource;
    return credentials;
  }

  IoLoop* const loop_;
  const Environment environment_;
  std::unique_ptr<RetryingClient> http_;
};

}  // namespace

bool ContainerConfigured(const Environment& environment) {
  return environment(kRelative).has_value() || environment(kFull).has_value();
}

absl::StatusOr<ContainerEndpoint> FindContainerEndpoint(const Environment& environment) {
  ContainerEndpoint endpoint;
  if (const auto relative = environment(kRelative)) {
    if (!IsTarget(*relative)) return Wrong(kRelative, "is no path beginning with /");
    ASSIGN_OR_RETURN(endpoint.url, ParseHttpUrl(kRelativeHost));
    endpoint.target = *relative;
    return endpoint;
  }
  const std::string full = environment(kFull).value_or("");
  const size_t scheme = full.find("://");
  const size_t host = scheme == std::string::npos ? full.size() : scheme + 3;
  const size_t end = std::min(full.find_first_of("/?#", host), full.size());
  absl::StatusOr<HttpUrl> url = ParseHttpUrl(full.substr(0, end));
  if (!url.ok()) {
    return Wrong(kFull, fmt::format("is no URL: {}", std::string(url.status().message())));
  }
  endpoint.url = *std::move(url);
  endpoint.target = full.substr(end, full.find('#', end) - end);
  if (!endpoint.target.starts_with('/')) endpoint.target.insert(0, 1, '/');
  if (!IsTarget(endpoint.target))
    return Wrong(kFull, "has a path with blanks or control characters");
  if (!endpoint.url.tls && !IsLocal(endpoint.url.host)) {
    return Wrong(
        kFull,
        fmt::format("points to {} by http, which is only allowed for loopback, 169.254.170.2, "
                    "169.254.170.23 and fd00:ec2::23: use https",
                    endpoint.url.host));
  }
  return endpoint;
}

std::unique_ptr<CredentialsSource> MakeContainerSource(IoLoop* loop, Environment environment) {
  return std::make_unique<ContainerSource>(loop, std::move(environment));
}

}  // namespace mobula

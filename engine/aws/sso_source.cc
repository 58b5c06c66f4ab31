// Tested by tests/unit/engine/aws/sso_source_test.cc.
#include "engine/aws/sso_source.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <chrono>
#include <optional>
#include <utility>

#include "engine/aws/credentials_document.h"
#include "engine/aws/endpoint.h"
#include "engine/aws/iso_time.h"
#include "engine/aws/retrying_client.h"
#include "engine/aws/sigv4.h"
#include "engine/aws/uri_encode.h"
#include "engine/base/aws_region.h"
#include "engine/base/check.h"
#include "engine/base/small_file.h"
#include "engine/base/status_macros.h"
#include "engine/segment/json_reader.h"

namespace mobula {
namespace {

constexpr size_t kTokenFileBytesMax = 1 << 20;
constexpr size_t kTokenBytesMax = 12 * 1024;
constexpr size_t kAnswerBytesMax = 64 * 1024;

std::string Sha1Hex(std::string_view text) {
  std::array<uint8_t, 20> digest;
  CHECK(EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha1(), nullptr) == 1);
  return ToHex(digest);
}

class SsoSource final : public CredentialsSource {
 public:
  SsoSource(IoLoop* loop, SsoSettings settings, Environment environment)
      : loop_(loop),
        settings_(std::move(settings)),
        environment_(std::move(environment)),
        name_(settings_.profile.empty() ? "SSO"
                                        : fmt::format("profile \"{}\" (SSO)", settings_.profile)) {}

  void Fetch(Time deadline, Done done) override {
    if (const absl::Status status = Ask(deadline, done); !status.ok()) {
      loop_->Post([done = std::move(done), status = OfSource(name_, status)] { done(status); });
    }
  }

 private:
  absl::Status Ask(Time deadline, const Done& done) {
    RETURN_IF_ERROR(CheckSettings());
    ASSIGN_OR_RETURN(const std::string token, FindToken());
    AwsEndpointSettings endpoint;
    endpoint.profile = settings_.profile;
    ASSIGN_OR_RETURN(HttpClient::Options options,
                     ResolveService("sso", settings_.region, endpoint, environment_));
    options.body_bytes_max = kAnswerBytesMax;
    options.idle_connections_max = 0;  // the next call is hours away
    ASSIGN_OR_RETURN(http_, RetryingClient::Create(loop_, std::move(options)));
    RetryingClient::Call call;
    call.target = http_->url().path + "/federation/credentials?role_name=";
    AppendUriEncoded(settings_.role_name, &call.target);
    call.target += "&account_id=";
    AppendUriEncoded(settings_.account_id, &call.target);
    call.headers = {{"x-amz-sso_bearer_token", token}, {"Accept", "application/json"}};
    call.timeout = std::chrono::seconds(5);
    call.deadline = deadline;
    http_->Send(std::move(call), [this, done](const HttpResponse& response) {
      absl::StatusOr<Credentials> credentials = ReadAnswer(response);
      if (!credentials.ok()) credentials = OfSource(name_, credentials.status());
      done(std::move(credentials));
    });
    return absl::OkStatus();
  }

  [[nodiscard]] absl::Status CheckSettings() const {
    for (const auto& [setting, value] : {std::pair("sso_start_url", &settings_.start_url),
                                         {"sso_region", &settings_.region},
                                         {"sso_account_id", &settings_.account_id},
                                         {"sso_role_name", &settings_.role_name}}) {
      if (value->empty())
        return absl::FailedPreconditionError(fmt::format("{} is missing", setting));
    }
    if (!IsAwsRegion(settings_.region)) {
      return absl::FailedPreconditionError("sso_region is no AWS region");
    }
    return absl::OkStatus();
  }

  // What the login left behind.
  [[nodiscard]] absl::StatusOr<std::string> FindToken() const {
    const std::string& key =
        settings_.session_name.empty() ? settings_.start_url : settings_.session_name;
    const auto home = environment_("HOME");
    if (!home) return LogIn("HOME is not set, so that no login can be found");
    const std::string path = fmt::format("{}/.aws/sso/cache/{}.json", *home, Sha1Hex(key));
    absl::StatusOr<std::string> text = ReadSmallFile(path, kTokenFileBytesMax);
    if (absl::IsNotFound(text.status())) return LogIn("nobody has logged in");
    RETURN_IF_ERROR(text.status());
    const std::optional<JsonValue> json = ParseJson(*text);
    if (!json) return LogIn(fmt::format("{} is no JSON", path));
    std::string token(json->FindString("accessToken"));
    const auto expiry = ParseIsoTime(json->FindString("expiresAt"));
    if (token.empty() || token.size() > kTokenBytesMax || !expiry ||
        token.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos) {
      return LogIn(fmt::format("{} holds no usable token", path));
    }
    if (*expiry <= std::chrono::system_clock::now()) return LogIn("the login has expired");
    return token;
  }

  [[nodiscard]] absl::Status LogIn(std::string_view what) const {
    return absl::FailedPreconditionError(fmt::format(
        "{}; run: aws sso login{}", what,
        !settings_.profile.empty()        ? fmt::format(" --profile {}", settings_.profile)
        : !settings_.session_name.empty() ? fmt::format(" --sso-session {}", settings_.session_name)
                                          : ""));
  }

  [[nodiscard]] absl::StatusOr<Credentials> ReadAnswer(const HttpResponse& response) const {
    if (response.transport.ok() && response.status == 401) {
      return LogIn("the portal does not accept the login");
    }
    RETURN_IF_ERROR(CheckAnswer(response, "the SSO portal", http_->url()));
    const std::optional<JsonValue> json = ParseJson(response.body);
    const JsonValue* const found = json ? json->Find("roleCredentials") : nullptr;
    if (found == nullptr) {
      return absl::UnavailableError("the SSO portal's answer holds no roleCredentials");
    }
    ASSIGN_OR_RETURN(Credentials credentials, ReadCredentials(*found, "the SSO portal's answer",
                                                              {"accessKeyId", "secretAccessKey",
                                                               "sessionToken", "expiration"}));
    credentials.source = name_;
    return credentials;
  }

  IoLoop* const loop_;
  const SsoSettings settings_;
  const Environment environment_;
  const std::string name_;
  std::unique_ptr<RetryingClient> http_;
};

}  // namespace

std::unique_ptr<CredentialsSource> MakeSsoSource(IoLoop* loop, SsoSettings settings,
                                                 Environment environment) {
  return std::make_unique<SsoSource>(loop, std::move(settings), std::move(environment));
}

}  // namespace mobula

// Tested by tests/unit/engine/aws/sts_client_test.cc.
#include "engine/aws/sts_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "engine/aws/aws_client.h"
#include "engine/aws/aws_error.h"
#include "engine/aws/endpoint.h"
#include "engine/aws/sts_answer.h"
#include "engine/aws/uri_encode.h"
#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/http/http_date.h"

namespace mobula {
namespace {

using std::chrono::system_clock;

constexpr int kTries = 2;
constexpr Duration kTryTimeout = std::chrono::seconds(5);
constexpr Duration kPause = std::chrono::milliseconds(200);
constexpr Duration kChainedMax = std::chrono::hours(1);
// Enough of a token to know it by.
constexpr size_t kTokenBegin = 12;
// A smaller difference says more about the network than about the clock.
constexpr Duration kClockErrorMin = std::chrono::minutes(1);

class Form {
 public:
  void Add(std::string_view name, std::string_view value) {
    if (!text_.empty()) text_.push_back('&');
    text_.append(name).push_back('=');
    AppendUriEncoded(value, &text_);
  }
  std::string Take() { return std::move(text_); }

 private:
  std::string text_;
};

// Whether STS may say something else a moment later. The code of a token that expired is among them: it is read
// again, and may have been rotated.
bool IsWorthAnotherTry(const HttpResponse& response, std::string_view code) {
  if (!response.transport.ok()) {
    return absl::IsUnavailable(response.transport) || absl::IsDeadlineExceeded(response.transport);
  }
  return response.status >= 500 || response.status == 429 || IsAwsThrottling(code) ||
         code == "IDPCommunicationError" || code == "InvalidIdentityToken" ||
         code == "ExpiredTokenException" || code == "RequestTimeout";
}

std::string_view HintFor(std::string_view code) {
  if (code == "AccessDenied") {
    return " (the role's trust policy must allow the caller and its external id, and the caller's "
           "own policy sts:AssumeRole on the role)";
  }
  if (code == "RegionDisabledException") return " (activate STS for the region in the account)";
  return "";
}

}  // namespace

class StsClient::Impl {
 public:
  Impl(IoLoop* loop, Log* log, AwsRole role) : pause_(loop), log_(log), role_(std::move(role)) {}

  absl::Status Connect(IoLoop* loop, const StsSettings& settings,
                       std::shared_ptr<CredentialsProvider> credentials) {
    AwsClient::Options options;
    options.service = "sts";
    absl::StatusOr<HttpClient::Options> http =
        ResolveService("sts", settings.region, settings.endpoint, settings.environment);
    if (!http.ok()) return Error(http.status().code(), std::string(http.status().message()));
    options.http = *std::move(http);
    options.region = SigningRegion(settings.region, options.http.url);
    options.http.body_bytes_max = kStsAnswerBytesMax;
    options.http.idle_connections_max = 1;
    options.credentials = std::move(credentials);
    options.user_agent = settings.user_agent;
    options.log = settings.log;
    absl::StatusOr<std::unique_ptr<AwsClient>> client = AwsClient::Create(loop, std::move(options));
    if (!client.ok()) return Error(client.status().code(), std::string(client.status().message()));
    client_ = *std::move(client);
    return absl::OkStatus();
  }

  void Begin(std::string_view action, ReadToken read_token, Time deadline, Done done) {
    CHECK(done_ == nullptr);  // one call at a time
    action_ = action;
    read_token_ = std::move(read_token);
    deadline_ = deadline;
    done_ = std::move(done);
    tries_ = 0;
    pause_.Set(std::chrono::steady_clock::now(), [this] { Try(); });
  }

 private:
  absl::Status Error(absl::StatusCode code, const std::string& what) const {
    return absl::Status(code, fmt::format("assume role {}: {}", role_.role_arn, what));
  }

  void End(absl::StatusOr<Credentials> result) {
    read_token_ = nullptr;
    token_begin_.clear();
    const Done done = std::exchange(done_, nullptr);
    done(std::move(result));
  }

  void Try() {
    ++tries_;
    std::string token;
    if (read_token_ != nullptr) {
      absl::StatusOr<std::string> read = read_token_();
      if (!read.ok()) {
        End(Error(read.status().code(), std::string(read.status().message())));
        return;
      }
      token = *std::move(read);
      token_begin_ = token.substr(0, kTokenBegin);
    }
    AwsClient::Request request;
    request.path = "/";
    request.headers = {{"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"}};
    request.body = MakeForm(token);
    request.deadline = std::min(deadline_, std::chrono::steady_clock::now() + kTryTimeout);
    client_->Call(std::move(request), [this](const HttpResponse& response) { OnAnswer(response); });
  }

  std::string MakeForm(const std::string& token) const {
    const Duration duration = one_hour_ ? std::min(role_.duration, kChainedMax) : role_.duration;
    Form form;
    form.Add("Action", action_);
    form.Add("Version", "2011-06-15");
    form.Add("RoleArn", role_.role_arn);
    form.Add("RoleSessionName", role_.session_name);
    form.Add("DurationSeconds",
             std::to_string(std::chrono::duration_cast<std::chrono::seconds>(duration).count()));
    if (read_token_ != nullptr) {
      form.Add("WebIdentityToken", token);
      return form.Take();
    }
    if (!role_.external_id.empty()) form.Add("ExternalId", role_.external_id);
    if (!role_.source_identity.empty()) form.Add("SourceIdentity", role_.source_identity);
    for (size_t i = 0; i < role_.session_tags.size(); ++i) {
      form.Add(fmt::format("Tags.member.{}.Key", i + 1), role_.session_tags[i].first);
      form.Add(fmt::format("Tags.member.{}.Value", i + 1), role_.session_tags[i].second);
    }
    return form.Take();
  }

  void OnAnswer(const HttpResponse& response) {
    if (response.transport.ok() && response.status == 200) {
      absl::StatusOr<Credentials> found = ParseStsAnswer(response.body, action_);
      if (!found.ok()) {
        // Not what STS says, so somebody between may have; and that can go away.
        End(Error(absl::StatusCode::kUnavailable, std::string(found.status().message())));
        return;
      }
      found->source = fmt::format("assumed role {}", role_.role_arn);
      CorrectExpiry(response, &*found);
      End(std::move(found));
      return;
    }
    AwsFault fault = response.transport.ok() ? ReadAwsFault(response) : AwsFault();
    // STS quotes a value that it finds malformed.
    if (!token_begin_.empty() && absl::StrContains(fault.message, token_begin_)) {
      fault.message = "the web identity token";
    }
    if (RefusesDuration(fault)) {
      one_hour_ = true;
      if (log_ != nullptr) {
        log_->Warn("role_duration",
                   fmt::format("STS gives {} for one hour at most, as it does to roles that assume "
                               "roles",
                               role_.role_arn),
                   {{"key", role_.role_arn}});
      }
      Try();
      return;
    }
    const bool again = IsWorthAnotherTry(response, fault.code);
    const Time next = std::chrono::steady_clock::now() + kPause;
    if (again && tries_ < kTries && next < deadline_) {
      pause_.Set(next, [this] { Try(); });
      return;
    }
    End(Explain(response, fault, again));
  }

  bool RefusesDuration(const AwsFault& fault) const {
    return fault.code == "ValidationError" && !one_hour_ && role_.duration > kChainedMax &&
           (absl::StrContains(fault.message, "DurationSeconds") ||
            absl::StrContains(fault.message, "1 hour"));
  }

  // The machine's clock may be wrong; STS's, by which the credentials end, is not.
  static void CorrectExpiry(const HttpResponse& response, Credentials* credentials) {
    const auto date = ParseHttpDate(response.Header("date"));
    if (!date || !credentials->expiry) return;
    const Duration error = *date - system_clock::now();
    if (error > kClockErrorMin || error < -kClockErrorMin) *credentials->expiry -= error;
  }

  absl::Status Explain(const HttpResponse& response, const AwsFault& fault, bool temporary) const {
    if (response.fault == "no_credentials") {
      return Error(response.transport.code(), std::string(response.transport.message()));
    }
    const HttpUrl& url = client_->url();
    const std::string where = fmt::format("{}://{}", url.tls ? "https" : "http", url.Authority());
    if (!response.transport.ok()) {
      const bool late = absl::IsDeadlineExceeded(response.transport);
      return Error(late ? absl::StatusCode::kDeadlineExceeded : absl::StatusCode::kUnavailable,
                   fmt::format("STS at {} gave no answer: {}", where,
                               std::string(response.transport.message())));
    }
    if (fault.code.empty()) {
      return Error(
          absl::StatusCode::kUnavailable,
          fmt::format("{} answered {}, which is no answer of STS", where, response.status));
    }
    return Error(temporary ? absl::StatusCode::kUnavailable : absl::StatusCode::kFailedPrecondition,
                 fmt::format("{}: {}{}", fault.code, fault.message, HintFor(fault.code)));
  }

  IoLoop::Timer pause_;
  Log* const log_;
  const AwsRole role_;
  std::unique_ptr<AwsClient> client_;
  bool one_hour_ = false;

  // The call under way.
  std::string_view action_;
  ReadToken read_token_;
  std::string token_begin_;
  Time deadline_;
  int tries_ = 0;
  Done done_;
};

absl::StatusOr<std::unique_ptr<StsClient>> StsClient::Create(
    IoLoop* loop, const StsSettings& settings, AwsRole role,
    std::shared_ptr<CredentialsProvider> credentials) {
  auto impl = std::make_unique<Impl>(loop, settings.log, std::move(role));
  RETURN_IF_ERROR(impl->Connect(loop, settings, std::move(credentials)));
  return std::unique_ptr<StsClient>(new StsClient(std::move(impl)));
}

StsClient::StsClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

StsClient::~StsClient() = default;

void StsClient::AssumeRole(Time deadline, Done done) {
  impl_->Begin("AssumeRole", nullptr, deadline, std::move(done));
}

void StsClient::AssumeRoleWithWebIdentity(ReadToken read_token, Time deadline, Done done) {
  impl_->Begin("AssumeRoleWithWebIdentity", std::move(read_token), deadline, std::move(done));
}

}  // namespace mobula

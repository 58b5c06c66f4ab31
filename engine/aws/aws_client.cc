// Tested by tests/unit/engine/aws/aws_client_test.cc.
#include "engine/aws/aws_client.h"

#include <algorithm>
#include <chrono>
#include <list>
#include <optional>
#include <utility>

#include "engine/aws/aws_error.h"
#include "engine/aws/sigv4.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

using std::chrono::seconds;
using std::chrono::system_clock;

// Between two looks whether the credentials have come.
constexpr Duration kLookAgain = std::chrono::milliseconds(20);
constexpr Duration kWaitMax = seconds(30);

}  // namespace

class AwsClient::Impl {
 public:
  Impl(IoLoop* loop, Options options, std::unique_ptr<HttpClient> http)
      : loop_(loop),
        options_(std::move(options)),
        signer_(options_.region, options_.service),
        http_(std::move(http)) {}

  void Start(Request request, HttpDone done) {
    const auto call = calls_.emplace(calls_.end(), loop_, std::move(request), std::move(done));
    call->give_up = std::min(call->request.deadline, std::chrono::steady_clock::now() + kWaitMax);
    Send(call);
  }

  [[nodiscard]] const HttpUrl& url() const noexcept { return http_->url(); }

 private:
  struct Call {
    Call(IoLoop* loop, Request r, HttpDone d)
        : request(std::move(r)), done(std::move(d)), wait(loop) {}
    Request request;
    HttpDone done;
    IoLoop::Timer wait;
    Time give_up;         // waiting for credentials
    CredentialsPtr used;  // it was signed with
    seconds offset{0};    // of the clock, in its signature
    system_clock::time_point signed_at;
    std::optional<HttpResponse> refusal;  // the answer of its first try
    bool refusal_is_clock = false;        // not the credentials
  };
  using Position = std::list<Call>::iterator;

  void Send(Position call) {
    if (options_.credentials == nullptr) {
      SendSigned(call, nullptr);
      return;
    }
    const absl::StatusOr<CredentialsPtr> credentials = options_.credentials->Get();
    if (absl::IsUnavailable(credentials.status()) &&
        std::chrono::steady_clock::now() + kLookAgain < call->give_up) {
      call->wait.Set(std::chrono::steady_clock::now() + kLookAgain, [this, call] { Send(call); });
      return;
    }
    // With the same ones the answer would be the same.
    const bool same = call->refusal && !call->refusal_is_clock && credentials.ok() &&
                      **credentials == *call->used;
    if (call->refusal && (same || !credentials.ok())) {
      Finish(call, *std::move(call->refusal));
    } else if (!credentials.ok()) {
      HttpResponse response;
      response.transport = credentials.status();
      response.fault = "no_credentials";
      Finish(call, std::move(response));
    } else {
      SendSigned(call, *credentials);
    }
  }

  void SendSigned(Position call, CredentialsPtr credentials) {
    const Request& request = call->request;
    HttpRequest http;
    http.method = request.method;
    http.target = http_->url().path + request.path;
    http.headers = request.headers;
    http.body = request.body;
    http.deadline = request.deadline;
    if (credentials != nullptr) Sign(call, *credentials, &http);
    if (!options_.user_agent.empty()) http.headers.emplace_back("User-Agent", options_.user_agent);
    call->used = std::move(credentials);
    http_->Send(std::move(http),
                [this, call](HttpResponse response) { OnAnswer(call, std::move(response)); });
  }

  void Sign(Position call, const Credentials& credentials, HttpRequest* http) {
    const std::string authority = http_->url().Authority();
    std::vector<std::pair<std::string_view, std::string_view>> headers = {{"host", authority}};
    for (const auto& [name, value] : http->headers) headers.emplace_back(name, value);
    const std::string_view target = http->target;
    const size_t question = std::min(target.find('?'), target.size());
    SigV4Request request;
    request.method = http->method;
    request.path = target.substr(0, question);
    request.query = target.substr(std::min(question + 1, target.size()));
    request.headers = headers;
    request.body = sha256_.Update(http->body).Finish();
    call->offset = clock_offset_;
    call->signed_at = system_clock::now() + clock_offset_;
    SigV4Headers made = signer_.Sign(request, credentials, call->signed_at);
    http->headers.emplace_back("X-Amz-Date", std::move(made.date));
    if (!credentials.session_token.empty()) {
      http->headers.emplace_back("X-Amz-Security-Token", credentials.session_token);
    }
    http->headers.emplace_back("Authorization", std::move(made.authorization));
  }

  void OnAnswer(Position call, HttpResponse response) {
    const bool refused = response.transport.ok() && response.status / 100 == 4;
    if (!refused || call->used == nullptr || call->refusal) {
      Finish(call, std::move(response));
      return;
    }
    const AwsRefusal refusal =
        JudgeAwsRefusal(ReadAwsFault(response).code, response, call->signed_at);
    if (refusal.clock_error) {
      clock_offset_ = call->offset + *refusal.clock_error;
      if (options_.log != nullptr) {
        options_.log->Warn(
            "clock_skew", "the clock is wrong: signing with the time of AWS's answers",
            {{"key", options_.service}, {"seconds", static_cast<int64_t>(clock_offset_.count())}});
      }
    } else if (refusal.credentials) {
      options_.credentials->Invalidate(*call->used);
    } else {
      Finish(call, std::move(response));
      return;
    }
    call->refusal_is_clock = refusal.clock_error.has_value();
    call->refusal = std::move(response);
    Send(call);
  }

  void Finish(Position call, HttpResponse response) {
    // Posted: the callback may destroy this client, and with it the HttpClient whose callback this may be.
    loop_->Post([alive = std::weak_ptr<bool>(alive_), done = std::move(call->done),
                 response = std::move(response)]() mutable {
      if (!alive.expired()) done(std::move(response));
    });
    calls_.erase(call);
  }

  IoLoop* const loop_;
  const Options options_;
  SigV4Signer signer_;
  Sha256 sha256_;
  seconds clock_offset_{0};  // how far AWS's clock is ahead of ours
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::list<Call> calls_;
  const std::unique_ptr<HttpClient> http_;  // goes first: its callbacks point into calls_
};

AwsClient::AwsClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
AwsClient::~AwsClient() = default;

absl::StatusOr<std::unique_ptr<AwsClient>> AwsClient::Create(IoLoop* loop, Options options) {
  ASSIGN_OR_RETURN(std::unique_ptr<HttpClient> http, HttpClient::Create(loop, options.http));
  return std::unique_ptr<AwsClient>(
      new AwsClient(std::make_unique<Impl>(loop, std::move(options), std::move(http))));
}

void AwsClient::Call(Request request, HttpDone done) {
  impl_->Start(std::move(request), std::move(done));
}
const HttpUrl& AwsClient::url() const noexcept { return impl_->url(); }

}  // namespace mobula

// Tested by tests/unit/engine/aws/container_source_test.cc and imds_client_test.cc.
#include "engine/aws/retrying_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <list>

#include "engine/aws/aws_error.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

constexpr Duration kPause = std::chrono::milliseconds(100);

bool MayTryAgain(const RetryingClient::Call& call, const HttpResponse& response) {
  if (response.transport.ok()) return response.status == 429 || response.status >= 500;
  if (response.fault == "timeout") return call.retry_timeout;
  return response.fault != "tls_verify" && response.fault != "invalid_request";
}

}  // namespace

class RetryingClient::Impl {
 public:
  Impl(IoLoop* loop, std::unique_ptr<HttpClient> http) : loop_(loop), http_(std::move(http)) {}

  void Send(Call call, HttpDone done) {
    const auto pending = pending_.emplace(pending_.end(), loop_, std::move(call), std::move(done));
    Try(pending);
  }

  [[nodiscard]] const HttpUrl& url() const noexcept { return http_->url(); }

 private:
  struct Pending {
    Pending(IoLoop* loop, Call c, HttpDone d)
        : call(std::move(c)), done(std::move(d)), pause(loop) {}
    Call call;
    HttpDone done;
    IoLoop::Timer pause;
  };
  using Position = std::list<Pending>::iterator;

  void Try(Position pending) {
    Call& call = pending->call;
    --call.tries;
    HttpRequest request;
    request.method = call.method;
    request.target = call.target;
    request.headers = call.headers;
    request.deadline = std::min(call.deadline, std::chrono::steady_clock::now() + call.timeout);
    http_->Send(std::move(request),
                [this, pending](HttpResponse response) { OnAnswer(pending, std::move(response)); });
  }

  void OnAnswer(Position pending, HttpResponse response) {
    const Time again = std::chrono::steady_clock::now() + kPause;
    if (pending->call.tries > 0 && again < pending->call.deadline &&
        MayTryAgain(pending->call, response)) {
      pending->pause.Set(again, [this, pending] { Try(pending); });
      return;
    }
    // Posted: the callback may destroy this client, and with it the HttpClient whose callback this is.
    loop_->Post([alive = std::weak_ptr<bool>(alive_), done = std::move(pending->done),
                 response = std::move(response)]() mutable {
      if (!alive.expired()) done(std::move(response));
    });
    pending_.erase(pending);
  }

  IoLoop* const loop_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::list<Pending> pending_;
  const std::unique_ptr<HttpClient> http_;  // goes first: its callbacks point into pending_
};

RetryingClient::RetryingClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RetryingClient::~RetryingClient() = default;

absl::StatusOr<std::unique_ptr<RetryingClient>> RetryingClient::Create(
    IoLoop* loop, HttpClient::Options options) {
  ASSIGN_OR_RETURN(std::unique_ptr<HttpClient> http, HttpClient::Create(loop, std::move(options)));
  return std::unique_ptr<RetryingClient>(
      new RetryingClient(std::make_unique<Impl>(loop, std::move(http))));
}

void RetryingClient::Send(Call call, HttpDone done) {
  impl_->Send(std::move(call), std::move(done));
}
const HttpUrl& RetryingClient::url() const noexcept { return impl_->url(); }

absl::Status CheckAnswer(const HttpResponse& response, std::string_view who, const HttpUrl& url) {
  const std::string at = fmt::format("{} at {}", who, url.Authority());
  if (response.fault == "timeout") {
    return absl::DeadlineExceededError(fmt::format("{} does not answer in time", at));
  }
  if (!response.transport.ok()) {
    return absl::UnavailableError(
        fmt::format("{} cannot be asked: {}", at, std::string(response.transport.message())));
  }
  if (response.status == 200) return absl::OkStatus();
  const AwsFault fault = ReadAwsFault(response);
  const std::string message =
      fmt::format("{} answers {}{}{}{}{}", at, response.status, fault.code.empty() ? "" : " ",
                  fault.code, fault.message.empty() ? "" : ": ", fault.message);
  if (response.status == 429 || response.status >= 500) return absl::UnavailableError(message);
  return absl::FailedPreconditionError(message);
}

}  // namespace mobula

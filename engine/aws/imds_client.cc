// Session tokens and when to do without them. Tested by tests/unit/engine/aws/imds_client_test.cc.
#include "engine/aws/imds_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "engine/aws/flag_text.h"
#include "engine/aws/retrying_client.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

using std::chrono::seconds;

constexpr std::string_view kWho = "the EC2 metadata service";
constexpr size_t kAnswerBytesMax = 64 * 1024;
constexpr size_t kTokenBytesMax = 4096;
constexpr seconds kTokenLife(21600);
// A token this near its end is not used any more.
constexpr seconds kTokenMargin(10);
// How long version 1 is used without asking for a token again.
constexpr seconds kVersion1Life = std::chrono::minutes(5);

absl::StatusOr<HttpUrl> FindUrl(const Environment& environment) {
  constexpr std::string_view kEndpoint = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
  constexpr std::string_view kMode = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE";
  if (const auto endpoint = environment(kEndpoint)) {
    absl::StatusOr<HttpUrl> url = ParseHttpUrl(*endpoint);
    if (url.ok()) return url;
    return absl::FailedPreconditionError(
        fmt::format("{} is no URL: {}", kEndpoint, std::string(url.status().message())));
  }
  const std::string mode = environment(kMode).value_or("IPv4");
  if (absl::EqualsIgnoreCase(mode, "IPv6")) return ParseHttpUrl("http://[fd00:ec2::254]");
  if (absl::EqualsIgnoreCase(mode, "IPv4")) return ParseHttpUrl("http://169.254.169.254");
  return absl::FailedPreconditionError(fmt::format("{} must be IPv4 or IPv6", kMode));
}

bool IsToken(std::string_view text) {
  return !text.empty() && text.size() <= kTokenBytesMax &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

}  // namespace

class ImdsClient::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(IoLoop* loop, const Environment& environment)
      : loop_(loop), version_1_allowed_(!IsTrue(environment, "AWS_EC2_METADATA_V1_DISABLED")) {
    setup_ = Setup(environment);
  }

  void Get(std::string path, Time deadline, Done done, Duration timeout) {
    if (!setup_.ok()) {
      Answer(std::move(done), setup_);
      return;
    }
    const auto question =
        std::make_shared<Question>(Question{std::move(path), deadline, std::move(done), timeout});
    WithToken(question);
  }

  // Nobody is to be called any more.
  void Close() { http_.reset(); }
  [[nodiscard]] IoLoop* loop() const { return loop_; }

 private:
  struct Question {
    std::string path;
    Time deadline;
    Done done;
    Duration timeout;
    std::string token{};          // it was asked with
    bool token_refused = false;   // asked again because of that
    bool alone = false;           // version 1 is tried in place of a token that did not come
    absl::Status token_status{};  // why it goes without one
  };
  using QuestionPtr = std::shared_ptr<Question>;

  absl::Status Setup(const Environment& environment) {
    if (IsTrue(environment, "AWS_EC2_METADATA_DISABLED")) {
      return absl::FailedPreconditionError(
          "the EC2 metadata service is switched off by AWS_EC2_METADATA_DISABLED");
    }
    HttpClient::Options options;
    ASSIGN_OR_RETURN(options.url, FindUrl(environment));
    options.body_bytes_max = kAnswerBytesMax;
    options.idle_connections_max = 1;
    ASSIGN_OR_RETURN(http_, RetryingClient::Create(loop_, std::move(options)));
    return absl::OkStatus();
  }

  void Answer(Done done, absl::StatusOr<std::string> result) {
    loop_->Post([done = std::move(done), result = std::move(result),
                 alive = std::weak_ptr<Impl>(shared_from_this())] {
      if (!alive.expired()) done(result);
    });
  }

  void WithToken(const QuestionPtr& question) {
    const Time now = std::chrono::steady_clock::now();
    if ((!token_.empty() && now < token_until_) || now < version_1_until_) {
      Ask(question);
    } else {
      waiting_.push_back(question);
      if (waiting_.size() == 1) FetchToken();
    }
  }

  // One for all who wait: whoever came first lends its deadline and timeout.
  void FetchToken() {
    token_.clear();
    RetryingClient::Call call;
    call.method = "PUT";
    call.target = http_->url().path + "/latest/api/token";
    call.headers = {{"X-aws-ec2-metadata-token-ttl-seconds", std::to_string(kTokenLife.count())}};
    call.deadline = waiting_.front()->deadline;
    call.timeout = waiting_.front()->timeout;
    // The time is better spent on a question without a token.
    call.retry_timeout = !version_1_allowed_;
    http_->Send(std::move(call), [this](const HttpResponse& response) { OnTokenAnswer(response); });
  }

  void OnTokenAnswer(const HttpResponse& response) {
    const std::vector<QuestionPtr> questions = std::exchange(waiting_, {});
    const Time now = std::chrono::steady_clock::now();
    absl::Status status = CheckAnswer(response, kWho, http_->url());
    if (status.ok() && !IsToken(response.body)) {
      status = absl::UnavailableError(fmt::format("{} gave no usable session token", kWho));
    }
    if (status.ok()) {
      token_ = response.body;
      token_until_ = now + ReadLife(response) - kTokenMargin;
      version_1_until_ = Time::min();
      for (const QuestionPtr& question : questions) Ask(question);
      return;
    }
    const bool unknown = response.status == 403 || response.status == 404 || response.status == 405;
    const bool late = response.fault == "timeout";
    if (!unknown && !late) {
      for (const QuestionPtr& question : questions) Answer(std::move(question->done), status);
      return;
    }
    if (version_1_allowed_) version_1_until_ = now + kVersion1Life;
    for (const QuestionPtr& question : questions) {
      question->token_status = status;
      if (!version_1_allowed_) {
        Answer(
            std::move(question->done),
            absl::Status(status.code(),
                         fmt::format("{} gives no session token, and AWS_EC2_METADATA_V1_DISABLED "
                                     "forbids to go without: {}",
                                     kWho, std::string(status.message()))));
      } else if (question->token_refused) {
        Answer(std::move(question->done), VersionTwoRequired(*question));
      } else {
        question->alone = late;
        Ask(question);
      }
    }
  }

  static seconds ReadLife(const HttpResponse& response) {
    const std::string_view text = response.Header("x-aws-ec2-metadata-token-ttl-seconds");
    int64_t life = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), life);
    if (error != std::errc() || end != text.data() + text.size()) return kTokenLife;
    return seconds(std::clamp<int64_t>(life, 0, kTokenLife.count()));
  }

  void Ask(const QuestionPtr& question) {
    question->token = token_;
    RetryingClient::Call call;
    call.target = http_->url().path + question->path;
    if (!token_.empty()) call.headers = {{"X-aws-ec2-metadata-token", token_}};
    call.deadline = question->deadline;
    call.timeout = question->timeout;
    if (question->alone) call.tries = 1;
    http_->Send(std::move(call), [this, question](HttpResponse response) {
      OnAnswer(question, std::move(response));
    });
  }

  void OnAnswer(const QuestionPtr& question, HttpResponse response) {
    if (response.transport.ok() && response.status == 401) {
      OnTokenRefused(question);
      return;
    }
    const absl::Status status = CheckAnswer(response, kWho, http_->url());
    // It is not the token alone that is slow: whoever asks again may wait for one.
    if (question->alone && response.fault == "timeout") version_1_until_ = Time::min();
    if (status.ok()) {
      Answer(std::move(question->done), std::move(response.body));
    } else if (response.transport.ok() && response.status == 404) {
      Answer(std::move(question->done),
             absl::NotFoundError(fmt::format("{} at {} has no {}", kWho, http_->url().Authority(),
                                             question->path)));
    } else {
      Answer(std::move(question->done), status);
    }
  }

  void OnTokenRefused(const QuestionPtr& question) {
    // Nothing is to be had without a token, so the next one who asks waits for it.
    if (!question->token_status.ok()) version_1_until_ = Time::min();
    if (std::exchange(question->token_refused, true) || !question->token_status.ok()) {
      Answer(std::move(question->done), VersionTwoRequired(*question));
      return;
    }
    // Somebody else may have got a new one meanwhile.
    if (question->token == token_) {
      token_.clear();
      version_1_until_ = Time::min();
    }
    WithToken(question);
  }

  absl::Status VersionTwoRequired(const Question& question) const {
    const bool late = absl::IsDeadlineExceeded(question.token_status);
    const std::string message = fmt::format(
        "{} at {} requires version 2 (IMDSv2) and {}; in a container its hop limit may be 1: raise "
        "it to 2 "
        "(aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2), or use "
        "another source",
        kWho, http_->url().Authority(),
        question.token_status.ok() ? std::string("refuses the session token it gave")
                                   : fmt::format("no session token could be had: {}",
                                                 std::string(question.token_status.message())));
    return late ? absl::DeadlineExceededError(message) : absl::FailedPreconditionError(message);
  }

  IoLoop* const loop_;
  const bool version_1_allowed_;
  absl::Status setup_;
  std::string token_;
  Time token_until_ = Time::min();
  Time version_1_until_ = Time::min();  // no token is asked for before that
  std::vector<QuestionPtr> waiting_;    // for the token
  std::unique_ptr<RetryingClient> http_;
};

ImdsClient::ImdsClient(IoLoop* loop, const Environment& environment)
    : impl_(std::make_shared<Impl>(loop, environment)) {}
ImdsClient::~ImdsClient() { impl_->Close(); }

void ImdsClient::Get(std::string path, Time deadline, Done done, Duration timeout) {
  impl_->Get(std::move(path), deadline, std::move(done), timeout);
}
IoLoop* ImdsClient::loop() const { return impl_->loop(); }

}  // namespace mobula

// Tests of the port over real connections; what is cached and for how long is rules_cache_test.cc's.
#include "engine/sampling/sampling_proxy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <map>
#include <thread>

#include "engine/base/log.h"
#include "engine/segment/json_reader.h"
#include "tests/unit/engine/aws/answering_server.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Answer;
using testing::AnsweringServer;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::PeerRequest;

constexpr char kRules[] = R"({"SamplingRuleRecords" : [ ]})";
constexpr char kTargets[] = R"({"SamplingTargetDocuments":[]})";

class FixedCredentials final : public CredentialsProvider {
 public:
  absl::StatusOr<CredentialsPtr> Get() override { return credentials_; }
  void Invalidate(const Credentials&) override {}

 private:
  const CredentialsPtr credentials_ =
      std::make_shared<const Credentials>(Credentials{"AKID", "secret", "token", {}, "test"});
};

class NoCredentials final : public CredentialsProvider {
 public:
  absl::StatusOr<CredentialsPtr> Get() override {
    return absl::FailedPreconditionError("cannot assume arn:aws:iam::123456789012:role/hidden");
  }
  void Invalidate(const Credentials&) override {}
};

class SamplingProxyTest : public ::testing::Test {
 protected:
  // A port in front of `service`; null: without an upstream.
  void Open(
      const AnsweringServer* service, SamplingProxy::Options options = {},
      std::shared_ptr<CredentialsProvider> credentials = std::make_shared<FixedCredentials>()) {
    options.address = "127.0.0.1:0";
    options.log = log_.get();
    if (service != nullptr) {
      options.upstream.emplace();
      options.upstream->service = "xray";
      options.upstream->region = "us-west-2";
      options.upstream->http.url = *ParseHttpUrl(service->url());
      options.upstream->credentials = std::move(credentials);
      options.upstream->user_agent = "mobula-test";
    }
    proxy_ = std::make_unique<SamplingProxy>(&loop_, std::move(options));
    const absl::Status listening = proxy_->Listen();
    ASSERT_TRUE(listening.ok()) << listening;
    HttpClient::Options client;
    client.url = *ParseHttpUrl("http://127.0.0.1:" + std::to_string(proxy_->port()));
    client.body_bytes_max = 16 << 20;
    client_ = *HttpClient::Create(&loop_, client);
  }

  // Begins a call; its answer appears in answers_ under the number returned.
  int Begin(std::string_view method, std::string target, std::string_view body,
            std::vector<std::pair<std::string, std::string>> headers = {}) {
    const int number = ++begun_;
    bodies_.push_back(std::make_unique<std::string>(body));
    HttpRequest request;
    request.method = method;
    request.target = std::move(target);
    request.headers = std::move(headers);
    request.body = *bodies_.back();
    request.deadline = std::chrono::steady_clock::now() + seconds(20);
    client_->Send(std::move(request), [this, number](HttpResponse response) {
      EXPECT_TRUE(response.transport.ok()) << response.transport;
      answers_[number] = std::move(response);
    });
    return number;
  }

  void WaitFor(const std::function<bool()>& condition) {
    const Time limit = std::chrono::steady_clock::now() + seconds(20);
    while (!condition() && std::chrono::steady_clock::now() < limit) {
      loop_.RunUntil(std::chrono::steady_clock::now() + milliseconds(2));
    }
    EXPECT_TRUE(condition());
  }

  HttpResponse Call(std::string_view method, std::string target, std::string_view body,
                    std::vector<std::pair<std::string, std::string>> headers = {}) {
    const int number = Begin(method, std::move(target), body, std::move(headers));
    WaitFor([&] { return answers_.contains(number); });
    return answers_[number];
  }
  HttpResponse Post(std::string target, std::string_view body) {
    return Call("POST", std::move(target), body);
  }

  std::string lines_;
  std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
  std::vector<std::unique_ptr<std::string>> bodies_;
  std::map<int, HttpResponse> answers_;
  int begun_ = 0;
  IoLoop loop_;
  std::unique_ptr<HttpClient> client_;
  std::unique_ptr<SamplingProxy> proxy_;
};

TEST_F(SamplingProxyTest, SignsAndPassesOn) {
  AnsweringServer service([](const PeerRequest&) {
    return Answer{.status = 200,
                  .body = kTargets,
                  .headers =
                      "Content-Type: application/x\r\nx-amzn-RequestId: 7\r\n"
                      "Keep-Alive: timeout=1\r\n"};
  });
  Open(&service);
  const std::string body = "{ \"SamplingStatisticsDocuments\":[],\n\"é\": \"\\u0000\xff\"}";
  const HttpResponse answer =
      Call("POST", "/SamplingTargets", body,
           {{"Content-Type", "application/json"}, {"X-Amz-Security-Token", "stolen"}});
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, kTargets);
  EXPECT_EQ(answer.Header("Content-Type"), "application/x");
  EXPECT_EQ(answer.Header("x-amzn-RequestId"), "7");
  EXPECT_EQ(answer.Header("Keep-Alive"), "");

  ASSERT_EQ(service.requests().size(), 1U);
  const PeerRequest request = service.requests()[0];
  EXPECT_EQ(request.line, "POST /SamplingTargets HTTP/1.1");
  EXPECT_EQ(request.body, body);
  EXPECT_EQ(request.Header("Host"), service.authority());
  EXPECT_EQ(request.Header("User-Agent"), "mobula-test");
  EXPECT_EQ(request.Header("X-Amz-Security-Token"), "token");
  EXPECT_THAT(request.Header("Authorization"),
              HasSubstr("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token"));
  EXPECT_EQ(proxy_->stats().forwarded.value(), 1U);
  EXPECT_THAT(lines_, HasSubstr("Received request on HTTP Proxy server : /SamplingTargets"));
}

TEST_F(SamplingProxyTest, RulesAreSharedAndTargetsAreNot) {
  AnsweringServer service([](const PeerRequest& request) {
    return Answer{.status = 200,
                  .body = request.line.find("Rules") != std::string::npos ? kRules : request.body};
  });
  Open(&service);
  for (int i = 0; i < 20; ++i) {
    Begin("POST", "/GetSamplingRules", "{}");
    Begin("POST", "/SamplingTargets", std::to_string(i));
  }
  WaitFor([&] { return answers_.size() == 40; });
  EXPECT_EQ(Post("/GetSamplingRules", "{}").Header("X-Mobula-Cache"), "hit");
  int rules = 0;
  for (const std::string& line : service.lines()) rules += line.starts_with("POST /GetSampl");
  EXPECT_EQ(rules, 1);
  EXPECT_EQ(service.requests().size(), 21U);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(answers_[2 * i + 1].body, kRules);
    EXPECT_EQ(answers_[2 * i + 2].body, std::to_string(i));
  }
  EXPECT_GE(proxy_->stats().cached.value(), 1U);
  EXPECT_EQ(proxy_->stats().cached.value() + proxy_->stats().forwarded.value(), 41U);
}

TEST_F(SamplingProxyTest, TargetsThatTellOfAChangeMakeTheRulesFresh) {
  AnsweringServer service([](const PeerRequest& request) {
    const auto later = std::chrono::system_clock::now() + seconds(5);
    return Answer{.status = 200,
                  .body = request.line.find("Rules") != std::string::npos
                              ? kRules
                              : "{\"LastRuleModification\":" +
                                    std::to_string(std::chrono::system_clock::to_time_t(later)) +
                                    "}"};
  });
  Open(&service);
  Post("/GetSamplingRules", "{}");
  EXPECT_EQ(Post("/GetSamplingRules", "{}").Header("X-Mobula-Cache"), "hit");
  Post("/SamplingTargets", "{}");
  EXPECT_EQ(Post("/GetSamplingRules", "{}").Header("X-Mobula-Cache"), "miss");
}

TEST_F(SamplingProxyTest, RefusesEverythingElseAndSaysHowToAllowIt) {
  AnsweringServer service([](const PeerRequest&) { return Answer{}; });
  Open(&service);
  const std::vector<std::pair<std::string_view, std::string>> others = {
      {"GET", "/GetSamplingRules"},
      {"PUT", "/SamplingTargets"},
      {"HEAD", "/"},
      {"POST", "/TraceSegments"},
      {"POST", "/CreateSamplingRule"},
      {"POST", "/GetSamplingRules/"},
      {"POST", "/../GetSamplingRules"},
      {"POST", "/getsamplingrules"},
      {"POST", "//SamplingTargets"},
      {"DELETE", "/a?x=/SamplingTargets"}};
  for (const auto& [method, target] : others) {
    const HttpResponse answer = Call(method, target, "");
    EXPECT_EQ(answer.status, 403) << method << target;
    if (method == "HEAD") continue;
    EXPECT_EQ(answer.Header("Content-Type"), "application/json");
    EXPECT_THAT(answer.body, HasSubstr("receivers.proxy.paths: all"));
    EXPECT_TRUE(ParseJson(answer.body)) << answer.body;
  }
  EXPECT_THAT(service.requests(), IsEmpty());
  EXPECT_EQ(proxy_->stats().refused.value(), others.size());
}

TEST_F(SamplingProxyTest, PassesEverythingOnWhereThatIsAllowed) {
  AnsweringServer service([](const PeerRequest&) { return Answer{.status = 404, .body = "no"}; });
  Open(&service, {.all_paths = true});
  EXPECT_EQ(Call("GET", "/anything?x=1&a=b", "").status, 404);
  EXPECT_EQ(Call("DELETE", "/foo", "").status, 404);
  EXPECT_EQ(Post("/TraceSegments", "{}").body, "no");
  EXPECT_THAT(service.lines(), ElementsAre("GET /anything?x=1&a=b HTTP/1.1", "DELETE /foo HTTP/1.1",
                                           "POST /TraceSegments HTTP/1.1"));
}

TEST_F(SamplingProxyTest, ErrorsPassThrough) {
  int status = 0;
  AnsweringServer service([&](const PeerRequest&) {
    return Answer{.status = status,
                  .body = "{\"Message\":\"m\"}",
                  .headers = "x-amzn-ErrorType: SomeException\r\n"};
  });
  Open(&service);
  for (status = 400; status <= 500; status += 100) {
    for (const char* path : {"/SamplingTargets", "/GetSamplingRules"}) {
      const HttpResponse answer = Post(path, "{}");
      EXPECT_EQ(answer.status, status);
      EXPECT_EQ(answer.Header("x-amzn-ErrorType"), "SomeException");
      EXPECT_EQ(answer.body, "{\"Message\":\"m\"}");
    }
  }
}

TEST_F(SamplingProxyTest, OldRulesOutliveAnOutage) {
  bool down = false;
  AnsweringServer service([&](const PeerRequest&) {
    return down ? Answer{.reset = true} : Answer{.status = 200, .body = kRules};
  });
  Open(&service, {.rules_age = Duration::zero()});
  EXPECT_EQ(Post("/GetSamplingRules", "{}").Header("X-Mobula-Cache"), "miss");
  down = true;
  const HttpResponse stale = Post("/GetSamplingRules", "{}");
  EXPECT_EQ(stale.status, 200);
  EXPECT_EQ(stale.body, kRules);
  EXPECT_EQ(stale.Header("X-Mobula-Cache"), "stale");
  EXPECT_EQ(stale.Header("Age"), "0");
  EXPECT_EQ(Post("/SamplingTargets", "{}").status, 502);
  EXPECT_EQ(proxy_->stats().stale.value(), 1U);
  EXPECT_EQ(proxy_->stats().failed.value(), 1U);
  EXPECT_THAT(lines_, HasSubstr("could not be passed on"));
}

TEST_F(SamplingProxyTest, AHangingServiceIsATimeOut) {
  AnsweringServer service([](const PeerRequest&) { return Answer{.hang = true}; });
  Open(&service, {.timeout = milliseconds(100)});
  EXPECT_EQ(Post("/SamplingTargets", "{}").status, 504);
  EXPECT_EQ(Post("/GetSamplingRules", "{}").status, 504);
  EXPECT_EQ(proxy_->stats().failed.value(), 2U);
}

TEST_F(SamplingProxyTest, AnEndlessAnswerIsCut) {
  AnsweringServer service([](const PeerRequest&) { return Answer{.endless = true}; });
  Open(&service);
  const HttpResponse answer = Post("/SamplingTargets", "{}");
  // The script ends after 8,000 KiB, without an end of the body.
  EXPECT_EQ(answer.status, 502);
}

TEST_F(SamplingProxyTest, MoreThanSixtyFourCallsAtOnceAreTurnedAway) {
  AnsweringServer service([](const PeerRequest&) { return Answer{.hang = true}; });
  Open(&service, {.timeout = seconds(1)});
  for (int i = 0; i < 70; ++i) Begin("POST", "/SamplingTargets", "{}");
  WaitFor([&] { return answers_.size() == 6; });
  for (const auto& [number, answer] : answers_) {
    EXPECT_EQ(answer.status, 503);
    EXPECT_EQ(answer.Header("Retry-After"), "1");
  }
  WaitFor([&] { return answers_.size() == 70; });
}

TEST_F(SamplingProxyTest, RequestsAndAnswersHaveOneBudget) {
  const std::string large(1'400'000, 'x');
  bool hang = true;
  AnsweringServer service([&](const PeerRequest& request) {
    return hang ? Answer{.hang = true}
                : Answer{.status = 200, .body = request.body.size() > 10 ? kTargets : large};
  });
  Open(&service, {.timeout = seconds(2)});
  const int first = Begin("POST", "/SamplingTargets", large);
  WaitFor([&] { return service.requests().size() == 1; });
  const int second = Begin("POST", "/SamplingTargets", large);
  const int third = Begin("POST", "/SamplingTargets", large);
  WaitFor([&] { return answers_.contains(second) || answers_.contains(third); });
  const int refused = answers_.contains(second) ? second : third;
  EXPECT_EQ(answers_[refused].status, 503);
  EXPECT_EQ(answers_[refused].Header("Retry-After"), "1");
  EXPECT_THAT(answers_[refused].body, HasSubstr("too many requests at once, try again"));
  WaitFor([&] { return answers_.size() == 3; });
  EXPECT_EQ(answers_[first].status, 504);
  hang = false;
  // What is over counts no more.
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(Post("/SamplingTargets", large).body, kTargets);
    EXPECT_EQ(Post("/SamplingTargets", "{}").body.size(), large.size());
  }
}

TEST_F(SamplingProxyTest, LargeHeadsOfCallsUnderWayAreCounted) {
  AnsweringServer service([&](const PeerRequest&) { return Answer{.hang = true}; });
  // Longer than a busy machine takes to begin them all: what ends early makes room for others.
  Open(&service, {.timeout = seconds(8)});
  const std::string query = "?" + std::string(14'000, 'q');
  for (int i = 0; i < 64; ++i) Begin("POST", "/SamplingTargets" + query, "{}");
  WaitFor([&] { return answers_.size() == 64; });
  int busy = 0;
  for (const auto& [number, answer] : answers_) busy += answer.status == 503 ? 1 : 0;
  EXPECT_GT(busy, 0);
  EXPECT_LT(busy, 10);
}

TEST_F(SamplingProxyTest, WithoutCredentialsItSaysSo) {
  AnsweringServer service([](const PeerRequest&) { return Answer{}; });
  Open(&service, {}, std::make_shared<NoCredentials>());
  const HttpResponse answer = Post("/SamplingTargets", "{}");
  EXPECT_EQ(answer.status, 502);
  EXPECT_THAT(answer.body, HasSubstr("no credentials"));
  EXPECT_THAT(answer.body, Not(HasSubstr("hidden"))) << "anybody may ask";
  EXPECT_THAT(lines_, HasSubstr("role/hidden"));
  EXPECT_THAT(service.requests(), IsEmpty());
}

TEST_F(SamplingProxyTest, WithoutAnUpstreamItAnswersTheDefaultRule) {
  Open(nullptr, {.all_paths = true});
  const HttpResponse rules = Post("/GetSamplingRules", "{}");
  EXPECT_EQ(rules.status, 200);
  EXPECT_THAT(rules.body, HasSubstr(R"("RuleName":"Default")"));
  EXPECT_EQ(Post("/SamplingTargets", "{}").status, 200);
  EXPECT_EQ(Post("/SamplingStatisticSummaries", "").status, 200);
  EXPECT_EQ(Post("/SamplingTargets", "{").status, 400);
  const HttpResponse other = Post("/TraceSegments", "{}");
  EXPECT_EQ(other.status, 403);
  EXPECT_THAT(other.body, HasSubstr("no backend of type xray"));
  EXPECT_EQ(proxy_->stats().local.value(), 4U);
}

TEST_F(SamplingProxyTest, TakesUpAnotherUpstreamWhileCallsOfTheFirstAreOut) {
  std::atomic<bool> asked{false};
  std::atomic<bool> answer{false};
  AnsweringServer first([&](const PeerRequest& request) {
    while (request.line.find("Targets") != std::string::npos && !answer) {
      asked = true;
      std::this_thread::sleep_for(milliseconds(1));
    }
    return Answer{.status = 200, .body = kRules};
  });
  AnsweringServer second(
      [](const PeerRequest&) { return Answer{.status = 200, .body = "{\"second\":1}"}; });
  Open(&first);
  EXPECT_EQ(Post("/GetSamplingRules", "{}").body, kRules);
  const int out = Begin("POST", "/SamplingTargets", "{}");
  WaitFor([&] { return asked.load(); });
  AwsClient::Options upstream;
  upstream.service = "xray";
  upstream.region = "us-west-2";
  upstream.http.url = *ParseHttpUrl(second.url());
  upstream.credentials = std::make_shared<FixedCredentials>();
  ASSERT_TRUE(proxy_->SetUpstream(upstream).ok());
  EXPECT_EQ(Post("/GetSamplingRules", "{}").body, "{\"second\":1}") << "not the rules of the first";
  EXPECT_EQ(Post("/SamplingTargets", "{}").body, "{\"second\":1}");
  EXPECT_FALSE(answers_.contains(out));
  answer = true;
  WaitFor([&] { return answers_.contains(out); });
  EXPECT_EQ(answers_[out].body, kRules);
  ASSERT_TRUE(proxy_->SetUpstream(std::nullopt).ok());
  EXPECT_THAT(Post("/GetSamplingRules", "{}").body, HasSubstr(R"("RuleName":"Default")"));
  EXPECT_EQ(first.requests().size(), 2U);
}

TEST_F(SamplingProxyTest, ListensAgainWhenItsPortIsFree) {
  Open(nullptr);
  SamplingProxy::Options options;
  options.address = "127.0.0.1:" + std::to_string(proxy_->port());
  options.log = log_.get();
  SamplingProxy second(&loop_, options);
  const absl::Status taken = second.Listen();
  EXPECT_FALSE(taken.ok());
  EXPECT_THAT(std::string(taken.message()), HasSubstr(options.address));
  proxy_->Close();
  proxy_->Close();
  const absl::Status listening = second.Listen();
  EXPECT_TRUE(listening.ok()) << listening;
}

TEST_F(SamplingProxyTest, WhatIsUnderWayWhenItStopsListeningIsAnswered) {
  std::atomic<bool> asked{false};
  std::promise<void> answer;
  AnsweringServer service([&](const PeerRequest&) {
    asked = true;
    answer.get_future().wait();
    return Answer{};
  });
  Open(&service);
  EXPECT_TRUE(proxy_->idle());
  HttpRequest request;
  request.target = "/SamplingTargets";
  request.deadline = std::chrono::steady_clock::now() + seconds(20);
  client_->Send(std::move(request), [this](HttpResponse response) {
    EXPECT_TRUE(response.transport.ok()) << response.transport;
    answers_[++begun_] = std::move(response);
  });
  WaitFor([&] { return asked.load(); });
  proxy_->StopListening();
  EXPECT_FALSE(proxy_->idle());
  answer.set_value();
  WaitFor([&] { return answers_.size() == 1; });
  EXPECT_TRUE(proxy_->idle());
}

TEST_F(SamplingProxyTest, ClosesWithCallsUnderWay) {
  AnsweringServer service([](const PeerRequest&) { return Answer{.hang = true}; });
  Open(&service);
  for (const char* path : {"/SamplingTargets", "/GetSamplingRules"}) {
    HttpRequest request;
    request.target = path;
    request.deadline = std::chrono::steady_clock::now() + seconds(20);
    client_->Send(std::move(request), [this](HttpResponse response) {
      EXPECT_FALSE(response.transport.ok());
      answers_[++begun_] = std::move(response);
    });
  }
  WaitFor([&] { return service.requests().size() == 2; });
  proxy_.reset();
  WaitFor([&] { return answers_.size() == 2; });
}

}  // namespace
}  // namespace mobula

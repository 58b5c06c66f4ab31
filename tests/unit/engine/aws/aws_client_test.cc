// Tests of engine/aws/aws_client.h. The signer itself is judged by others in sigv4_test.cc and sigv4_peers_test.py.
#include "engine/aws/aws_client.h"

#include <gmock/gmock.h>

#include <ctime>

#include "engine/aws/sigv4.h"
#include "engine/base/log.h"
#include "tests/unit/engine/aws/source_fixture.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::system_clock;
using testing::Answer;
using testing::AnsweringServer;
using ::testing::HasSubstr;
using testing::PeerRequest;

constexpr char kRegion[] = "eu-west-1";
constexpr char kService[] = "xray";

// Gives what the test says, one after the other; the last for ever.
class FakeProvider final : public CredentialsProvider {
 public:
  using Result = absl::StatusOr<CredentialsPtr>;

  static Result Keys(const std::string& id, const std::string& token = "") {
    return std::make_shared<const Credentials>(Credentials{id, "secret of " + id, token, {}, ""});
  }

  Result Get() override {
    ++asked;
    Result result = results.front();
    if (results.size() > 1) results.erase(results.begin());
    return result;
  }
  void Invalidate(const Credentials& refused) override {
    invalidated.push_back(refused.access_key_id);
    if (after_invalidate.empty()) return;
    results = std::exchange(after_invalidate, {});
  }

  std::vector<Result> results = {Keys("AKIDONE")};
  std::vector<Result> after_invalidate;
  std::vector<std::string> invalidated;
  int asked = 0;
};

// The time of a request's signature.
system_clock::time_point SignedAt(const PeerRequest& request) {
  std::tm parts{};
  EXPECT_NE(::strptime(request.Header("X-Amz-Date").c_str(), "%Y%m%dT%H%M%SZ", &parts), nullptr);
  return system_clock::from_time_t(::timegm(&parts));
}

// What a server does: signs what it received and compares.
bool IsSigned(const PeerRequest& request, const Credentials& credentials) {
  const std::string authorization = request.Header("Authorization");
  const size_t begin = authorization.find("SignedHeaders=") + 14;
  std::string names = authorization.substr(begin, authorization.find(',', begin) - begin);
  std::vector<std::pair<std::string, std::string>> kept;
  for (size_t at = 0; at < names.size();) {
    const size_t end = std::min(names.find(';', at), names.size());
    const std::string name = names.substr(at, end - at);
    at = end + 1;
    if (name == "x-amz-date" || name == "x-amz-security-token") continue;
    kept.emplace_back(name, request.Header(name));
  }
  std::vector<std::pair<std::string_view, std::string_view>> headers(kept.begin(), kept.end());
  const size_t blank = request.line.find(' ');
  const std::string target = request.line.substr(blank + 1, request.line.rfind(' ') - blank - 1);
  const size_t question = std::min(target.find('?'), target.size());
  const std::string path = target.substr(0, question);
  const std::string query = question < target.size() ? target.substr(question + 1) : "";
  const std::string method = request.line.substr(0, blank);
  SigV4Request canonical{method, path, query, headers, Sha256().Update(request.body).Finish()};
  return SigV4Signer(kRegion, kService)
             .Sign(canonical, credentials, SignedAt(request))
             .authorization == authorization;
}

std::string HttpDateOf(system_clock::time_point time) {
  const std::time_t now = system_clock::to_time_t(time);
  char text[64];
  std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", std::gmtime(&now));
  return text;
}

Answer Refusal(const std::string& code, const std::string& headers = "") {
  return {403, R"({"message": "no"})", "x-amzn-ErrorType: " + code + "\r\n" + headers};
}

class AwsClientTest : public testing::SourceFixture {
 protected:
  void Serve(AnsweringServer::Handler handler, const std::string& base = "") {
    client_ = nullptr;
    server_.emplace(std::move(handler));
    AwsClient::Options options;
    options.service = kService;
    options.region = kRegion;
    options.http.url = *ParseHttpUrl(server_->url() + base);
    options.credentials = provider_;
    options.user_agent = "mobula/test";
    options.log = log_.get();
    auto client = AwsClient::Create(&loop_, std::move(options));
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }

  HttpResponse Call(AwsClient::Request request, Duration budget = seconds(10)) {
    request.deadline = In(budget);
    return Await<HttpResponse>([&](std::function<void(absl::StatusOr<HttpResponse>)> done) {
             client_->Call(std::move(request), [done](HttpResponse r) { done(std::move(r)); });
           })
        .value_or(HttpResponse());
  }
  HttpResponse Call(Duration budget = seconds(10)) {
    AwsClient::Request request;
    request.path = "/GetSamplingRules";
    request.headers = {{"Content-Type", "application/json"}};
    request.body = "{}";
    return Call(std::move(request), budget);
  }
  static Credentials Keys(const std::string& id, const std::string& token = "") {
    return **FakeProvider::Keys(id, token);
  }

  std::shared_ptr<FakeProvider> provider_ = std::make_shared<FakeProvider>();
  std::string lines_;
  std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
  std::optional<AnsweringServer> server_;
  std::unique_ptr<AwsClient> client_;
};

TEST_F(AwsClientTest, SignsWhatItSends) {
  provider_->results = {FakeProvider::Keys("ASIAONE", "token/+==")};
  Serve([](const PeerRequest&) { return Answer{200, "body"}; });
  const HttpResponse response = Call();
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "body");
  ASSERT_EQ(server_->lines(), std::vector<std::string>{"POST /GetSamplingRules HTTP/1.1"});
  const PeerRequest request = server_->requests()[0];
  EXPECT_TRUE(IsSigned(request, Keys("ASIAONE", "token/+==")));
  EXPECT_EQ(request.body, "{}");
  EXPECT_EQ(request.Header("Host"), server_->authority());
  EXPECT_EQ(request.Header("Content-Type"), "application/json");
  EXPECT_EQ(request.Header("Content-Length"), "2");
  EXPECT_EQ(request.Header("X-Amz-Security-Token"), "token/+==");
  EXPECT_EQ(request.Header("User-Agent"), "mobula/test");
  EXPECT_THAT(request.Header("Authorization"),
              HasSubstr("/eu-west-1/xray/aws4_request, "
                        "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, "));
  EXPECT_LT(system_clock::now() - SignedAt(request), seconds(60));
  // Each header once.
  std::vector<std::string> names;
  for (const auto& [name, value] : request.headers) names.push_back(name);
  EXPECT_THAT(names, ::testing::UnorderedElementsAre("Host", "Content-Length", "Content-Type",
                                                     "X-Amz-Date", "X-Amz-Security-Token",
                                                     "Authorization", "User-Agent"));
}

TEST_F(AwsClientTest, PathsMayHaveAQueryAndABase) {
  Serve([](const PeerRequest&) { return Answer{200}; }, "/base");
  AwsClient::Request request;
  request.method = "GET";
  request.path = "/a%20b?z=1&y=%2F&y=2&x";
  EXPECT_EQ(Call(std::move(request)).status, 200);
  EXPECT_EQ(server_->lines(), std::vector<std::string>{"GET /base/a%20b?z=1&y=%2F&y=2&x HTTP/1.1"});
  EXPECT_TRUE(IsSigned(server_->requests()[0], Keys("AKIDONE")));
  EXPECT_EQ(client_->url().path, "/base");
}

TEST_F(AwsClientTest, WithoutAProviderNothingIsSigned) {
  provider_ = nullptr;
  Serve([](const PeerRequest&) { return Refusal("ExpiredToken"); });
  EXPECT_EQ(Call().status, 403);
  ASSERT_EQ(server_->requests().size(), 1u);
  for (const char* name : {"Authorization", "X-Amz-Date", "X-Amz-Security-Token"}) {
    EXPECT_EQ(server_->requests()[0].Header(name), "") << name;
  }
}

TEST_F(AwsClientTest, WaitsForCredentialsThatAreBeingFetched) {
  const absl::Status fetching = absl::UnavailableError("being fetched");
  provider_->results = {fetching, fetching, fetching, FakeProvider::Keys("AKIDONE")};
  Serve([](const PeerRequest&) { return Answer{200}; });
  EXPECT_EQ(Call().status, 200);
  EXPECT_EQ(provider_->asked, 4);
}

TEST_F(AwsClientTest, EndsWithoutCredentials) {
  Serve([](const PeerRequest&) { return Answer{200}; });
  provider_->results = {absl::FailedPreconditionError("broken source")};
  HttpResponse response = Call();
  EXPECT_EQ(response.fault, "no_credentials");
  EXPECT_EQ(response.transport, absl::FailedPreconditionError("broken source"));
  provider_->results = {absl::UnavailableError("being fetched")};
  const Time begin = std::chrono::steady_clock::now();
  response = Call(milliseconds(200));
  EXPECT_EQ(response.fault, "no_credentials");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(2));
  EXPECT_TRUE(server_->requests().empty());
}

TEST_F(AwsClientTest, RefusedCredentialsAreRenewedAndTheCallMadeAgain) {
  provider_->after_invalidate = {absl::UnavailableError("being fetched"),
                                 FakeProvider::Keys("AKIDTWO")};
  Serve([](const PeerRequest& request) {
    return IsSigned(request, Keys("AKIDTWO")) ? Answer{200} : Refusal("ExpiredTokenException");
  });
  EXPECT_EQ(Call().status, 200);
  EXPECT_EQ(provider_->invalidated, std::vector<std::string>{"AKIDONE"});
  EXPECT_EQ(server_->requests().size(), 2u);
}

TEST_F(AwsClientTest, TheRefusalIsTheAnswerWhereNothingElseComes) {
  Serve([](const PeerRequest&) { return Refusal("UnrecognizedClientException"); });
  // The same ones again, never others, and others that are refused as well.
  HttpResponse response = Call();
  EXPECT_EQ(response.Header("x-amzn-errortype"), "UnrecognizedClientException");
  EXPECT_EQ(server_->requests().size(), 1u);
  provider_->after_invalidate = {absl::UnavailableError("being fetched")};
  response = Call(milliseconds(200));
  EXPECT_EQ(response.status, 403);
  EXPECT_EQ(response.fault, "");
  EXPECT_EQ(server_->requests().size(), 2u);
  provider_->results = {FakeProvider::Keys("AKIDONE")};
  provider_->after_invalidate = {FakeProvider::Keys("AKIDTWO")};
  response = Call();
  EXPECT_EQ(response.status, 403);
  EXPECT_EQ(server_->requests().size(), 4u);
}

TEST_F(AwsClientTest, TheClockIsCorrectedOnceForAllCalls) {
  const auto ahead = std::chrono::hours(2);
  Serve([&](const PeerRequest& request) {
    const auto theirs = system_clock::now() + ahead;
    if (theirs - SignedAt(request) < std::chrono::minutes(5)) return Answer{200};
    return Refusal("InvalidSignatureException", "Date: " + HttpDateOf(theirs) + "\r\n");
  });
  EXPECT_EQ(Call().status, 200);
  EXPECT_EQ(Call().status, 200);
  EXPECT_EQ(server_->requests().size(), 3u);
  EXPECT_TRUE(provider_->invalidated.empty());
  EXPECT_THAT(lines_, HasSubstr("the clock is wrong"));
}

TEST_F(AwsClientTest, AClockThatIsRightIsNotTheReason) {
  Serve([&](const PeerRequest&) {
    return Refusal("SignatureDoesNotMatch", "Date: " + HttpDateOf(system_clock::now()) + "\r\n");
  });
  EXPECT_EQ(Call().status, 403);
  EXPECT_EQ(server_->requests().size(), 1u);
}

TEST_F(AwsClientTest, OtherAnswersAreLeftAlone) {
  for (const int status : {204, 301, 400, 404, 429, 500, 503}) {
    Serve([&](const PeerRequest&) {
      return Answer{status, "{}", "Location: /x\r\nX-Amzn-ErrorType: AccessDenied\r\n"};
    });
    EXPECT_EQ(Call().status, status);
    EXPECT_EQ(server_->requests().size(), 1u);
  }
}

TEST_F(AwsClientTest, AFarSideThatMisbehaves) {
  Serve([](const PeerRequest&) { return Answer{.hang = true}; });
  EXPECT_EQ(Call(milliseconds(200)).fault, "timeout");
  Serve([](const PeerRequest&) { return Answer{.endless = true}; });
  EXPECT_EQ(Call().fault, "garbled");
  Serve([](const PeerRequest&) { return Answer{.reset = true}; });
  EXPECT_EQ(Call().fault, "reset");
  Serve([](const PeerRequest&) { return Answer{200}; });
  AwsClient::Request request;
  request.path = "/a\r\nX: y";
  EXPECT_EQ(Call(std::move(request)).fault, "invalid_request");
}

TEST_F(AwsClientTest, MayBeDestroyedInsideACallback) {
  Serve([](const PeerRequest&) { return Answer{200}; });
  AwsClient::Request request;
  request.path = "/";
  request.deadline = In(seconds(10));
  bool called = false;
  client_->Call(std::move(request), [&](const HttpResponse& response) {
    EXPECT_EQ(response.status, 200);
    called = true;
    client_ = nullptr;
    loop_.Stop();
  });
  loop_.RunUntil(In(seconds(20)));
  EXPECT_TRUE(called);
}

TEST_F(AwsClientTest, NobodyIsCalledAfterItsEnd) {
  provider_->results = {absl::UnavailableError("being fetched")};
  Serve([](const PeerRequest&) { return Answer{.hang = true}; });
  const auto never = [](const HttpResponse&) { FAIL(); };
  client_->Call({.path = "/", .deadline = In(seconds(9))}, never);
  loop_.RunUntil(In(milliseconds(50)));
  provider_->results = {FakeProvider::Keys("AKIDONE")};
  client_->Call({.path = "/", .deadline = In(seconds(9))}, never);
  loop_.RunUntil(In(milliseconds(50)));
  client_ = nullptr;
  loop_.RunUntil(In(milliseconds(50)));
}

}  // namespace
}  // namespace mobula

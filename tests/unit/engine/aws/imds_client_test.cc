// Tests of engine/aws/imds_client.h and instance_role_source.h.
#include "engine/aws/imds_client.h"

#include <gmock/gmock.h>

#include <thread>

#include "engine/aws/instance_role_source.h"
#include "tests/unit/engine/aws/source_fixture.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Answer;
using testing::AnsweringServer;
using ::testing::HasSubstr;
using testing::PeerRequest;

constexpr char kEndpoint[] = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
constexpr char kTokenLine[] = "PUT /latest/api/token HTTP/1.1";
constexpr char kTtl[] = "X-aws-ec2-metadata-token-ttl-seconds";
constexpr char kToken[] = "X-aws-ec2-metadata-token";

// Version 2, and what a test changes about it.
struct Instance {
  int put_status = 200;
  bool put_hangs = false;
  std::string put_headers;
  std::string put_body = "token-1";
  bool version_1 = false;  // questions without a token are answered
  std::map<std::string, Answer> texts = {{"/latest/meta-data/hostname", {200, "ip-10-0-0-7"}}};

  Answer operator()(const PeerRequest& request) const {
    if (request.line == kTokenLine) {
      return {put_status, put_body, put_headers, put_hangs};
    }
    const std::string token = request.Header(kToken);
    if (token.empty() ? !version_1 : token != put_body) return {401};
    const std::string path = request.line.substr(4, request.line.rfind(' ') - 4);
    const auto found = texts.find(path);
    return found == texts.end() ? Answer{404} : found->second;
  }
};

class ImdsClientTest : public testing::SourceFixture {
 protected:
  void Serve() {
    server_.emplace([this](const PeerRequest& request) { return instance_(request); });
    home_.variables[kEndpoint] = server_->url();
  }
  void Open() { imds_ = std::make_shared<ImdsClient>(&loop_, home_.environment()); }

  absl::StatusOr<std::string> Get(const std::string& path = "/latest/meta-data/hostname",
                                  Duration budget = seconds(10)) {
    if (!server_) Serve();
    if (imds_ == nullptr) Open();
    return Await<std::string>(
        [&](ImdsClient::Done done) { imds_->Get(path, In(budget), std::move(done)); });
  }

  Instance instance_;
  std::optional<AnsweringServer> server_;
  std::shared_ptr<ImdsClient> imds_;
};

TEST_F(ImdsClientTest, FetchesATokenOnceAndSendsIt) {
  EXPECT_EQ(*Get(), "ip-10-0-0-7");
  EXPECT_EQ(*Get(), "ip-10-0-0-7");
  EXPECT_EQ(server_->lines(),
            (std::vector<std::string>{kTokenLine, "GET /latest/meta-data/hostname HTTP/1.1",
                                      "GET /latest/meta-data/hostname HTTP/1.1"}));
  const auto requests = server_->requests();
  EXPECT_EQ(requests[0].Header(kTtl), "21600");
  EXPECT_EQ(requests[0].Header("Host"), server_->authority());
  EXPECT_EQ(requests[0].Header("Content-Length"), "0");
  EXPECT_EQ(requests[0].Header("X-Forwarded-For"), "");
  EXPECT_EQ(requests[1].Header(kToken), "token-1");
}

TEST_F(ImdsClientTest, QuestionsAtOnceShareOneToken) {
  Serve();
  Open();
  int answers = 0;
  for (int i = 0; i < 5; ++i) {
    imds_->Get("/latest/meta-data/hostname", In(seconds(10)), [&](const auto& text) {
      EXPECT_TRUE(text.ok()) << text.status();
      if (++answers == 5) loop_.Stop();
    });
  }
  loop_.RunUntil(In(seconds(20)));
  EXPECT_EQ(answers, 5);
  const auto lines = server_->lines();
  EXPECT_EQ(std::count(lines.begin(), lines.end(), kTokenLine), 1);
}

TEST_F(ImdsClientTest, ATokenLivesAsLongAsTheServiceSays) {
  instance_.put_headers = std::string(kTtl) + ": 1\r\n";
  ASSERT_TRUE(Get().ok());
  ASSERT_TRUE(Get().ok());
  const auto lines = server_->lines();
  EXPECT_EQ(std::count(lines.begin(), lines.end(), kTokenLine), 2);
}

TEST_F(ImdsClientTest, ARefusedTokenIsFetchedAnewOnce) {
  ASSERT_TRUE(Get().ok());
  instance_.put_body = "token-2";  // the instance was stopped and started
  EXPECT_EQ(*Get(), "ip-10-0-0-7");
  EXPECT_EQ(server_->requests().back().Header(kToken), "token-2");
  EXPECT_EQ(server_->requests().size(), 5u);

  instance_.texts["/latest/meta-data/hostname"] = {401};
  const auto refused = Get();
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Text(refused.status()), HasSubstr("refuses the session token it gave"));
}

TEST_F(ImdsClientTest, WithoutTokensFallsBackToVersionOne) {
  for (const int status : {403, 404, 405}) {
    instance_.put_status = status;
    instance_.version_1 = true;
    imds_ = nullptr;
    server_.reset();
    EXPECT_EQ(*Get(), "ip-10-0-0-7") << status;
    EXPECT_EQ(*Get(), "ip-10-0-0-7") << status;
    // Not asked for a token the second time.
    EXPECT_EQ(server_->requests().size(), 3u);
    EXPECT_EQ(server_->requests().back().Header(kToken), "");
  }
}

TEST_F(ImdsClientTest, VersionOneCanBeForbidden) {
  home_.variables["AWS_EC2_METADATA_V1_DISABLED"] = "True";
  instance_.put_status = 404;
  instance_.version_1 = true;
  const auto got = Get();
  EXPECT_EQ(got.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Text(got.status()), HasSubstr("AWS_EC2_METADATA_V1_DISABLED"));
  EXPECT_EQ(server_->lines(), std::vector<std::string>{kTokenLine});
}

TEST_F(ImdsClientTest, ALateTokenIsDoneWithout) {
  instance_.put_hangs = true;
  instance_.version_1 = true;
  const Time begin = std::chrono::steady_clock::now();
  EXPECT_EQ(*Get(), "ip-10-0-0-7");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(1900));
  EXPECT_EQ(*Get(), "ip-10-0-0-7");
  EXPECT_EQ(server_->requests().size(), 3u);
}

TEST_F(ImdsClientTest, SaysThatVersionTwoIsNeededWhereTheTokenGetsLost) {
  instance_.put_hangs = true;
  const auto got = Get();
  EXPECT_EQ(got.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Text(got.status()), HasSubstr("requires version 2 (IMDSv2)"));
  EXPECT_THAT(Text(got.status()), HasSubstr("hop limit"));
  // It may only have been slow.
  instance_.put_hangs = false;
  EXPECT_EQ(*Get(), "ip-10-0-0-7");
}

TEST_F(ImdsClientTest, ARefusedQuestionEndsTheTimeOfVersionOne) {
  instance_.put_status = 404;
  instance_.version_1 = true;
  ASSERT_TRUE(Get().ok());
  instance_.put_status = 200;
  instance_.version_1 = false;  // somebody made version 2 a must
  EXPECT_EQ(*Get(), "ip-10-0-0-7");
  EXPECT_EQ(server_->requests().back().Header(kToken), "token-1");
}

TEST_F(ImdsClientTest, ABadTokenAnswerIsAnError) {
  instance_.version_1 = true;
  instance_.put_status = 400;
  EXPECT_THAT(Text(Get().status()), HasSubstr("answers 400"));
  EXPECT_EQ(server_->lines(), std::vector<std::string>{kTokenLine});
  instance_.put_status = 302;
  EXPECT_THAT(Text(Get().status()), HasSubstr("answers 302"));
  instance_.put_status = 200;
  for (const char* body : {"", "a b", "a\r\nb"}) {
    instance_.put_body = body;
    EXPECT_THAT(Text(Get().status()), HasSubstr("no usable session token")) << body;
  }
  instance_.put_body = std::string(5000, 'x');
  EXPECT_FALSE(Get().ok());
}

TEST_F(ImdsClientTest, TriesTwiceWhatMayPass) {
  int left = 1;
  server_.emplace([&](const PeerRequest& request) {
    if (request.line != kTokenLine && left-- > 0) return Answer{503};
    return instance_(request);
  });
  home_.variables[kEndpoint] = server_->url();
  EXPECT_EQ(*Get(), "ip-10-0-0-7");
  EXPECT_EQ(server_->requests().size(), 3u);
  left = 2;
  EXPECT_EQ(Get().status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(ImdsClientTest, KnowsNoSuchPath) {
  const auto got = Get("/latest/meta-data/nothing");
  EXPECT_EQ(got.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Text(got.status()), HasSubstr("/latest/meta-data/nothing"));
}

TEST_F(ImdsClientTest, NobodyThere) {
  {
    AnsweringServer gone([](const PeerRequest&) { return Answer(); });
    home_.variables[kEndpoint] = gone.url();
  }
  Open();
  const auto got = Await<std::string>(
      [&](ImdsClient::Done done) { imds_->Get("/x", In(seconds(10)), std::move(done)); });
  EXPECT_EQ(got.status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(ImdsClientTest, EndsAtTheDeadline) {
  instance_.put_hangs = true;
  const Time begin = std::chrono::steady_clock::now();
  EXPECT_EQ(Get("/latest/meta-data/hostname", milliseconds(200)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(1000));
}

TEST_F(ImdsClientTest, AnswersHaveALimit) {
  instance_.texts["/latest/meta-data/hostname"] = {200, std::string(65 * 1024, 'x')};
  EXPECT_EQ(Get().status().code(), absl::StatusCode::kUnavailable);
  instance_.texts["/latest/meta-data/hostname"] = {.endless = true};
  EXPECT_EQ(Get().status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(ImdsClientTest, Settings) {
  const auto says = [&] {
    Open();
    return Text(Await<std::string>([&](ImdsClient::Done done) {
                  imds_->Get("/x", In(milliseconds(1)), std::move(done));
                }).status());
  };
  home_.variables["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"] = "IPv5";
  EXPECT_THAT(says(), HasSubstr("must be IPv4 or IPv6"));
  home_.variables["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"] = "ipv6";
  EXPECT_THAT(says(), HasSubstr("[fd00:ec2::254]"));
  home_.variables["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"] = "";
  EXPECT_THAT(says(), HasSubstr("169.254.169.254"));
  home_.variables[kEndpoint] = "nonsense";
  EXPECT_THAT(says(), HasSubstr(kEndpoint));
  home_.variables["AWS_EC2_METADATA_DISABLED"] = "TRUE";
  EXPECT_THAT(says(), HasSubstr("AWS_EC2_METADATA_DISABLED"));
}

TEST_F(ImdsClientTest, NobodyIsCalledAfterItsEnd) {
  instance_.put_hangs = true;
  Serve();
  Open();
  imds_->Get("/x", In(seconds(5)), [](const auto&) { FAIL(); });
  loop_.RunUntil(In(milliseconds(50)));
  imds_ = nullptr;
  loop_.RunUntil(In(milliseconds(50)));

  home_.variables["AWS_EC2_METADATA_DISABLED"] = "true";
  Open();
  imds_->Get("/x", In(seconds(5)), [](const auto&) { FAIL(); });
  imds_ = nullptr;
  loop_.RunUntil(In(milliseconds(20)));
}

TEST_F(ImdsClientTest, WhereEverythingIsSlowATokenIsAskedForAgain) {
  instance_.put_hangs = true;
  instance_.texts["/latest/meta-data/hostname"] = {.hang = true};
  instance_.version_1 = true;
  EXPECT_TRUE(absl::IsDeadlineExceeded(Get().status()));
  instance_.put_hangs = false;
  instance_.texts["/latest/meta-data/hostname"] = {200, "ip-10-0-0-7"};
  EXPECT_EQ(*Get(), "ip-10-0-0-7");
  EXPECT_EQ(server_->requests().back().Header(kToken), "token-1");
}

// --- The instance's role -------------------------------------------------------------------------------

constexpr char kRoles[] = "/latest/meta-data/iam/security-credentials/";

class InstanceRoleSourceTest : public ImdsClientTest {
 protected:
  absl::StatusOr<Credentials> FetchRole() {
    if (!server_) Serve();
    Open();
    const auto source = MakeInstanceRoleSource(imds_);
    return Fetch(source.get());
  }
  void Give(const std::string& document, const std::string& list = "node-role\n") {
    instance_.texts[kRoles] = {200, list};
    instance_.texts[std::string(kRoles) + "node-role"] = {200, document};
  }
};

TEST_F(InstanceRoleSourceTest, ReadsTheRole) {
  Give(R"({"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2025-12-31T18:00:00Z",
           "AccessKeyId": "ASIAR", "SecretAccessKey": "s", "Token": "t", "Expiration": "2026-01-01T00:00:00Z"})");
  const auto got = FetchRole();
  ASSERT_TRUE(got.ok()) << got.status();
  Credentials want{"ASIAR", "s", "t", {}, "instance role node-role"};
  want.expiry = std::chrono::system_clock::from_time_t(1767225600);
  EXPECT_EQ(*got, want);
  EXPECT_EQ(server_->lines(),
            (std::vector<std::string>{kTokenLine, "GET " + std::string(kRoles) + " HTTP/1.1",
                                      "GET " + std::string(kRoles) + "node-role HTTP/1.1"}));
  for (size_t i = 1; i < 3; ++i) EXPECT_EQ(server_->requests()[i].Header(kToken), "token-1");
}

TEST_F(InstanceRoleSourceTest, ASlowServiceIsGivenMoreTimeTheNextTime) {
  Give(R"({"Code": "Success", "AccessKeyId": "A", "SecretAccessKey": "s", "Token": "t"})");
  bool token = false;
  server_.emplace([&](const PeerRequest& request) {
    if (std::exchange(token, true)) std::this_thread::sleep_for(milliseconds(1300));
    return instance_(request);
  });
  home_.variables[kEndpoint] = server_->url();
  Open();
  const auto source = MakeInstanceRoleSource(imds_);
  EXPECT_TRUE(absl::IsDeadlineExceeded(Fetch(source.get()).status()));
  absl::StatusOr<Credentials> got = Fetch(source.get());
  if (!got.ok()) got = Fetch(source.get());  // the first questions were still being answered
  EXPECT_TRUE(got.ok()) << got.status();
}

TEST_F(InstanceRoleSourceTest, Errors) {
  EXPECT_THAT(Text(FetchRole().status()), HasSubstr("attach an instance profile"));
  EXPECT_EQ(FetchRole().status().code(), absl::StatusCode::kFailedPrecondition);
  Give(R"({"Code": "AssumeRoleUnauthorizedAccess", "Message": "EC2 cannot assume the role"})");
  auto got = FetchRole();
  EXPECT_EQ(got.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Text(got.status()), HasSubstr("instance role: node-role gives no credentials: "
                                            "AssumeRoleUnauthorizedAccess EC2 cannot"));
  Give("<html>");
  EXPECT_THAT(Text(FetchRole().status()), HasSubstr("no JSON"));
  for (const char* list : {"", "\n", "../../x", "a b", "a?b"}) {
    Give("{}", list);
    EXPECT_EQ(FetchRole().status().code(), absl::StatusCode::kUnavailable) << list;
  }
  instance_.texts.erase(std::string(kRoles) + "node-role");
  instance_.texts[kRoles] = {200, "node-role"};
  EXPECT_EQ(FetchRole().status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace mobula

// Tests of engine/aws/sso_source.h.
#include "engine/aws/sso_source.h"

#include <gmock/gmock.h>

#include "tests/unit/engine/aws/source_fixture.h"

namespace mobula {
namespace {

using testing::Answer;
using testing::AnsweringServer;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::PeerRequest;

// SHA-1 of "my-sso" and of "https://d-1.awsapps.com/start", by sha1sum.
constexpr char kSessionFile[] = ".aws/sso/cache/0ad374308c5a4e22f723adf10145eafad7c4031c.json";
constexpr char kStartUrlFile[] = ".aws/sso/cache/0c54b6c27e90660baa89eaad85ac1d5dae26cb7d.json";
constexpr char kLogin[] = R"({"startUrl": "https://d-1.awsapps.com/start", "region": "eu-west-1",)"
                          R"( "accessToken": "hunter2", "expiresAt": "2199-01-01T00:00:00Z"})";
constexpr char kAnswer[] =
    R"({"roleCredentials": {"accessKeyId": "ASIAS", "secretAccessKey": "s", "sessionToken": "t",)"
    R"( "expiration": 1767225600000}})";

class SsoSourceTest : public testing::SourceFixture {
 protected:
  SsoSourceTest() { std::filesystem::create_directories(home_.path(".aws/sso/cache")); }

  absl::StatusOr<Credentials> FetchWith(const Answer& answer) {
    server_.emplace([&](const PeerRequest&) { return answer; });
    home_.variables["AWS_ENDPOINT_URL_SSO"] = server_->url();
    return FetchOnce();
  }
  absl::StatusOr<Credentials> FetchOnce() {
    const auto source = MakeSsoSource(&loop_, settings_, home_.environment());
    return Fetch(source.get());
  }

  SsoSettings settings_ = {
      "my-sso", "https://d-1.awsapps.com/start", "eu-west-1", "123456789012", "Read Only/x", "dev"};
  std::optional<AnsweringServer> server_;
};

TEST_F(SsoSourceTest, ExchangesTheLoginForTheRole) {
  home_.Write(kSessionFile, kLogin);
  const auto got = FetchWith({200, kAnswer});
  ASSERT_TRUE(got.ok()) << got.status();
  Credentials want{"ASIAS", "s", "t", {}, "profile \"dev\" (SSO)"};
  want.expiry = std::chrono::system_clock::from_time_t(1767225600);
  EXPECT_EQ(*got, want);
  EXPECT_EQ(server_->lines(),
            std::vector<std::string>{"GET /federation/credentials?role_name=Read%20Only%2Fx&"
                                     "account_id=123456789012 HTTP/1.1"});
  const PeerRequest request = server_->requests()[0];
  EXPECT_EQ(request.Header("x-amz-sso_bearer_token"), "hunter2");
  EXPECT_EQ(request.Header("Authorization"), "");
}

TEST_F(SsoSourceTest, TheOlderFormGoesByTheStartUrl) {
  settings_.session_name = "";
  home_.Write(kStartUrlFile, kLogin);
  EXPECT_TRUE(FetchWith({200, kAnswer}).ok());
  // As old tools write it.
  home_.Write(kStartUrlFile, R"({"accessToken": "a", "expiresAt": "2199-01-01T00:00:00UTC"})");
  EXPECT_TRUE(FetchWith({200, kAnswer}).ok());
}

TEST_F(SsoSourceTest, SaysHowToLogIn) {
  const auto says = [&] {
    const auto got = FetchOnce();
    EXPECT_EQ(got.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(Text(got.status()), Not(HasSubstr("hunter2")));
    return Text(got.status());
  };
  EXPECT_THAT(says(), HasSubstr("profile \"dev\" (SSO): nobody has logged in"));
  EXPECT_THAT(says(), HasSubstr("run: aws sso login --profile dev"));
  settings_.profile = "";
  EXPECT_THAT(says(), HasSubstr("run: aws sso login --sso-session my-sso"));
  home_.Write(kSessionFile, R"({"accessToken": "hunter2", "expiresAt": "2020-01-01T00:00:00Z"})");
  EXPECT_THAT(says(), HasSubstr("the login has expired"));
  for (const char* text :
       {"", "{}", "[]", "{\"accessToken\"", R"({"accessToken": "hunter2"})",
        R"({"accessToken": "hunter2", "expiresAt": 7})",
        R"({"accessToken": "hunter2\r\nX: y", "expiresAt": "2199-01-01T00:00:00Z"})",
        R"({"expiresAt": "2199-01-01T00:00:00Z"})"}) {
    home_.Write(kSessionFile, text);
    EXPECT_THAT(says(), HasSubstr("aws sso login")) << text;
  }
  home_.variables["HOME"] = "";
  EXPECT_THAT(says(), HasSubstr("HOME is not set"));
}

TEST_F(SsoSourceTest, ThePortalsAnswers) {
  home_.Write(kSessionFile, kLogin);
  auto got = FetchWith({401, R"({"message": "Session token not found or invalid"})",
                        "x-amzn-ErrorType: UnauthorizedException\r\n"});
  EXPECT_THAT(Text(got.status()), HasSubstr("run: aws sso login --profile dev"));
  got = FetchWith({403, R"({"message": "No access"})", "x-amzn-ErrorType: ForbiddenException\r\n"});
  EXPECT_EQ(got.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Text(got.status()), HasSubstr("403 ForbiddenException: No access"));
  EXPECT_EQ(FetchWith({500}).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(server_->requests().size(), 2u);
  for (const char* body :
       {"", "{}", "<html>", R"({"roleCredentials": 7})", R"({"roleCredentials": {}})"}) {
    EXPECT_FALSE(FetchWith({200, body}).ok()) << body;
  }
  EXPECT_FALSE(FetchWith({302, "", "Location: http://127.0.0.1:1/\r\n"}).ok());
  EXPECT_FALSE(FetchWith({.endless = true}).ok());
}

TEST_F(SsoSourceTest, EverySettingIsNeeded) {
  for (std::string SsoSettings::*member : {&SsoSettings::start_url, &SsoSettings::region,
                                           &SsoSettings::account_id, &SsoSettings::role_name}) {
    const std::string kept = std::exchange(settings_.*member, "");
    EXPECT_THAT(Text(FetchOnce().status()), HasSubstr("is missing"));
    settings_.*member = kept;
  }
  settings_.region = "evil.example.com/";
  EXPECT_THAT(Text(FetchOnce().status()), HasSubstr("sso_region"));
}

}  // namespace
}  // namespace mobula

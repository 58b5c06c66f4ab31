// Tests of engine/aws/container_source.h, and of what RetryingClient does for it.
#include "engine/aws/container_source.h"

#include <gmock/gmock.h>

#include "tests/unit/engine/aws/source_fixture.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Answer;
using testing::AnsweringServer;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::PeerRequest;

constexpr char kFull[] = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
constexpr char kRelative[] = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
constexpr char kToken[] = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
constexpr char kTokenFile[] = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
constexpr char kDocument[] =
    R"({"AccessKeyId": "ASIAC", "SecretAccessKey": "s/+", "Token": "t/+==", "AccountId": "1",)"
    R"( "Expiration": "2026-01-01T00:00:00.123Z"})";

class ContainerSourceTest : public testing::SourceFixture {
 protected:
  absl::StatusOr<Credentials> FetchOnce(Duration budget = seconds(10)) {
    const auto source = MakeContainerSource(&loop_, home_.environment());
    return Fetch(source.get(), budget);
  }
};

TEST_F(ContainerSourceTest, IsConfiguredByEitherVariable) {
  EXPECT_FALSE(ContainerConfigured(home_.environment()));
  home_.variables[kRelative] = "/v2/credentials/x";
  EXPECT_TRUE(ContainerConfigured(home_.environment()));
  home_.variables[kRelative] = "";
  EXPECT_FALSE(ContainerConfigured(home_.environment()));
  home_.variables[kFull] = "http://localhost/x";
  EXPECT_TRUE(ContainerConfigured(home_.environment()));
}

TEST_F(ContainerSourceTest, ReadsTheDocument) {
  AnsweringServer server([](const PeerRequest&) { return Answer{200, kDocument}; });
  home_.variables[kFull] = server.url() + "/v1/credentials?id=7#x";
  home_.variables[kToken] = "Basic abc==";
  const auto got = FetchOnce();
  ASSERT_TRUE(got.ok()) << got.status();
  Credentials want{"ASIAC", "s/+", "t/+==", {}, "container"};
  want.expiry = std::chrono::system_clock::from_time_t(1767225600);
  EXPECT_EQ(*got, want);
  ASSERT_EQ(server.lines(), std::vector<std::string>{"GET /v1/credentials?id=7 HTTP/1.1"});
  const PeerRequest request = server.requests()[0];
  EXPECT_EQ(request.Header("Authorization"), "Basic abc==");
  EXPECT_EQ(request.Header("Host"), server.authority());
}

TEST_F(ContainerSourceTest, ReadsTheTokenFileAnewEachTimeAndPrefersIt) {
  AnsweringServer server([](const PeerRequest&) { return Answer{200, kDocument}; });
  home_.variables[kFull] = server.url() + "/v1/credentials";
  home_.variables[kToken] = "variable";
  home_.variables[kTokenFile] = home_.path("token").string();
  const auto source = MakeContainerSource(&loop_, home_.environment());
  for (const char* token : {"one", "two"}) {
    home_.Write("token", token);
    ASSERT_TRUE(Fetch(source.get()).ok());
    EXPECT_EQ(server.requests().back().Header("Authorization"), token);
  }
  home_.Write("token", "three\r\n");
  ASSERT_TRUE(Fetch(source.get()).ok());
  EXPECT_EQ(server.requests().back().Header("Authorization"), "three");
}

TEST_F(ContainerSourceTest, RefusesTokensThatCannotBeAHeader) {
  AnsweringServer server([](const PeerRequest&) { return Answer{200, kDocument}; });
  home_.variables[kFull] = server.url();
  for (const std::string token : {"a\nb", "a\rb", "a\r\nX-Injected: b"}) {
    home_.variables[kTokenFile] = "";
    home_.variables[kToken] = token;
    auto got = FetchOnce();
    EXPECT_THAT(Text(got.status()), HasSubstr(kToken));
    EXPECT_EQ(got.status().code(), absl::StatusCode::kFailedPrecondition);
    home_.variables[kTokenFile] = home_.path("token").string();
    home_.Write("token", token);
    got = FetchOnce();
    EXPECT_THAT(Text(got.status()), HasSubstr(kTokenFile));
    EXPECT_THAT(Text(got.status()), Not(HasSubstr("Injected")));
  }
  home_.Write("token", "");
  EXPECT_THAT(Text(FetchOnce().status()), HasSubstr("empty file"));
  home_.Write("token", std::string(100'000, 'x'));
  EXPECT_THAT(Text(FetchOnce().status()), HasSubstr(kTokenFile));
  std::filesystem::remove(home_.path("token"));
  EXPECT_THAT(Text(FetchOnce().status()), HasSubstr("No such file"));
  EXPECT_TRUE(server.requests().empty());
}

TEST_F(ContainerSourceTest, SaysWhatTheEndpointSaid) {
  AnsweringServer server([](const PeerRequest&) {
    return Answer{401, R"({"code": "AccessDenied", "message": "unknown \u001b token"})"};
  });
  home_.variables[kFull] = server.url() + "/secret-path";
  home_.variables[kToken] = "hunter2";
  const auto got = FetchOnce();
  EXPECT_EQ(got.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Text(got.status()), HasSubstr("container: "));
  EXPECT_THAT(Text(got.status()), HasSubstr("401 AccessDenied: unknown"));
  EXPECT_THAT(Text(got.status()), HasSubstr(server.authority()));
  EXPECT_THAT(Text(got.status()), Not(HasSubstr("hunter2")));
  EXPECT_THAT(Text(got.status()), Not(HasSubstr("secret-path")));
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST_F(ContainerSourceTest, TriesThreeTimes) {
  int left = 2;
  AnsweringServer server([&](const PeerRequest&) {
    if (left == 0) return Answer{200, kDocument};
    return --left == 1 ? Answer{503} : Answer{.reset = true};
  });
  home_.variables[kFull] = server.url();
  EXPECT_TRUE(FetchOnce().ok());
  EXPECT_EQ(server.lines(), std::vector<std::string>(3, "GET / HTTP/1.1"));
}

TEST_F(ContainerSourceTest, EndsAtTheDeadlineWhateverTheEndpointDoes) {
  AnsweringServer server([](const PeerRequest&) { return Answer{.hang = true}; });
  home_.variables[kFull] = server.url();
  const Time begin = std::chrono::steady_clock::now();
  EXPECT_EQ(FetchOnce(milliseconds(300)).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(2));
}

TEST_F(ContainerSourceTest, StrangeAnswersAreErrors) {
  struct Case {
    Answer answer;
    const char* says;
  };
  const std::string long_id(20'000, 'x');
  for (const Case& c : {
           Case{{200, ""}, "no JSON"},
           Case{{200, "[]"}, "no JSON object"},
           Case{{200, "{\"AccessKeyId\""}, "no JSON"},
           Case{{200, "{}"}, "has no AccessKeyId"},
           Case{{200, R"({"AccessKeyId": 7, "SecretAccessKey": "s"})"}, "has no AccessKeyId"},
           Case{{200, R"({"AccessKeyId": "i"})"}, "has no SecretAccessKey"},
           Case{{200, R"({"AccessKeyId": "i\r\nX: y", "SecretAccessKey": "s"})"}, "AccessKeyId"},
           Case{{200, R"({"AccessKeyId": ")" + long_id + R"(", "SecretAccessKey": "s"})"},
                "AccessKeyId"},
           Case{{200, R"({"AccessKeyId": "i", "SecretAccessKey": "s", "Expiration": "soon"})"},
                "Expiration"},
           Case{{200, R"({"AccessKeyId": "i", "SecretAccessKey": "s", "Expiration": true})"},
                "Expiration"},
           Case{{.endless = true}, "cannot be asked"},
           Case{{302, "", "Location: http://127.0.0.1:1/\r\n"}, "answers 302"},
           Case{{204, ""}, "answers 204"},
       }) {
    AnsweringServer server([&](const PeerRequest&) { return c.answer; });
    home_.variables[kFull] = server.url();
    const auto got = FetchOnce();
    ASSERT_FALSE(got.ok());
    EXPECT_THAT(Text(got.status()), HasSubstr(c.says));
  }
}

TEST_F(ContainerSourceTest, KeysWithoutAnEndAreAllowed) {
  AnsweringServer server([](const PeerRequest&) {
    return Answer{200, R"({"AccessKeyId": "i", "SecretAccessKey": "s", "Expiration": null})"};
  });
  home_.variables[kFull] = server.url();
  const auto got = FetchOnce();
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_FALSE(got->expiry);
  EXPECT_EQ(got->session_token, "");
}

TEST_F(ContainerSourceTest, NeverUsesAForwardProxy) {
  AnsweringServer server([](const PeerRequest&) { return Answer{200, kDocument}; });
  home_.variables[kFull] = server.url();
  for (const char* name : {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY"}) {
    home_.variables[name] = "http://127.0.0.1:9";
  }
  EXPECT_TRUE(FetchOnce().ok());
}

TEST_F(ContainerSourceTest, TheRelativePathWinsAndIsOnTheTasksAddress) {
  home_.variables[kRelative] = "/v2/credentials/0123?x=1";
  home_.variables[kFull] = "http://localhost:1/";
  const auto endpoint = FindContainerEndpoint(home_.environment());
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  EXPECT_EQ(endpoint->url.Authority(), "169.254.170.2");
  EXPECT_FALSE(endpoint->url.tls);
  EXPECT_EQ(endpoint->target, "/v2/credentials/0123?x=1");
  for (const char* text : {"v2", "http://evil/", "/a b", "/a\r\nX: y"}) {
    home_.variables[kRelative] = text;
    EXPECT_FALSE(FindContainerEndpoint(home_.environment()).ok()) << text;
  }
}

TEST_F(ContainerSourceTest, PlainHttpOnlyStaysInTheMachine) {
  for (const char* text :
       {"http://localhost", "http://LOCALHOST:80/x", "http://127.0.0.1:1/", "http://127.8.9.10/",
        "http://[::1]:7/x", "http://169.254.170.2/x", "http://169.254.170.23/v1/credentials",
        "http://[fd00:ec2::23]/v1/credentials", "http://[fd00:0ec2:0::0023]/",
        "https://example.com/x", "http://a.localhost/"}) {
    home_.variables[kFull] = text;
    const auto endpoint = FindContainerEndpoint(home_.environment());
    EXPECT_TRUE(endpoint.ok()) << endpoint.status();
  }
  for (const char* text :
       {"http://example.com/", "http://169.254.170.3/", "http://169.254.169.254/",
        "http://10.0.0.1/", "http://[fd00:ec2::24]/", "http://127.0.0.1.example.com/",
        "http://localhost.example.com/", "http://notlocalhost/", "http://[::ffff:10.0.0.1]/",
        "ftp://localhost/", "localhost", "/x", "http://user:hunter2@localhost/",
        "http://localhost/a b", "http://"}) {
    home_.variables[kFull] = text;
    const auto endpoint = FindContainerEndpoint(home_.environment());
    EXPECT_EQ(endpoint.status().code(), absl::StatusCode::kFailedPrecondition) << text;
    EXPECT_THAT(Text(endpoint.status()), HasSubstr(kFull));
    EXPECT_THAT(Text(endpoint.status()), Not(HasSubstr("hunter2")));
  }
}

}  // namespace
}  // namespace mobula

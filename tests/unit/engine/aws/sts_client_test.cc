// Tests of engine/aws/sts_client.h, role_source.h and web_identity_source.h.
#include "engine/aws/sts_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "engine/aws/role_source.h"
#include "engine/aws/web_identity_source.h"
#include "engine/base/log.h"
#include "tests/unit/engine/aws/fake_sts.h"
#include "tests/unit/engine/aws/source_fixture.h"

namespace mobula {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::system_clock;
using testing::Answer;
using testing::AnsweringServer;
using ::testing::ElementsAre;
using testing::FakeSts;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;

constexpr char kRole[] = "arn:aws:iam::123456789012:role/xray";
const Credentials kKeys{"AKIDBASE", "s3cr3t", "t0ken/+=", std::nullopt, "test"};

// Credentials that a test sets.
class SetCredentials final : public CredentialsProvider {
 public:
  absl::StatusOr<CredentialsPtr> Get() override { return result; }
  void Invalidate(const Credentials& refused) override { last_refused = refused.access_key_id; }

  absl::StatusOr<CredentialsPtr> result = std::make_shared<const Credentials>(kKeys);
  std::string last_refused;
};

class StsClientTest : public testing::SourceFixture {
 protected:
  StsClientTest() {
    role_.role_arn = kRole;
    settings_.region = "eu-west-1";
    settings_.environment = home_.environment();
    settings_.user_agent = "agent/1";
    settings_.log = log_.get();
    home_.variables["AWS_ENDPOINT_URL_STS"] = sts_.url();
    home_.Write("token", "eyJ.web.identity\n");
  }

  absl::StatusOr<Credentials> AssumeRole(Duration budget = seconds(10)) {
    if (source_ == nullptr) source_ = MakeRoleSource(&loop_, base_, role_, settings_);
    return Fetch(source_.get(), budget);
  }
  absl::StatusOr<Credentials> AssumeWithToken() {
    if (source_ == nullptr) {
      source_ = MakeWebIdentitySource(&loop_, home_.path("token"), role_, settings_);
    }
    return Fetch(source_.get());
  }

  std::string lines_;
  const std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
  FakeSts sts_;
  AwsRole role_;
  StsSettings settings_;
  const std::shared_ptr<SetCredentials> base_ = std::make_shared<SetCredentials>();
  std::unique_ptr<CredentialsSource> source_;
};

TEST_F(StsClientTest, AssumeRoleIsSignedAndSaysEverything) {
  role_.external_id = "tenant:1/@=,.+-_";
  role_.session_name = "me@host";
  role_.duration = std::chrono::minutes(15);
  role_.session_tags = {{"team", "a & b=c"}, {"Größe", "100%"}};
  role_.source_identity = "somebody";
  const auto found = AssumeRole();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->access_key_id, "xray-1");
  EXPECT_EQ(found->secret_access_key, "secret-of-xray-1");
  EXPECT_EQ(found->session_token, "token/of+xray-1==");
  EXPECT_EQ(found->source, std::string("assumed role ") + kRole);
  EXPECT_GT(*found->expiry, system_clock::now() + std::chrono::minutes(58));

  const std::vector<FakeSts::Call> calls = sts_.calls();
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_THAT(calls[0].form,
              ElementsAre(Pair("Action", "AssumeRole"), Pair("DurationSeconds", "900"),
                          Pair("ExternalId", "tenant:1/@=,.+-_"), Pair("RoleArn", kRole),
                          Pair("RoleSessionName", "me@host"), Pair("SourceIdentity", "somebody"),
                          Pair("Tags.member.1.Key", "team"), Pair("Tags.member.1.Value", "a & b=c"),
                          Pair("Tags.member.2.Key", "Größe"), Pair("Tags.member.2.Value", "100%"),
                          Pair("Version", "2011-06-15")));
  const testing::PeerRequest& request = calls[0].request;
  EXPECT_EQ(request.Header("Authorization"), FakeSts::Signature(request, "eu-west-1", kKeys));
  EXPECT_THAT(request.Header("Authorization"), HasSubstr("/eu-west-1/sts/aws4_request"));
  EXPECT_EQ(request.Header("X-Amz-Security-Token"), kKeys.session_token);
  EXPECT_EQ(request.Header("User-Agent"), "agent/1");
}

TEST_F(StsClientTest, WhatARoleDoesNotHaveIsNotSent) {
  ASSERT_TRUE(AssumeRole().ok());
  EXPECT_THAT(sts_.calls()[0].form,
              ElementsAre(Pair("Action", "AssumeRole"), Pair("DurationSeconds", "3600"),
                          Pair("RoleArn", kRole), Pair("RoleSessionName", "xray-daemon"),
                          Pair("Version", "2011-06-15")));
}

TEST_F(StsClientTest, WebIdentityIsUnsignedAndReadsTheTokenAgain) {
  role_.session_name = "pod-7";
  auto found = AssumeWithToken();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->source, std::string("web identity (") + kRole + ")");
  home_.Write("token", "rotated");
  ASSERT_TRUE(AssumeWithToken().ok());
  const std::vector<FakeSts::Call> calls = sts_.calls();
  ASSERT_EQ(calls.size(), 2U);
  EXPECT_THAT(
      calls[0].form,
      ElementsAre(Pair("Action", "AssumeRoleWithWebIdentity"), Pair("DurationSeconds", "3600"),
                  Pair("RoleArn", kRole), Pair("RoleSessionName", "pod-7"),
                  Pair("Version", "2011-06-15"), Pair("WebIdentityToken", "eyJ.web.identity")));
  EXPECT_EQ(calls[1].form.at("WebIdentityToken"), "rotated");
  for (const char* name : {"Authorization", "X-Amz-Date", "X-Amz-Security-Token"}) {
    EXPECT_EQ(calls[0].request.Header(name), "") << name;
  }
}

TEST_F(StsClientTest, ATokenThatExpiredIsReadOnceMore) {
  sts_.Next(FakeSts::Refuse(400, "ExpiredTokenException", "Token expired"));
  const auto found = AssumeWithToken();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(sts_.calls().size(), 2U);
}

TEST_F(StsClientTest, TokenFilesThatCannotBe) {
  home_.Write("token", " \n");
  EXPECT_THAT(Text(AssumeWithToken().status()), HasSubstr("token is empty"));
  std::filesystem::remove(home_.path("token"));
  const absl::Status missing = AssumeWithToken().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(missing));
  EXPECT_THAT(Text(missing), HasSubstr("cannot read " + home_.path("token").string()));
  home_.Write("token", std::string(20'001, 'x'));
  EXPECT_THAT(Text(AssumeWithToken().status()), HasSubstr("too large"));
  EXPECT_TRUE(sts_.calls().empty());
  home_.Write("token", "t");
  EXPECT_TRUE(AssumeWithToken().ok());
}

TEST_F(StsClientTest, ARefusalIsFinalAndSaysWhatStsSays) {
  sts_.Forbid(kRole);
  const absl::Status status = AssumeRole().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(Text(status),
              StartsWith(std::string("assume role ") + kRole + ": AccessDenied: User: arn:"));
  EXPECT_THAT(Text(status), HasSubstr("trust policy"));
  EXPECT_EQ(sts_.calls().size(), 1U);
}

TEST_F(StsClientTest, WhatMayPassIsTriedTwice) {
  const Answer answers[] = {FakeSts::Refuse(400, "Throttling", "Rate exceeded"),
                            FakeSts::Refuse(400, "IDPCommunicationError", "away"),
                            FakeSts::Refuse(400, "InvalidIdentityToken", "new provider"),
                            FakeSts::Refuse(500, "InternalFailure", "oops"),
                            {503, "<html>", ""},
                            {429, "", ""}};
  for (const Answer& answer : answers) {
    const size_t before = sts_.calls().size();
    sts_.Next(answer);
    const auto found = AssumeRole();
    EXPECT_TRUE(found.ok()) << answer.body << found.status();
    sts_.Next(answer);
    sts_.Next(answer);
    const absl::Status status = AssumeRole().status();
    EXPECT_TRUE(absl::IsUnavailable(status)) << answer.body << status;
    EXPECT_THAT(Text(status), StartsWith(std::string("assume role ") + kRole + ": "));
    EXPECT_EQ(sts_.calls().size(), before + 4);
  }
}

TEST_F(StsClientTest, AConnectionThatIsCutIsTriedAgain) {
  sts_.Next({.reset = true});
  EXPECT_TRUE(AssumeRole().ok());
  source_.reset();  // and with it the kept connection, on which HttpClient would try by itself
  sts_.Next({.reset = true});
  sts_.Next({.reset = true});
  EXPECT_TRUE(absl::IsUnavailable(AssumeRole().status()));
  EXPECT_EQ(sts_.calls().size(), 4U);
}

TEST_F(StsClientTest, ALongSessionThatAChainMayNotHaveIsAskedForAnHour) {
  role_.duration = hours(12);
  sts_.Next(FakeSts::Refuse(400, "ValidationError",
                            "The requested DurationSeconds exceeds the 1 hour session limit for "
                            "roles assumed by role chaining"));
  ASSERT_TRUE(AssumeRole().ok());
  ASSERT_TRUE(AssumeRole().ok());
  const std::vector<FakeSts::Call> calls = sts_.calls();
  ASSERT_EQ(calls.size(), 3U);
  EXPECT_EQ(calls[0].form.at("DurationSeconds"), "43200");
  EXPECT_EQ(calls[1].form.at("DurationSeconds"), "3600");
  EXPECT_EQ(calls[2].form.at("DurationSeconds"), "3600");
  EXPECT_THAT(lines_, HasSubstr("for one hour at most"));
}

TEST_F(StsClientTest, OtherValidationErrorsAreFinal) {
  sts_.Next(FakeSts::Refuse(400, "ValidationError", "DurationSeconds must be at least 900"));
  EXPECT_THAT(Text(AssumeRole().status()), HasSubstr("ValidationError: DurationSeconds must"));
  EXPECT_EQ(sts_.calls().size(), 1U);
}

TEST_F(StsClientTest, RefusedBaseCredentialsAreGivenBack) {
  sts_.Next(FakeSts::Refuse(403, "ExpiredToken", "The security token is expired"));
  const absl::Status status = AssumeRole().status();
  EXPECT_THAT(Text(status), HasSubstr("ExpiredToken"));
  EXPECT_EQ(base_->last_refused, kKeys.access_key_id);
}

TEST_F(StsClientTest, WithoutABaseThereIsNoCall) {
  base_->result = absl::NotFoundError("no credentials: none at all");
  const absl::Status status = AssumeRole().status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_EQ(Text(status), std::string("assume role ") + kRole + ": no credentials: none at all");
  EXPECT_TRUE(sts_.calls().empty());
  EXPECT_FALSE(source_->Changed());
  base_->result = std::make_shared<const Credentials>(kKeys);
  EXPECT_TRUE(source_->Changed());
  EXPECT_TRUE(AssumeRole().ok());
  EXPECT_FALSE(source_->Changed());
}

TEST_F(StsClientTest, ABaseOnItsWayIsWaitedFor) {
  base_->result = absl::UnavailableError("being fetched");
  IoLoop::Timer timer(&loop_);
  timer.Set(In(milliseconds(50)),
            [&] { base_->result = std::make_shared<const Credentials>(kKeys); });
  EXPECT_TRUE(AssumeRole().ok());
  base_->result = absl::UnavailableError("being fetched");
  const absl::Status status = AssumeRole(milliseconds(100)).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(Text(status), HasSubstr("being fetched"));
}

TEST_F(StsClientTest, StrangeAnswersEndInABoundedError) {
  struct Case {
    Answer answer;
    const char* part;
  };
  const Case cases[] = {
      {{200, "<AssumeRoleResponse><Ass", ""}, "no XML"},
      {{200, "<html>portal</html>", ""}, "no AssumeRoleResponse"},
      {{200, "", ""}, "no XML"},
      {{301, "", "Location: http://127.0.0.1:1/\r\n"}, "answered 301, which is no answer of STS"},
      {{403, "<html>proxy</html>", ""}, "answered 403, which is no answer of STS"},
      {{.endless = true}, "gave no answer"},
  };
  for (const Case& c : cases) {
    for (int i = 0; i < 2; ++i) sts_.Next(c.answer);
    source_.reset();
    const absl::Status status = AssumeRole().status();
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_THAT(Text(status), HasSubstr(c.part));
    EXPECT_LT(status.message().size(), 1000U);
    while (!AssumeRole().ok()) {  // what was not asked for twice
    }
  }
}

TEST_F(StsClientTest, SilenceEndsAtTheDeadline) {
  sts_.Next({.hang = true});
  const Time begin = std::chrono::steady_clock::now();
  const absl::Status status = AssumeRole(milliseconds(200)).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(4));
}

TEST_F(StsClientTest, TlsWhereThereIsNoneIsAnError) {
  const testing::ScriptedServer plain([](testing::Peer& peer) {
    peer.Write("HTTP/1.1 400 Bad Request\r\n\r\n");
    peer.WaitForEnd();
  });
  home_.variables["AWS_ENDPOINT_URL_STS"] = fmt::format("https://127.0.0.1:{}", plain.port());
  const absl::Status status = AssumeRole().status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(Text(status), HasSubstr("https://127.0.0.1:"));
}

TEST_F(StsClientTest, ATokenThatStsQuotesIsNotPassedOn) {
  sts_.Next(FakeSts::Refuse(400, "ValidationError",
                            "Value 'eyJ.web.identity' at 'webIdentityToken' failed to satisfy"));
  const absl::Status status = AssumeWithToken().status();
  EXPECT_THAT(Text(status), HasSubstr("ValidationError"));
  EXPECT_THAT(Text(status), Not(HasSubstr("eyJ.web")));
}

TEST_F(StsClientTest, TheExpiryIsByTheClockOfThisMachine) {
  Answer answer = FakeSts::Grant("AssumeRole", "A", hours(3));
  const std::time_t two_hours_on = std::time(nullptr) + 7200;
  answer.headers +=
      fmt::format("Date: {:%a, %d %b %Y %H:%M:%S GMT}\r\n", fmt::gmtime(two_hours_on));
  sts_.Next(answer);
  const auto found = AssumeRole();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_LT(*found->expiry, system_clock::now() + std::chrono::minutes(61));
  EXPECT_GT(*found->expiry, system_clock::now() + std::chrono::minutes(59));
}

TEST_F(StsClientTest, ASourceMayGoWhileACallIsUnderWay) {
  sts_.Next({.hang = true});
  source_ = MakeRoleSource(&loop_, base_, role_, settings_);
  source_->Fetch(In(seconds(10)), [](const auto&) { ADD_FAILURE() << "called back"; });
  const Time limit = In(seconds(10));
  while (sts_.calls().empty() && std::chrono::steady_clock::now() < limit) {
    loop_.RunUntil(In(milliseconds(2)));
  }
  EXPECT_EQ(sts_.calls().size(), 1U);
  source_.reset();
  loop_.RunUntil(In(milliseconds(5)));
}

// --- where STS is ---

// Which host is asked for, and what for, through a proxy that lets nobody pass.
class StsEndpointTest : public StsClientTest {
 protected:
  StsEndpointTest() {
    home_.variables.erase("AWS_ENDPOINT_URL_STS");
    home_.variables["HTTPS_PROXY"] = proxy_.url();
  }

  std::string Host() {
    source_.reset();
    EXPECT_FALSE(AssumeRole().ok());
    const std::vector<std::string> lines = proxy_.lines();
    return lines.empty() ? "" : lines.back();
  }

  AnsweringServer proxy_{[](const testing::PeerRequest&) { return Answer{403, "", ""}; }};
};

TEST_F(StsEndpointTest, IsRegionalUnlessAnOldRegionIsAskedToBeLegacy) {
  EXPECT_EQ(Host(), "CONNECT sts.eu-west-1.amazonaws.com:443 HTTP/1.1");
  home_.variables["AWS_STS_REGIONAL_ENDPOINTS"] = "legacy";
  EXPECT_EQ(Host(), "CONNECT sts.amazonaws.com:443 HTTP/1.1");
  settings_.region = "eu-south-2";  // younger than the legacy
  EXPECT_EQ(Host(), "CONNECT sts.eu-south-2.amazonaws.com:443 HTTP/1.1");
  settings_.region = "us-gov-west-1";
  EXPECT_EQ(Host(), "CONNECT sts.us-gov-west-1.amazonaws.com:443 HTTP/1.1");
  settings_.region = "eu-west-1";
  settings_.endpoint.fips = true;
  EXPECT_EQ(Host(), "CONNECT sts-fips.eu-west-1.amazonaws.com:443 HTTP/1.1");
}

TEST_F(StsEndpointTest, AConfiguredOneWins) {
  home_.variables["AWS_STS_REGIONAL_ENDPOINTS"] = "legacy";
  settings_.endpoint.endpoint = "https://vpce-1.sts.eu-west-1.vpce.amazonaws.com";
  EXPECT_EQ(Host(), "CONNECT vpce-1.sts.eu-west-1.vpce.amazonaws.com:443 HTTP/1.1");
}

TEST_F(StsEndpointTest, AnEndpointThatIsNoneIsAnError) {
  settings_.endpoint.endpoint = "nonsense";
  const absl::Status status = AssumeRole().status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(Text(status), StartsWith("assume role "));
}

}  // namespace
}  // namespace mobula

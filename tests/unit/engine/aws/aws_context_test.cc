// Tests of engine/aws/aws_context.h, with its loop on a thread of its own.
#include "engine/aws/aws_context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <map>
#include <thread>
#include <utility>

#include "engine/base/log.h"
#include "tests/support/running_aws.h"
#include "tests/unit/engine/aws/fake_home.h"
#include "tests/unit/engine/aws/fake_sts.h"

namespace mobula {
namespace {

using std::chrono::seconds;
using testing::Answer;
using testing::AnsweringServer;
using testing::FakeHome;
using testing::FakeSts;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::PeerRequest;
using testing::RunningAws;
using ::testing::StartsWith;

Answer ServeMetadata(const PeerRequest& request) {
  const auto is = [&](const char* path) { return request.line.find(path) != std::string::npos; };
  if (is("/latest/api/token")) return {200, "t", "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"};
  if (is("/latest/meta-data/hostname ")) return {200, "ip-10-0-0-7.internal", ""};
  if (is("/latest/meta-data/instance-id ")) return {200, "i-0123456789abcdef0", ""};
  if (is("/latest/dynamic/instance-identity/document ")) {
    return {200, R"({"region": "ap-south-1"})", ""};
  }
  return {404, "", ""};
}

class AwsContextTest : public ::testing::Test {
 protected:
  AwsContextTest() {
    home_.variables["AWS_ENDPOINT_URL_STS"] = sts_.url();
    home_.variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = metadata_.url();
    home_.Write("token", "eyJ.token");
    home_.variables["AWS_WEB_IDENTITY_TOKEN_FILE"] = home_.path("token").string();
    home_.variables["AWS_ROLE_ARN"] = "arn:aws:iam::1:role/pod";
  }

  // After the variables are set: other threads read them from here on.
  void Start(bool metadata = true) {
    AwsContext::Options options;
    options.environment = home_.environment();
    options.metadata = metadata;
    options.user_agent = "agent/1";
    aws_.emplace(log_.get(), std::move(options));
  }

  static AwsIdentity Tenant(const std::string& role, const std::string& external_id = "") {
    AwsIdentity identity;
    identity.region = "eu-west-1";
    if (role.empty()) return identity;
    identity.roles.emplace_back();
    identity.roles.back().role_arn = "arn:aws:iam::2:role/" + role;
    identity.roles.back().external_id = external_id;
    return identity;
  }

  AwsContext& aws() { return *aws_->get(); }

  static Time Limit() { return std::chrono::steady_clock::now() + seconds(10); }

  std::string lines_;  // to be read when the loop has ended
  const std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
  FakeHome home_;
  FakeSts sts_;
  AnsweringServer metadata_{ServeMetadata};
  std::optional<RunningAws> aws_;
};

TEST_F(AwsContextTest, EqualIdentitiesShareAProvider) {
  Start();
  const auto provider = aws().Credentials(Tenant("a"));
  EXPECT_EQ(aws().Credentials(Tenant("a")), provider);
  EXPECT_NE(aws().Credentials(Tenant("b")), provider);
  EXPECT_NE(aws().Credentials(Tenant("a", "other")), provider);
  EXPECT_NE(aws().Credentials(Tenant("")), provider);
}

TEST_F(AwsContextTest, TwoTenantsHaveRolesOfTheirOwnOverOneBase) {
  Start();
  const auto a = aws_->Settled(Tenant("a", "ext-a"));
  const auto b = aws_->Settled(Tenant("b", "ext-b"));
  ASSERT_TRUE(a.ok()) << a.status();
  ASSERT_TRUE(b.ok()) << b.status();
  EXPECT_THAT((*a)->access_key_id, StartsWith("a-"));
  EXPECT_EQ((*a)->source, "assumed role arn:aws:iam::2:role/a");
  EXPECT_THAT((*b)->access_key_id, StartsWith("b-"));
  const std::vector<FakeSts::Call> calls = sts_.calls();
  ASSERT_EQ(calls.size(), 3U);
  EXPECT_EQ(calls[0].form.at("Action"), "AssumeRoleWithWebIdentity");
  EXPECT_EQ(calls[1].form.at("ExternalId"), "ext-a");
  EXPECT_THAT(calls[1].request.Header("Authorization"), HasSubstr("Credential=pod-1/"));
  EXPECT_EQ(calls[2].form.at("ExternalId"), "ext-b");
  EXPECT_THAT(calls[2].request.Header("Authorization"), HasSubstr("Credential=pod-1/"));
  EXPECT_EQ(calls[2].request.Header("User-Agent"), "agent/1");

  const std::vector<AwsIdentityState> states = aws().identities();
  ASSERT_EQ(states.size(), 3U);
  EXPECT_EQ(states[0].name, "default");
  EXPECT_EQ(states[0].source, "web identity (arn:aws:iam::1:role/pod)");
  EXPECT_EQ(states[1].name, "arn:aws:iam::2:role/a");
  EXPECT_EQ(states[2].name, "arn:aws:iam::2:role/b");
  for (const AwsIdentityState& state : states) {
    EXPECT_EQ(state.renewals, 1U);
    EXPECT_TRUE(state.expiry.has_value());
    EXPECT_TRUE(state.error.ok());
  }
}

TEST_F(AwsContextTest, ARoleThatIsDeniedLeavesTheOthersAlone) {
  Start();
  sts_.Forbid("arn:aws:iam::2:role/a");
  const auto a = aws_->Settled(Tenant("a"));
  const auto b = aws_->Settled(Tenant("b"));
  EXPECT_TRUE(absl::IsFailedPrecondition(a.status())) << a.status();
  EXPECT_THAT(std::string(a.status().message()),
              StartsWith("assume role arn:aws:iam::2:role/a: AccessDenied: "));
  EXPECT_TRUE(b.ok()) << b.status();
  for (const AwsIdentityState& state : aws().identities()) {
    const bool denied = state.name == "arn:aws:iam::2:role/a";
    EXPECT_EQ(state.error.ok(), !denied) << state.name;
    EXPECT_EQ(state.source.empty(), denied) << state.name;
    EXPECT_EQ(state.failures > 0, denied) << state.name;
  }
  aws_.reset();
  EXPECT_THAT(lines_, HasSubstr("assume role arn:aws:iam::2:role/a: AccessDenied"));
  EXPECT_THAT(lines_, HasSubstr("credentials from assumed role arn:aws:iam::2:role/b"));
  EXPECT_THAT(lines_, Not(HasSubstr("secret-of")));
  EXPECT_THAT(lines_, Not(HasSubstr("token/of")));
  EXPECT_THAT(lines_, Not(HasSubstr("eyJ.")));
}

TEST_F(AwsContextTest, AChainOfRoles) {
  Start();
  AwsIdentity identity = Tenant("via");
  identity.roles.push_back(Tenant("last").roles[0]);
  const auto found = aws_->Settled(identity);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ((*found)->access_key_id, "last-3");
  const std::vector<FakeSts::Call> calls = sts_.calls();
  EXPECT_THAT(calls[1].request.Header("Authorization"), HasSubstr("Credential=pod-1/"));
  EXPECT_THAT(calls[2].request.Header("Authorization"), HasSubstr("Credential=via-2/"));
  // The link alone is there already.
  EXPECT_EQ((*aws_->Settled(Tenant("via")))->access_key_id, "via-2");
}

TEST_F(AwsContextTest, EqualNamesAreToldApart) {
  Start(false);
  AwsIdentity profile;
  profile.profile = "none";
  aws().Credentials(profile);
  aws().Credentials(Tenant("a", "1"));
  aws().Credentials(Tenant("a", "2"));
  aws().Credentials(Tenant("a", "3"));
  AwsIdentity other = Tenant("a", "4");
  other.region = "us-west-2";
  aws().Credentials(other);
  other.roles.back().session_name = "shop";
  aws().Credentials(other);
  std::vector<std::string> names;
  for (const AwsIdentityState& state : aws().identities()) names.push_back(state.name);
  EXPECT_THAT(names,
              ::testing::ElementsAre("profile none", "default", "arn:aws:iam::2:role/a",
                                     "arn:aws:iam::2:role/a #2", "arn:aws:iam::2:role/a #3",
                                     "default in us-west-2", "arn:aws:iam::2:role/a in us-west-2",
                                     "arn:aws:iam::2:role/a (session shop)"));
}

TEST_F(AwsContextTest, ForgetsWhomNobodyActsAsAnyMore) {
  Start();
  auto used = aws().Credentials(Tenant("a"));
  auto left = aws().Credentials(Tenant("b"));
  ASSERT_EQ(aws().identities().size(), 3U) << "both and their base";
  const auto wait_for = [&](size_t count) {
    for (const Time limit = Limit(); std::chrono::steady_clock::now() < limit;) {
      aws().Tidy();
      if (aws().identities().size() == count) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  };
  left.reset();
  EXPECT_TRUE(wait_for(2));
  EXPECT_EQ(aws().Credentials(Tenant("a")), used) << "still known";
  used.reset();
  EXPECT_TRUE(wait_for(0)) << "the base too";
  EXPECT_NE(aws().Credentials(Tenant("b")), nullptr) << "and made again when wanted";
}

TEST_F(AwsContextTest, WithoutAnyTheLogSaysNoCredentials) {
  home_.variables.erase("AWS_WEB_IDENTITY_TOKEN_FILE");
  home_.variables["AWS_EC2_METADATA_DISABLED"] = "true";
  Start();
  EXPECT_TRUE(absl::IsNotFound(aws_->Settled(Tenant("")).status()));
  aws_.reset();
  EXPECT_THAT(lines_, HasSubstr("no credentials: "));
}

TEST_F(AwsContextTest, ProvidersOutliveTheContext) {
  Start();
  const auto provider = aws().Credentials(Tenant(""));
  ASSERT_TRUE(aws_->Settled(Tenant("")).ok());
  aws_.reset();
  EXPECT_EQ((*provider->Get())->access_key_id, "pod-1");
  provider->Invalidate(**provider->Get());
  EXPECT_TRUE(absl::IsUnavailable(provider->Get().status()));
}

TEST_F(AwsContextTest, FindsTheRegionOnce) {
  Start();
  std::vector<std::thread> threads;
  threads.reserve(3);
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([this] {
      const auto region = aws().FindRegion("", "", Limit());
      EXPECT_TRUE(region.ok()) << region.status();
      EXPECT_EQ(region.value_or(FoundRegion()).name, "ap-south-1");
    });
  }
  for (std::thread& thread : threads) thread.join();
  int documents = 0;
  for (const std::string& line : metadata_.lines()) {
    documents += line.find("identity/document") != std::string::npos ? 1 : 0;
  }
  EXPECT_EQ(documents, 1);
  EXPECT_EQ(aws().FindRegion("eu-north-1", "", Limit())->source, "configuration");
  EXPECT_TRUE(absl::IsInvalidArgument(aws().FindRegion("no region", "", Limit()).status()));
}

TEST_F(AwsContextTest, ARegionThatIsNowhereIsLookedForAgain) {
  Start(false);
  const absl::Status status = aws().FindRegion("", "", Limit()).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  home_.Write(".aws/config", "[default]\nregion = eu-west-3\n");
  EXPECT_EQ(aws().FindRegion("", "", Limit())->name, "eu-west-3");
  EXPECT_TRUE(metadata_.requests().empty());
}

TEST_F(AwsContextTest, TheRegionIsNotWaitedForLongerThanTheDeadline) {
  AwsContext::Options options;
  options.environment = home_.environment();
  IoLoop loop;  // runs never
  AwsContext context(&loop, log_.get(), std::move(options));
  const auto region =
      context.FindRegion("", "", std::chrono::steady_clock::now() + std::chrono::milliseconds(20));
  EXPECT_TRUE(absl::IsDeadlineExceeded(region.status()));
}

TEST_F(AwsContextTest, HostFactsComeFromVariablesThenMetadata) {
  home_.variables["AWS_HOSTNAME"] = "chosen";
  Start();
  std::promise<HostFacts> found;
  aws().FindHostFacts([&](HostFacts facts) { found.set_value(std::move(facts)); });
  HostFacts facts = found.get_future().get();
  EXPECT_EQ(facts.hostname, "chosen");
  EXPECT_EQ(facts.instance_id, "i-0123456789abcdef0");
}

TEST_F(AwsContextTest, HostFactsWithoutMetadataAreTheVariables) {
  home_.variables["AWS_INSTANCE_ID"] = "i-1";
  Start(false);
  std::promise<HostFacts> found;
  aws().FindHostFacts([&](HostFacts facts) { found.set_value(std::move(facts)); });
  HostFacts facts = found.get_future().get();
  EXPECT_EQ(facts.hostname, "");
  EXPECT_EQ(facts.instance_id, "i-1");
  EXPECT_TRUE(metadata_.requests().empty());
}

TEST_F(AwsContextTest, ManyThreadsMayUseIt) {
  sts_.SetLife(seconds(4));  // renewals run meanwhile
  Start();
  std::vector<std::thread> threads;
  threads.reserve(4);
  std::atomic<int> served{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([this, i, &served] {
      const auto provider = aws().Credentials(Tenant(i % 2 == 0 ? "a" : "b"));
      const Time end = std::chrono::steady_clock::now() + seconds(3);
      while (std::chrono::steady_clock::now() < end) {
        if (provider->Get().ok()) ++served;
        static_cast<void>(aws().identities());
        std::this_thread::yield();
      }
      EXPECT_TRUE(provider->Get().ok()) << provider->Get().status();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(served, 0);
  for (const AwsIdentityState& state : aws().identities()) EXPECT_GT(state.renewals, 1U);
}

}  // namespace
}  // namespace mobula

#include "engine/aws/xray_service.h"

#include <gtest/gtest.h>

#include "tests/support/running_aws.h"
#include "tests/unit/engine/aws/fake_home.h"

namespace mobula {
namespace {

class XrayServiceTest : public ::testing::Test {
 protected:
  absl::StatusOr<XrayService> Find() {
    aws_ = std::make_unique<testing::RunningAws>(
        log_.get(),
        AwsContext::Options{
            .environment = home_.environment(), .metadata = false, .user_agent = "agent/1"});
    return FindXrayService(config_, aws_->get(),
                           std::chrono::steady_clock::now() + std::chrono::seconds(5));
  }

  testing::FakeHome home_;
  std::string lines_;
  std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
  XrayBackendConfig config_;
  std::unique_ptr<testing::RunningAws> aws_;
};

TEST_F(XrayServiceTest, RegionEndpointAndSignature) {
  home_.variables["AWS_REGION"] = "eu-central-1";
  config_.tls.verify = false;
  const auto service = Find();
  ASSERT_TRUE(service.ok()) << service.status();
  EXPECT_EQ(service->region, "eu-central-1");
  EXPECT_EQ(service->http.url.host, "xray.eu-central-1.amazonaws.com");
  EXPECT_FALSE(service->http.verify);
  const AwsClient::Options client = XrayClientOptions(*service, *aws_->get());
  EXPECT_EQ(client.service, "xray");
  EXPECT_EQ(client.region, "eu-central-1");
  EXPECT_EQ(client.user_agent, "agent/1");
  EXPECT_EQ(client.credentials, service->credentials);
}

TEST_F(XrayServiceTest, WithoutRegionItSaysWhereItLooked) {
  const auto service = Find();
  ASSERT_FALSE(service.ok());
  EXPECT_EQ(service.status().message().find("Cannot fetch region"), 0U) << service.status();
}

TEST_F(XrayServiceTest, ThePlaceIsWhatIsUsed) {
  const auto place = [this] {
    const XrayPlace at = PlaceOf(config_, home_.environment());
    return at.endpoint + " " + at.region + " " + at.profile;
  };
  EXPECT_EQ(place(), "  ");
  home_.Write(".aws/config",
              "[default]\nregion = eu-north-1\nendpoint_url = http://default.example\n"
              "[profile far]\nregion = sa-east-1\n");
  EXPECT_EQ(place(), "http://default.example eu-north-1 ");
  home_.variables["AWS_DEFAULT_PROFILE"] = "far";
  EXPECT_EQ(place(), " sa-east-1 far");
  home_.variables["AWS_PROFILE"] = "default";
  home_.variables["AWS_DEFAULT_REGION"] = "eu-west-2";
  home_.variables["AWS_ENDPOINT_URL"] = "http://all.example";
  EXPECT_EQ(place(), "http://all.example eu-west-2 default");
  home_.variables["AWS_REGION"] = "eu-west-1";
  EXPECT_EQ(place(), "http://all.example eu-west-1 default");
  // What the configuration says stands, in its own words.
  config_.region = "us-east-1";
  config_.endpoint = "http://Mine.example/";
  config_.profile = "far";
  EXPECT_EQ(place(), "http://Mine.example/ us-east-1 far");
  // But for the one variable that is above it.
  home_.variables["AWS_ENDPOINT_URL_XRAY"] = "http://xray.example";
  EXPECT_EQ(place(), "http://xray.example us-east-1 far");
  home_.variables["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = "true";
  EXPECT_EQ(place(), "http://Mine.example/ us-east-1 far");
}

TEST_F(XrayServiceTest, AProfileThatChangesIsReadAgain) {
  home_.Write(".aws/config", "[default]\nregion = eu-north-1\n");
  ASSERT_TRUE(Find().ok());
  home_.Write(".aws/config", "[default]\nregion = sa-east-1\n");
  const auto service = FindXrayService(config_, aws_->get(),
                                       std::chrono::steady_clock::now() + std::chrono::seconds(5));
  ASSERT_TRUE(service.ok()) << service.status();
  EXPECT_EQ(service->region, "sa-east-1");
  EXPECT_EQ(service->region, PlaceOf(config_, home_.environment()).region);
}

TEST_F(XrayServiceTest, EqualIdentitiesShareTheirCredentials) {
  config_.region = "eu-west-1";
  const auto first = Find();
  const auto identity = IdentityOf(config_, "eu-west-1");
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->credentials, aws_->get()->Credentials(identity));
  config_.role.role_arn = "arn:aws:iam::222222222222:role/writer";
  EXPECT_NE(first->credentials, aws_->get()->Credentials(IdentityOf(config_, "eu-west-1")));
}

TEST_F(XrayServiceTest, TheRoleIsAssumedLast) {
  AwsRole hop;
  hop.role_arn = "arn:aws:iam::111111111111:role/hop";
  config_.via = {hop};
  config_.role.role_arn = "arn:aws:iam::222222222222:role/writer";
  config_.sts_endpoint = "https://sts.example";
  config_.endpoint = "https://xray.example";
  config_.tls.verify = false;
  const AwsIdentity identity = IdentityOf(config_, "eu-west-1");
  ASSERT_EQ(identity.roles.size(), 2U);
  EXPECT_EQ(identity.roles[0], hop);
  EXPECT_EQ(identity.roles[1], config_.role);
  EXPECT_EQ(identity.sts.endpoint, "https://sts.example");
  EXPECT_TRUE(identity.sts.verify) << "keys are only taken from a service that proves its name";
}

TEST(XrayUserAgentTest, NamesWhereItRuns) {
  const auto with = [](std::string_view value) {
    return XrayUserAgent("1.2.3", [value](std::string_view name) -> std::optional<std::string> {
      if (name != "AWS_EXECUTION_ENV" || value.empty()) return std::nullopt;
      return std::string(value);
    });
  };
  EXPECT_EQ(with("").find("mobula/1.2.3 xray-agent/xray-daemon/1.2.3 exec-env/UNKNOWN OS/linux-"),
            0U);
  EXPECT_NE(with("AWS_ECS_FARGATE\r\nX: y").find("exec-env/AWS_ECS_FARGATE__X:_y "),
            std::string::npos);
}

}  // namespace
}  // namespace mobula

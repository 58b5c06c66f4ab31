// Tests of engine/aws/endpoint.h.
#include "engine/aws/endpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/engine/aws/fake_home.h"

namespace mobula {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(EndpointTest, EveryPartitionHasItsForms) {
  struct Case {
    const char* service;
    const char* region;
    const char* plain;
    const char* fips;
    const char* dual_stack;
    const char* both;
  };
  for (const Case& c : {
           Case{"xray", "eu-west-1", "xray.eu-west-1.amazonaws.com",
                "xray-fips.eu-west-1.amazonaws.com", "xray.eu-west-1.api.aws",
                "xray-fips.eu-west-1.api.aws"},
           Case{"sts", "us-east-1", "sts.us-east-1.amazonaws.com",
                "sts-fips.us-east-1.amazonaws.com", "sts.us-east-1.api.aws",
                "sts-fips.us-east-1.api.aws"},
           Case{"xray", "us-gov-west-1", "xray.us-gov-west-1.amazonaws.com",
                "xray-fips.us-gov-west-1.amazonaws.com", "xray.us-gov-west-1.api.aws",
                "xray-fips.us-gov-west-1.api.aws"},
           Case{"sts", "us-gov-east-1", "sts.us-gov-east-1.amazonaws.com",
                "sts.us-gov-east-1.amazonaws.com", "sts.us-gov-east-1.api.aws",
                "sts-fips.us-gov-east-1.api.aws"},
           Case{"xray", "cn-north-1", "xray.cn-north-1.amazonaws.com.cn",
                "xray-fips.cn-north-1.amazonaws.com.cn",
                "xray.cn-north-1.api.amazonwebservices.com.cn",
                "xray-fips.cn-north-1.api.amazonwebservices.com.cn"},
           Case{"xray", "us-iso-east-1", "xray.us-iso-east-1.c2s.ic.gov",
                "xray-fips.us-iso-east-1.c2s.ic.gov", "xray.us-iso-east-1.api.aws.ic.gov",
                "xray-fips.us-iso-east-1.api.aws.ic.gov"},
           Case{"sts", "us-isob-east-1", "sts.us-isob-east-1.sc2s.sgov.gov",
                "sts-fips.us-isob-east-1.sc2s.sgov.gov", "sts.us-isob-east-1.api.aws.scloud",
                "sts-fips.us-isob-east-1.api.aws.scloud"},
           Case{"xray", "us-isof-south-1", "xray.us-isof-south-1.csp.hci.ic.gov",
                "xray-fips.us-isof-south-1.csp.hci.ic.gov",
                "xray.us-isof-south-1.api.aws.hci.ic.gov",
                "xray-fips.us-isof-south-1.api.aws.hci.ic.gov"},
           Case{"xray", "eu-isoe-west-1", "xray.eu-isoe-west-1.cloud.adc-e.uk",
                "xray-fips.eu-isoe-west-1.cloud.adc-e.uk",
                "xray.eu-isoe-west-1.api.cloud-aws.adc-e.uk",
                "xray-fips.eu-isoe-west-1.api.cloud-aws.adc-e.uk"},
           Case{"sts", "eusc-de-east-1", "sts.eusc-de-east-1.amazonaws.eu",
                "sts-fips.eusc-de-east-1.amazonaws.eu",
                "sts.eusc-de-east-1.api.amazonwebservices.eu",
                "sts-fips.eusc-de-east-1.api.amazonwebservices.eu"},
           Case{"sso", "eu-west-1", "portal.sso.eu-west-1.amazonaws.com",
                "portal.sso-fips.eu-west-1.amazonaws.com", "portal.sso.eu-west-1.api.aws",
                "portal.sso-fips.eu-west-1.api.aws"},
       }) {
    const std::string https = "https://";
    EXPECT_EQ(DefaultEndpoint(c.service, c.region, false, false), https + c.plain);
    EXPECT_EQ(DefaultEndpoint(c.service, c.region, true, false), https + c.fips);
    EXPECT_EQ(DefaultEndpoint(c.service, c.region, false, true), https + c.dual_stack);
    EXPECT_EQ(DefaultEndpoint(c.service, c.region, true, true), https + c.both);
  }
}

class ResolveServiceTest : public ::testing::Test {
 protected:
  absl::StatusOr<HttpClient::Options> Resolve(const std::string& service = "xray",
                                              const std::string& region = "eu-west-1") {
    return ResolveService(service, region, settings_, home_.environment());
  }
  // Where the service is, or the error.
  std::string Where(const std::string& service = "xray", const std::string& region = "eu-west-1") {
    const auto options = Resolve(service, region);
    if (!options.ok()) return std::string(options.status().message());
    return options->url.Authority() + options->url.path;
  }

  testing::FakeHome home_;
  AwsEndpointSettings settings_;
};

TEST_F(ResolveServiceTest, EndpointsFromTheLeastToTheMostSpecific) {
  EXPECT_EQ(Where(), "xray.eu-west-1.amazonaws.com");
  home_.Write(".aws/config", "[default]\nendpoint_url = http://profile:4\n[profile p]\n");
  EXPECT_EQ(Where(), "profile:4");
  home_.variables["AWS_PROFILE"] = "p";
  EXPECT_EQ(Where(), "xray.eu-west-1.amazonaws.com");
  settings_.profile = "default";
  EXPECT_EQ(Where(), "profile:4");
  home_.variables["AWS_ENDPOINT_URL"] = "http://all:1";
  EXPECT_EQ(Where(), "all:1");
  settings_.endpoint = "http://configured:2/base";
  EXPECT_EQ(Where(), "configured:2/base");
  home_.variables["AWS_ENDPOINT_URL_XRAY"] = "http://mine:3";
  EXPECT_EQ(Where(), "mine:3");
  EXPECT_EQ(Where("sts"), "configured:2/base");
}

TEST_F(ResolveServiceTest, EndpointsOfTheEnvironmentCanBeIgnored) {
  home_.Write(".aws/config",
              "[default]\nendpoint_url = http://profile:4\n"
              "[profile i]\nignore_configured_endpoint_urls = true\nendpoint_url = http://x:1\n");
  home_.variables["AWS_ENDPOINT_URL"] = "http://all:1";
  home_.variables["AWS_ENDPOINT_URL_XRAY"] = "http://mine:3";
  home_.variables["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = "false";
  EXPECT_EQ(Where(), "mine:3");
  home_.variables["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = "True";
  EXPECT_EQ(Where(), "xray.eu-west-1.amazonaws.com");
  settings_.endpoint = "http://configured:2";
  EXPECT_EQ(Where(), "configured:2");
  home_.variables["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = "";
  settings_ = {};
  settings_.profile = "i";
  EXPECT_EQ(Where(), "xray.eu-west-1.amazonaws.com");
}

TEST_F(ResolveServiceTest, FipsAndDualStackFromBackendEnvironmentAndProfile) {
  home_.Write(".aws/config", "[default]\nuse_fips_endpoint = TRUE\nuse_dualstack_endpoint=true\n");
  EXPECT_EQ(Where(), "xray-fips.eu-west-1.api.aws");
  home_.variables["AWS_USE_FIPS_ENDPOINT"] = "false";
  EXPECT_EQ(Where(), "xray.eu-west-1.api.aws");
  home_.variables["AWS_USE_FIPS_ENDPOINT"] = "True";
  home_.variables["AWS_USE_DUALSTACK_ENDPOINT"] = "no";
  EXPECT_EQ(Where(), "xray-fips.eu-west-1.amazonaws.com");
  EXPECT_EQ(Where("sts"), "sts-fips.eu-west-1.amazonaws.com");
  settings_.fips = false;
  settings_.dual_stack = true;
  EXPECT_EQ(Where(), "xray.eu-west-1.api.aws");
}

TEST_F(ResolveServiceTest, ACustomEndpointAgainstFipsAndDualStack) {
  home_.variables["AWS_USE_FIPS_ENDPOINT"] = "true";
  home_.variables["AWS_USE_DUALSTACK_ENDPOINT"] = "true";
  settings_.endpoint = "http://configured:2";
  EXPECT_EQ(Where(), "configured:2");
  settings_.fips = true;
  EXPECT_THAT(Where(), AllOf(HasSubstr("`endpoint`"), HasSubstr("`fips`")));
  EXPECT_EQ(Resolve().status().code(), absl::StatusCode::kInvalidArgument);
  settings_.fips = false;
  settings_.dual_stack = true;
  EXPECT_THAT(Where(), HasSubstr("`dual_stack`"));
  settings_.endpoint = "";
  home_.variables["AWS_ENDPOINT_URL"] = "http://all:1";
  EXPECT_EQ(Where(), "all:1");
}

TEST_F(ResolveServiceTest, LegacySts) {
  const auto region = [&](const std::string& name) {
    return SigningRegion(name, Resolve("sts", name)->url);
  };
  EXPECT_EQ(region("eu-west-1"), "eu-west-1");
  home_.variables["AWS_STS_REGIONAL_ENDPOINTS"] = "legacy";
  EXPECT_EQ(Where("sts"), "sts.amazonaws.com");
  EXPECT_EQ(region("eu-west-1"), "us-east-1");
  EXPECT_EQ(Where("xray"), "xray.eu-west-1.amazonaws.com");
  // Regions that came after it, and other partitions.
  for (const char* name : {"eu-south-1", "ap-northeast-3"}) {
    EXPECT_EQ(Where("sts", name), "sts." + std::string(name) + ".amazonaws.com");
    EXPECT_EQ(region(name), name);
  }
  EXPECT_EQ(Where("sts", "cn-north-1"), "sts.cn-north-1.amazonaws.com.cn");
  settings_.fips = true;
  EXPECT_EQ(Where("sts"), "sts-fips.eu-west-1.amazonaws.com");
  settings_ = {};
  settings_.endpoint = "http://mine:1";
  EXPECT_EQ(Where("sts"), "mine:1");
  EXPECT_EQ(region("eu-west-1"), "eu-west-1");
  settings_.endpoint = "https://sts.amazonaws.com";
  EXPECT_EQ(region("eu-south-1"), "us-east-1");
  settings_ = {};
  home_.variables["AWS_STS_REGIONAL_ENDPOINTS"] = "regional";
  home_.Write(".aws/config", "[default]\nsts_regional_endpoints = legacy\n");
  EXPECT_EQ(region("eu-west-1"), "eu-west-1");
  home_.variables["AWS_STS_REGIONAL_ENDPOINTS"] = "";
  EXPECT_EQ(region("eu-west-1"), "us-east-1");
}

TEST_F(ResolveServiceTest, Trust) {
  EXPECT_EQ(Resolve()->ca_file, "");
  EXPECT_TRUE(Resolve()->verify);
  home_.Write(".aws/config", "[default]\nca_bundle = /profile.pem\n");
  EXPECT_EQ(Resolve()->ca_file, "/profile.pem");
  home_.variables["AWS_CA_BUNDLE"] = "/variable.pem";
  EXPECT_EQ(Resolve()->ca_file, "/variable.pem");
  settings_.ca_file = "/own.pem";
  settings_.verify = false;
  EXPECT_EQ(Resolve()->ca_file, "/own.pem");
  EXPECT_FALSE(Resolve()->verify);
}

TEST_F(ResolveServiceTest, ForwardProxies) {
  EXPECT_FALSE(Resolve()->proxy);
  home_.variables["HTTPS_PROXY"] = "http://variable:3128";
  EXPECT_EQ(Resolve()->proxy->url.Authority(), "variable:3128");
  home_.variables["NO_PROXY"] = ".amazonaws.com";
  EXPECT_FALSE(Resolve()->proxy);
  settings_.http_proxy = "http://own:3128";
  settings_.endpoint = "https://elsewhere";
  EXPECT_EQ(Resolve()->proxy->url.Authority(), "own:3128");
  settings_.http_proxy = "nonsense";
  EXPECT_FALSE(Resolve().ok());
}

TEST_F(ResolveServiceTest, ErrorsNameThePlaceAndNoPassword) {
  home_.variables["AWS_ENDPOINT_URL"] = "https://user:hunter2@host";
  EXPECT_THAT(Where(), AllOf(HasSubstr("AWS_ENDPOINT_URL: "), Not(HasSubstr("hunter2"))));
  home_.variables["AWS_ENDPOINT_URL_XRAY"] = "nonsense";
  EXPECT_THAT(Where(), HasSubstr("AWS_ENDPOINT_URL_XRAY: "));
  home_.variables.erase("AWS_ENDPOINT_URL_XRAY");
  settings_.endpoint = "x://y";
  EXPECT_THAT(Where(), HasSubstr("`endpoint`: "));
}

TEST_F(ResolveServiceTest, FilesThatCannotBeReadOnlyMatterWhenChosen) {
  // A folder in the file's place: even root cannot read it.
  std::filesystem::create_directory(home_.path(".aws/config"));
  EXPECT_EQ(Where(), "xray.eu-west-1.amazonaws.com");
  home_.variables["AWS_PROFILE"] = "p";
  EXPECT_THAT(Where(), HasSubstr(".aws/config"));
  home_.variables["AWS_PROFILE"] = "";
  settings_.profile = "p";
  EXPECT_THAT(Where(), HasSubstr(".aws/config"));
}

}  // namespace
}  // namespace mobula

// Tests of engine/aws/region.h.
#include "engine/aws/region.h"

#include <gtest/gtest.h>

#include "tests/unit/engine/aws/fake_home.h"

namespace mobula {
namespace {

TEST(RegionTest, TheFirstPlaceThatNamesOneWins) {
  testing::FakeHome home;
  const auto resolve = [&](const std::string& configured) {
    return ResolveRegion(configured, "", home.environment());
  };
  const auto nowhere = resolve("");
  ASSERT_FALSE(nowhere.ok());
  for (const char* place :
       {"`region`", "AWS_REGION", "AWS_DEFAULT_REGION", "profile \"default\""}) {
    EXPECT_NE(nowhere.status().message().find(place), std::string::npos) << place;
  }
  home.Write(".aws/config", "[default]\nregion = eu-north-1\n[profile p]\nregion=ap-south-1\n");
  EXPECT_EQ(*resolve(""), "eu-north-1");
  EXPECT_EQ(*ResolveRegion("", "p", home.environment()), "ap-south-1");
  home.variables["AWS_DEFAULT_REGION"] = "us-east-2";
  EXPECT_EQ(*resolve(""), "us-east-2");
  home.variables["AWS_REGION"] = "us-west-2";
  EXPECT_EQ(*resolve(""), "us-west-2");
  EXPECT_EQ(*resolve("eu-west-1"), "eu-west-1");
}

TEST(RegionTest, RefusesWhatIsNoRegion) {
  testing::FakeHome home;
  for (const char* text : {"EU-west-1", "eu-west-1/x", "a.b", "-x", "x-", "eu west", "e\r\n"}) {
    EXPECT_FALSE(ResolveRegion(text, "", home.environment()).ok()) << text;
  }
}

TEST(RegionTest, EveryPartitionHasItsEndpoint) {
  EXPECT_EQ(DefaultEndpoint("xray", "eu-west-1"), "https://xray.eu-west-1.amazonaws.com");
  EXPECT_EQ(DefaultEndpoint("xray", "us-gov-west-1"), "https://xray.us-gov-west-1.amazonaws.com");
  EXPECT_EQ(DefaultEndpoint("xray", "cn-north-1"), "https://xray.cn-north-1.amazonaws.com.cn");
  EXPECT_EQ(DefaultEndpoint("xray", "us-iso-east-1"), "https://xray.us-iso-east-1.c2s.ic.gov");
  EXPECT_EQ(DefaultEndpoint("xray", "us-isob-east-1"), "https://xray.us-isob-east-1.sc2s.sgov.gov");
  EXPECT_EQ(DefaultEndpoint("sts", "eusc-de-east-1"), "https://sts.eusc-de-east-1.amazonaws.eu");
}

TEST(RegionTest, EndpointsFromTheMostToTheLeastSpecific) {
  testing::FakeHome home;
  const auto resolve = [&](const std::string& configured) {
    return ResolveEndpoint("xray", configured, "eu-west-1", home.environment());
  };
  EXPECT_EQ(resolve("")->Authority(), "xray.eu-west-1.amazonaws.com");
  home.variables["AWS_ENDPOINT_URL"] = "http://all:1";
  EXPECT_EQ(resolve("")->Authority(), "all:1");
  EXPECT_EQ(resolve("http://configured:2/base")->Authority(), "configured:2");
  EXPECT_EQ(resolve("http://configured:2/base")->path, "/base");
  home.variables["AWS_ENDPOINT_URL_XRAY"] = "http://mine:3";
  EXPECT_EQ(resolve("http://configured:2")->Authority(), "mine:3");
  home.variables["AWS_ENDPOINT_URL_XRAY"] = "nonsense";
  EXPECT_FALSE(resolve("").ok());
}

}  // namespace
}  // namespace mobula

// Tests of engine/aws/region_finder.h.
#include "engine/aws/region_finder.h"

#include <gmock/gmock.h>

#include <thread>

#include "tests/unit/engine/aws/source_fixture.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Answer;
using testing::AnsweringServer;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::PeerRequest;
using ::testing::StartsWith;

constexpr char kTask[] = R"({"Cluster": "c", "TaskARN":)"
                         R"( "arn:aws:ecs:eu-west-2:123456789012:task/default/0123"})";

class RegionFinderTest : public testing::SourceFixture {
 protected:
  RegionFinderTest() { home_.variables["AWS_EC2_METADATA_DISABLED"] = "true"; }

  absl::StatusOr<FoundRegion> Find(Duration budget = seconds(10)) {
    const auto imds = std::make_shared<ImdsClient>(&loop_, home_.environment());
    RegionFinder finder(&loop_,
                        {configured_, profile_, home_.environment(), imds, metadata_, of_daemon_});
    return Await<FoundRegion>(
        [&](RegionFinder::Done done) { finder.Find(In(budget), std::move(done)); });
  }
  std::string Says() {
    const auto region = Find();
    return region.ok() ? region->name : Text(region.status());
  }
  std::string Source() {
    const auto region = Find();
    return region.ok() ? region->source : Text(region.status());
  }

  // EC2 metadata of version 2.
  void ServeEc2(const std::string& document) {
    ec2_.emplace([document](const PeerRequest& request) {
      if (request.line.starts_with("PUT ")) return Answer{200, "token"};
      EXPECT_EQ(request.line, "GET /latest/dynamic/instance-identity/document HTTP/1.1");
      return Answer{200, document};
    });
    home_.variables["AWS_EC2_METADATA_DISABLED"] = "";
    home_.variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = ec2_->url();
  }
  void ServeEcs(const Answer& answer) {
    ecs_.emplace([answer](const PeerRequest& request) {
      EXPECT_EQ(request.line, "GET /v4/0123-secret/task HTTP/1.1");
      return answer;
    });
    home_.variables["ECS_CONTAINER_METADATA_URI_V4"] = ecs_->url() + "/v4/0123-secret";
  }
  void WriteEcsFile(const std::string& text) {
    home_.Write("ecs.json", text);
    home_.variables["ECS_ENABLE_CONTAINER_METADATA"] = "tRue";
    home_.variables["ECS_CONTAINER_METADATA_FILE"] = home_.path("ecs.json").string();
  }

  std::string configured_;
  std::string profile_;
  bool metadata_ = true;
  bool of_daemon_ = false;
  std::optional<AnsweringServer> ec2_;
  std::optional<AnsweringServer> ecs_;
};

TEST_F(RegionFinderTest, TheFirstPlaceThatAnswersWins) {
  home_.Write(".aws/config", "[default]\nregion = eu-north-1\n[profile p]\nregion=ap-south-1\n");
  EXPECT_EQ(Says(), "eu-north-1");
  EXPECT_EQ(Source(), "profile default");
  profile_ = "p";
  EXPECT_EQ(Says(), "ap-south-1");
  EXPECT_EQ(Source(), "profile p");
  home_.variables["AWS_DEFAULT_REGION"] = "us-east-2";
  EXPECT_EQ(Says(), "us-east-2");
  EXPECT_EQ(Source(), "AWS_DEFAULT_REGION");
  ServeEc2(R"({"region": "eu-west-3", "instanceId": "i-1"})");
  EXPECT_EQ(Says(), "eu-west-3");
  EXPECT_EQ(Source(), "EC2 metadata");
  ServeEcs({200, kTask});
  EXPECT_EQ(Says(), "eu-west-2");
  EXPECT_EQ(Source(), "ECS task metadata");
  WriteEcsFile(R"({"TaskARN": "arn:aws-cn:ecs:cn-north-1:1:task/x"})");
  EXPECT_EQ(Says(), "cn-north-1");
  EXPECT_EQ(Source(), "ECS metadata file");
  home_.variables["AWS_REGION"] = "us-west-2";
  EXPECT_EQ(Says(), "us-west-2");
  EXPECT_EQ(Source(), "AWS_REGION");
  configured_ = "eu-west-1";
  EXPECT_EQ(Says(), "eu-west-1");
  EXPECT_EQ(Source(), "configuration");
}

TEST_F(RegionFinderTest, WithoutMetadataNobodyIsAsked) {
  metadata_ = false;
  ServeEc2(R"({"region": "eu-west-3"})");
  ServeEcs({200, kTask});
  WriteEcsFile(kTask);
  home_.variables["AWS_DEFAULT_REGION"] = "us-east-2";
  EXPECT_EQ(Says(), "us-east-2");
  EXPECT_TRUE(ec2_->requests().empty());
  EXPECT_TRUE(ecs_->requests().empty());
}

TEST_F(RegionFinderTest, TasksWithoutAnArnNameTheirZone) {
  for (const auto& [zone, region] : {std::pair("eu-central-1a", "eu-central-1"),
                                     {"us-west-2-lax-1a", "us-west-2"},
                                     {"us-gov-west-1b", "us-gov-west-1"}}) {
    ServeEcs({200, R"({"AvailabilityZone": ")" + std::string(zone) + "\"}"});
    EXPECT_EQ(Says(), region);
  }
}

TEST_F(RegionFinderTest, NowhereIsAnErrorWithEveryPlaceInIt) {
  const std::string says = Says();
  EXPECT_THAT(says,
              StartsWith("Cannot fetch region variable from config file, environment variables, "
                         "ecs metadata, or ec2 metadata. Looked at: "));
  EXPECT_THAT(says, EndsWith(std::string(". ") + kRegionHelp));
  for (const char* place :
       {"the configuration (not set)", "AWS_REGION (not set)",
        "ECS_ENABLE_CONTAINER_METADATA is not true", "ECS_CONTAINER_METADATA_URI_V4 is not set",
        "AWS_EC2_METADATA_DISABLED", "AWS_DEFAULT_REGION (not set)",
        "profile \"default\" (has no region)"}) {
    EXPECT_THAT(says, HasSubstr(place));
  }
  EXPECT_EQ(Find().status().code(), absl::StatusCode::kFailedPrecondition);
  metadata_ = false;
  EXPECT_THAT(Says(), StartsWith("Cannot fetch region variable"));
  EXPECT_THAT(Says(), HasSubstr("metadata (not asked: aws.metadata is off)"));
  EXPECT_THAT(Says(), Not(HasSubstr("local-mode")));
  of_daemon_ = true;
  EXPECT_THAT(Says(), HasSubstr("ec2 metadata. Use local-mode to use the local config region. "));
}

TEST_F(RegionFinderTest, SlowMetadataIsGivenTime) {
  ec2_.emplace([](const PeerRequest& request) {
    std::this_thread::sleep_for(milliseconds(1200));
    return Answer{200, request.line.starts_with("PUT ") ? "token" : R"({"region": "eu-west-3"})"};
  });
  home_.variables["AWS_EC2_METADATA_DISABLED"] = "";
  home_.variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = ec2_->url();
  EXPECT_EQ(Find(seconds(20)).value_or(FoundRegion()).name, "eu-west-3");
  EXPECT_EQ(ec2_->requests().back().Header("X-aws-ec2-metadata-token"), "token");
}

TEST_F(RegionFinderTest, ATokenThatAloneIsSlowIsGivenTimeToo) {
  ec2_.emplace([](const PeerRequest& request) {
    if (request.line.starts_with("PUT ")) {
      std::this_thread::sleep_for(milliseconds(1200));
      return Answer{200, "token"};
    }
    if (request.Header("X-aws-ec2-metadata-token").empty()) return Answer{401};
    return Answer{200, R"({"region": "eu-west-3"})"};
  });
  home_.variables["AWS_EC2_METADATA_DISABLED"] = "";
  home_.variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = ec2_->url();
  EXPECT_EQ(Find(seconds(20)).value_or(FoundRegion()).name, "eu-west-3");
}

TEST_F(RegionFinderTest, MetadataThatHangsIsAskedAgainUntilTheDeadline) {
  ec2_.emplace([](const PeerRequest&) { return Answer{.hang = true}; });
  home_.variables["AWS_EC2_METADATA_DISABLED"] = "";
  home_.variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = ec2_->url();
  const Time begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(absl::IsFailedPrecondition(Find(seconds(3)).status()));
  EXPECT_GT(std::chrono::steady_clock::now() - begin, milliseconds(2900));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(6000));
  EXPECT_GE(ec2_->requests().size(), 3U);
}

TEST_F(RegionFinderTest, MalformedTaskMetadataIsPassedOverAndTold) {
  home_.variables["AWS_EC2_METADATA_DISABLED"] = "true";
  for (const char* text :
       {"", "{}", "[]", "{", "7", R"({"TaskARN": 7})", R"({"TaskARN": ""})", R"({"TaskARN": "x"})",
        R"({"TaskARN": "arn:aws:ecs"})", R"({"TaskARN": "arn:aws:ecs:"})",
        R"({"TaskARN": "arn:aws:ecs::1:task/x"})", R"({"TaskARN": "::::"})",
        R"({"TaskARN": "arn:aws:ecs:EU WEST:1:task/x"})", R"({"AvailabilityZone": "x"})",
        R"({"AvailabilityZone": "eu1"})", R"({"AvailabilityZone": "1"})",
        R"({"AvailabilityZone": "../-1"})"}) {
    ServeEcs({200, text});
    WriteEcsFile(text);
    EXPECT_THAT(Says(), StartsWith("Cannot fetch region variable")) << text;
    home_.variables["AWS_DEFAULT_REGION"] = "us-east-2";
    EXPECT_EQ(Says(), "us-east-2") << text;
    home_.variables["AWS_DEFAULT_REGION"] = "";
  }
  EXPECT_THAT(Says(), HasSubstr("its AvailabilityZone is none"));
  std::filesystem::remove(home_.path("ecs.json"));
  EXPECT_THAT(Says(), HasSubstr("No such file"));
  home_.variables["ECS_CONTAINER_METADATA_FILE"] = "";
  EXPECT_THAT(Says(), HasSubstr("ECS_CONTAINER_METADATA_FILE is not set"));
}

TEST_F(RegionFinderTest, EcsMetadataThatFailsIsToldWithoutItsPath) {
  ServeEcs({403, "no"});
  EXPECT_THAT(Says(), HasSubstr("answers 403"));
  EXPECT_THAT(Says(), Not(HasSubstr("secret")));
  ServeEcs({.endless = true});
  EXPECT_THAT(Says(), HasSubstr("cannot be asked"));
  ServeEcs({302, "", "Location: http://127.0.0.1:1/\r\n"});
  EXPECT_THAT(Says(), HasSubstr("answers 302"));
  home_.variables["ECS_CONTAINER_METADATA_URI_V4"] = "secret";
  EXPECT_THAT(Says(), HasSubstr("ECS_CONTAINER_METADATA_URI_V4 is no URL"));
  EXPECT_THAT(Says(), Not(HasSubstr("secret")));
}

TEST_F(RegionFinderTest, AnIdentityDocumentWithoutARegion) {
  for (const char* text : {"", "{}", "[]", R"({"region": 7})", R"({"region": "EU/x"})"}) {
    ServeEc2(text);
    EXPECT_THAT(Says(), HasSubstr("the instance identity document has no region")) << text;
  }
}

TEST_F(RegionFinderTest, MetadataThatHangsCostsAboutASecondEach) {
  ServeEcs({.hang = true});
  ec2_.emplace([](const PeerRequest&) { return Answer{.hang = true}; });
  home_.variables["AWS_EC2_METADATA_DISABLED"] = "";
  home_.variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = ec2_->url();
  home_.variables["AWS_DEFAULT_REGION"] = "us-east-2";
  const Time begin = std::chrono::steady_clock::now();
  EXPECT_EQ(Says(), "us-east-2");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(4500));
  const Time second = std::chrono::steady_clock::now();
  EXPECT_EQ(Find(milliseconds(200))->name, "us-east-2");
  EXPECT_LT(std::chrono::steady_clock::now() - second, milliseconds(1500));
}

TEST_F(RegionFinderTest, WhatIsNoRegionIsRefusedWhereSomebodySetIt) {
  for (const char* text : {"EU-west-1", "eu-west-1/x", "a.b", "-x", "x-", "eu west", "e\r\n"}) {
    configured_ = text;
    EXPECT_EQ(Find().status().code(), absl::StatusCode::kInvalidArgument) << text;
    configured_ = "";
    for (const char* name : {"AWS_REGION", "AWS_DEFAULT_REGION"}) {
      home_.variables[name] = text;
      EXPECT_EQ(Find().status().code(), absl::StatusCode::kInvalidArgument) << text;
      EXPECT_THAT(Says(), StartsWith(name));
      home_.variables[name] = "";
    }
  }
  home_.Write(".aws/config", "[default]\nregion = nowhere!\n");
  EXPECT_EQ(Find().status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(RegionFinderTest, NobodyIsCalledAfterItsEnd) {
  ServeEcs({.hang = true});
  const auto imds = std::make_shared<ImdsClient>(&loop_, home_.environment());
  {
    RegionFinder finder(&loop_, {"", "", home_.environment(), imds, true});
    finder.Find(In(seconds(5)), [](const auto&) { FAIL(); });
    loop_.RunUntil(In(milliseconds(50)));
  }
  loop_.RunUntil(In(milliseconds(50)));
  {
    RegionFinder finder(&loop_, {"eu-west-1", "", home_.environment(), imds, true});
    finder.Find(In(seconds(5)), [](const auto&) { FAIL(); });
  }
  loop_.RunUntil(In(milliseconds(20)));
}

}  // namespace
}  // namespace mobula

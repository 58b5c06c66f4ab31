// Tests of engine/aws/credential_chain.h: that each plan is carried out, and what is said when it fails. Which plan it
// is is credentials_plan_test.cc's matter.
#include "engine/aws/credential_chain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <utility>

#include "tests/unit/engine/aws/fake_sts.h"
#include "tests/unit/engine/aws/source_fixture.h"

namespace mobula {
namespace {

using ::testing::AllOf;
using testing::Answer;
using testing::AnsweringServer;
using testing::FakeSts;
using ::testing::HasSubstr;
using testing::PeerRequest;
using ::testing::StartsWith;

constexpr char kRole[] = "arn:aws:iam::123456789012:role/first";

// Metadata of an instance, and a container's endpoint: which one is told by the path.
Answer ServeNearby(const PeerRequest& request) {
  constexpr char kDocument[] =
      R"({"Code":"Success","AccessKeyId":"NEARBY","SecretAccessKey":"s3cr3t","Token":"t",)"
      R"("Expiration":"2199-01-01T00:00:00Z"})";
  const auto is = [&](const char* path) { return request.line.find(path) != std::string::npos; };
  if (is("/latest/api/token")) {
    return {200, "session", "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"};
  }
  if (is("/security-credentials/node-role ")) return {200, kDocument, ""};
  if (is("/security-credentials/ ")) return {200, "node-role", ""};
  if (is("/container")) return {200, kDocument, ""};
  return {404, "", ""};
}

class CredentialChainTest : public testing::SourceFixture {
 protected:
  CredentialChainTest() {
    home_.variables["AWS_ENDPOINT_URL_STS"] = sts_.url();
    home_.variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = nearby_.url();
    home_.Write("token", "eyJ.token");
  }

  absl::StatusOr<Credentials> Get(const std::string& profile = "") {
    if (chain_ == nullptr) {
      StsSettings sts;
      sts.region = "eu-west-1";
      sts.environment = home_.environment();
      chain_ = MakeCredentialChain(&loop_, profile,
                                   std::make_shared<ImdsClient>(&loop_, home_.environment()), sts);
    }
    return Fetch(chain_.get());
  }

  void Config(const std::string& text) { home_.Write(".aws/config", text); }

  FakeSts sts_;
  AnsweringServer nearby_{ServeNearby};
  std::unique_ptr<CredentialsSource> chain_;
};

TEST_F(CredentialChainTest, Environment) {
  home_.variables["AWS_ACCESS_KEY_ID"] = "A";
  home_.variables["AWS_SECRET_ACCESS_KEY"] = "s3cr3t";
  const auto found = Get();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, (Credentials{"A", "s3cr3t", "", std::nullopt, "environment"}));
  EXPECT_FALSE(chain_->Changed());
}

TEST_F(CredentialChainTest, WebIdentity) {
  home_.variables["AWS_WEB_IDENTITY_TOKEN_FILE"] = home_.path("token").string();
  home_.variables["AWS_ROLE_ARN"] = kRole;
  const auto found = Get();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->access_key_id, "first-1");
  EXPECT_EQ(found->source, std::string("web identity (") + kRole + ")");
  // A broken one is not replaced by the instance's role.
  sts_.Forbid(kRole);
  EXPECT_THAT(Text(Get().status()),
              StartsWith(std::string("web identity: assume role ") + kRole + ": AccessDenied: "));
  EXPECT_TRUE(nearby_.requests().empty());
}

TEST_F(CredentialChainTest, Container) {
  home_.variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = nearby_.url() + "/container";
  const auto found = Get();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->access_key_id, "NEARBY");
  EXPECT_EQ(found->source, "container");
  home_.variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = nearby_.url() + "/other";
  EXPECT_THAT(Text(Get().status()), StartsWith("container: "));
}

TEST_F(CredentialChainTest, InstanceRole) {
  const auto found = Get();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->access_key_id, "NEARBY");
  EXPECT_EQ(found->source, "instance role node-role");
}

TEST_F(CredentialChainTest, NothingAtAllSaysWhatWasLookedAt) {
  const AnsweringServer other([](const PeerRequest&) { return Answer{404, "", ""}; });
  home_.variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = other.url();
  const absl::Status status = Get().status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(Text(status),
              AllOf(StartsWith("no credentials: "), HasSubstr("AWS_ACCESS_KEY_ID"),
                    HasSubstr("AWS_WEB_IDENTITY_TOKEN_FILE"), HasSubstr(".aws/credentials"),
                    HasSubstr("AWS_CONTAINER_CREDENTIALS_FULL_URI"), HasSubstr("instance role: "),
                    HasSubstr("Give the pod")));
}

TEST_F(CredentialChainTest, Process) {
  home_.Write("process",
              "#!/bin/sh\necho '{\"Version\":1,\"AccessKeyId\":\"P\","
              "\"SecretAccessKey\":\"s3cr3t\"}'\n");
  ASSERT_EQ(::chmod(home_.path("process").c_str(), 0700), 0);
  Config("[default]\ncredential_process = " + home_.path("process").string() + "\n");
  const auto found = Get();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->access_key_id, "P");
  EXPECT_THAT(found->source, StartsWith("profile \"default\""));
  home_.Write("process", "#!/bin/sh\nexit 3\n");
  EXPECT_THAT(Text(Get().status()), StartsWith("profile \"default\": credential_process"));
}

TEST_F(CredentialChainTest, SsoWithoutALogin) {
  Config(
      "[default]\nsso_start_url = https://x/start\nsso_region = eu-west-1\n"
      "sso_account_id = 111122223333\nsso_role_name = R\n");
  EXPECT_THAT(Text(Get().status()), StartsWith("profile \"default\" (SSO): "));
}

TEST_F(CredentialChainTest, RoleOverRoleOverKeys) {
  Config(std::string("[profile a]\nrole_arn = arn:aws:iam::1:role/last\nsource_profile = b\n"
                     "external_id = ext\n[profile b]\nrole_arn = ") +
         kRole +
         "\nsource_profile = c\n[profile c]\naws_access_key_id = C\n"
         "aws_secret_access_key = c\n");
  const auto found = Get("a");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->access_key_id, "last-2");
  EXPECT_EQ(found->source, "profile \"a\" (assumed role arn:aws:iam::1:role/last)");
  const std::vector<FakeSts::Call> calls = sts_.calls();
  ASSERT_EQ(calls.size(), 2U);
  const Credentials keys{"C", "c", "", std::nullopt, ""};
  EXPECT_EQ(calls[0].form.at("RoleArn"), kRole);
  EXPECT_EQ(calls[0].request.Header("Authorization"),
            FakeSts::Signature(calls[0].request, "eu-west-1", keys));
  const Credentials first{"first-1", "secret-of-first-1", "token/of+first-1==", std::nullopt, ""};
  EXPECT_EQ(calls[1].form.at("ExternalId"), "ext");
  EXPECT_EQ(calls[1].request.Header("Authorization"),
            FakeSts::Signature(calls[1].request, "eu-west-1", first));

  // The first role is held while it lasts.
  EXPECT_EQ(Get()->access_key_id, "last-3");
  sts_.Forbid("arn:aws:iam::1:role/last");
  EXPECT_THAT(Text(Get().status()),
              StartsWith("profile \"a\": assume role arn:aws:iam::1:role/last: AccessDenied: "));
}

TEST_F(CredentialChainTest, RoleOverTheInstanceRole) {
  Config(std::string("[default]\ncredential_source = Ec2InstanceMetadata\nrole_arn = ") + kRole +
         "\n");
  const auto found = Get();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->access_key_id, "first-1");
  EXPECT_THAT(sts_.calls()[0].request.Header("Authorization"), HasSubstr("Credential=NEARBY/"));
}

TEST_F(CredentialChainTest, ABrokenFirstLinkIsNamed) {
  home_.variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = nearby_.url() + "/other";
  Config(std::string("[default]\ncredential_source = EcsContainer\nrole_arn = ") + kRole + "\n");
  EXPECT_THAT(Text(Get().status()), StartsWith(std::string("profile \"default\": assume role ") +
                                               kRole + ": container: "));
}

TEST_F(CredentialChainTest, FilesAreLookedAtAnew) {
  home_.variables["AWS_EC2_METADATA_DISABLED"] = "true";
  EXPECT_TRUE(absl::IsNotFound(Get().status()));
  EXPECT_FALSE(chain_->Changed());
  home_.Write(".aws/credentials", "[default]\naws_access_key_id=A\naws_secret_access_key=a\n");
  EXPECT_TRUE(chain_->Changed());
  EXPECT_EQ(Get()->access_key_id, "A");
  EXPECT_FALSE(chain_->Changed());
  home_.Write(".aws/credentials", "[default]\naws_access_key_id=BB\naws_secret_access_key=b\n");
  EXPECT_TRUE(chain_->Changed());
  EXPECT_EQ(Get()->access_key_id, "BB");
  Config(std::string("[default]\nrole_arn = ") + kRole + "\n");
  EXPECT_TRUE(chain_->Changed());
  EXPECT_EQ(Get()->access_key_id, "first-1");
  Config("");
  EXPECT_EQ(Get()->access_key_id, "BB");
}

}  // namespace
}  // namespace mobula

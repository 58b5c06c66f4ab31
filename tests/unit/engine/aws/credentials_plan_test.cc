// Tests of engine/aws/credentials_plan.h.
#include "engine/aws/credentials_plan.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/engine/aws/fake_home.h"

namespace mobula {
namespace {

using Kind = CredentialsPlan::Kind;
using testing::FakeHome;

constexpr char kRole[] = "arn:aws:iam::111122223333:role/x";

class CredentialsPlanTest : public ::testing::Test {
 protected:
  absl::StatusOr<CredentialsPlan> TryPlan(const std::string& profile = "") {
    return PlanCredentials(profile, home_.environment());
  }

  CredentialsPlan Plan(const std::string& profile = "") {
    const auto found = TryPlan(profile);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() ? *found : CredentialsPlan();
  }

  void Config(const std::string& text) { home_.Write(".aws/config", text); }
  void Keys(const std::string& text) { home_.Write(".aws/credentials", text); }

  // The error, whose message begins with the first of `parts` and holds the others.
  void ExpectError(const std::string& profile, const std::vector<std::string>& parts,
                   absl::StatusCode code = absl::StatusCode::kFailedPrecondition) {
    const auto found = TryPlan(profile);
    ASSERT_FALSE(found.ok()) << parts.front();
    EXPECT_EQ(found.status().code(), code);
    const std::string message(found.status().message());
    EXPECT_TRUE(message.starts_with(parts.front())) << message;
    for (const std::string& part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << part << " is not in: " << message;
    }
    EXPECT_EQ(message.find("s3cr3t"), std::string::npos) << message;
  }

  FakeHome home_;
};

TEST_F(CredentialsPlanTest, TheEnvironmentComesFirst) {
  home_.variables["AWS_ACCESS_KEY_ID"] = "AKID";
  home_.variables["AWS_SECRET_ACCESS_KEY"] = "s3cr3t";
  home_.variables["AWS_WEB_IDENTITY_TOKEN_FILE"] = "/token";
  home_.variables["AWS_PROFILE"] = "none";
  home_.variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://127.0.0.1/";
  CredentialsPlan plan = Plan();
  EXPECT_EQ(plan.kind, Kind::kKeys);
  EXPECT_EQ(plan.keys, (Credentials{"AKID", "s3cr3t", "", std::nullopt, "environment"}));
  EXPECT_EQ(plan.asked_profile, "");
  home_.variables["AWS_SESSION_TOKEN"] = "token";
  EXPECT_EQ(Plan().keys.session_token, "token");
}

TEST_F(CredentialsPlanTest, TheOldNamesOfTheEnvironmentCountToo) {
  home_.variables["AWS_ACCESS_KEY"] = "AKID";
  home_.variables["AWS_SECRET_KEY"] = "s3cr3t";
  EXPECT_EQ(Plan().keys.access_key_id, "AKID");
}

TEST_F(CredentialsPlanTest, HalfAPairNamesTheMissingHalf) {
  Keys("[default]\naws_access_key_id=FILE\naws_secret_access_key=f\n");
  home_.variables["AWS_ACCESS_KEY_ID"] = "AKID";
  home_.variables["AWS_SECRET_ACCESS_KEY"] = "";  // as good as unset
  ExpectError("", {"environment: AWS_ACCESS_KEY_ID is set but AWS_SECRET_ACCESS_KEY is not"});
  home_.variables["AWS_ACCESS_KEY_ID"] = "";
  home_.variables["AWS_SECRET_ACCESS_KEY"] = "s3cr3t";
  ExpectError("", {"environment: AWS_SECRET_ACCESS_KEY is set but AWS_ACCESS_KEY_ID is not"});
}

TEST_F(CredentialsPlanTest, WebIdentityIsSecond) {
  Keys("[default]\naws_access_key_id=FILE\naws_secret_access_key=f\n");
  home_.variables["AWS_WEB_IDENTITY_TOKEN_FILE"] = "/token";
  ExpectError("", {"web identity: ", "AWS_ROLE_ARN"});
  home_.variables["AWS_ROLE_ARN"] = kRole;
  CredentialsPlan plan = Plan();
  EXPECT_EQ(plan.kind, Kind::kWebIdentity);
  EXPECT_EQ(plan.token_file, "/token");
  EXPECT_EQ(plan.web_identity.role_arn, kRole);
  EXPECT_EQ(plan.web_identity.session_name, DefaultSessionName());
  home_.variables["AWS_ROLE_SESSION_NAME"] = "pod-7";
  EXPECT_EQ(Plan().web_identity.session_name, "pod-7");
  // A role without a token is not for us.
  home_.variables.erase("AWS_WEB_IDENTITY_TOKEN_FILE");
  EXPECT_EQ(Plan().kind, Kind::kKeys);
}

TEST_F(CredentialsPlanTest, ProfilesAreThird) {
  home_.variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://127.0.0.1/";
  Keys(
      "[default]\naws_access_key_id=D\naws_secret_access_key=d\n"
      "[other]\naws_access_key_id=O\naws_secret_access_key=o\naws_session_token=t\n");
  EXPECT_EQ(Plan().keys, (Credentials{"D", "d", "", std::nullopt, "profile \"default\""}));
  home_.variables["AWS_PROFILE"] = "other";
  EXPECT_EQ(Plan().keys, (Credentials{"O", "o", "t", std::nullopt, "profile \"other\""}));
  EXPECT_EQ(Plan().asked_profile, "other");
}

TEST_F(CredentialsPlanTest, AGivenProfilePushesTheEnvironmentOut) {
  Keys("[p]\naws_access_key_id=FILE\naws_secret_access_key=f\n");
  home_.variables["AWS_ACCESS_KEY_ID"] = "AKID";
  home_.variables["AWS_SECRET_ACCESS_KEY"] = "s";
  home_.variables["AWS_WEB_IDENTITY_TOKEN_FILE"] = "/token";
  home_.variables["AWS_PROFILE"] = "p";
  EXPECT_EQ(Plan().keys.access_key_id, "AKID");
  EXPECT_EQ(Plan("p").keys.access_key_id, "FILE");
}

TEST_F(CredentialsPlanTest, AProfileThatIsNotThereIsAnError) {
  home_.variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://127.0.0.1/";
  Config("[profile region-only]\nregion=eu-west-1\n");
  ExpectError("none", {"profile \"none\": ", "no such profile", ".aws/config",
                       "; `profile` of the configuration names it"});
  home_.variables["AWS_PROFILE"] = "none";
  ExpectError("", {"profile \"none\": ", "no such profile", "; AWS_PROFILE names it"});
  // One that is there for its region leaves the others their turn, unless the configuration named it.
  home_.variables["AWS_PROFILE"] = "region-only";
  EXPECT_EQ(Plan().kind, Kind::kContainer);
  ExpectError("region-only", {"profile \"region-only\": has no credentials"});
}

TEST_F(CredentialsPlanTest, ContainerThenInstanceComeLast) {
  CredentialsPlan plan = Plan();
  EXPECT_EQ(plan.kind, Kind::kInstance);
  EXPECT_NE(plan.looked_at.find("AWS_ACCESS_KEY_ID"), std::string::npos);
  EXPECT_NE(plan.looked_at.find("\"default\""), std::string::npos);
  for (const char* name :
       {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"}) {
    home_.variables[name] = "/v1";
    EXPECT_EQ(Plan().kind, Kind::kContainer);
    EXPECT_EQ(Plan().looked_at, "");
    home_.variables.erase(name);
  }
  home_.variables["AWS_EC2_METADATA_DISABLED"] = "TRUE";
  ExpectError(
      "",
      {"no credentials: ", "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "\"default\"",
       ".aws/credentials", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_EC2_METADATA_DISABLED"},
      absl::StatusCode::kNotFound);
}

TEST_F(CredentialsPlanTest, RoleWithSourceProfile) {
  Config(std::string("[profile a]\nrole_arn = ") + kRole +
         "\nsource_profile = b\nexternal_id = x:1\nrole_session_name = me\nduration_seconds = 900\n"
         "[profile b]\nrole_arn = arn:b\nsource_profile = c\n");
  Keys("[c]\naws_access_key_id=C\naws_secret_access_key=c\n");
  const CredentialsPlan plan = Plan("a");
  EXPECT_EQ(plan.kind, Kind::kKeys);
  EXPECT_EQ(plan.keys.access_key_id, "C");
  EXPECT_EQ(plan.profile, "c");
  EXPECT_EQ(plan.asked_profile, "a");
  ASSERT_EQ(plan.roles.size(), 2U);
  EXPECT_EQ(plan.roles[0].role_arn, "arn:b");
  EXPECT_EQ(plan.roles[0].session_name, DefaultSessionName());
  EXPECT_EQ(plan.roles[0].duration, std::chrono::hours(1));
  AwsRole last;
  last.role_arn = kRole;
  last.external_id = "x:1";
  last.session_name = "me";
  last.duration = std::chrono::minutes(15);
  EXPECT_EQ(plan.roles[1], last);
}

TEST_F(CredentialsPlanTest, AProfileMayNameItselfForItsKeys) {
  Config("[profile a]\nrole_arn = arn:a\nsource_profile = a\n");
  ExpectError("a", {"profile \"a\": names itself as source_profile, but has no keys"});
  Keys("[a]\naws_access_key_id=A\naws_secret_access_key=a\n");
  EXPECT_EQ(Plan("a").keys.access_key_id, "A");
  ASSERT_EQ(Plan("a").roles.size(), 1U);
  // And without naming itself, as in the Go SDK.
  Config("[profile a]\nrole_arn = arn:a\n");
  EXPECT_EQ(Plan("a").keys.access_key_id, "A");
  EXPECT_EQ(Plan("a").roles.size(), 1U);
}

TEST_F(CredentialsPlanTest, CirclesAreNamed) {
  Config(
      "[profile a]\nrole_arn = x\nsource_profile = b\n"
      "[profile b]\nrole_arn = x\nsource_profile = c\n"
      "[profile c]\nrole_arn = x\nsource_profile = b\n");
  ExpectError("a", {"profile \"a\": ", "circle", "\"a\" to \"b\" to \"c\" to \"b\""});
  std::string many;
  for (int i = 0; i < 40; ++i) {
    many += "[profile p" + std::to_string(i) + "]\nrole_arn=x\nsource_profile=p" +
            std::to_string(i + 1) + "\n";
  }
  Config(many);
  ExpectError("p0", {"profile \"p", "too many"});
}

TEST_F(CredentialsPlanTest, BrokenSourceProfilesAreNamed) {
  Config("[profile a]\nrole_arn = x\nsource_profile = b\n");
  ExpectError("a", {"profile \"b\": there is no such profile",
                    "; source_profile of profile \"a\" names it"});
  Config("[profile a]\nrole_arn = x\nsource_profile = b\n[profile b]\nregion = x\n");
  ExpectError("a", {"profile \"b\": has no credentials"});
}

TEST_F(CredentialsPlanTest, CredentialSources) {
  const auto config = [this](const std::string& source) {
    Config("[profile a]\nrole_arn = arn:a\ncredential_source = " + source + "\n");
  };
  config("Ec2InstanceMetadata");
  EXPECT_EQ(Plan("a").kind, Kind::kInstance);
  EXPECT_EQ(Plan("a").looked_at, "");
  ASSERT_EQ(Plan("a").roles.size(), 1U);
  config("EcsContainer");
  ExpectError("a", {"profile \"a\": ", "EcsContainer", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"});
  home_.variables["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = "/x";
  EXPECT_EQ(Plan("a").kind, Kind::kContainer);
  config("Environment");
  ExpectError("a", {"profile \"a\": ", "AWS_ACCESS_KEY_ID"});
  home_.variables["AWS_ACCESS_KEY_ID"] = "E";
  ExpectError("a", {"profile \"a\": environment: ", "AWS_SECRET_ACCESS_KEY"});
  home_.variables["AWS_SECRET_ACCESS_KEY"] = "e";
  EXPECT_EQ(Plan("a").keys.access_key_id, "E");
  EXPECT_EQ(Plan("a").roles.size(), 1U);
  config("Elsewhere");
  ExpectError("a", {"profile \"a\": credential_source must be"});
}

TEST_F(CredentialsPlanTest, WebIdentityOfAProfile) {
  Config(
      "[profile a]\nrole_arn = arn:a\nweb_identity_token_file = /t\nrole_session_name = s\n"
      "[profile b]\nrole_arn = arn:b\nsource_profile = a\n");
  CredentialsPlan plan = Plan("a");
  EXPECT_EQ(plan.kind, Kind::kWebIdentity);
  EXPECT_EQ(plan.token_file, "/t");
  EXPECT_EQ(plan.web_identity.role_arn, "arn:a");
  EXPECT_EQ(plan.web_identity.session_name, "s");
  EXPECT_TRUE(plan.roles.empty());
  plan = Plan("b");
  EXPECT_EQ(plan.kind, Kind::kWebIdentity);
  EXPECT_EQ(plan.web_identity.role_arn, "arn:a");
  ASSERT_EQ(plan.roles.size(), 1U);
  EXPECT_EQ(plan.roles[0].role_arn, "arn:b");
}

TEST_F(CredentialsPlanTest, ProcessAndRoleOverIt) {
  Config(
      "[profile a]\ncredential_process = /bin/get --for me\n"
      "[profile b]\nrole_arn = arn:b\nsource_profile = a\n");
  EXPECT_EQ(Plan("a").kind, Kind::kProcess);
  EXPECT_EQ(Plan("a").command, "/bin/get --for me");
  EXPECT_EQ(Plan("a").profile, "a");
  EXPECT_EQ(Plan("b").kind, Kind::kProcess);
  EXPECT_EQ(Plan("b").profile, "a");
  EXPECT_EQ(Plan("b").roles.size(), 1U);
}

TEST_F(CredentialsPlanTest, SsoOfBothForms) {
  Config(
      "[profile new]\nsso_session = corp\nsso_account_id = 111122223333\nsso_role_name = R\n"
      "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://x/start\n"
      "[profile old]\nsso_start_url = https://y/start\nsso_region = us-east-1\n"
      "sso_account_id = 444455556666\nsso_role_name = O\n"
      "[profile lost]\nsso_session = nowhere\nsso_account_id = 1\nsso_role_name = R\n"
      "[profile half]\nsso_session = corp\nsso_account_id = 1\n");
  CredentialsPlan plan = Plan("new");
  EXPECT_EQ(plan.kind, Kind::kSso);
  EXPECT_EQ(plan.sso,
            (SsoSettings{"corp", "https://x/start", "eu-west-1", "111122223333", "R", "new"}));
  EXPECT_EQ(Plan("old").sso,
            (SsoSettings{"", "https://y/start", "us-east-1", "444455556666", "O", "old"}));
  ExpectError("lost", {"profile \"lost\": ", "[sso-session nowhere]"});
  ExpectError("half", {"profile \"half\": ", "sso_role_name"});
}

TEST_F(CredentialsPlanTest, SettingsThatContradictEachOther) {
  Config(
      "[profile two]\nrole_arn = x\nsource_profile = a\ncredential_process = y\n"
      "[profile norole]\nsource_profile = a\n"
      "[profile mfa]\nrole_arn = x\nsource_profile = a\nmfa_serial = arn:mfa\n"
      "[profile alone]\nrole_arn = x\n"
      "[profile long]\nrole_arn = x\nsource_profile = a\nduration_seconds = 99999\n"
      "[profile nan]\nrole_arn = x\nsource_profile = a\nduration_seconds = 1h\n");
  Keys(
      "[a]\naws_access_key_id=A\naws_secret_access_key=a\n"
      "[id]\naws_access_key_id=A\n[secret]\naws_secret_access_key=s3cr3t\n");
  ExpectError("two", {"profile \"two\": ", "source_profile", "credential_process"});
  ExpectError("norole", {"profile \"norole\": ", "source_profile needs role_arn"});
  ExpectError("mfa", {"profile \"mfa\": mfa_serial"});
  ExpectError("alone", {"profile \"alone\": role_arn needs source_profile"});
  ExpectError("long", {"profile \"long\": duration_seconds"});
  ExpectError("nan", {"profile \"nan\": duration_seconds"});
  ExpectError("id", {"profile \"id\": has aws_access_key_id but not aws_secret_access_key"});
  ExpectError("secret",
              {"profile \"secret\": has aws_secret_access_key but not aws_access_key_id"});
}

TEST_F(CredentialsPlanTest, ALineThatIsNotUnderstoodIsToldWithTheError) {
  home_.variables["AWS_EC2_METADATA_DISABLED"] = "true";
  Keys("[default\naws_access_key_id = A\naws_secret_access_key = s3cr3t\n");
  const std::string odd =
      home_.path(".aws/credentials").string() + ":1 is neither a [section] nor a setting";
  ExpectError("", {"no credentials: ", odd}, absl::StatusCode::kNotFound);
  ExpectError("default", {"profile \"default\": there is no such profile", odd});
  Keys("[default]\naws_access_key_id A\naws_secret_access_key s3cr3t\n");
  ExpectError("default",
              {"profile \"default\": has no credentials in ", ".aws/credentials:2 is neither"});
  home_.variables.erase("AWS_EC2_METADATA_DISABLED");
  EXPECT_NE(Plan().looked_at.find(".aws/credentials:2 is neither"), std::string::npos);
}

TEST_F(CredentialsPlanTest, AFileThatCannotBeReadIsNamed) {
  Keys(std::string((1 << 20) + 1, 'x'));
  ExpectError("", {"profile \"default\": ", home_.path(".aws/credentials").string(), "too large"});
  std::filesystem::remove(home_.path(".aws/credentials"));
  std::filesystem::create_directory(home_.path(".aws/credentials"));
  ExpectError("", {"profile \"default\": cannot read ", ".aws/credentials: Is a directory"});
}

TEST_F(CredentialsPlanTest, TheDefaultSessionNameIsOneThatStsTakes) {
  const std::string name = DefaultSessionName();
  EXPECT_TRUE(name.starts_with("mobula-"));
  EXPECT_LE(name.size(), 64U);
  EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                   "_+=,.@-"),
            std::string::npos);
  EXPECT_EQ(DefaultSessionName(), name);
}

}  // namespace
}  // namespace mobula

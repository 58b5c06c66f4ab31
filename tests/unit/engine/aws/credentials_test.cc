// Tests of engine/aws/credentials.h and shared_profile.h.
#include "engine/aws/credentials.h"

#include <gtest/gtest.h>

#include "engine/aws/shared_profile.h"
#include "tests/unit/engine/aws/fake_home.h"

namespace mobula {
namespace {

using testing::FakeHome;

class CredentialsTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::shared_ptr<const Credentials>> Get(const std::string& profile = "") {
    return MakeCredentialsProvider(profile, home_.environment())->Get();
  }

  // The error of Get, which must hold every one of `parts`.
  void ExpectError(const std::string& profile, const std::vector<std::string>& parts) {
    const auto found = Get(profile);
    ASSERT_FALSE(found.ok());
    EXPECT_EQ(found.status().code(), absl::StatusCode::kFailedPrecondition);
    for (const std::string& part : parts) {
      EXPECT_NE(found.status().message().find(part), std::string::npos)
          << part << " is not in: " << found.status().message();
    }
    EXPECT_EQ(found.status().message().find("s3cr3t"), std::string::npos);
  }

  FakeHome home_;
};

TEST_F(CredentialsTest, ReadsTheEnvironment) {
  home_.variables["AWS_ACCESS_KEY_ID"] = "AKID";
  home_.variables["AWS_SECRET_ACCESS_KEY"] = "s3cr3t";
  EXPECT_EQ(**Get(), (Credentials{"AKID", "s3cr3t", "", std::nullopt}));
  home_.variables["AWS_SESSION_TOKEN"] = "token";
  EXPECT_EQ((*Get())->session_token, "token");
}

TEST_F(CredentialsTest, ReadsTheOldNames) {
  home_.variables["AWS_ACCESS_KEY"] = "AKID";
  home_.variables["AWS_SECRET_KEY"] = "s3cr3t";
  EXPECT_EQ((*Get())->access_key_id, "AKID");
}

TEST_F(CredentialsTest, HalfAPairNamesTheMissingHalf) {
  home_.Write(".aws/credentials", "[default]\naws_access_key_id=FILE\naws_secret_access_key=f\n");
  home_.variables["AWS_ACCESS_KEY_ID"] = "AKID";
  home_.variables["AWS_SECRET_ACCESS_KEY"] = "";  // as good as unset
  ExpectError("", {"AWS_ACCESS_KEY_ID is set but AWS_SECRET_ACCESS_KEY is not"});
  home_.variables["AWS_ACCESS_KEY_ID"] = "";
  home_.variables["AWS_SECRET_ACCESS_KEY"] = "s3cr3t";
  ExpectError("", {"AWS_SECRET_ACCESS_KEY is set but AWS_ACCESS_KEY_ID is not"});
}

TEST_F(CredentialsTest, NothingAnywhereSaysWhatToDo) {
  ExpectError("", {"AWS_ACCESS_KEY_ID", "profile \"default\"", ".aws/credentials"});
  home_.variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://169.254.170.23/v1/credentials";
  ExpectError("", {"container credentials are not supported"});
}

TEST_F(CredentialsTest, AWebIdentityIsNotReplacedBySomebodyElse) {
  home_.Write(".aws/credentials", "[default]\naws_access_key_id=FILE\naws_secret_access_key=f\n");
  home_.variables["AWS_WEB_IDENTITY_TOKEN_FILE"] = "/var/run/token";
  ExpectError("", {"AWS_WEB_IDENTITY_TOKEN_FILE"});
}

TEST_F(CredentialsTest, ReadsProfiles) {
  home_.Write(".aws/credentials",
              "# comment\r\n"
              "[ default ]\r\n"
              "AWS_Access_Key_Id = D1   # why\r\n"
              "aws_secret_access_key=d/+=\r\n"
              "\r\n[other]\n"
              "aws_access_key_id=O1\naws_secret_access_key=o#not;comment\naws_session_token= t==\n"
              "[both]\naws_access_key_id=CREDENTIALS\naws_secret_access_key=s\n");
  home_.Write(".aws/config",
              "[profile both]\naws_access_key_id=CONFIG\nregion=eu-north-1\n"
              "[profile   inconfig]\ns3 =\n  aws_access_key_id = NESTED\n"
              "aws_access_key_id=C1\naws_secret_access_key=c\n"
              "[unnamed]\naws_access_key_id=X\naws_secret_access_key=x\n");
  EXPECT_EQ(**Get(), (Credentials{"D1", "d/+=", "", std::nullopt}));
  EXPECT_EQ(**Get("other"), (Credentials{"O1", "o#not;comment", "t==", std::nullopt}));
  EXPECT_EQ((*Get("both"))->access_key_id, "CREDENTIALS");
  EXPECT_EQ((*Get("inconfig"))->access_key_id, "C1");
  EXPECT_FALSE(Get("unnamed").ok());  // in the config file a section needs the word "profile"
  home_.variables["AWS_DEFAULT_PROFILE"] = "other";
  EXPECT_EQ((*Get())->access_key_id, "O1");
  home_.variables["AWS_PROFILE"] = "both";
  EXPECT_EQ((*Get())->access_key_id, "CREDENTIALS");
}

TEST_F(CredentialsTest, AGivenProfilePushesTheEnvironmentOut) {
  home_.Write(".aws/credentials", "[p]\naws_access_key_id=FILE\naws_secret_access_key=f\n");
  home_.variables["AWS_ACCESS_KEY_ID"] = "AKID";
  home_.variables["AWS_SECRET_ACCESS_KEY"] = "s";
  home_.variables["AWS_PROFILE"] = "p";
  EXPECT_EQ((*Get())->access_key_id, "AKID");
  EXPECT_EQ((*Get("p"))->access_key_id, "FILE");
}

TEST_F(CredentialsTest, FilesMayBeElsewhere) {
  home_.Write("creds", "[default]\naws_access_key_id=A\naws_secret_access_key=a\n");
  home_.variables["AWS_SHARED_CREDENTIALS_FILE"] = "~/creds";
  EXPECT_EQ((*Get())->access_key_id, "A");
  home_.variables.erase("HOME");
  home_.variables["AWS_SHARED_CREDENTIALS_FILE"] = home_.path("creds").string();
  EXPECT_EQ((*Get())->access_key_id, "A");
}

TEST_F(CredentialsTest, ProfilesThatMeanAnotherSourceAreRefused) {
  for (const char* line : {"role_arn = arn:aws:iam::111122223333:role/x", "credential_process = x",
                           "sso_session = s", "sso_start_url = u"}) {
    home_.Write(".aws/config", std::string("[profile r]\naws_access_key_id=A\n"
                                           "aws_secret_access_key=s3cr3t\n") +
                                   line + "\n");
    ExpectError("r", {std::string(line).substr(0, std::string(line).find(' ')), "\"r\""});
  }
}

TEST_F(CredentialsTest, BrokenProfilesAreNamed) {
  home_.Write(".aws/credentials",
              "[id]\naws_access_key_id=A\n[secret]\naws_secret_access_key=s3cr3t\n");
  ExpectError("id", {"\"id\"", "not aws_secret_access_key"});
  ExpectError("secret", {"\"secret\"", "not aws_access_key_id"});
  ExpectError("missing", {"\"missing\""});
  home_.Write(".aws/credentials", std::string((1 << 20) + 1, 'x'));
  ExpectError("", {home_.path(".aws/credentials").string(), "too large"});
}

TEST_F(CredentialsTest, NoiseInAFileDoesNoHarm) {
  home_.Write(
      ".aws/credentials",
      std::string("[\n[]\n]\n=\n==\n[default\n\0\xff\n[default]x\n = v\nk\naws_access_key_id="
                  "A\naws_secret_access_key=b",
                  85));
  EXPECT_TRUE(Get().ok()) << Get().status();
}

TEST_F(CredentialsTest, AChangedFileIsReadAgain) {
  const auto provider = MakeCredentialsProvider("", home_.environment());
  EXPECT_FALSE(provider->Get().ok());
  home_.Write(".aws/credentials", "[default]\naws_access_key_id=A\naws_secret_access_key=a\n");
  provider->Invalidate();
  const auto first = provider->Get();
  EXPECT_EQ((*first)->access_key_id, "A");
  EXPECT_EQ(provider->Get()->get(), first->get());  // the same object while nothing changes
  home_.Write(".aws/credentials", "[default]\naws_access_key_id=BB\naws_secret_access_key=b\n");
  // Noticed without Invalidate, at most a second or so later.
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while ((*provider->Get())->access_key_id != "BB" && std::chrono::steady_clock::now() < limit) {
  }
  EXPECT_EQ((*provider->Get())->access_key_id, "BB");
}

TEST_F(CredentialsTest, TheProcessEnvironmentCountsEmptyAsUnset) {
  const Environment environment = ProcessEnvironment();
  ASSERT_EQ(::setenv("MOBULA_TEST_VARIABLE", "x", 1), 0);
  EXPECT_EQ(environment("MOBULA_TEST_VARIABLE"), "x");
  ASSERT_EQ(::setenv("MOBULA_TEST_VARIABLE", "", 1), 0);
  EXPECT_EQ(environment("MOBULA_TEST_VARIABLE"), std::nullopt);
}

}  // namespace
}  // namespace mobula

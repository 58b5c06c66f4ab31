// Tests of engine/aws/shared_profile.h.
#include "engine/aws/shared_profile.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "tests/unit/engine/aws/fake_home.h"

namespace mobula {
namespace {

using testing::FakeHome;

class SharedProfileTest : public ::testing::Test {
 protected:
  SharedProfile Load(const std::string& name) {
    auto found = SharedProfile::Load(SharedProfile::FindPaths(home_.environment()), name);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() ? *found : SharedProfile();
  }

  FakeHome home_;
};

TEST_F(SharedProfileTest, ReadsProfiles) {
  home_.Write(".aws/credentials",
              "# comment\r\n"
              "[ default ]\r\n"
              "AWS_Access_Key_Id = D1   # why\r\n"
              "aws_secret_access_key=d/+=\r\n"
              "\r\n[other]\n"
              "aws_access_key_id=O1\naws_secret_access_key=o#not;comment\naws_session_token= t==\n"
              "[both]\naws_access_key_id=CREDENTIALS\n");
  home_.Write(".aws/config",
              "[profile both]\naws_access_key_id=CONFIG\nregion=eu-north-1\n"
              "[profile   inconfig]\ns3 =\n  aws_access_key_id = NESTED\n"
              "aws_access_key_id=C1\n"
              "[unnamed]\naws_access_key_id=X\n");
  EXPECT_EQ(Load("default").Get("aws_access_key_id"), "D1");
  EXPECT_EQ(Load("default").Get("aws_secret_access_key"), "d/+=");
  EXPECT_EQ(Load("other").Get("aws_secret_access_key"), "o#not;comment");
  EXPECT_EQ(Load("other").Get("aws_session_token"), "t==");
  EXPECT_EQ(Load("both").Get("aws_access_key_id"), "CREDENTIALS");
  EXPECT_EQ(Load("both").Get("region"), "eu-north-1");
  EXPECT_EQ(Load("inconfig").Get("aws_access_key_id"), "C1");
  // In the config file a section needs the word "profile".
  EXPECT_FALSE(Load("unnamed").exists());
  EXPECT_EQ(Load("unnamed").Get("aws_access_key_id"), "");
  EXPECT_FALSE(Load("none").exists());
}

TEST_F(SharedProfileTest, SaysWhetherProgramsMayBeRun) {
  const auto paths = SharedProfile::FindPaths(home_.environment());
  EXPECT_FALSE(SharedProfile::MentionPrograms(paths));
  home_.Write(".aws/credentials", "[default]\naws_access_key_id=A\n");
  EXPECT_FALSE(SharedProfile::MentionPrograms(paths));
  home_.Write(".aws/config", "[profile other]\nCredential_Process = /bin/helper\n");
  EXPECT_TRUE(SharedProfile::MentionPrograms(paths));
}

TEST_F(SharedProfileTest, NamesFilesWithKeysThatOthersMayRead) {
  const auto paths = SharedProfile::FindPaths(home_.environment());
  EXPECT_TRUE(SharedProfile::ExposedFiles(paths).empty());
  home_.Write(".aws/credentials", "[default]\naws_access_key_id=A\naws_secret_access_key=s\n");
  home_.Write(".aws/config", "[default]\nregion=eu-west-1\n");
  for (const std::string& path : {paths.credentials, paths.config}) {
    ASSERT_EQ(::chmod(path.c_str(), 0644), 0);
  }
  EXPECT_EQ(SharedProfile::ExposedFiles(paths), std::vector<std::string>{paths.credentials});
  ASSERT_EQ(::chmod(paths.credentials.c_str(), 0600), 0);
  EXPECT_TRUE(SharedProfile::ExposedFiles(paths).empty());
}

TEST_F(SharedProfileTest, ReadsSsoSessions) {
  home_.Write(".aws/config",
              "[profile s]\nsso_region=wrong\n[sso-session s]\nsso_region = eu-west-1\n"
              "[sso-session  other]\nsso_start_url=https://x.awsapps.com/start#/\n");
  home_.Write(".aws/credentials", "[sso-session third]\nsso_region=x\n");
  const SharedProfile::Paths paths = SharedProfile::FindPaths(home_.environment());
  EXPECT_EQ(SharedProfile::LoadSsoSession(paths, "s")->Get("sso_region"), "eu-west-1");
  EXPECT_EQ(SharedProfile::LoadSsoSession(paths, "other")->Get("sso_start_url"),
            "https://x.awsapps.com/start#/");
  EXPECT_FALSE(SharedProfile::LoadSsoSession(paths, "third")->exists());
}

TEST_F(SharedProfileTest, FindsTheName) {
  EXPECT_EQ(SharedProfile::FindName("", home_.environment()), "default");
  home_.variables["AWS_DEFAULT_PROFILE"] = "other";
  EXPECT_EQ(SharedProfile::FindName("", home_.environment()), "other");
  home_.variables["AWS_PROFILE"] = "both";
  EXPECT_EQ(SharedProfile::FindName("", home_.environment()), "both");
  EXPECT_EQ(SharedProfile::FindName("given", home_.environment()), "given");
}

TEST_F(SharedProfileTest, FilesMayBeElsewhere) {
  home_.Write("creds", "[default]\naws_access_key_id=A\n");
  home_.variables["AWS_SHARED_CREDENTIALS_FILE"] = "~/creds";
  EXPECT_EQ(Load("default").Get("aws_access_key_id"), "A");
  home_.variables.erase("HOME");
  home_.variables["AWS_SHARED_CREDENTIALS_FILE"] = home_.path("creds").string();
  EXPECT_EQ(Load("default").Get("aws_access_key_id"), "A");
}

TEST_F(SharedProfileTest, AFileTooLargeIsNamed) {
  home_.Write(".aws/credentials", std::string((1 << 20) + 1, 'x'));
  const auto found = SharedProfile::Load(SharedProfile::FindPaths(home_.environment()), "default");
  EXPECT_TRUE(absl::IsFailedPrecondition(found.status()));
  EXPECT_NE(found.status().message().find(home_.path(".aws/credentials").string()),
            std::string::npos);
}

TEST_F(SharedProfileTest, ALineThatIsNotUnderstoodIsNamed) {
  home_.Write(".aws/config", "[profile a]\ns3 =\n  nested\n; comment\nregion\n");
  EXPECT_EQ(Load("a").odd_line(), home_.path(".aws/config").string() + ":5");
  home_.Write(".aws/credentials", "\n[default\naws_access_key_id = A\nfoo\n");
  EXPECT_EQ(Load("default").odd_line(), home_.path(".aws/credentials").string() + ":2");
  EXPECT_FALSE(Load("default").exists());
  home_.Write(".aws/credentials", "[a]\nx = y\n");
  home_.Write(".aws/config", "");
  EXPECT_EQ(Load("a").odd_line(), "");
}

TEST_F(SharedProfileTest, NoiseInAFileDoesNoHarm) {
  home_.Write(
      ".aws/credentials",
      std::string("[\n[]\n]\n=\n==\n[default\n\0\xff\n[default]x\n = v\nk\naws_access_key_id="
                  "A\naws_secret_access_key=b",
                  85));
  EXPECT_EQ(Load("default").Get("aws_access_key_id"), "A");
}

}  // namespace
}  // namespace mobula

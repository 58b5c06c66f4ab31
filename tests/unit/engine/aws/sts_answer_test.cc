// Tests of engine/aws/sts_answer.h.
#include "engine/aws/sts_answer.h"

#include <gtest/gtest.h>

#include <string>

#include "engine/aws/iso_time.h"

namespace mobula {
namespace {

constexpr std::string_view kAnswer =
    R"(<?xml version="1.0" encoding="UTF-8"?>
<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleResult>
    <SourceIdentity>somebody</SourceIdentity>
    <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/demo/s</Arn></AssumedRoleUser>
    <Credentials>
      <AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId>
      <SecretAccessKey>wJalr/XUtn&#43;FEMI</SecretAccessKey>
      <SessionToken>AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwd=&amp;=</SessionToken>
      <Expiration>2019-11-09T13:34:41.123Z</Expiration>
    </Credentials>
    <PackedPolicySize>6</PackedPolicySize>
  </AssumeRoleResult>
  <ResponseMetadata><RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId></ResponseMetadata>
</AssumeRoleResponse>)";

std::string Replaced(std::string_view from, std::string_view to) {
  std::string text(kAnswer);
  text.replace(text.find(from), from.size(), to);
  return text;
}

void ExpectError(std::string_view body, std::string_view part) {
  const auto found = ParseStsAnswer(body, "AssumeRole");
  ASSERT_FALSE(found.ok()) << body;
  const std::string message(found.status().message());
  EXPECT_NE(message.find(part), std::string::npos) << message;
  EXPECT_EQ(message.find("wJalr"), std::string::npos) << message;
}

TEST(StsAnswerTest, ReadsTheCredentials) {
  const auto found = ParseStsAnswer(kAnswer, "AssumeRole");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->access_key_id, "ASIAIOSFODNN7EXAMPLE");
  EXPECT_EQ(found->secret_access_key, "wJalr/XUtn+FEMI");
  EXPECT_EQ(found->session_token,
            "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwd=&=");
  EXPECT_EQ(found->expiry, ParseIsoTime("2019-11-09T13:34:41Z"));
}

TEST(StsAnswerTest, EveryMemberMustBeThere) {
  for (const std::string name : {"AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"}) {
    ExpectError(Replaced("<" + name + ">", "<" + name + "/><" + name + ">"), name);
  }
  ExpectError(Replaced("2019-11-09T13:34:41.123Z", "soon"), "Expiration");
  ExpectError(Replaced("<Credentials>", "<Other>"), "no XML");
}

TEST(StsAnswerTest, TheActionMustBeTheOneAsked) {
  EXPECT_FALSE(ParseStsAnswer(kAnswer, "AssumeRoleWithWebIdentity").ok());
}

TEST(StsAnswerTest, NothingThatCouldEndAHeaderGetsThrough) {
  ExpectError(Replaced("AQoDYXdz", "AQo&#13;&#10;X-Evil: 1"), "SessionToken");
  ExpectError(Replaced("ASIA", "ASIA "), "AccessKeyId");
  ExpectError(Replaced("wJalr", "wJalr\xc3\xa4"), "SecretAccessKey");
  ExpectError(Replaced("AQoDYXdz", std::string(20'000, 'x')), "SessionToken");
}

TEST(StsAnswerTest, OtherTextIsAnError) {
  ExpectError("", "no XML");
  ExpectError("<html><body>Sign in</body></html>", "no AssumeRoleResponse");
  ExpectError("{\"AccessKeyId\":\"A\"}", "no XML");
  ExpectError(std::string_view(kAnswer).substr(0, 400), "no XML");
  ExpectError(std::string(kStsAnswerBytesMax + 1, ' '), "too long");
}

TEST(StsAnswerTest, EntitiesOfADocumentsOwnAreNotExpanded) {
  const std::string bomb = R"(<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;">)"
                           R"(<!ENTITY xxe SYSTEM "file:///etc/passwd">]>)";
  std::string text = Replaced("<?xml version=\"1.0\" encoding=\"UTF-8\"?>", bomb);
  ASSERT_TRUE(ParseStsAnswer(text, "AssumeRole").ok());
  text.replace(text.find("ASIA"), 4, "&lol2;&xxe;");
  const auto found = ParseStsAnswer(text, "AssumeRole");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->access_key_id, "&lol2;&xxe;IOSFODNN7EXAMPLE");
}

TEST(StsAnswerTest, DepthIsNoMatter) {
  std::string deep;
  for (int i = 0; i < 20'000; ++i) deep += "<a>";
  ExpectError(deep, "no XML");
  deep.clear();
  for (int i = 0; i < 9'000; ++i) deep += "<a>";
  for (int i = 0; i < 9'000; ++i) deep += "</a>";
  ExpectError(deep, "no AssumeRoleResponse");
}

}  // namespace
}  // namespace mobula

// Tests of engine/aws/caller_identity.h.
#include "engine/aws/caller_identity.h"

#include <gtest/gtest.h>

namespace mobula {
namespace {

std::string Answer(const std::string& account, const std::string& arn) {
  return "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n"
         " <GetCallerIdentityResult>\n  <Arn>" +
         arn + "</Arn>\n  <UserId>AIDAEXAMPLE</UserId>\n  <Account>" + account +
         "</Account>\n </GetCallerIdentityResult>\n"
         " <ResponseMetadata><RequestId>x</RequestId></ResponseMetadata>\n"
         "</GetCallerIdentityResponse>";
}

TEST(CallerIdentityTest, ReadsAccountAndArn) {
  const auto identity = ParseCallerIdentity(
      Answer("123456789012", "arn:aws:sts::123456789012:assumed-role/r/xray-daemon"));
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_EQ(identity->account, "123456789012");
  EXPECT_EQ(identity->arn, "arn:aws:sts::123456789012:assumed-role/r/xray-daemon");
}

TEST(CallerIdentityTest, RefusesWhatIsNoSuchAnswer) {
  for (const std::string& body :
       {std::string(), std::string("{}"), std::string("<a/>"),
        std::string("<GetCallerIdentityResponse/>"), Answer("", "arn:aws:iam::1:user/x"),
        Answer("12345678901", "arn:aws:iam::1:user/x"), Answer("123456789012", "user"),
        Answer("123456789012", "arn:aws:iam::1:user/\x1b[2J"), Answer("123456789012", "arn:&#27;"),
        Answer("123456789012", "arn:" + std::string(3000, 'x')),
        Answer("123456789012", "arn:x") + std::string(70000, ' '),
        Answer("123456789012", "arn:x").substr(0, 120)}) {
    EXPECT_FALSE(ParseCallerIdentity(body).ok()) << body.substr(0, 200);
  }
}

}  // namespace
}  // namespace mobula

// Tests of engine/aws/aws_error.h.
#include "engine/aws/aws_error.h"

#include <gtest/gtest.h>

namespace mobula {
namespace {

using std::chrono::seconds;
using std::chrono::system_clock;

// Sun, 06 Nov 1994 08:49:37 GMT
const system_clock::time_point kNow = system_clock::from_time_t(784111777);
constexpr char kDate[] = "Sun, 06 Nov 1994 08:49:37 GMT";

HttpResponse Response(const std::string& body,
                      std::vector<std::pair<std::string, std::string>> headers = {}) {
  HttpResponse response;
  response.status = 400;
  response.body = body;
  response.headers = std::move(headers);
  return response;
}

TEST(AwsErrorTest, ReadsTheFaultOfEveryProtocol) {
  struct Case {
    HttpResponse response;
    const char* code;
    const char* message;
  };
  for (const Case& c : {
           Case{Response(""), "", ""},
           Case{Response(R"({"Message": "m"})", {{"x-amzn-ErrorType", "ACode:http://x/y"}}),
                "ACode", "m"},
           Case{Response(R"({"__type": "com.amazonaws.xray#BCode", "message": "m"})"), "BCode",
                "m"},
           Case{Response(R"({"code": "CCode", "message": null})"), "CCode", ""},
           Case{Response(R"({"code": 7, "Code": "DCode", "errorMessage": "m"})"), "DCode", "m"},
           Case{Response("<ErrorResponse><Error><Type>Sender</Type><Code>ECode</Code><Message>m"
                         "</Message></Error></ErrorResponse>"),
                "ECode", "m"},
           Case{Response("<Code>FCode"), "FCode", ""},
           Case{Response("<html>"), "", ""},
       }) {
    const AwsFault fault = ReadAwsFault(c.response);
    EXPECT_EQ(fault.code, c.code) << c.response.body;
    EXPECT_EQ(fault.message, c.message) << c.response.body;
  }
}

TEST(AwsErrorTest, LongTextsAreCut) {
  const std::string text(10'000, 'x');
  const AwsFault fault =
      ReadAwsFault(Response("<Code>" + text + "</Code><Message>" + text + "</Message>"));
  EXPECT_EQ(fault.code.size(), 100u);
  EXPECT_EQ(fault.message.size(), 500u);
  EXPECT_EQ(BareAwsCode("a#" + text).size(), 100u);
}

TEST(AwsErrorTest, CredentialsThatMustBeRenewed) {
  for (const char* code : {"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId",
                           "UnrecognizedClientException"}) {
    const AwsRefusal refusal = JudgeAwsRefusal(code, Response("", {{"Date", kDate}}), kNow);
    EXPECT_TRUE(refusal.credentials) << code;
    EXPECT_FALSE(refusal.clock_error) << code;
  }
  for (const char* code : {"", "AccessDenied", "AccessDeniedException", "ThrottlingException"}) {
    const AwsRefusal refusal = JudgeAwsRefusal(code, Response(""), kNow);
    EXPECT_FALSE(refusal.credentials || refusal.clock_error) << code;
  }
}

TEST(AwsErrorTest, TheClockOnlyWhenItIsFarOff) {
  const auto judge = [](const char* code, seconds ahead, const char* date = kDate) {
    return JudgeAwsRefusal(code, Response("", {{"Date", date}}), kNow - ahead).clock_error;
  };
  EXPECT_EQ(judge("RequestTimeTooSkewed", seconds(3600)), seconds(3600));
  EXPECT_EQ(judge("SignatureDoesNotMatch", seconds(-900)), seconds(-900));
  EXPECT_EQ(judge("InvalidSignatureException", seconds(240)), std::nullopt);
  EXPECT_EQ(judge("InvalidSignatureException", seconds(241)), seconds(241));
  EXPECT_EQ(judge("RequestTimeTooSkewed", seconds(3600), "yesterday"), std::nullopt);
  EXPECT_EQ(judge("RequestTimeTooSkewed", seconds(3600), ""), std::nullopt);
  EXPECT_EQ(judge("AccessDenied", seconds(3600)), std::nullopt);
}

TEST(AwsErrorTest, KindsOfCodes) {
  EXPECT_TRUE(IsAwsThrottling("Throttling"));
  EXPECT_TRUE(IsAwsThrottling("TooManyRequestsException"));
  EXPECT_FALSE(IsAwsThrottling("throttling"));
  EXPECT_FALSE(IsAwsThrottling(""));
  EXPECT_TRUE(IsAwsClockFault("RequestExpired"));
  EXPECT_FALSE(IsAwsClockFault("ExpiredToken"));
  EXPECT_TRUE(IsAwsCredentialFault("TokenRefreshRequired"));
}

}  // namespace
}  // namespace mobula

// Tests of backends/xray/answer.h: every row of the table of answers.
#include "backends/xray/answer.h"

#include <gtest/gtest.h>

namespace mobula {
namespace {

using std::chrono::seconds;
using std::chrono::system_clock;

// Sun, 06 Nov 1994 08:49:37 GMT
const system_clock::time_point kNow = system_clock::from_time_t(784111777);

XrayAnswer Judge(int status, const std::string& body,
                 std::vector<std::pair<std::string, std::string>> headers = {}) {
  HttpResponse response;
  response.status = status;
  response.body = body;
  response.headers = std::move(headers);
  return JudgeAnswer(response, kNow);
}

XrayAnswer JudgeFault(absl::Status transport, std::string_view fault) {
  HttpResponse response;
  response.transport = std::move(transport);
  response.fault = fault;
  return JudgeAnswer(response, kNow);
}

TEST(AnswerTest, TransportFaults) {
  struct Case {
    absl::Status transport;
    const char* fault;
    Verdict verdict;
  };
  for (const Case& c : {
           Case{absl::DeadlineExceededError("m"), "timeout", Verdict::kThrottled},
           Case{absl::UnavailableError("m"), "refused", Verdict::kRetry},
           Case{absl::UnavailableError("m"), "reset", Verdict::kRetry},
           Case{absl::DataLossError("m"), "garbled", Verdict::kRetry},
           Case{absl::CancelledError("m"), "canceled", Verdict::kRetry},
           Case{absl::NotFoundError("m"), "dns", Verdict::kHold},
           Case{absl::UnauthenticatedError("m"), "tls_verify", Verdict::kHold},
       }) {
    const XrayAnswer answer = JudgeFault(c.transport, c.fault);
    EXPECT_EQ(answer.result.verdict, c.verdict) << c.fault;
    EXPECT_EQ(answer.result.code, c.fault);
    EXPECT_EQ(answer.result.message, "m");
  }
}

TEST(AnswerTest, StatusesAndCodes) {
  struct Case {
    int status;
    const char* code;  // as header; "" for none
    Verdict verdict;
  };
  for (const Case& c : {
           Case{400, "ThrottlingException", Verdict::kThrottled},
           Case{400, "ThrottledException", Verdict::kThrottled},
           Case{400, "Throttling", Verdict::kThrottled},
           Case{403, "RequestThrottled", Verdict::kThrottled},
           Case{503, "SlowDown", Verdict::kThrottled},
           Case{400, "LimitExceededException", Verdict::kThrottled},
           Case{429, "", Verdict::kThrottled},
           Case{429, "Whatever", Verdict::kThrottled},
           Case{408, "", Verdict::kRetry},
           Case{400, "RequestTimeout", Verdict::kRetry},
           Case{400, "RequestTimeoutException", Verdict::kRetry},
           Case{500, "InternalFailure", Verdict::kRetry},
           Case{502, "", Verdict::kRetry},
           Case{503, "ServiceUnavailable", Verdict::kRetry},
           Case{504, "", Verdict::kRetry},
           Case{301, "", Verdict::kRetry},
           Case{403, "AccessDeniedException", Verdict::kHold},
           Case{403, "AccessDenied", Verdict::kHold},
           Case{400, "AccessDeniedException", Verdict::kHold},
           Case{403, "MissingAuthenticationTokenException", Verdict::kHold},
           Case{403, "InvalidSignatureException", Verdict::kHold},
           Case{403, "SignatureDoesNotMatch", Verdict::kHold},
           Case{400, "IncompleteSignatureException", Verdict::kHold},
           Case{403, "", Verdict::kHold},
           Case{407, "", Verdict::kHold},
           Case{413, "", Verdict::kTooLarge},
           Case{400, "RequestEntityTooLarge", Verdict::kTooLarge},
           Case{400, "InvalidRequestException", Verdict::kRefused},
           Case{400, "ValidationException", Verdict::kRefused},
           Case{400, "", Verdict::kRefused},
           Case{404, "", Verdict::kRefused},
           Case{405, "", Verdict::kRefused},
       }) {
    std::vector<std::pair<std::string, std::string>> headers;
    if (*c.code != '\0') headers.emplace_back("x-amzn-ErrorType", c.code);
    const XrayAnswer answer = Judge(c.status, "{}", headers);
    EXPECT_EQ(answer.result.verdict, c.verdict) << c.status << c.code;
    EXPECT_EQ(answer.result.code, *c.code != '\0' ? c.code : "http_" + std::to_string(c.status));
    EXPECT_FALSE(answer.refresh_credentials);
    EXPECT_FALSE(answer.clock_error);
  }
}

TEST(AnswerTest, TheCodeIsFoundWhereverItIs) {
  const std::string header = "com.amazonaws.xray#ThrottledException:http://internal/";
  EXPECT_EQ(Judge(400, "{}", {{"X-Amzn-ErrorType", header}}).result.code, "ThrottledException");
  for (const char* body :
       {R"({"__type":"com.amazon.coral#ThrottledException","Message":"slow"})",
        R"({"code":"ThrottledException","message":"slow"})",
        R"({"Code":"ThrottledException","Message":"slow"})",
        "<ErrorResponse><Error><Type>Sender</Type><Code>ThrottledException</Code>"
        "<Message>slow</Message></Error></ErrorResponse>"}) {
    const XrayAnswer answer = Judge(400, body);
    EXPECT_EQ(answer.result.code, "ThrottledException") << body;
    EXPECT_EQ(answer.result.message, "status 400: slow") << body;
  }
  for (const char* body : {"", "[]", "null", R"({"__type":7,"message":null})", "<Code", "<Code>"}) {
    EXPECT_EQ(Judge(400, body).result.code, "http_400") << body;
  }
}

TEST(AnswerTest, LongTextsAreCut) {
  const XrayAnswer answer = Judge(400, R"({"__type":")" + std::string(9000, 'c') +
                                           R"(","message":")" + std::string(9000, 'm') + "\"}");
  EXPECT_LE(answer.result.code.size(), 100U);
  EXPECT_LE(answer.result.message.size(), 550U);
}

TEST(AnswerTest, RetryAfter) {
  struct Case {
    const char* value;
    int64_t wait;
  };
  for (const Case& c :
       {Case{"7", 7}, Case{"0", 0}, Case{"-5", 0}, Case{"x", 0}, Case{"", 0},
        Case{"99999999999", 3600}, Case{"99999999999999999999999", 0},
        Case{"Sun, 06 Nov 1994 08:50:37 GMT", 60}, Case{"Sun, 06 Nov 1994 08:00:00 GMT", 0},
        Case{"Sun, 06 Nov 1999 08:00:00 GMT", 3600}}) {
    EXPECT_EQ(Judge(503, "", {{"Retry-After", c.value}}).result.retry_after, seconds(c.wait))
        << c.value;
  }
}

TEST(AnswerTest, RefusedCredentialsAskForNewOnes) {
  for (const char* code : {"ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException",
                           "InvalidClientTokenId"}) {
    const XrayAnswer answer = Judge(403, "", {{"x-amzn-errortype", code}});
    EXPECT_TRUE(answer.refresh_credentials) << code;
    EXPECT_EQ(answer.result.verdict, Verdict::kRetry) << code;
  }
}

TEST(AnswerTest, AWrongClockIsToldFromAWrongKey) {
  struct Case {
    const char* code;
    const char* date;
    int64_t error;  // 0: not the clock
    Verdict verdict;
  };
  for (const Case& c : {
           Case{"RequestTimeTooSkewed", "Sun, 06 Nov 1994 09:49:37 GMT", 3600, Verdict::kRetry},
           Case{"RequestExpired", "Sun, 06 Nov 1994 07:49:37 GMT", -3600, Verdict::kRetry},
           Case{"InvalidSignatureException", "Sun, 06 Nov 1994 08:54:37 GMT", 300, Verdict::kRetry},
           Case{"SignatureDoesNotMatch", "Sun, 06 Nov 1994 08:44:37 GMT", -300, Verdict::kRetry},
           Case{"SignatureDoesNotMatch", "Sun, 06 Nov 1994 08:50:37 GMT", 0, Verdict::kHold},
           Case{"InvalidSignatureException", "nonsense", 0, Verdict::kHold},
           Case{"InvalidRequestException", "Sun, 06 Nov 1999 08:49:37 GMT", 0, Verdict::kRefused},
       }) {
    const XrayAnswer answer = Judge(c.verdict == Verdict::kRefused ? 400 : 403, "",
                                    {{"x-amzn-errortype", c.code}, {"Date", c.date}});
    EXPECT_EQ(answer.clock_error.value_or(seconds(0)).count(), c.error) << c.code << c.date;
    EXPECT_EQ(answer.result.verdict, c.verdict) << c.code << c.date;
  }
}

TEST(AnswerTest, SuccessInEveryForm) {
  for (const char* body :
       {"", "  \r\n", "{}", "null", "[]", R"({"UnprocessedTraceSegments":[]})",
        R"({"UnprocessedTraceSegments":null})", R"({"Other":[1]})", R"({"Output":{"x":1}})"}) {
    const XrayAnswer answer = Judge(200, body);
    EXPECT_EQ(answer.result.verdict, Verdict::kDelivered) << body;
    EXPECT_EQ(answer.result.code, "") << body;
    EXPECT_TRUE(answer.unprocessed.empty());
  }
  const XrayAnswer answer = Judge(200, R"({"UnprocessedTraceSegments":"x"})");
  EXPECT_EQ(answer.result.verdict, Verdict::kDelivered);
  EXPECT_EQ(answer.result.code, "strange_answer");
  // What servers of tests answer with: only the body counts.
  EXPECT_EQ(Judge(200, "{}", {{"Content-Type", "text/html"}}).result.verdict, Verdict::kDelivered);
}

TEST(AnswerTest, WhatIsNoJsonIsNoSuccess) {
  for (const char* body :
       {"<html>", "\r\n<!DOCTYPE html><p>Log in", "OK", "{", R"({"UnprocessedTraceSegments":[)"}) {
    const XrayAnswer answer = Judge(200, body, {{"Content-Type", "text/html"}});
    EXPECT_EQ(answer.result.verdict, Verdict::kRetry) << body;
    EXPECT_EQ(answer.result.code, "strange_answer") << body;
    EXPECT_FALSE(answer.result.message.empty());
  }
}

TEST(AnswerTest, AnUnknownPathIsSaidWith200) {
  const XrayAnswer answer =
      Judge(200, R"({"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},)"
                 R"("Version":"1.0"})");
  EXPECT_EQ(answer.result.verdict, Verdict::kRefused);
  EXPECT_EQ(answer.result.code, "UnknownOperationException");
}

TEST(AnswerTest, UnprocessedDocuments) {
  const XrayAnswer answer =
      Judge(200, R"({"UnprocessedTraceSegments":[)"
                 R"({"Id":"aa","ErrorCode":"ThrottledException","Message":"slow"},)"
                 R"({"Id":"bb","ErrorCode":"InvalidTraceId"},)"
                 R"({"Id":null,"ErrorCode":"ParseError"},{"Id":5},7,null,[]]})");
  EXPECT_EQ(answer.result.verdict, Verdict::kDelivered);
  ASSERT_EQ(answer.unprocessed.size(), 7U);
  EXPECT_EQ(answer.unprocessed[0].id, "aa");
  EXPECT_EQ(answer.unprocessed[0].message, "slow");
  EXPECT_EQ(answer.unprocessed[0].verdict, Verdict::kThrottled);
  EXPECT_EQ(answer.unprocessed[1].code, "InvalidTraceId");
  EXPECT_EQ(answer.unprocessed[1].verdict, Verdict::kRefused);
  for (size_t i = 2; i < 7; ++i) EXPECT_EQ(answer.unprocessed[i].id, "");
}

TEST(AnswerTest, AServicesOwnFaultWithADocumentPasses) {
  const auto verdict = [](const std::string& code) {
    const XrayAnswer answer =
        Judge(200, R"({"UnprocessedTraceSegments":[{"Id":"aa","ErrorCode":")" + code + R"("}]})");
    EXPECT_EQ(answer.unprocessed.at(0).code, code);
    return answer.unprocessed.at(0).verdict;
  };
  for (const char* code :
       {"InternalFailure", "InternalServerError", "InternalServiceError", "InternalError",
        "ServiceUnavailable", "ServiceUnavailableException", "RequestTimeout", "TimeoutException",
        "com.amazonaws.xray#InternalFailure", "500", "503", "504", "408"}) {
    EXPECT_EQ(verdict(code), Verdict::kRetry) << code;
  }
  for (const char* code : {"Throttling", "TooManyRequestsException", "429"}) {
    EXPECT_EQ(verdict(code), Verdict::kThrottled) << code;
  }
  for (const char* code : {"InvalidSegment", "ParseError", "MissingEndTime", "400", "5", ""}) {
    EXPECT_EQ(verdict(code), Verdict::kRefused) << code;
  }
}

}  // namespace
}  // namespace mobula

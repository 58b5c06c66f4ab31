#include "engine/sampling/pass_through.h"

#include <gtest/gtest.h>

#include "engine/segment/json_reader.h"

namespace mobula {
namespace {

using Headers = std::vector<std::pair<std::string_view, std::string_view>>;

HttpHeaders Passed(Headers headers) {
  HttpServerRequest request;
  request.headers = std::move(headers);
  return PassedRequestHeaders(request);
}

TEST(PassThroughTest, WhatSdksSayOfTheCallPasses) {
  EXPECT_EQ(Passed({{"Content-Type", "application/json"},
                    {"accept", "*/*"},
                    {"X-Amzn-Trace-Id", "Root=1-5f84c7a5-0"},
                    {"amz-sdk-invocation-id", "5f0c"},
                    {"amz-sdk-request", "attempt=1"},
                    {"x-amz-target", "T"}}),
            (HttpHeaders{{"Content-Type", "application/json"},
                         {"accept", "*/*"},
                         {"X-Amzn-Trace-Id", "Root=1-5f84c7a5-0"},
                         {"amz-sdk-invocation-id", "5f0c"},
                         {"amz-sdk-request", "attempt=1"},
                         {"x-amz-target", "T"}}));
}

TEST(PassThroughTest, NothingElsePasses) {
  EXPECT_EQ(Passed({{"Host", "127.0.0.1:2000"},
                    {"User-Agent", "Botocore"},
                    {"Content-Length", "2"},
                    {"Transfer-Encoding", "chunked"},
                    {"Connection", "keep-alive, x-amzn-mine"},
                    {"X-Amzn-Mine", "1"},
                    {"Keep-Alive", "timeout=5"},
                    {"TE", "trailers"},
                    {"Upgrade", "h2c"},
                    {"Expect", "100-continue"},
                    {"Proxy-Authorization", "Basic eDp5"},
                    {"Forwarded", "for=10.0.0.1"},
                    {"X-Forwarded-For", "10.0.0.1"},
                    {"Via", "1.1 x"},
                    {"Authorization", "AWS4-HMAC-SHA256 stolen"},
                    {"X-Amz-Date", "20150830T123600Z"},
                    {"x-amz-security-token", "stolen"},
                    {"X-Amz-Content-Sha256", "0"},
                    {"Accept-Encoding", "gzip"},
                    {"Cookie", "a=b"},
                    {"Content-Type", "application/\xe9"},
                    {"Accept", "a\tb"},
                    {"X-Custom", "a  b"}}),
            HttpHeaders{});
}

TEST(PassThroughTest, ARepeatedHeaderPassesOnce) {
  EXPECT_EQ(Passed({{"Content-Type", "application/json"}, {"content-type", "text/plain"}}),
            (HttpHeaders{{"Content-Type", "application/json"}}));
}

TEST(PassThroughTest, AnAnswerComesBackUnchangedButForTheConnection) {
  HttpResponse response;
  response.status = 429;
  response.body = std::string("{\"Message\" : 1}\0\xff", 17);
  response.headers = {{"Content-Type", "application/json"},
                      {"x-amzn-ErrorType", "ThrottledException"},
                      {"Retry-After", "3"},
                      {"Connection", "close, X-Hop"},
                      {"x-hop", "1"},
                      {"Keep-Alive", "timeout=5"},
                      {"Proxy-Authenticate", "Basic"},
                      {"Transfer-Encoding", "chunked"},
                      {"Set-Cookie", "a"},
                      {"Set-Cookie", "b"}};
  const HttpReply reply = PassBack(response);
  EXPECT_EQ(reply.status, 429);
  EXPECT_EQ(reply.text(), response.body);
  EXPECT_EQ(reply.content_type, "");
  EXPECT_EQ(reply.headers, (HttpHeaders{{"Content-Type", "application/json"},
                                        {"x-amzn-ErrorType", "ThrottledException"},
                                        {"Retry-After", "3"},
                                        {"Set-Cookie", "a"},
                                        {"Set-Cookie", "b"}}));
}

TEST(PassThroughTest, NoAnswerIsAnErrorThatSdksCanRead) {
  const auto status_of = [](absl::Status transport) {
    HttpResponse response;
    response.transport = std::move(transport);
    const HttpReply reply = PassBack(std::move(response));
    const auto body = ParseJson(reply.body);
    EXPECT_TRUE(body && !body->FindString("__type").empty()) << reply.body;
    EXPECT_EQ(reply.body.find("secret"), std::string::npos) << "anybody may ask: " << reply.body;
    return reply.status;
  };
  EXPECT_EQ(status_of(absl::DeadlineExceededError("role/secret")), 504);
  EXPECT_EQ(status_of(absl::UnavailableError("role/secret")), 502);
  EXPECT_EQ(status_of(absl::NotFoundError("role/secret")), 502);
  EXPECT_EQ(status_of(absl::FailedPreconditionError("role/secret")), 502);
  EXPECT_EQ(status_of(absl::ResourceExhaustedError("role/secret")), 503);
}

}  // namespace
}  // namespace mobula

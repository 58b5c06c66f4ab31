// Tests of engine/app/admin_access.h.
#include "engine/app/admin_access.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mobula {
namespace {

constexpr char kToken[] = "0123456789abcdef";

using Headers = std::vector<std::pair<std::string_view, std::string_view>>;

// The status that a request is refused with, and its challenge; 200: it is not.
std::pair<int, std::string> Judge(const AdminAccess& access, Headers headers,
                                  bool verified = false) {
  HttpServerRequest request;
  request.method = "GET";
  request.target = "/ledger";
  request.headers = std::move(headers);
  request.verified = verified;
  const auto refusal = access.Refuse(request);
  if (!refusal) return {200, ""};
  EXPECT_EQ(refusal->body.find(kToken), std::string::npos);
  EXPECT_FALSE(refusal->body.empty());
  return {refusal->status, refusal->headers.empty() ? "" : refusal->headers[0].second};
}

AdminConfig Config(std::string token, std::string client_ca) {
  AdminConfig config;
  config.token = std::move(token);
  config.tls.client_ca = std::move(client_ca);
  return config;
}

TEST(AdminAccessTest, OnLoopbackEverybodyOfThisMachineMayLook) {
  const AdminAccess access(Config("", ""), true);
  for (const char* host :
       {"127.0.0.1:2010", "127.0.0.1", "localhost", "LocalHost:2010", "localhost.", "a.localhost:1",
        "[::1]:2010", "[::1]", "10.1.2.3:2010", "0.0.0.0:1"}) {
    EXPECT_EQ(Judge(access, {{"Host", host}}).first, 200) << host;
  }
  EXPECT_EQ(Judge(access, {}).first, 200) << "HTTP/1.0";
}

// What a browser sends for a page whose name was made to resolve to this machine.
TEST(AdminAccessTest, OnLoopbackNoOtherNameIsServed) {
  const AdminAccess access(Config("", ""), true);
  for (const char* host :
       {"evil.example", "evil.example:2010", "127.0.0.1.evil.example:2010",
        "localhost.evil.example", "notlocalhost", "", ":2010", "[::1", "[evil]:1", "127.0.0.1:x:y",
        "0x7f.1", "2130706433", "::1", "localhost:80@evil.example"}) {
    EXPECT_EQ(Judge(access, {{"Host", host}}).first, 403) << host;
  }
  EXPECT_EQ(Judge(access, {{"host", "localhost"}, {"HOST", "evil.example"}}).first, 403);
}

TEST(AdminAccessTest, ElsewhereNobodyMayWithoutAKey) {
  const AdminAccess access(Config("", ""), false);
  EXPECT_EQ(Judge(access, {{"Host", "127.0.0.1"}}), (std::pair<int, std::string>(403, "")));
  EXPECT_EQ(Judge(access, {{"Authorization", "Bearer 0123456789abcdef"}}).first, 403);
}

TEST(AdminAccessTest, ATokenIsAskedForEverywhere) {
  for (const bool loopback : {false, true}) {
    for (const char* ca : {"", "ca.pem"}) {
      const AdminAccess access(Config(kToken, ca), loopback);
      EXPECT_EQ(Judge(access, {}), (std::pair<int, std::string>(401, "Bearer realm=\"mobula\"")));
      EXPECT_EQ(Judge(access, {{"authorization", "Basic dTpw"}}),
                (std::pair<int, std::string>(401, "Bearer realm=\"mobula\"")));
      EXPECT_EQ(
          Judge(access, {{"Authorization", "Bearer 0123456789abcdeg"}}),
          (std::pair<int, std::string>(401, "Bearer realm=\"mobula\", error=\"invalid_token\"")));
      // Who knows it may use any name.
      EXPECT_EQ(
          Judge(access, {{"Host", "agent.example"}, {"AUTHORIZATION", "bearer 0123456789abcdef"}})
              .first,
          200);
    }
  }
}

TEST(AdminAccessTest, ACertificateOpensToo) {
  EXPECT_EQ(Judge(AdminAccess(Config("", "ca.pem"), false), {}, true).first, 200);
  EXPECT_EQ(Judge(AdminAccess(Config(kToken, "ca.pem"), false), {}, true).first, 200);
  // There is no challenge for one.
  EXPECT_EQ(Judge(AdminAccess(Config("", "ca.pem"), true), {{"Host", "localhost"}}),
            (std::pair<int, std::string>(403, "")));
}

}  // namespace
}  // namespace mobula

// Tests of engine/http/forward_proxy.h.
#include "engine/http/forward_proxy.h"

#include <gtest/gtest.h>

#include <map>

namespace mobula {
namespace {

using Variables = std::map<std::string, std::string, std::less<>>;

absl::StatusOr<std::optional<HttpForwardProxy>> Find(const std::string& configured,
                                                     const std::string& target,
                                                     const Variables& variables = {}) {
  return FindForwardProxy(configured, *ParseHttpUrl(target),
                          [&](std::string_view name) -> std::optional<std::string> {
                            const auto found = variables.find(name);
                            if (found == variables.end()) return std::nullopt;
                            return found->second;
                          });
}

// "host:port" of the proxy that was found, "direct" or "error".
std::string Found(const std::string& configured, const std::string& target,
                  const Variables& variables = {}) {
  const auto proxy = Find(configured, target, variables);
  if (!proxy.ok()) return "error";
  return proxy->has_value() ? (*proxy)->url.AuthorityWithPort() : "direct";
}

TEST(ForwardProxyTest, TakesTheVariableOfTheScheme) {
  const std::string https = "https://xray.eu-west-1.amazonaws.com";
  const std::string http = "http://xray.example";
  EXPECT_EQ(Found("", https), "direct");
  EXPECT_EQ(Found("", https, {{"HTTPS_PROXY", "http://a:1"}}), "a:1");
  EXPECT_EQ(Found("", https, {{"https_proxy", "http://b:1"}}), "b:1");
  EXPECT_EQ(Found("", https, {{"HTTPS_PROXY", "http://a:1"}, {"https_proxy", "http://b:1"}}),
            "a:1");
  EXPECT_EQ(Found("", https, {{"HTTPS_PROXY", ""}, {"https_proxy", "http://b:1"}}), "b:1");
  EXPECT_EQ(Found("", https, {{"HTTP_PROXY", "http://c:1"}}), "direct");
  EXPECT_EQ(Found("", http, {{"HTTP_PROXY", "http://c:1"}, {"HTTPS_PROXY", "http://a:1"}}), "c:1");
  EXPECT_EQ(Found("", http, {{"http_proxy", "http://d:1"}, {"HTTPS_PROXY", "http://a:1"}}), "d:1");
  EXPECT_EQ(Found("", http, {{"HTTPS_PROXY", "http://a:1"}}), "a:1");  // as the X-Ray daemon
  EXPECT_EQ(Found("", https, {{"HTTPS_PROXY", "a:3128"}}), "a:3128");
  EXPECT_EQ(Found("", https, {{"HTTPS_PROXY", "a"}}), "a:80");
  EXPECT_EQ(Found("", https, {{"HTTPS_PROXY", "http://[fd00::1]:3128/"}}), "[fd00::1]:3128");
  EXPECT_EQ(Found("", https, {{"HTTPS_PROXY", "https://a"}}), "a:443");
}

TEST(ForwardProxyTest, SaysWhichVariableNamedIt) {
  EXPECT_EQ((*Find("", "http://xray.example", {{"https_proxy", "http://a:1"}}))->variable,
            "https_proxy");
  EXPECT_EQ((*Find("http://c:2", "http://xray.example", {{"HTTP_PROXY", "http://a:1"}}))->variable,
            "");
}

TEST(ForwardProxyTest, TheConfiguredOneWins) {
  const Variables variables = {{"HTTPS_PROXY", "http://a:1"}, {"NO_PROXY", "no.example"}};
  EXPECT_EQ(Found("http://c:2", "https://yes.example", variables), "c:2");
  EXPECT_EQ(Found("http://c:2", "https://no.example", variables), "direct");
  EXPECT_EQ(Found("http://c:2", "http://127.0.0.1:8000", variables), "c:2");
  EXPECT_EQ(Found("http://c:2", "http://127.0.0.1:8000", {{"NO_PROXY", "127.0.0.1,localhost"}}),
            "direct");
  EXPECT_EQ(Found("c:2", "https://yes.example"), "error");  // the scheme is missing
}

TEST(ForwardProxyTest, OnlyNoProxyLeavesThisMachineAlone) {
  for (const char* target : {"http://localhost:80", "http://127.0.0.1", "https://[::1]"}) {
    EXPECT_EQ(Found("", target, {{"HTTPS_PROXY", "http://a:1"}}), "a:1") << target;
    EXPECT_EQ(
        Found("", target, {{"HTTPS_PROXY", "http://a:1"}, {"NO_PROXY", "localhost,127.0.0.1,::1"}}),
        "direct")
        << target;
  }
}

TEST(ForwardProxyTest, NoProxyNamesTheExceptions) {
  struct Case {
    const char* no_proxy;
    const char* target;
    bool excepted;
  };
  for (const Case& c : {
           Case{"", "https://a.example", false},
           Case{"*", "https://a.example", true},
           Case{"x, *", "https://10.0.0.1", true},
           Case{"a.example", "https://a.example", true},
           Case{"A.Example", "https://a.EXAMPLE", true},
           Case{"example", "https://a.example", true},
           Case{"ample", "https://a.example", false},
           Case{".example", "https://a.example", true},
           Case{".a.example", "https://a.example", false},
           Case{"*.example", "https://b.a.example", true},
           Case{"*.a.example", "https://a.example", false},
           Case{"b.example,a.example", "https://a.example", true},
           Case{" b.example ,\ta.example ", "https://a.example", true},
           Case{"b.example a.example", "https://a.example", true},
           Case{"a.example:443", "https://a.example", true},
           Case{"a.example:80", "https://a.example", false},
           Case{"a.example:99999", "https://a.example", false},
           Case{"a.example:x", "https://a.example", false},
           Case{".example:8443", "https://a.example:8443", true},
           Case{"10.1.2.3", "https://10.1.2.3", true},
           Case{"10.1.2.3", "https://10.1.2.30", false},
           Case{"10.1.2.3:443", "https://10.1.2.3", true},
           Case{"10.1.2.3:80", "https://10.1.2.3", false},
           Case{"2.3", "https://10.1.2.3", false},
           Case{"10.0.0.0/8", "https://10.200.3.4", true},
           Case{"10.0.0.0/8", "https://11.0.0.0", false},
           Case{"10.0.0.0/9", "https://10.127.255.255", true},
           Case{"10.0.0.0/9", "https://10.128.0.0", false},
           Case{"10.1.2.3/32", "https://10.1.2.3", true},
           Case{"0.0.0.0/0", "https://10.1.2.3", true},
           Case{"0.0.0.0/0", "https://a.example", false},
           Case{"0.0.0.0/0", "https://[fd00::1]", false},
           Case{"10.0.0.0/33", "https://10.0.0.0", false},
           Case{"10.0.0.0/-1", "https://10.0.0.0", false},
           Case{"10.0.0.0/", "https://10.0.0.0", false},
           Case{"/8", "https://10.0.0.0", false},
           Case{"fd00::/8", "https://[fd12::1]", true},
           Case{"fd00::/8", "https://[fe80::1]", false},
           Case{"::/0", "https://[fe80::1]", true},
           Case{"::/0", "https://10.0.0.1", false},
           Case{"fd00::1", "https://[fd00:0::1]", true},
           Case{"[fd00::1]", "https://[fd00::1]", true},
           Case{"[fd00::1]:443", "https://[fd00::1]", true},
           Case{"[fd00::1]:80", "https://[fd00::1]", false},
           Case{"::ffff:10.0.0.1", "https://10.0.0.1", true},
           Case{",,:, :80,.,[],[]:443,*.", "https://a.example", false},
       }) {
    EXPECT_EQ(Found("", c.target, {{"HTTPS_PROXY", "p:1"}, {"NO_PROXY", c.no_proxy}}),
              c.excepted ? "direct" : "p:1")
        << c.no_proxy << " for " << c.target;
    EXPECT_EQ(Found("http://p:1", c.target, {{"no_proxy", c.no_proxy}}),
              c.excepted ? "direct" : "p:1")
        << c.no_proxy << " for " << c.target;
  }
}

TEST(ForwardProxyTest, UserAndPasswordBecomeItsAuthorization) {
  struct Case {
    const char* proxy;
    const char* authorization;
  };
  for (const Case& c : {
           Case{"http://user:secret@p:1", "Basic dXNlcjpzZWNyZXQ="},
           Case{"http://user@p:1/", "Basic dXNlcjo="},
           Case{"http://u%40d:p%3a%2F@p:1", "Basic dUBkOnA6Lw=="},
           Case{"http://u:a:b@p:1", "Basic dTphOmI="},
           Case{"http://u:a@b@p:1", "Basic dTphQGI="},
           Case{"http://@p:1", ""},
           Case{"http://p:1", ""},
       }) {
    const auto proxy = Find(c.proxy, "https://a.example");
    ASSERT_TRUE(proxy.ok() && proxy->has_value()) << c.proxy << proxy.status();
    EXPECT_EQ((*proxy)->authorization, c.authorization) << c.proxy;
    EXPECT_EQ((*proxy)->url.AuthorityWithPort(), "p:1") << c.proxy;
  }
  const auto bare = Find("", "https://a.example", {{"https_proxy", "user:secret@p:1"}});
  EXPECT_EQ((*bare)->authorization, "Basic dXNlcjpzZWNyZXQ=");
}

TEST(ForwardProxyTest, MistakesAreNamedWithoutTheSecret) {
  for (const char* proxy :
       {"http://user:hunter2@", "http://user:hunter2@p:0", "socks5://user:hunter2@p:1",
        "http://user:hunter2%4@p", "http://user:hunter2%zz@p", "http://user:hunter2%@p",
        "http://user:hunter2/x@p", "http://user:hunter2#x@p", "http://user:hunter2@p?q=hunter2@",
        "http://user:hunter2@p p"}) {
    for (const bool configured : {true, false}) {
      const auto found = configured ? Find(proxy, "https://a.example")
                                    : Find("", "https://a.example", {{"HTTPS_PROXY", proxy}});
      ASSERT_FALSE(found.ok()) << proxy;
      EXPECT_EQ(found.status().code(), absl::StatusCode::kInvalidArgument) << proxy;
      EXPECT_EQ(found.status().message().find("hunter2"), std::string::npos) << found.status();
      EXPECT_EQ(found.status().message().find("user:"), std::string::npos) << found.status();
      if (!configured) {
        EXPECT_NE(found.status().message().find("HTTPS_PROXY"), std::string::npos)
            << found.status();
      }
    }
  }
  // What is not used is not judged.
  EXPECT_EQ(Found("", "https://a.example", {{"HTTPS_PROXY", "socks5://p"}, {"NO_PROXY", "*"}}),
            "direct");
}

}  // namespace
}  // namespace mobula

// Tests of engine/http/http_url.h and http_date.h.
#include "engine/http/http_url.h"

#include <gtest/gtest.h>

#include "engine/http/http_date.h"

namespace mobula {
namespace {

TEST(HttpUrlTest, TakesEveryForm) {
  struct Case {
    const char* text;
    bool tls;
    const char* host;
    int port;
    const char* path;
    const char* authority;
  };
  for (const Case& c : {
           Case{"http://a", false, "a", 80, "", "a"},
           Case{"https://Xray.EU-west-1.amazonaws.com/", true, "xray.eu-west-1.amazonaws.com", 443,
                "", "xray.eu-west-1.amazonaws.com"},
           Case{"HTTP://127.0.0.1:2000/base/", false, "127.0.0.1", 2000, "/base", "127.0.0.1:2000"},
           Case{"https://[fd00:EC2::23]:8443/a/b", true, "fd00:ec2::23", 8443, "/a/b",
                "[fd00:ec2::23]:8443"},
           Case{"http://[::1]", false, "::1", 80, "", "[::1]"},
           Case{"https://h:80", true, "h", 80, "", "h:80"},
           Case{"http://h_1:80", false, "h_1", 80, "", "h_1"},
       }) {
    const auto url = ParseHttpUrl(c.text);
    ASSERT_TRUE(url.ok()) << c.text << ": " << url.status();
    EXPECT_EQ(url->tls, c.tls) << c.text;
    EXPECT_EQ(url->host, c.host) << c.text;
    EXPECT_EQ(url->port, c.port) << c.text;
    EXPECT_EQ(url->path, c.path) << c.text;
    EXPECT_EQ(url->Authority(), c.authority) << c.text;
  }
}

TEST(HttpUrlTest, NamesThePortWhereItIsWanted) {
  EXPECT_EQ(ParseHttpUrl("https://a")->AuthorityWithPort(), "a:443");
  EXPECT_EQ(ParseHttpUrl("http://a/b")->AuthorityWithPort(), "a:80");
  EXPECT_EQ(ParseHttpUrl("http://[::1]:8080")->AuthorityWithPort(), "[::1]:8080");
}

TEST(HttpUrlTest, RefusesWhatItCannotServe) {
  for (const char* text : {"",
                           "a",
                           "//a",
                           "ftp://a",
                           "http:/a",
                           "http://",
                           "http:///x",
                           "http://:80",
                           "http://a:",
                           "http://a:0",
                           "http://a:65536",
                           "http://a:-1",
                           "http://a:8x",
                           "http://::1",
                           "http://[::1",
                           "http://[::1]x",
                           "http://[zz]",
                           "http://a b",
                           "http://a/b c",
                           "http://a/?q",
                           "http://a/#f",
                           "http://a?q",
                           "http://a\r\nb",
                           "http://a/\r\nb",
                           "http://a\x7f",
                           "http://\xc3\xa9"}) {
    EXPECT_FALSE(ParseHttpUrl(text).ok()) << text;
  }
}

TEST(HttpUrlTest, NeverRepeatsAPassword) {
  for (const char* text : {"http://user:hunter2@a", "user:hunter2@a", "ftp://user:hunter2@a"}) {
    const auto url = ParseHttpUrl(text);
    ASSERT_FALSE(url.ok());
    EXPECT_EQ(url.status().message().find("hunter2"), std::string::npos);
  }
}

TEST(HttpUrlTest, SplitsListenAddresses) {
  EXPECT_EQ(ParseHostPort("127.0.0.1:2010")->host, "127.0.0.1");
  EXPECT_EQ(ParseHostPort("127.0.0.1:2010")->port, 2010);
  EXPECT_EQ(ParseHostPort(":0")->host, "");
  EXPECT_EQ(ParseHostPort("[::]:80")->host, "::");
  EXPECT_EQ(ParseHostPort("[fe80::1%eth0]:80")->host, "fe80::1%eth0");
  for (const char* text : {"", "a", "a:", ":", "1:2:3", "[::1]", "[::1]:", "a b:1", "a:70000",
                           "[fe80::1%]:80", "[fe80::1%a/b]:80", "[1.2.3.4]:80"}) {
    EXPECT_FALSE(ParseHostPort(text).ok()) << text;
  }
  EXPECT_FALSE(ParseHostPort(std::string_view("[::1\0x]:80", 11)).ok());
  EXPECT_FALSE(ParseHttpUrl("http://[fe80::1%eth0]").ok());
}

TEST(HttpDateTest, ReadsTheOneForm) {
  const auto date = ParseHttpDate("Sun, 06 Nov 1994 08:49:37 GMT");
  ASSERT_TRUE(date);
  EXPECT_EQ(std::chrono::system_clock::to_time_t(*date), 784111777);
  EXPECT_TRUE(ParseHttpDate("Thu, 29 Feb 2024 23:59:60 GMT"));
  EXPECT_TRUE(ParseHttpDate("Thu, 01 Jan 1970 00:00:00 GMT"));
  EXPECT_TRUE(ParseHttpDate("Wed, 31 Dec 2200 23:59:59 GMT"));
  for (const char* text : {"", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
                           "Sun, 06 nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 UTC",
                           "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT",
                           "Sun, 06 ovD 1994 08:49:37 GMT", "Sun, +6 Nov 1994 08:49:37 GMT",
                           "Sun, 06 Nov 1994 -8:49:37 GMT", "Sun, 06 Nov 9999 08:49:37 GMT",
                           "Sun, 06 Nov 2201 08:49:37 GMT", "Sun, 06 Nov 1969 08:49:37 GMT",
                           "Sun, 06 Nov 0000 08:49:37 GMT"}) {
    EXPECT_FALSE(ParseHttpDate(text)) << text;
  }
}

}  // namespace
}  // namespace mobula

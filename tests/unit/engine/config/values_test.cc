// Tests of engine/config/values.h.
#include "engine/config/values.h"

#include <gtest/gtest.h>

#include <chrono>

namespace mobula {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

TEST(ValuesTest, SizesHaveBinaryAndDecimalUnits) {
  EXPECT_EQ(ParseSize("24MiB"), 24U << 20);
  EXPECT_EQ(ParseSize("100MB"), 100'000'000U);
  EXPECT_EQ(ParseSize("1GiB"), 1U << 30);
  EXPECT_EQ(ParseSize("1TiB"), 1ULL << 40);
  EXPECT_EQ(ParseSize("3KiB"), 3072U);
  EXPECT_EQ(ParseSize("3kB"), 3000U);
  EXPECT_EQ(ParseSize("4096"), 4096U);
  EXPECT_EQ(ParseSize("4096B"), 4096U);
  EXPECT_EQ(ParseSize("0"), 0U);
  EXPECT_EQ(ParseSize("18446744073709551615"), 18446744073709551615ULL);
}

TEST(ValuesTest, RubbishIsNoSize) {
  for (const char* text :
       {"", "MiB", "-1", "+1", " 1", "1 ", "1 MiB", "1.5GiB", "1mib", "1Mib", "1e3", "0x10",
        "18446744073709551616", "16777216TiB", "99999999999999999999TiB", "1MiB2"}) {
    EXPECT_FALSE(ParseSize(text)) << text;
  }
}

TEST(ValuesTest, SizesAreShownAsTheyCanBeRead) {
  for (const uint64_t size : {0ULL, 1ULL, 1000ULL, 1024ULL, 24ULL << 20, 3ULL << 30, 1ULL << 40}) {
    EXPECT_EQ(ParseSize(FormatSize(size)), size);
  }
  EXPECT_EQ(FormatSize(24U << 20), "24MiB");
  EXPECT_EQ(FormatSize(100'000'000), "100000000");
}

TEST(ValuesTest, DurationsNeedAUnit) {
  EXPECT_EQ(ParseDuration("250ms"), milliseconds(250));
  EXPECT_EQ(ParseDuration("1s"), seconds(1));
  EXPECT_EQ(ParseDuration("2m"), minutes(2));
  EXPECT_EQ(ParseDuration("1h"), hours(1));
  for (const char* text :
       {"", "1", "s", "-1s", "1 s", "1.5s", "1m30s", "1d", "1S", "9999999999999999h"}) {
    EXPECT_FALSE(ParseDuration(text)) << text;
  }
}

TEST(ValuesTest, DurationsAreShownAsTheyCanBeRead) {
  EXPECT_EQ(FormatDuration(milliseconds(1500)), "1500ms");
  EXPECT_EQ(FormatDuration(seconds(120)), "2m");
  EXPECT_EQ(FormatDuration(seconds(0)), "0s");
  EXPECT_EQ(FormatDuration(hours(2)), "2h");
}

TEST(ValuesTest, ListenAddresses) {
  for (const char* text : {"127.0.0.1:2000", "0.0.0.0:0", "[::1]:2000", "[fe80::1%eth0]:2000",
                           ":2000", "localhost:65535", "xray-daemon.kube-system_1:2000"}) {
    EXPECT_TRUE(IsListenAddress(text)) << text;
  }
  for (const char* text :
       {"", "2000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "::1:2000",
        "[::1]", "[::1:2000", "[]:2000", "[:2000", "256.0.0.1:2000", "1.2.3:2000", "a b:2000",
        "udp:127.0.0.1:2000", "[127.0.0.1]:2000", "[fe80::1%]:2000"}) {
    EXPECT_FALSE(IsListenAddress(text)) << text;
  }
}

TEST(ValuesTest, HttpUrls) {
  for (const char* text : {"http://127.0.0.1:5000", "https://xray.eu-west-1.amazonaws.com",
                           "https://[::1]:8443/base/path", "http://host/"}) {
    EXPECT_TRUE(IsHttpUrl(text)) << text;
  }
  for (const char* text :
       {"", "127.0.0.1:5000", "ftp://host", "HTTP://host", "http://", "http:///path",
        "http://host:0", "http://host:x", "http://host:", "http://user:pw@host", "http://host/?q=1",
        "http://host/#f", "http://ho st", "http://host\n", "http://[::1", "http://[::1]x",
        "http://[fe80::1%eth0]", "http://host/<x>"}) {
    EXPECT_FALSE(IsHttpUrl(text)) << text;
  }
}

TEST(ValuesTest, ProxyUrls) {
  for (const char* url :
       {"http://proxy:3128", "https://proxy.example", "http://proxy:3128/", "http://[::1]:1",
        "http://user@proxy:1", "http://user:p%40ss:w0rd!@proxy:1"}) {
    EXPECT_TRUE(IsProxyUrl(url)) << url;
  }
  for (const char* url : {"", "proxy:3128", "ftp://proxy", "http://", "http://proxy/path",
                          "http://@proxy", "http://:p@proxy", "http://u:p@", "http://u:p@x@proxy",
                          "http://u:p/w@proxy", "http://u p@proxy", "http://proxy:0",
                          "http://proxy?x", "http://u:100%@proxy", "http://u:%4x@proxy"}) {
    EXPECT_FALSE(IsProxyUrl(url)) << url;
  }
}

TEST(ValuesTest, PasswordsAreHidden) {
  EXPECT_EQ(HidePassword("http://user:secret@proxy:3128"), "http://user:***@proxy:3128");
  EXPECT_EQ(HidePassword("http://user:a@b:c@proxy"), "http://user:***@proxy");
  EXPECT_EQ(HidePassword("user:secret@proxy"), "user:***@proxy");
  EXPECT_EQ(HidePassword("http://user:a/b@proxy"), "http://user:***@proxy");
  EXPECT_EQ(HidePassword("http://proxy:3128"), "http://proxy:3128");
  EXPECT_EQ(HidePassword("http://user@proxy:3128"), "http://user@proxy:3128");
  EXPECT_EQ(HidePassword("http://${env:USER}:${file:/p/w}@proxy"),
            "http://${env:USER}:${file:/p/w}@proxy");
  EXPECT_EQ(HidePassword("http://u:x${env:PW}@proxy"), "http://u:***@proxy");
  EXPECT_EQ(HidePassword("http://u:${env:A}${env:B}@proxy"), "http://u:***@proxy");
  EXPECT_EQ(HidePassword("${env:PROXY:-http://u:p@x}"), "${env:PROXY:-http://u:p@x}");
  EXPECT_EQ(HidePassword("${env:PROXY"), "${env:PROXY");
  EXPECT_EQ(HidePassword(""), "");
}

TEST(ValuesTest, Modes) {
  EXPECT_EQ(ParseMode("0660"), 0660);
  EXPECT_EQ(ParseMode("0000"), 0);
  for (const char* text : {"", "660", "432", "1777", "0888", "06600", "0-66", " 066", "0x66"}) {
    EXPECT_FALSE(ParseMode(text)) << text;
  }
}

TEST(ValuesTest, WhatStsTakes) {
  for (const char* arn : {"arn:aws:iam::123456789012:role/a",
                          "arn:aws-cn:iam::123456789012:role/team/a+b=c,d.e@f-g_h"}) {
    EXPECT_TRUE(IsRoleArn(arn)) << arn;
  }
  for (const char* arn :
       {"", "arn:aws:iam::123456789012:role/", "arn:aws:iam::123456789012:role/a/",
        "arn:aws:iam::12345678901:role/a", "arn:aws:iam::1234567890123:role/a",
        "arn:aws:iam::123456789012:user/a", "arn::iam::123456789012:role/a",
        "arn:aws:sts::123456789012:assumed-role/a/b", "arn:aws:iam::123456789012:role/a b",
        "arn:aws:iam::", "arn:aws:iam::12345678901a:role/a", "arn:1:iam::123456789012:role/a",
        "xarn:aws:iam::123456789012:role/a"}) {
    EXPECT_FALSE(IsRoleArn(arn)) << arn;
  }
  EXPECT_TRUE(IsExternalId("a:/"));
  EXPECT_TRUE(IsExternalId(std::string(1224, 'a')));
  EXPECT_FALSE(IsExternalId(std::string(1225, 'a')));
  EXPECT_FALSE(IsExternalId("a"));
  EXPECT_TRUE(IsSessionName(std::string(64, 'a')));
  EXPECT_FALSE(IsSessionName(std::string(65, 'a')));
  EXPECT_FALSE(IsSessionName("a:b"));
  EXPECT_TRUE(IsTagText("Ümlaut 1_.:/=+-@", 1, 16));
  EXPECT_FALSE(IsTagText("Ümlaut 1_.:/=+-@", 1, 15));
  EXPECT_TRUE(IsTagText("", 0, 1));
  EXPECT_FALSE(IsTagText("", 1, 1));
  EXPECT_FALSE(IsTagText("a\xff", 1, 9));
  EXPECT_FALSE(IsTagText("a\tb", 1, 9));
  EXPECT_TRUE(IsSocketPath(std::string(107, 'a')));
  EXPECT_FALSE(IsSocketPath(std::string(108, 'a')));
}

TEST(ValuesTest, UnixUsers) {
  for (const char* good : {"mobula", "_x-ray", "10001", "10001:10001", "mobula:adm", "a.b"}) {
    EXPECT_TRUE(IsUnixUser(good)) << good;
  }
  for (const char* bad : {"", ":", "a:", ":b", "a:b:c", "-1", "a b", "a/b", ".a", "a:-b"}) {
    EXPECT_FALSE(IsUnixUser(bad)) << bad;
  }
  EXPECT_FALSE(IsUnixUser(std::string(65, 'a')));
}

}  // namespace
}  // namespace mobula

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
        "http://host/#f", "http://ho st", "http://host\n", "http://[::1", "http://[::1]x"}) {
    EXPECT_FALSE(IsHttpUrl(text)) << text;
  }
}

}  // namespace
}  // namespace mobula

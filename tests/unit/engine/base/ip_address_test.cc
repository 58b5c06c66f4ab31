// Tests of engine/base/ip_address.h.
#include "engine/base/ip_address.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>

namespace mobula {
namespace {

IpAddress Address(std::string_view text) {
  const auto address = ParseIpAddress(text);
  EXPECT_TRUE(address) << text;
  return address.value_or(IpAddress());
}

bool Holds(std::string_view network, std::string_view address) {
  const auto parsed = ParseIpNetwork(network);
  EXPECT_TRUE(parsed) << network;
  return parsed && parsed->Contains(Address(address));
}

TEST(IpAddressTest, Ipv4IsItsMappedForm) {
  EXPECT_EQ(Address("10.1.2.3"), Address("::ffff:10.1.2.3"));
  EXPECT_EQ(Address("10.1.2.3").low, 0xffff0a010203U);
  EXPECT_TRUE(Address("10.1.2.3").is_v4());
  EXPECT_FALSE(Address("::10.1.2.3").is_v4());
  EXPECT_EQ(Address("fd00:1::2").high, 0xfd00000100000000U);
  for (const char* text : {"", "10.1.2", "10.1.2.3.4", "010.1.2.3", "[::1]", "fe80::1%eth0",
                           "localhost", "10.1.2.3 ", "1.2.3.256"}) {
    EXPECT_FALSE(ParseIpAddress(text)) << text;
  }
  EXPECT_FALSE(ParseIpAddress(std::string_view("::1\0x", 5)));
}

TEST(IpAddressTest, KnowsLoopback) {
  for (const char* text : {"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"}) {
    EXPECT_TRUE(Address(text).is_loopback()) << text;
  }
  for (const char* text : {"128.0.0.1", "0.0.0.0", "::", "::2", "10.127.0.1", "::127.0.0.1"}) {
    EXPECT_FALSE(Address(text).is_loopback()) << text;
  }
}

TEST(IpAddressTest, ReadsSocketAddresses) {
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_addr.s_addr = inet_addr("10.1.2.3");
  EXPECT_EQ(IpAddressOf(reinterpret_cast<const sockaddr*>(&v4)), Address("10.1.2.3"));
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  ASSERT_EQ(inet_pton(AF_INET6, "::ffff:10.1.2.3", &v6.sin6_addr), 1);
  EXPECT_EQ(IpAddressOf(reinterpret_cast<const sockaddr*>(&v6)), Address("10.1.2.3"));
  v6.sin6_family = AF_UNIX;
  EXPECT_FALSE(IpAddressOf(reinterpret_cast<const sockaddr*>(&v6)));
  EXPECT_FALSE(IpAddressOf(nullptr));
}

TEST(IpNetworkTest, HoldsWhatSharesItsPrefix) {
  EXPECT_TRUE(Holds("10.0.0.0/8", "10.255.255.255"));
  EXPECT_FALSE(Holds("10.0.0.0/8", "11.0.0.0"));
  EXPECT_TRUE(Holds("10.0.0.0/8", "::ffff:10.0.0.1"));
  EXPECT_TRUE(Holds("::ffff:10.0.0.0/104", "10.9.9.9"));
  EXPECT_TRUE(Holds("0.0.0.0/0", "203.0.113.9"));
  EXPECT_FALSE(Holds("0.0.0.0/0", "::1"));
  EXPECT_FALSE(Holds("::/0", "203.0.113.9"));
  EXPECT_TRUE(Holds("::/0", "::1"));
  EXPECT_TRUE(Holds("fd00::/8", "fdff::1"));
  EXPECT_FALSE(Holds("fd00::/8", "fe00::1"));
  EXPECT_TRUE(Holds("2001:db8::/65", "2001:db8::7fff:0:0:1"));
  EXPECT_FALSE(Holds("2001:db8::/65", "2001:db8::8000:0:0:1"));
  EXPECT_TRUE(Holds("::1/128", "::1"));
  EXPECT_FALSE(Holds("10.1.2.3/32", "10.1.2.2"));
}

TEST(IpNetworkTest, TellsBitsBehindThePrefix) {
  bool cleared = true;
  EXPECT_TRUE(ParseIpNetwork("10.1.0.0/16", &cleared));
  EXPECT_FALSE(cleared);
  const auto network = ParseIpNetwork("10.1.2.3/16", &cleared);
  EXPECT_TRUE(cleared);
  EXPECT_EQ(network, ParseIpNetwork("10.1.0.0/16"));
  EXPECT_TRUE(ParseIpNetwork("fd00::1/64", &cleared));
  EXPECT_TRUE(cleared);
}

TEST(IpNetworkTest, IsTextAgain) {
  for (const char* text : {"10.0.0.0/8", "0.0.0.0/0", "192.0.2.1/32", "fd00::/8", "::/0", "::1/128",
                           "2001:db8:0:8000::/49"}) {
    EXPECT_EQ(ToString(*ParseIpNetwork(text)), text);
  }
  EXPECT_EQ(ToString(*ParseIpNetwork("10.9.9.9/8")), "10.0.0.0/8");
  EXPECT_EQ(ToString(*ParseIpNetwork("::ffff:10.0.0.0/104")), "10.0.0.0/8");
}

TEST(IpNetworkTest, RefusesWhatIsNone) {
  for (const char* text : {"", "/8", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1",
                           "10.0.0.0/8 ", "10.0.0.0/+8", "10.0.0/8", "fd00::/129", "fd00::",
                           "::ffff:10.0.0.0/8", "x/8", "10.0.0.0/8/8", "10.0.0.0/99999999999"}) {
    EXPECT_FALSE(ParseIpNetwork(text)) << text;
  }
}

// Bit by bit, on random networks and addresses that share a random number of bits with them.
TEST(IpNetworkTest, AgreesWithComparingBits) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 100'000; ++i) {
    const bool v4 = random() % 2 == 0;
    const unsigned width = v4 ? 32 : 128;
    in6_addr a{};
    for (unsigned b = 0; b < width / 8; ++b) a.s6_addr[b] = static_cast<uint8_t>(random());
    in6_addr b = a;
    const unsigned flipped = static_cast<unsigned>(random() % (width + 1));
    if (flipped < width) b.s6_addr[flipped / 8] ^= static_cast<uint8_t>(0x80 >> flipped % 8);
    const unsigned bits = static_cast<unsigned>(random() % (width + 1));
    char text[64];
    ASSERT_NE(inet_ntop(v4 ? AF_INET : AF_INET6, &a, text, sizeof text), nullptr);
    const std::string network = std::string(text) + "/" + std::to_string(bits);
    ASSERT_NE(inet_ntop(v4 ? AF_INET : AF_INET6, &b, text, sizeof text), nullptr);
    ASSERT_EQ(Holds(network, text), flipped >= bits) << network << " " << text;
  }
}

}  // namespace
}  // namespace mobula

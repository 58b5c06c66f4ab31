// Tests of engine/receive/source_gate.h, against tests/support/slow_source_gate.h where there is an exact answer.
#include "engine/receive/source_gate.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <string>

#include "tests/support/slow_source_gate.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using testing::AddressBytes;
using testing::SlowSourceGate;

constexpr Time kStart{std::chrono::hours(1)};
constexpr SourceGate::Key kKey = {0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9, 0x94d049bb133111eb,
                                  0xd6e8feb86659fd93, 0xa0761d6478bd642f, 0xe7037ed1a0b428db};

// A sender's address as the kernel gives it.
class Source {
 public:
  static Source V4(uint32_t address) {
    Source source;
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_addr.s_addr = htonl(address);
    v4.sin_port = htons(static_cast<uint16_t>(address * 7919));
    std::memcpy(&source.storage_, &v4, sizeof v4);
    return source;
  }
  static Source V6(const AddressBytes& bytes) {
    Source source;
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    std::memcpy(&v6.sin6_addr, bytes.data(), bytes.size());
    std::memcpy(&source.storage_, &v6, sizeof v6);
    return source;
  }
  static Source V6(const char* text) {
    AddressBytes bytes{};
    EXPECT_EQ(inet_pton(AF_INET6, text, bytes.data()), 1) << text;
    return V6(bytes);
  }

  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }

 private:
  sockaddr_storage storage_{};
};

SourceGate Gate(uint64_t rate, uint64_t burst = 0, uint64_t workers = 1) {
  return {SourceGate::Options{{}, rate, burst, workers}, kKey};
}

bool Passes(SourceGate* gate, const Source& source, Time now) {
  const RejectReason reason = gate->Judge(source.get(), now);
  EXPECT_TRUE(reason == RejectReason::kNone || reason == RejectReason::kRateLimited);
  return reason == RejectReason::kNone;
}

TEST(SourceGateTest, LetsOnlyTheListIn) {
  SourceGate gate({{*ParseIpNetwork("10.0.0.0/8"), *ParseIpNetwork("fd00::/8")}}, kKey);
  EXPECT_EQ(gate.Judge(Source::V4(0x0a010203).get(), kStart), RejectReason::kNone);
  EXPECT_EQ(gate.Judge(Source::V6("::ffff:10.1.2.3").get(), kStart), RejectReason::kNone);
  EXPECT_EQ(gate.Judge(Source::V6("fd00::1").get(), kStart), RejectReason::kNone);
  EXPECT_EQ(gate.Judge(Source::V4(0x0b010203).get(), kStart), RejectReason::kNotAllowed);
  EXPECT_EQ(gate.Judge(Source::V6("fe80::1").get(), kStart), RejectReason::kNotAllowed);
  EXPECT_EQ(gate.Judge(nullptr, kStart), RejectReason::kNotAllowed);
  sockaddr nameless{};
  nameless.sa_family = AF_UNIX;
  EXPECT_EQ(gate.Judge(&nameless, kStart), RejectReason::kNotAllowed);
}

TEST(SourceGateTest, GivesABurstAndThenTheRate) {
  SourceGate gate = Gate(10, 3);
  const Source one = Source::V4(1);
  const Source other = Source::V4(2);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Passes(&gate, one, kStart));
  EXPECT_FALSE(Passes(&gate, one, kStart));
  EXPECT_TRUE(Passes(&gate, other, kStart));
  EXPECT_FALSE(Passes(&gate, one, kStart + milliseconds(99)));
  EXPECT_TRUE(Passes(&gate, one, kStart + milliseconds(100)));
  EXPECT_FALSE(Passes(&gate, one, kStart + milliseconds(100)));
  // A long silence saves up no more than a burst.
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Passes(&gate, one, kStart + seconds(100)));
  EXPECT_FALSE(Passes(&gate, one, kStart + seconds(100)));
}

TEST(SourceGateTest, WithoutABurstASecondsWorth) {
  SourceGate gate = Gate(1000);
  int passed = 0;
  for (int i = 0; i < 5000; ++i) passed += Passes(&gate, Source::V4(1), kStart) ? 1 : 0;
  EXPECT_EQ(passed, 1000);
}

TEST(SourceGateTest, MappedIpv4IsTheSameSource) {
  SourceGate gate = Gate(1, 1);
  EXPECT_TRUE(Passes(&gate, Source::V4(0x0a010203), kStart));
  EXPECT_FALSE(Passes(&gate, Source::V6("::ffff:10.1.2.3"), kStart));
  EXPECT_TRUE(Passes(&gate, Source::V6("::10.1.2.3"), kStart));
}

TEST(SourceGateTest, NeighboursOfOneIpv6NetworkAreSources) {
  SourceGate gate = Gate(1, 1);
  EXPECT_TRUE(Passes(&gate, Source::V6("2001:db8:1:2::a"), kStart));
  EXPECT_TRUE(Passes(&gate, Source::V6("2001:db8:1:2::b"), kStart));
  EXPECT_FALSE(Passes(&gate, Source::V6("2001:db8:1:2::a"), kStart));
}

TEST(SourceGateTest, AgreesWithTheSlowModel) {
  std::mt19937_64 random(7);
  for (const uint64_t rate : {1U, 5U, 100U, 1000U, 20000U}) {
    const uint64_t burst = 1 + random() % 50;
    SourceGate gate({{*ParseIpNetwork("10.0.0.0/9"), *ParseIpNetwork("fd00::/8")}, rate, burst},
                    kKey);
    SlowSourceGate slow({{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10}, 105}, {{0xfd}, 8}}, rate,
                        burst);
    std::vector<AddressBytes> sources;
    for (int i = 0; i < 300; ++i) {
      AddressBytes bytes{};
      if (i % 2 == 0) {
        bytes = {
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, static_cast<uint8_t>(i % 20 == 0 ? 11 : 10)};
      } else {
        bytes = {static_cast<uint8_t>(i % 20 == 1 ? 0xfe : 0xfd)};
      }
      for (size_t b = 13; b < 16; ++b) bytes[b] = static_cast<uint8_t>(random());
      sources.push_back(bytes);
    }
    // Sources at very different rates, together about six times what a quarter of them may send.
    Time now = kStart;
    std::map<RejectReason, int> seen;
    for (int i = 0; i < 100'000; ++i) {
      now += nanoseconds(random() % (2 * 1'000'000'000 / (rate * 450)));
      if (random() % 1000 == 0) now += nanoseconds(random() % (5'000'000'000 / rate));
      const AddressBytes& source = sources[std::min(random() % 300, random() % 300)];
      const RejectReason expected = slow.Judge(source, now);
      ASSERT_EQ(gate.Judge(Source::V6(source).get(), now), expected) << "rate " << rate;
      ++seen[expected];
    }
    // The comparison would be worth little if one answer were rare.
    EXPECT_GT(seen[RejectReason::kNone], 2000) << rate;
    EXPECT_GT(seen[RejectReason::kRateLimited], 2000) << rate;
    EXPECT_GT(seen[RejectReason::kNotAllowed], 2000) << rate;
  }
}

// Any table of any size must not take it out on those that keep to their rate.
TEST(SourceGateTest, NeverRefusesASourceWithinItsRate) {
  std::mt19937_64 random(3);
  for (const uint64_t flooders : {10U, 1000U, 5000U, 1000000U}) {
    SourceGate gate = Gate(100, 20);
    Time now = kStart;
    int refused = 0;
    for (int i = 0; i < 400'000; ++i) {
      now += std::chrono::microseconds(125);
      (void)Passes(&gate, Source::V4(0x0a000000 + static_cast<uint32_t>(random() % flooders)), now);
      // 96 a second, in gusts of 16.
      if (i % 1334 < 16) refused += Passes(&gate, Source::V4(0xc0000201), now) ? 0 : 1;
    }
    EXPECT_EQ(refused, 0) << flooders;
  }
}

// Invented addresses by the hundred thousand do not hide the sender that sends most.
TEST(SourceGateTest, DrivesOutTheWorstLast) {
  std::mt19937_64 random(5);
  SourceGate gate = Gate(100, 50);
  Time now = kStart;
  int passed = 0;
  for (int i = 0; i < 300'000; ++i) {  // 30 seconds
    now += nanoseconds(100'000);
    (void)Passes(&gate, Source::V4(static_cast<uint32_t>(random())), now);
    if (i % 10 == 0) passed += Passes(&gate, Source::V4(0xc0000201), now) ? 1 : 0;
  }
  EXPECT_GE(passed, 30 * 100);
  EXPECT_LE(passed, 30 * 100 + 50);
}

// Every address of a /20 at once: the table has as many entries, but chance fills some sets twice.
TEST(SourceGateTest, ForgetsOnlyWhatDoesNotFit) {
  SourceGate gate = Gate(1, 1);
  constexpr uint32_t kSources = SourceGate::kSets * SourceGate::kWays;
  uint32_t again = 0;
  for (uint32_t i = 0; i < kSources; ++i) EXPECT_TRUE(Passes(&gate, Source::V4(i), kStart));
  for (uint32_t i = 0; i < kSources; ++i) again += Passes(&gate, Source::V4(i), kStart) ? 1 : 0;
  EXPECT_LT(again, kSources / 2);
  // As many as a node has pods all fit.
  SourceGate node = Gate(1, 1);
  again = 0;
  for (uint32_t i = 0; i < 737; ++i) EXPECT_TRUE(Passes(&node, Source::V4(i), kStart));
  for (uint32_t i = 0; i < 737; ++i) again += Passes(&node, Source::V4(i), kStart) ? 1 : 0;
  EXPECT_LE(again, 2U);
}

// The kernel gives each datagram to a worker by chance, each of which has a gate.
TEST(SourceGateTest, SharesTheRateAmongWorkers) {
  std::mt19937_64 random(11);
  for (const uint64_t workers : {2U, 8U, 64U}) {
    for (const uint64_t rate : {50U, 1000U}) {
      std::vector<SourceGate> gates(workers, Gate(rate, 0, workers));
      const auto run = [&](uint64_t sent_a_second, uint32_t source) {
        uint64_t passed = 0;
        for (uint64_t i = 0; i < sent_a_second * 60; ++i) {
          const Time now = kStart + nanoseconds(i * 1'000'000'000 / sent_a_second);
          passed += Passes(&gates[random() % workers], Source::V4(source), now) ? 1 : 0;
        }
        return passed;
      };
      EXPECT_EQ(run(rate / 2, 1), rate / 2 * 60) << workers << " " << rate;
      const uint64_t mad = run(rate * 10, 2);
      EXPECT_GE(mad, rate * 60);
      EXPECT_LE(mad, rate * 61 + workers * (SourceGate::kChance + 2)) << workers << " " << rate;
    }
  }
}

TEST(SourceGateTest, KeysAreNotAlike) {
  EXPECT_NE(SourceGate::RandomKey(), SourceGate::RandomKey());
}

}  // namespace
}  // namespace mobula

#include "engine/receive/udp_sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace mobula {
namespace {

UdpConfig At(const std::string& address) {
  UdpConfig config;
  config.address = address;
  return config;
}

UniqueFd Sender(int family, uint16_t port) {
  UniqueFd fd(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (family == AF_INET6) {
    sockaddr_in6 to{};
    to.sin6_family = AF_INET6;
    to.sin6_port = htons(port);
    to.sin6_addr = in6addr_loopback;
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
  } else {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
  }
  return fd;
}

bool Arrives(int fd) {
  pollfd p{fd, POLLIN, 0};
  char buffer[16];
  return poll(&p, 1, 5000) == 1 && recv(fd, buffer, sizeof buffer, 0) == 1;
}

TEST(UdpSocketsTest, BindsPortZeroAndTellsTheRealOne) {
  const auto sockets = OpenUdpSockets(At("127.0.0.1:0"), 1);
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  EXPECT_GT(sockets->port, 0);
  EXPECT_EQ(sockets->address, "127.0.0.1:" + std::to_string(sockets->port));
}

TEST(UdpSocketsTest, TakesBothFamiliesOnAnUnspecifiedAddress) {
  for (const char* address : {":0", "[::]:0"}) {
    const auto sockets = OpenUdpSockets(At(address), 1);
    ASSERT_TRUE(sockets.ok()) << sockets.status();
    const int fd = sockets->by_worker[0][0].get();
    for (const int family : {AF_INET, AF_INET6}) {
      const UniqueFd sender = Sender(family, sockets->port);
      ASSERT_EQ(send(sender.get(), "x", 1, 0), 1);
      EXPECT_TRUE(Arrives(fd)) << address;
    }
  }
}

TEST(UdpSocketsTest, TakesHostNamesAndIpv6) {
  EXPECT_TRUE(OpenUdpSockets(At("localhost:0"), 1).ok());
  const auto six = OpenUdpSockets(At("[::1]:0"), 1);
  ASSERT_TRUE(six.ok()) << six.status();
  EXPECT_EQ(six->address.substr(0, 6), "[::1]:");
  const auto nowhere = OpenUdpSockets(At("no-such-host.invalid:2000"), 1);
  EXPECT_EQ(nowhere.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(nowhere.status().message().find("no-such-host.invalid:2000"), std::string::npos);
}

TEST(UdpSocketsTest, RefusesATakenPortAlsoWhenItIsShared) {
  for (const int workers : {1, 2}) {
    const auto first = OpenUdpSockets(At("127.0.0.1:0"), workers);
    ASSERT_TRUE(first.ok());
    for (const int other : {1, 2}) {
      const auto second = OpenUdpSockets(At(first->address), other);
      EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists) << second.status();
    }
  }
}

TEST(UdpSocketsTest, WaitsForAPortThatIsBeingFreed) {
  auto first = OpenUdpSockets(At("127.0.0.1:0"), 1);
  ASSERT_TRUE(first.ok());
  std::thread killed([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    first->by_worker.clear();
  });
  EXPECT_TRUE(OpenUdpSockets(At(first->address), 1).ok());
  killed.join();
}

// How many datagrams wait in each of its sockets; they are taken.
std::vector<int> Waiting(const UdpSockets& sockets) {
  std::vector<int> counts;
  for (const auto& worker : sockets.by_worker) {
    for (const UniqueFd& fd : worker) {
      char buffer[16];
      int got = 0;
      while (recv(fd.get(), buffer, sizeof buffer, MSG_DONTWAIT) == 1) ++got;
      counts.push_back(got);
    }
  }
  return counts;
}

int Sum(const std::vector<int>& counts) { return std::accumulate(counts.begin(), counts.end(), 0); }

// `n` datagrams of several senders: the kernel's hash sends all of one to the same socket.
void Blast(const UdpSockets& to, int n) {
  const int family = to.address.front() == '[' ? AF_INET6 : AF_INET;
  std::vector<UniqueFd> senders;
  for (int i = 0; i < 16; ++i) senders.push_back(Sender(family, to.port));
  for (int i = 0; i < n; ++i) {
    const size_t by = static_cast<size_t>(i) % senders.size();
    ASSERT_EQ(send(senders[by].get(), "x", 1, 0), 1);
  }
}

struct Change {
  std::string address;
  int before;  // workers
  int after;
};

// The sign of the agent that has the sockets, looked after.
class Sign {
 public:
  explicit Sign(const UdpSockets& of) {
    size_t sockets = 0;
    for (const auto& worker : of.by_worker) sockets += worker.size();
    absl::StatusOr<PortHolder> shown = PortHolder::Show(of.address, sockets);
    EXPECT_TRUE(shown.ok()) << shown.status();
    thread_ = std::jthread([holder = *std::move(shown)](const std::stop_token& stop) mutable {
      while (!stop.stop_requested()) {
        holder.Tend();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    });
  }

 private:
  std::jthread thread_;
};

class TakeoverTest : public ::testing::TestWithParam<Change> {
 protected:
  void SetUp() override {
    absl::StatusOr<UdpSockets> opened = OpenUdpSockets(At(GetParam().address), GetParam().before);
    ASSERT_TRUE(opened.ok()) << opened.status();
    old_ = *std::move(opened);
    sign_.emplace(old_);
  }
  void OpenNext() {
    absl::StatusOr<UdpSockets> opened =
        OpenUdpSockets(At(old_.address), GetParam().after, PortUse::kShared);
    ASSERT_TRUE(opened.ok()) << opened.status();
    next_ = *std::move(opened);
    ASSERT_TRUE(next_.predecessor.has_value());
    EXPECT_EQ(next_.address, old_.address);
    EXPECT_EQ(next_.by_worker.size(),
              static_cast<size_t>(std::min(GetParam().before, GetParam().after)));
    EXPECT_EQ(next_.warnings.size(), GetParam().before == GetParam().after ? 0U : 1U);
  }
  void StopOld() {
    for (const auto& worker : old_.by_worker) {
      for (const UniqueFd& fd : worker) StopArrivals(std::array{fd.get()});
    }
  }
  [[nodiscard]] UniqueFd OneSender() const {
    return Sender(old_.address.front() == '[' ? AF_INET6 : AF_INET, old_.port);
  }
  static void ExpectSpread(const UniqueFd& sender, const UdpSockets& over) {
    for (int i = 0; i < 400; ++i) ASSERT_EQ(send(sender.get(), "x", 1, 0), 1);
    const std::vector<int> counts = Waiting(over);
    EXPECT_EQ(Sum(counts), 400);
    for (const int count : counts) EXPECT_GT(count, 40) << "one sender, over all sockets";
  }

  UdpSockets old_;
  UdpSockets next_;
  std::optional<Sign> sign_;
};

TEST_P(TakeoverTest, ArrivalsChangeSidesWhenTheOldOneStops) {
  OpenNext();
  Blast(old_, 400);
  EXPECT_EQ(Sum(Waiting(next_)), 0) << "it is not ready";
  EXPECT_EQ(Sum(Waiting(old_)), 400);

  Blast(old_, 400);
  StopOld();
  Blast(next_, 400);
  EXPECT_EQ(Sum(Waiting(old_)), 400) << "what it held when it stopped";
  EXPECT_EQ(Sum(Waiting(next_)), 400);

  const UniqueFd sender = OneSender();
  ExpectSpread(sender, next_);
  old_.by_worker.clear();
  sign_.reset();
  EXPECT_TRUE(next_.predecessor->Gone());
  ExpectSpread(sender, next_);
}

TEST_P(TakeoverTest, ASuccessorThatFailsLeavesTheOldOneAsItWas) {
  OpenNext();
  next_ = {};
  ExpectSpread(OneSender(), old_);
}

TEST_P(TakeoverTest, ASuccessorThatGivesUpLeavesTheOldOneAsItWas) {
  OpenNext();
  for (const auto& worker : next_.by_worker) {
    for (const UniqueFd& fd : worker) StopArrivals(std::array{fd.get()});
  }
  ExpectSpread(OneSender(), old_);
  next_ = {};
  ExpectSpread(OneSender(), old_);
}

TEST_P(TakeoverTest, TheSuccessorOfOneThatWasKilledReceives) {
  OpenNext();
  old_.by_worker.clear();
  ExpectSpread(OneSender(), next_);
}

TEST_P(TakeoverTest, OneAfterTheOther) {
  for (int round = 0; round < 5; ++round) {
    OpenNext();
    Blast(old_, 100);
    StopOld();
    Blast(next_, 100);
    EXPECT_EQ(Sum(Waiting(old_)), 100);
    old_ = std::move(next_);
    old_.predecessor.reset();
    EXPECT_EQ(Sum(Waiting(old_)), 100);
    sign_.reset();
    sign_.emplace(old_);
    if (GetParam().before != GetParam().after) break;
  }
}

INSTANTIATE_TEST_SUITE_P(Changes, TakeoverTest,
                         ::testing::Values(Change{"127.0.0.1:0", 1, 1}, Change{"127.0.0.1:0", 2, 2},
                                           Change{"0.0.0.0:0", 1, 1}, Change{"0.0.0.0:0", 2, 3},
                                           Change{"0.0.0.0:0", 3, 1}, Change{"[::1]:0", 1, 2},
                                           Change{":0", 2, 2}));

// It hangs: its successor has as many sockets as it would have had alone.
TEST(UdpSocketsTest, AnAgentThatDoesNotAnswerIsTakenOverTheSame) {
  const auto first = OpenUdpSockets(At("127.0.0.1:0"), 1);
  ASSERT_TRUE(first.ok());
  const auto silent = PortHolder::Show(first->address, 1);
  ASSERT_TRUE(silent.ok());
  const auto second = OpenUdpSockets(At(first->address), 2, PortUse::kShared);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(second->predecessor.has_value());
  EXPECT_EQ(second->by_worker.size(), 2U);
}

TEST(UdpSocketsTest, SharesWithAnAgentOnly) {
  const auto first = OpenUdpSockets(At("127.0.0.1:0"), 1);
  ASSERT_TRUE(first.ok());
  // It does not show that it is one.
  const auto second = OpenUdpSockets(At(first->address), 1, PortUse::kShared);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists) << second.status();
}

TEST(UdpSocketsTest, WithoutAPredecessorASharedPortIsOnesOwn) {
  const auto first = OpenUdpSockets(At("127.0.0.1:0"), 1, PortUse::kShared);
  ASSERT_TRUE(first.ok());
  EXPECT_FALSE(first->predecessor.has_value());
  EXPECT_EQ(OpenUdpSockets(At(first->address), 1).status().code(),
            absl::StatusCode::kAlreadyExists);
}

TEST(UdpSocketsTest, SpreadsOneSenderOverAllSockets) {
  const auto sockets = OpenUdpSockets(At("127.0.0.1:0"), 4);
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  ASSERT_EQ(sockets->by_worker.size(), 4U);
  const UniqueFd sender = Sender(AF_INET, sockets->port);
  for (int i = 0; i < 400; ++i) ASSERT_EQ(send(sender.get(), "x", 1, 0), 1);
  int sum = 0;
  for (const auto& worker : sockets->by_worker) {
    int got = 0;
    char buffer[16];
    while (recv(worker[0].get(), buffer, sizeof buffer, MSG_DONTWAIT) == 1) ++got;
    EXPECT_GT(got, 40);
    sum += got;
  }
  EXPECT_EQ(sum, 400);
}

TEST(UdpSocketsTest, CountsWhatTheKernelDrops) {
  UdpConfig config = At("127.0.0.1:0");
  config.receive_buffer = 16384;
  config.sockets = 1;
  const auto sockets = OpenUdpSockets(config, 1);
  ASSERT_TRUE(sockets.ok());
  const int fd = sockets->by_worker[0][0].get();
  const UniqueFd sender = Sender(AF_INET, sockets->port);
  for (int i = 0; i < 200; ++i) ASSERT_EQ(send(sender.get(), "x", 1, 0), 1);
  uint64_t held = 0;
  char buffer[16];
  while (recv(fd, buffer, sizeof buffer, MSG_DONTWAIT) == 1) ++held;
  EXPECT_GT(KernelDrops(fd), 0U);
  EXPECT_EQ(held + KernelDrops(fd), 200U);
}

TEST(UdpSocketsTest, WarnsWithTheSysctlWhenTheKernelGivesLess) {
  UdpConfig config = At("127.0.0.1:0");
  // More than any kernel gives one socket, privileged or not.
  config.receive_buffer = 1ULL << 40;
  config.sockets = 1;
  const auto sockets = OpenUdpSockets(config, 1);
  ASSERT_TRUE(sockets.ok());
  ASSERT_EQ(sockets->warnings.size(), 1U);
  EXPECT_NE(sockets->warnings[0].find("sysctl -w net.core.rmem_max=549755813888"),
            std::string::npos)
      << sockets->warnings[0];
}

TEST(UdpSocketsTest, UsesSeveralSocketsWhereOneCannotBeLarge) {
  UdpConfig config = At("127.0.0.1:0");
  config.sockets = 3;
  const auto sockets = OpenUdpSockets(config, 2);
  ASSERT_TRUE(sockets.ok());
  EXPECT_EQ(sockets->by_worker[0].size(), 3U);
  EXPECT_EQ(sockets->by_worker[1].size(), 3U);
}

TEST(UdpSocketsTest, TrueSizeMatchesTheMeasuredTable) {
  EXPECT_EQ(TrueSize(300), 1280U);
  EXPECT_EQ(TrueSize(700), 2304U);
  EXPECT_EQ(TrueSize(2000), 4352U);
  EXPECT_EQ(TrueSize(4000), 8448U);
  EXPECT_EQ(TrueSize(16000), 16640U);
}

TEST(UdpSocketsTest, WorkerCounts) {
  EXPECT_EQ(WorkerCount(0, 1), 1);
  EXPECT_EQ(WorkerCount(0, 7), 1);
  EXPECT_EQ(WorkerCount(0, 8), 1);
  EXPECT_EQ(WorkerCount(0, 16), 2);
  EXPECT_EQ(WorkerCount(0, 192), 8);
  EXPECT_EQ(WorkerCount(-1, 6), 6);
  EXPECT_EQ(WorkerCount(3, 2), 3);
}

TEST(UdpSocketsTest, AdoptsThoseOfSomebodyElseAsTheyAreBound) {
  UdpConfig config = At("127.0.0.1:2000");
  config.receive_buffer = 64 << 10;
  auto bound = OpenUdpSockets(At("127.0.0.1:0"), 3);
  ASSERT_TRUE(bound.ok()) << bound.status();
  std::vector<UniqueFd> handed;
  for (const auto& worker : bound->by_worker) {
    handed.emplace_back(fcntl(worker[0].get(), F_DUPFD_CLOEXEC, 0));
  }
  const auto adopted = AdoptUdpSockets(config, 2, std::move(handed));
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  EXPECT_TRUE(adopted->inherited);
  EXPECT_EQ(adopted->address, bound->address);
  EXPECT_EQ(adopted->port, bound->port);
  EXPECT_EQ(adopted->receive_buffer, config.receive_buffer);
  ASSERT_EQ(adopted->by_worker.size(), 2U);
  EXPECT_EQ(adopted->by_worker[0].size(), 2U);
  EXPECT_EQ(adopted->by_worker[1].size(), 1U);
  ASSERT_EQ(adopted->warnings.size(), 1U) << "of another address than configured";
  EXPECT_NE(adopted->warnings[0].find("127.0.0.1:2000"), std::string::npos);
  EXPECT_NE(adopted->warnings[0].find(bound->address), std::string::npos);
}

TEST(UdpSocketsTest, TellsWhatAdoptedSocketsDroppedBefore) {
  const auto bound = OpenUdpSockets(At("127.0.0.1:0"), 1);
  ASSERT_TRUE(bound.ok()) << bound.status();
  UdpConfig config = At(bound->address);
  config.receive_buffer = 64 << 10;
  const int fd = bound->by_worker[0][0].get();
  const int small = 1;
  ASSERT_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
  const UniqueFd sender = Sender(AF_INET, bound->port);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(send(sender.get(), "x", 1, 0), 1);
  ASSERT_GT(KernelDrops(fd), 0U);
  std::vector<UniqueFd> handed;
  handed.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  const auto adopted = AdoptUdpSockets(config, 1, std::move(handed));
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  ASSERT_EQ(adopted->warnings.size(), 1U);
  EXPECT_NE(adopted->warnings[0].find("dropped " + std::to_string(KernelDrops(fd))),
            std::string::npos)
      << adopted->warnings[0];
}

}  // namespace
}  // namespace mobula

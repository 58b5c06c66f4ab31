#include "engine/receive/udp_sockets.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <string>
#include <thread>

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

}  // namespace
}  // namespace mobula

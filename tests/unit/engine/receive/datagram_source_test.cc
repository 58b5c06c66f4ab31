#include "engine/receive/datagram_source.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <set>
#include <string>
#include <thread>

#include "engine/base/unique_fd.h"
#include "engine/receive/udp_sockets.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Time Now() { return std::chrono::steady_clock::now(); }

// Both engines pass the same tests; where the kernel refuses io_uring its half is skipped, with the reason.
class DatagramSourceTest : public ::testing::TestWithParam<ReceiveEngine> {
 protected:
  void SetUp() override {
    std::string why;
    const absl::StatusOr<ReceiveEngine> engine = ChooseEngine(GetParam(), &why);
    if (!engine.ok()) GTEST_SKIP() << engine.status().message();
    Open(1);
  }

  void Open(int sockets_per_worker) {
    source_.reset();
    UdpConfig config;
    config.address = "127.0.0.1:0";
    config.sockets = sockets_per_worker;
    absl::StatusOr<UdpSockets> sockets = OpenUdpSockets(config, 1);
    ASSERT_TRUE(sockets.ok()) << sockets.status();
    sockets_ = *std::move(sockets);
    fds_.clear();
    for (const UniqueFd& fd : sockets_.by_worker[0]) fds_.push_back(fd.get());
    absl::StatusOr<std::unique_ptr<DatagramSource>> source = OpenDatagramSource(GetParam(), fds_);
    ASSERT_TRUE(source.ok()) << source.status();
    source_ = *std::move(source);
    sender_ = UniqueFd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const int size = 8 << 20;
    setsockopt(sender_.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(sockets_.port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(connect(sender_.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
  }
  void Send(std::string_view bytes) {
    ASSERT_EQ(send(sender_.get(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
  }
  // Receives until `n` datagrams came or five seconds passed.
  std::vector<std::string> Take(size_t n) {
    std::vector<std::string> got;
    std::array<Datagram, DatagramSource::kSlots> datagrams;
    for (const Time end = Now() + seconds(5); got.size() < n && Now() < end;) {
      const size_t count = source_->Receive(datagrams);
      for (size_t i = 0; i < count; ++i) {
        EXPECT_FALSE(datagrams[i].truncated);
        EXPECT_NE(datagrams[i].source, nullptr);
        got.emplace_back(datagrams[i].data, datagrams[i].size);
      }
      source_->Recycle();
      if (count == 0) source_->Wait(milliseconds(50));
    }
    return got;
  }

  UdpSockets sockets_;
  std::vector<int> fds_;
  std::unique_ptr<DatagramSource> source_;
  UniqueFd sender_;
};

TEST_P(DatagramSourceTest, BringsEveryDatagramOnceInOrderAndWhole) {
  std::vector<std::string> sent;
  for (size_t i = 0; i < 500; ++i) {
    sent.push_back(std::to_string(i) + std::string(i * 7 % 3000, 'x'));
    Send(sent.back());
  }
  EXPECT_EQ(Take(500), sent);
  EXPECT_EQ(KernelDrops(fds_[0]), 0U);
}

TEST_P(DatagramSourceTest, BringsTheLargestAndTheEmptyDatagram) {
  const std::string largest(65507, 'L');
  Send(largest);
  Send("");
  Send("after");
  EXPECT_EQ(Take(3), (std::vector<std::string>{largest, "", "after"}));
}

TEST_P(DatagramSourceTest, TellsTheSender) {
  Send("x");
  std::array<Datagram, DatagramSource::kSlots> datagrams;
  size_t count = 0;
  for (const Time end = Now() + seconds(5); count == 0 && Now() < end;) {
    source_->Recycle();
    source_->Wait(milliseconds(50));
    count = source_->Receive(datagrams);
  }
  ASSERT_EQ(count, 1U);
  sockaddr_in own{};
  socklen_t length = sizeof own;
  getsockname(sender_.get(), reinterpret_cast<sockaddr*>(&own), &length);
  ASSERT_EQ(datagrams[0].source->sa_family, AF_INET);
  EXPECT_EQ(reinterpret_cast<const sockaddr_in*>(datagrams[0].source)->sin_port, own.sin_port);
  source_->Recycle();
}

// More than there are slots, taken in one go: slots are recycled and nothing is lost or mixed up.
TEST_P(DatagramSourceTest, TakesManyMoreThanItHasSlots) {
  std::set<std::string> sent;
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 400; ++i) {
      const std::string text = std::to_string(round * 1000 + i);
      sent.insert(text);
      Send(text);
    }
    const std::vector<std::string> got = Take(400);
    for (const std::string& text : got) sent.erase(text);
  }
  EXPECT_TRUE(sent.empty()) << sent.size() << " lost";
}

TEST_P(DatagramSourceTest, WaitEndsByADatagramByWakeAndByTime) {
  const Time before = Now();
  source_->Wait(milliseconds(30));
  EXPECT_GE(Now() - before, milliseconds(25));
  std::thread waker([this] {
    std::this_thread::sleep_for(milliseconds(20));
    source_->Wake();
  });
  source_->Wait(seconds(10));
  waker.join();
  Send("x");
  source_->Wait(seconds(10));
  EXPECT_EQ(Take(1).size(), 1U);
  EXPECT_LT(Now() - before, seconds(9));
}

TEST_P(DatagramSourceTest, ReadsSeveralSockets) {
  Open(4);
  ASSERT_EQ(fds_.size(), 4U);
  for (int i = 0; i < 400; ++i) Send(std::to_string(i));
  EXPECT_EQ(Take(400).size(), 400U);
}

// All sockets hold more than there are slots together: one drain still takes everything.
TEST_P(DatagramSourceTest, OneDrainEmptiesManyFullSockets) {
  Open(8);
  for (int i = 0; i < 1600; ++i) Send("x");
  std::array<Datagram, DatagramSource::kSlots> datagrams;
  source_->Wait(milliseconds(100));
  size_t sum = 0;
  while (const size_t count = source_->Receive(datagrams)) {
    sum += count;
    source_->Recycle();
  }
  EXPECT_EQ(sum, 1600U);
}

TEST_P(DatagramSourceTest, StopArrivalsKeepsWhatTheKernelHolds) {
  for (int i = 0; i < 100; ++i) Send("held");
  StopArrivals(fds_);
  (void)send(sender_.get(), "late", 4, 0);
  EXPECT_EQ(Take(100), std::vector<std::string>(100, "held"));
  source_->Wait(milliseconds(20));
  std::array<Datagram, DatagramSource::kSlots> datagrams;
  EXPECT_EQ(source_->Receive(datagrams), 0U);
}

// What comes after is for whoever reads the socket next; what was taken before is not lost.
TEST_P(DatagramSourceTest, ReleaseLeavesTheSocketToOthers) {
  constexpr int kEach = 100;
  for (int i = 0; i < kEach; ++i) Send(std::to_string(i));
  std::set<std::string> got;
  for (const std::string& text : Take(kEach / 2)) got.insert(text);
  source_->Release();
  for (int i = kEach; i < 2 * kEach; ++i) Send(std::to_string(i));
  std::array<Datagram, DatagramSource::kSlots> datagrams;
  while (const size_t count = source_->Receive(datagrams)) {
    for (size_t i = 0; i < count; ++i) got.emplace(datagrams[i].data, datagrams[i].size);
    source_->Recycle();
  }
  for (int i = 2 * kEach; i < 3 * kEach; ++i) Send(std::to_string(i));
  EXPECT_EQ(source_->Receive(datagrams), 0U);
  char text[16];
  for (ssize_t size = 0; (size = recv(fds_[0], text, sizeof text, MSG_DONTWAIT)) > 0;) {
    EXPECT_TRUE(got.emplace(text, static_cast<size_t>(size)).second) << "twice";
  }
  EXPECT_EQ(got.size(), size_t{3} * kEach);
}

// Its port is free at once, which it is not while a request of a ring holds the socket.
TEST_P(DatagramSourceTest, AReleasedSocketIsGoneWhenItIsClosed) {
  Send("x");
  ASSERT_EQ(Take(1).size(), 1U);
  source_->Release();
  std::array<Datagram, DatagramSource::kSlots> datagrams;
  EXPECT_EQ(source_->Receive(datagrams), 0U);
  sockets_.by_worker.clear();
  sockaddr_in own{};
  own.sin_family = AF_INET;
  own.sin_port = htons(sockets_.port);
  own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const UniqueFd next(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(bind(next.get(), reinterpret_cast<const sockaddr*>(&own), sizeof own), 0);
}

INSTANTIATE_TEST_SUITE_P(Engines, DatagramSourceTest,
                         ::testing::Values(ReceiveEngine::kIoUring, ReceiveEngine::kRecvmmsg),
                         [](const auto& p) { return std::string(ReceiveEngineName(p.param)); });

}  // namespace
}  // namespace mobula

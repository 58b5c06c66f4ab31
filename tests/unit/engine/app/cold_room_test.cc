// The room alone: what it does while its port is taken, and while its thread hangs.
#include "engine/app/cold_room.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <future>
#include <thread>

#include "engine/base/log.h"
#include "engine/base/unique_fd.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Time Now() { return std::chrono::steady_clock::now(); }

template <typename F>
bool Eventually(F condition) {
  const Time end = Now() + seconds(20);
  while (!condition()) {
    if (Now() > end) return false;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return true;
}

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bool Accepts(uint16_t port) {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in to = Loopback(port);
  return connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0;
}

class ColdRoomTest : public ::testing::Test {
 protected:
  ColdRoomTest() {
    BackendConfig backend;
    backend.name = "sink";
    backend.settings = NullBackendConfig{};
    config_.backends.push_back(backend);
  }

  // Takes a port that is then the room's.
  void Make() {
    taken_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof address;
    ASSERT_EQ(bind(taken_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    ASSERT_EQ(listen(taken_.get(), 1), 0);
    ASSERT_EQ(getsockname(taken_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    config_.proxy.address = "127.0.0.1:" + std::to_string(port_);
    room_ = std::make_unique<ColdRoom>(config_, log_.get());
    room_->Run();
  }
  // Waits until the thread has done everything that was asked of it.
  void Settle() {
    std::promise<void> done;
    room_->aws()->loop()->Post([&] { done.set_value(); });
    done.get_future().wait();
  }

  std::string lines_;
  std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
  Config config_;
  UniqueFd taken_;
  uint16_t port_ = 0;
  std::unique_ptr<ColdRoom> room_;
};

TEST_F(ColdRoomTest, APortThatWasTakenAtTheStartIsHadWhenItIsFree) {
  Make();
  ASSERT_TRUE(room_->OpenSamplingPort("127.0.0.1:2000").ok());
  EXPECT_NE(room_->sampling_fault(), "");
  const Time later = Now() + seconds(6);
  room_->Housekeep(later);
  Settle();
  EXPECT_NE(room_->sampling_fault(), "");
  taken_.reset();
  room_->Housekeep(later + seconds(1));
  Settle();
  EXPECT_FALSE(Accepts(port_)) << "five seconds are between two tries";
  room_->Housekeep(later + seconds(6));
  EXPECT_TRUE(Eventually([&] { return room_->sampling_fault().empty(); }));
  EXPECT_TRUE(Accepts(port_));
}

TEST_F(ColdRoomTest, ThatACertificateIsNotCheckedIsSaidEachMinute) {
  Time now = Now();
  log_ = Log::ForTesting(&lines_, {}, [&now] { return now; });
  XrayBackendConfig xray;
  xray.tls.verify = false;
  config_.backends.front().settings = xray;
  config_.backends.push_back({"checked", 0, XrayBackendConfig()});
  ColdRoom room(config_, log_.get());
  const auto said = [this] {
    size_t count = 0;
    for (size_t at = 0; (at = lines_.find("is not checked", at)) != std::string::npos; ++at)
      ++count;
    return count;
  };
  for (int second = 0; second <= 120; ++second) {
    room.Housekeep(now);
    EXPECT_EQ(said(), static_cast<size_t>(1 + second / 60)) << second;
    now += seconds(1);
  }
  EXPECT_NE(lines_.find("The certificate of backend sink is not checked (tls.verify: false)"),
            std::string::npos)
      << lines_;
  config_.of_daemon = true;
  now += seconds(60);
  ColdRoom daemon(config_, log_.get());
  daemon.Housekeep(now);
  EXPECT_NE(lines_.find("(NoVerifySSL)"), std::string::npos);
}

TEST_F(ColdRoomTest, APortThatWasClosedStaysClosed) {
  Make();
  ASSERT_TRUE(room_->OpenSamplingPort("127.0.0.1:2000").ok());
  room_->CloseSamplingPort();
  taken_.reset();
  for (int i = 1; i <= 3; ++i) room_->Housekeep(Now() + i * seconds(10));
  Settle();
  EXPECT_FALSE(Accepts(port_));
}

TEST_F(ColdRoomTest, AThreadThatHangsHoldsUpNothing) {
  Make();
  taken_.reset();
  std::promise<void> release;
  room_->aws()->loop()->Post([&] { release.get_future().wait(); });
  const Time begin = Now();
  EXPECT_TRUE(room_->OpenSamplingPort("127.0.0.1:2000").ok());
  room_->Housekeep(Now());
  room_->CloseSamplingPort();
  room_->FlushTelemetry(Now());
  EXPECT_FALSE(room_->Stop(Now() + milliseconds(20)));
  EXPECT_LT(Now() - begin, seconds(6));
  release.set_value();
  EXPECT_TRUE(room_->Stop(Now() + seconds(20)));
  EXPECT_FALSE(Accepts(port_));
}

TEST_F(ColdRoomTest, CountersMayBeReadWhileThePortOpens) {
  Make();
  taken_.reset();
  std::atomic<bool> end{false};
  std::thread reader([&] {
    while (!end) {
      if (const SamplingProxyStats* stats = room_->sampling_stats()) {
        EXPECT_EQ(stats->local.value(), 0U);
      }
    }
  });
  ASSERT_TRUE(room_->OpenSamplingPort("127.0.0.1:2000").ok());
  EXPECT_NE(room_->sampling_stats(), nullptr);
  end = true;
  reader.join();
}

}  // namespace
}  // namespace mobula

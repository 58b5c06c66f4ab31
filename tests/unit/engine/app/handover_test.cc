// Both sides in one process: what the successor sends its predecessor, SIGTERM, comes back here.
#include "engine/app/handover.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <array>
#include <chrono>
#include <future>
#include <memory>
#include <string>

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// An agent as far as ports go.
struct Agent {
  explicit Agent(Log* log) : handover(&sockets, log) {}

  void Open() {
    absl::StatusOr<UdpSockets> opened = OpenUdpSockets(At("127.0.0.1:0"), 1);
    ASSERT_TRUE(opened.ok()) << opened.status();
    sockets = *std::move(opened);
  }
  // Beside `other`, which says how many sockets it has.
  void OpenBeside(Agent* other) {
    auto opening = std::async(std::launch::async, [&] {
      return OpenUdpSockets(At(other->sockets.address), 1, PortUse::kShared);
    });
    while (opening.wait_for(milliseconds(1)) != std::future_status::ready) {
      other->handover.Step(std::chrono::steady_clock::now());
    }
    absl::StatusOr<UdpSockets> opened = opening.get();
    ASSERT_TRUE(opened.ok()) << opened.status();
    sockets = *std::move(opened);
  }
  static UdpConfig At(const std::string& address) {
    UdpConfig config;
    config.address = address;
    return config;
  }
  void End() {
    StopArrivals(std::array{sockets.by_worker[0][0].get()});
    sockets.by_worker.clear();
    handover.LetGo();
  }

  UdpSockets sockets;
  Handover handover;
};

class HandoverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    sigemptyset(&term_);
    sigaddset(&term_, SIGTERM);
    ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &term_, nullptr), 0);
    first_.Open();
    first_.handover.Begin(now_);
  }
  void TearDown() override { EXPECT_FALSE(WasAsked()); }
  // Whether SIGTERM came since the last time.
  [[nodiscard]] bool WasAsked() const {
    const timespec none{};
    return sigtimedwait(&term_, nullptr, &none) == SIGTERM;
  }
  [[nodiscard]] bool Told(const std::string& words) const {
    return lines_.find(words) != std::string::npos;
  }

  sigset_t term_{};
  const Time now_ = std::chrono::steady_clock::now();
  std::string lines_;
  const std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
  Agent first_{log_.get()};
};

TEST_F(HandoverTest, TheOtherIsAskedWhenThisOneIsReady) {
  EXPECT_FALSE(first_.handover.taking_over());
  Agent second(log_.get());
  second.OpenBeside(&first_);
  EXPECT_TRUE(second.handover.taking_over());
  second.handover.Step(now_);
  EXPECT_FALSE(WasAsked()) << "it is not ready";
  second.handover.Begin(now_);
  EXPECT_TRUE(WasAsked());
  second.handover.Step(now_ + seconds(1));
  EXPECT_TRUE(second.handover.taking_over());
  EXPECT_FALSE(Told("has not let go"));
  second.handover.Step(now_ + seconds(11));
  EXPECT_TRUE(Told("has not let go"));
  EXPECT_FALSE(Told("Took udp"));
  first_.End();
  second.handover.Step(now_ + seconds(12));
  EXPECT_FALSE(second.handover.taking_over());
  EXPECT_TRUE(Told("Took udp"));

  Agent third(log_.get());
  third.OpenBeside(&second);
  third.handover.Begin(now_);
  EXPECT_TRUE(WasAsked()) << "the second can be found as the first was";
}

TEST_F(HandoverTest, OneThatEndsBeforeIsNotAsked) {
  Agent second(log_.get());
  second.OpenBeside(&first_);
  first_.End();
  second.handover.Begin(now_);
  EXPECT_FALSE(WasAsked());
  second.handover.Step(now_);
  EXPECT_FALSE(second.handover.taking_over());
  EXPECT_TRUE(Told("Took udp"));
}

TEST_F(HandoverTest, OfTwoSuccessorsTheSlowerTakesOverFromTheFaster) {
  Agent second(log_.get());
  Agent third(log_.get());
  second.OpenBeside(&first_);
  third.OpenBeside(&first_);
  second.handover.Begin(now_);
  third.handover.Begin(now_);
  EXPECT_TRUE(WasAsked());
  first_.End();
  third.handover.Step(now_);
  EXPECT_FALSE(third.handover.taking_over());
  EXPECT_FALSE(WasAsked());
  second.handover.Step(now_);
  EXPECT_TRUE(second.handover.taking_over()) << "from the third";
  EXPECT_TRUE(WasAsked());
  third.End();
  second.handover.Step(now_);
  EXPECT_FALSE(second.handover.taking_over());
}

TEST_F(HandoverTest, OneThatGivesUpLeavesTheOtherAsItWas) {
  {
    Agent second(log_.get());
    second.OpenBeside(&first_);
    second.handover.LetGo();
    EXPECT_FALSE(second.handover.taking_over());
  }
  Agent third(log_.get());
  third.OpenBeside(&first_);
  EXPECT_TRUE(third.handover.taking_over());
}

}  // namespace
}  // namespace mobula

#include "engine/app/reloader.h"

#include <gtest/gtest.h>

#include <mutex>
#include <thread>

#include "engine/base/log.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Time Now() { return std::chrono::steady_clock::now(); }

class ReloaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    running_.udp.address = "127.0.0.1:0";
    running_.buffer.memory = 8 << 20;
    running_.proxy.address = "off";
    running_.backends = {Null("a")};
    next_ = running_;
    absl::StatusOr<std::unique_ptr<Agent>> agent = Agent::Create(running_, log_.get());
    ASSERT_TRUE(agent.ok()) << agent.status();
    agent_ = *std::move(agent);
    agent_->Receive();
    ASSERT_TRUE(agent_->Start().ok());
    reloader_.emplace(
        agent_.get(), &running_,
        [this]() -> absl::StatusOr<Config> {
          const std::lock_guard<std::mutex> lock(mutex_);
          ++loads_;
          if (!status_.ok()) return status_;
          return next_;
        },
        log_.get());
  }
  void TearDown() override {
    reloader_.reset();
    agent_->BeginDrain(Now() + seconds(10));
    for (const Time end = Now() + seconds(10); !agent_->Drained() && Now() < end;) {
      std::this_thread::sleep_for(milliseconds(1));
    }
    EXPECT_TRUE(agent_->Finish());
  }
  static BackendConfig Null(const std::string& name) {
    BackendConfig backend;
    backend.name = name;
    backend.settings = NullBackendConfig();
    return backend;
  }
  // One reload, to its end.
  void Reload() {
    reloader_->Request();
    for (const Time end = Now() + seconds(20); reloader_->busy() && Now() < end;) {
      reloader_->Step(Now());
      std::this_thread::sleep_for(milliseconds(1));
    }
    EXPECT_FALSE(reloader_->busy());
  }
  std::vector<std::string> Backends() const {
    std::vector<std::string> names;
    for (const LaneReport& report : agent_->backends()) names.push_back(report.name);
    return names;
  }

  std::string lines_;
  std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
  std::mutex mutex_;
  Config running_;
  Config next_;
  absl::Status status_;
  int loads_ = 0;
  std::unique_ptr<Agent> agent_;
  std::optional<Reloader> reloader_;
};

TEST_F(ReloaderTest, TakesUpWhatChangedAndNamesWhatWaits) {
  next_.backends = {Null("b"), Null("c")};
  next_.batch.documents = 7;
  next_.shutdown.grace = seconds(3);
  Reload();
  EXPECT_EQ(Backends(), (std::vector<std::string>{"b", "c", "a"}));
  EXPECT_EQ(running_.shutdown.grace, seconds(3));
  EXPECT_EQ(running_.batch.documents, 50);
  EXPECT_EQ(agent_->reloads().ok, 1U);
  EXPECT_NE(lines_.find("batch.documents: 50 -> 7 needs a restart"), std::string::npos) << lines_;
  EXPECT_NE(lines_.find("added b, c; removed a; another shutdown.grace"), std::string::npos)
      << lines_;
}

TEST_F(ReloaderTest, AMistakeChangesNothingAndIsToldUntilItIsMended) {
  status_ = absl::InvalidArgumentError("agent.yaml:3:1: what\nagent.yaml:4:1: else");
  Reload();
  Reload();
  EXPECT_EQ(agent_->reloads().failed, 2U);
  EXPECT_EQ(agent_->reloads().fault, "agent.yaml:3:1: what;agent.yaml:4:1: else");
  std::string text;
  EXPECT_TRUE(agent_->Ready(&text));
  EXPECT_NE(text.find("the configuration on disk is not in use: agent.yaml:3:1"),
            std::string::npos);
  status_ = absl::OkStatus();
  next_.routes = {{"", {"nobody"}}};
  Reload();
  EXPECT_NE(agent_->reloads().fault.find("nobody"), std::string::npos);
  EXPECT_EQ(Backends(), std::vector<std::string>{"a"});
  next_.routes.clear();
  Reload();
  EXPECT_EQ(agent_->reloads().ok, 1U);
  EXPECT_TRUE(agent_->Ready(&text));
  EXPECT_EQ(text, "ready\n");
}

TEST_F(ReloaderTest, RequestsThatComeMeanwhileMakeOneMore) {
  mutex_.lock();
  reloader_->Request();
  reloader_->Step(Now());
  for (int i = 0; i < 10; ++i) {
    reloader_->Request();
    reloader_->Step(Now());
  }
  mutex_.unlock();
  Reload();
  EXPECT_EQ(loads_, 2);
}

}  // namespace
}  // namespace mobula

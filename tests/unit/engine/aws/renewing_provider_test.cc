// Tests of engine/aws/renewing_provider.h. What is fetched when is renewal_test.cc's matter.
#include "engine/aws/renewing_provider.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/log.h"

namespace mobula {
namespace {

using std::chrono::seconds;

// Answers what the test put there.
struct Script {
  absl::StatusOr<Credentials> answer = absl::NotFoundError("no credentials: a test has none");
  bool hold = false;  // keep the callback instead
  CredentialsSource::Done held;
  std::atomic<bool> changed{false};
  std::atomic<int> fetches{0};
  std::atomic<int> at_once{0};  // under way
  std::atomic<int> at_once_max{0};
};

class ScriptedSource final : public CredentialsSource {
 public:
  ScriptedSource(IoLoop* loop, Script* script) : timer_(loop), script_(script) {}

  void Fetch(Time deadline, Done done) override {
    EXPECT_GT(deadline, std::chrono::steady_clock::now() + seconds(5));
    ++script_->fetches;
    script_->at_once_max = std::max(script_->at_once_max.load(), ++script_->at_once);
    timer_.Set(std::chrono::steady_clock::now(), [this, done = std::move(done)] {
      if (script_->hold) {
        script_->held = done;
        return;
      }
      --script_->at_once;
      done(script_->answer);
    });
  }

  bool Changed() override { return script_->changed.exchange(false); }

 private:
  IoLoop::Timer timer_;
  Script* const script_;
};

Credentials Make(const std::string& id, std::optional<Duration> life = seconds(3600)) {
  Credentials credentials{id, "s3cr3t", "t0ken", std::nullopt, "a test"};
  if (life) credentials.expiry = std::chrono::system_clock::now() + *life;
  return credentials;
}

class RenewingProviderTest : public ::testing::Test {
 protected:
  ~RenewingProviderTest() override { provider_->Close(); }

  static Time Limit() { return std::chrono::steady_clock::now() + seconds(15); }

  template <typename F>
  void RunUntil(F&& condition) {
    const Time limit = Limit();
    while (!condition() && std::chrono::steady_clock::now() < limit) {
      loop_.RunUntil(std::chrono::steady_clock::now() + std::chrono::milliseconds(2));
    }
    EXPECT_TRUE(condition());
  }

  std::string Id() {
    const auto found = provider_->Get();
    return found.ok() ? (*found)->access_key_id : "";
  }

  std::string lines_;
  const std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
  IoLoop loop_;
  Script script_;
  const std::shared_ptr<RenewingProvider> provider_ = RenewingProvider::Start(
      &loop_, std::make_unique<ScriptedSource>(&loop_, &script_), "the name", log_.get());
};

TEST_F(RenewingProviderTest, FetchesOnceTheLoopRuns) {
  script_.answer = Make("A");
  EXPECT_TRUE(absl::IsUnavailable(provider_->Get().status()));
  EXPECT_EQ(script_.fetches, 0);
  RunUntil([&] { return Id() == "A"; });
  EXPECT_EQ(script_.fetches, 1);
  const AwsIdentityState state = provider_->state();
  EXPECT_EQ(state.name, "the name");
  EXPECT_EQ(state.source, "a test");
  EXPECT_EQ(state.expiry, script_.answer->expiry);
  EXPECT_EQ(state.renewals, 1U);
  EXPECT_EQ(state.failures, 0U);
  EXPECT_TRUE(state.error.ok());
}

TEST_F(RenewingProviderTest, RenewsByItself) {
  script_.answer = Make("A", seconds(3));
  RunUntil([&] { return Id() == "A"; });
  script_.answer = Make("B");
  // Before the first are gone: there is no moment without any.
  RunUntil([&] {
    EXPECT_NE(Id(), "");
    return Id() == "B";
  });
  EXPECT_EQ(script_.fetches, 2);
}

TEST_F(RenewingProviderTest, TriesAgainAfterAFailure) {
  RunUntil([&] { return absl::IsNotFound(provider_->Get().status()); });
  EXPECT_EQ(provider_->state().failures, 1U);
  EXPECT_EQ(provider_->state().source, "");
  EXPECT_NE(lines_.find("no credentials: a test has none"), std::string::npos) << lines_;
  EXPECT_EQ(lines_.find("a test\""), std::string::npos) << lines_;
  script_.answer = Make("A");
  RunUntil([&] { return Id() == "A"; });
  EXPECT_NE(lines_.find("credentials from a test"), std::string::npos) << lines_;
  EXPECT_EQ(lines_.find("s3cr3t"), std::string::npos) << lines_;
  EXPECT_EQ(lines_.find("t0ken"), std::string::npos) << lines_;
}

TEST_F(RenewingProviderTest, AFailedRenewalIsToldButHarmsNobody) {
  script_.answer = Make("A", seconds(3));
  RunUntil([&] { return Id() == "A"; });
  script_.answer = absl::UnavailableError("away");
  RunUntil([&] { return provider_->state().failures > 0; });
  EXPECT_EQ(Id(), "A");
  EXPECT_NE(lines_.find("could not be renewed"), std::string::npos) << lines_;
  EXPECT_EQ(provider_->state().source, "a test");
  EXPECT_EQ(provider_->state().error.message(), "away");
}

TEST_F(RenewingProviderTest, ARefusalFetchesAgainAndIsAnsweredUnavailableUntilThen) {
  script_.answer = Make("A");
  RunUntil([&] { return Id() == "A"; });
  script_.hold = true;
  provider_->Invalidate(**provider_->Get());
  EXPECT_TRUE(absl::IsUnavailable(provider_->Get().status()));
  provider_->Invalidate(Make("A"));  // the same refusal, told by another
  RunUntil([&] { return script_.held != nullptr; });
  EXPECT_TRUE(absl::IsUnavailable(provider_->Get().status()));
  script_.held(Make("B"));
  EXPECT_EQ(Id(), "B");
  EXPECT_EQ(script_.fetches, 2);
}

TEST_F(RenewingProviderTest, AChangedSourceIsFetchedFrom) {
  script_.answer = Make("A", std::nullopt);
  RunUntil([&] { return Id() == "A"; });
  script_.answer = Make("B", std::nullopt);
  script_.changed = true;
  RunUntil([&] { return Id() == "B"; });
}

TEST_F(RenewingProviderTest, AfterCloseItAnswersWhatItHas) {
  script_.answer = Make("A");
  RunUntil([&] { return Id() == "A"; });
  provider_->Close();
  provider_->Close();
  EXPECT_EQ(Id(), "A");
  provider_->Invalidate(**provider_->Get());
  EXPECT_TRUE(absl::IsUnavailable(provider_->Get().status()));
  loop_.RunUntil(std::chrono::steady_clock::now() + std::chrono::milliseconds(5));
  EXPECT_EQ(script_.fetches, 1);
}

TEST_F(RenewingProviderTest, AnAnswerAfterCloseIsNoMatter) {
  script_.hold = true;
  RunUntil([&] { return script_.held != nullptr; });
  provider_->Close();
  script_.held(Make("A"));
  EXPECT_EQ(Id(), "");
}

TEST_F(RenewingProviderTest, ManyThreadsMayAskAndRefuse) {
  script_.answer = Make("A");
  RunUntil([&] { return Id() == "A"; });
  const Credentials first = **provider_->Get();
  script_.answer = Make("B");
  std::thread runner([this] { loop_.Run(); });
  std::atomic<int> served{0};
  std::vector<std::thread> users;
  users.reserve(4);
  for (int i = 0; i < 4; ++i) {
    users.emplace_back([&] {
      const Time limit = Limit();
      for (int got = 0; got < 200 && std::chrono::steady_clock::now() < limit;) {
        provider_->Invalidate(first);
        static_cast<void>(provider_->state());
        const auto found = provider_->Get();
        if (!found.ok()) {
          EXPECT_TRUE(absl::IsUnavailable(found.status()));
          std::this_thread::yield();
          continue;
        }
        EXPECT_EQ((*found)->access_key_id, "B");
        ++got;
        ++served;
      }
    });
  }
  for (std::thread& user : users) user.join();
  loop_.Stop();
  runner.join();
  EXPECT_EQ(served, 800);
  EXPECT_EQ(script_.at_once_max, 1);
  EXPECT_EQ(script_.fetches, 2);
}

}  // namespace
}  // namespace mobula

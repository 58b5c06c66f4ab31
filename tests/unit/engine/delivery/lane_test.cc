#include "engine/delivery/lane.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>
#include <random>
#include <string>

#include "engine/base/log.h"
#include "engine/batch/batch_builder.h"
#include "tests/support/fake_spool_disk.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Time Now() { return std::chrono::steady_clock::now(); }

// Waits until `condition` holds; false after ten seconds.
template <typename F>
bool Eventually(F condition) {
  const Time end = Now() + seconds(10);
  while (!condition()) {
    if (Now() > end) return false;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return true;
}

// Does with each call what the test says.
class ScriptedExporter final : public Exporter {
 public:
  using Script = std::function<void(const ExportCall&, ExportDone)>;
  explicit ScriptedExporter(Script script) : script_(std::move(script)) {}

  absl::Status Start(IoLoop* loop) override {
    loop_ = loop;
    return start_;
  }
  void Export(const ExportCall& call, ExportDone done) override { script_(call, std::move(done)); }
  absl::Status Shutdown() override {
    if (on_shutdown_) on_shutdown_();
    return absl::OkStatus();
  }
  void Reopen() override { reopened = true; }

  IoLoop* loop_ = nullptr;
  absl::Status start_;
  std::function<void()> on_shutdown_;
  std::atomic<bool> reopened{false};

 private:
  Script script_;
};

class LaneTest : public ::testing::Test {
 protected:
  std::unique_ptr<BlockPool> pool_ = *BlockPool::Create(8 << 20);
  std::string log_lines_;
  std::unique_ptr<Log> log_ = Log::ForTesting(&log_lines_);
  std::mutex mutex_;
  std::vector<std::string> dead_;
  ScriptedExporter* exporter_ = nullptr;
  std::unique_ptr<Lane> lane_;
  std::optional<LaneInbox::Producer> producer_;

  std::mt19937 random_{1};
  FakeSpoolDisk disk_;
  std::unique_ptr<Spool> spool_;

  void OpenSpool() {
    Spool::Options options;
    options.path = "/spool";
    options.seed = 1;
    spool_ = *Spool::Open(options, {{"test", "far"}}, &disk_, log_.get(),
                          std::chrono::system_clock::now());
  }
  void Make(ScriptedExporter::Script script, size_t quota = 4 << 20, bool run = true) {
    Lane::Options options;
    options.name = "test";
    options.quota = quota;
    options.batches_max = 2048;
    options.delivery.quota = quota;
    options.delivery.backoff_min = milliseconds(1);
    options.log = log_.get();
    if (spool_ != nullptr) {
      options.delivery.spool = true;
      options.spool = spool_->lane("test");
      options.pool = pool_.get();
    }
    options.dead_letter = [this](std::string_view, std::string_view reason, std::string_view code,
                                 std::string_view document) {
      const std::lock_guard<std::mutex> lock(mutex_);
      dead_.push_back(std::string(reason) + "/" + std::string(code) + "/" + std::string(document));
    };
    auto exporter = std::make_unique<ScriptedExporter>(std::move(script));
    exporter_ = exporter.get();
    lane_ = std::make_unique<Lane>(std::move(options), std::move(exporter));
    producer_.emplace(lane_->inbox().MakeProducer());
    ASSERT_TRUE(lane_->Start().ok());
    if (run) lane_->Run();
  }
  void Push(size_t documents, size_t bytes = 0) {
    BatchBuilder builder(pool_.get(), {64, seconds(1)});
    std::string noise;
    while (noise.size() < bytes) noise += static_cast<char>('a' + random_() % 26);
    for (size_t i = 0; i < documents; ++i) {
      const std::string more = noise.empty() ? "" : ",\"noise\":\"" + noise + "\"";
      ASSERT_TRUE(builder.Add("{\"i\":" + std::to_string(i) + more + "}", DocumentKind::kJson,
                              RejectReason::kNone, Now()));
    }
    BatchRef batch = builder.Close();
    ASSERT_TRUE(batch);
    lane_->inbox().Push(&*producer_, std::move(batch));
    lane_->inbox().Notify();
  }
  void ExpectBalanced() {
    const LaneAccount& a = lane_->account();
    EXPECT_EQ(a.entered.value(), a.delivered.value() + a.dropped_total() + a.held.value());
  }
};

TEST_F(LaneTest, DeliversWhatIsPushedAndEndsWhenDrained) {
  Make([](const ExportCall&, ExportDone done) { done({}); });
  for (int i = 0; i < 1000; ++i) {
    Push(10);
    ASSERT_TRUE(Eventually([&] { return lane_->account().held_bytes.value() < (2 << 20); }));
  }
  lane_->Drain(Now() + seconds(10));
  ASSERT_TRUE(lane_->Join(Now() + seconds(10)));
  EXPECT_EQ(lane_->account().delivered.value(), 10000U);
  EXPECT_EQ(lane_->account().held.value(), 0U);
  EXPECT_EQ(pool_->bytes_used(), 0U);
  ExpectBalanced();
}

TEST_F(LaneTest, TakesAnswersThatComeLater) {
  Make([this](const ExportCall&, ExportDone done) {
    exporter_->loop_->Post([done = std::move(done)] { done({}); });
  });
  for (int i = 0; i < 100; ++i) Push(5);
  lane_->Drain(Now() + seconds(10));
  ASSERT_TRUE(lane_->Join(Now() + seconds(10)));
  EXPECT_EQ(lane_->account().delivered.value(), 500U);
}

TEST_F(LaneTest, RetriesUntilTheFarSideIsBackAndTellsSo) {
  std::atomic<int> calls{0};
  Make([&](const ExportCall&, ExportDone done) {
    ExportResult result;
    if (++calls <= 3) {
      result.verdict = Verdict::kHold;
      result.code = "AccessDeniedException";
      result.message = "not you";
    }
    done(result);
  });
  Push(2);
  ASSERT_TRUE(Eventually([&] { return lane_->account().delivered.value() == 2; }));
  EXPECT_FALSE(lane_->health().failing);
  EXPECT_EQ(lane_->errors(),
            (std::vector<std::pair<std::string, uint64_t>>{{"AccessDeniedException", 3}}));
  lane_->Drain(Now() + seconds(10));
  ASSERT_TRUE(lane_->Join(Now() + seconds(10)));
  EXPECT_NE(log_lines_.find("Sending segment batch failed with: AccessDeniedException: not you"),
            std::string::npos);
  EXPECT_NE(log_lines_.find("takes documents again"), std::string::npos);
}

TEST_F(LaneTest, DeadLettersWhatIsRefused) {
  Make([](const ExportCall&, ExportDone done) {
    ExportResult result;
    result.documents = {{1, Verdict::kRefused, "InvalidId"}};
    done(result);
  });
  Push(3);
  lane_->Drain(Now() + seconds(10));
  ASSERT_TRUE(lane_->Join(Now() + seconds(10)));
  EXPECT_EQ(dead_, std::vector<std::string>{"refused/InvalidId/{\"i\":1}"});
  EXPECT_EQ(lane_->account().delivered.value(), 2U);
}

TEST_F(LaneTest, TheEndWaitsForASlowDiskAndNotForOneThatHangs) {
  std::promise<void> hangs;
  const std::shared_future<void> hanging = hangs.get_future().share();
  std::atomic<int> writes{0};
  std::atomic<int> hang_at{0};
  disk_.fault = [&](FakeSpoolDisk::Operation operation, const std::string&) {
    if (operation != FakeSpoolDisk::Operation::kWrite) return absl::OkStatus();
    std::this_thread::sleep_for(milliseconds(20));
    if (++writes == hang_at) hanging.wait();
    return absl::OkStatus();
  };
  OpenSpool();
  Make([](const ExportCall&, ExportDone) {}, 4 << 20, /*run=*/true);
  // A write takes half a megabyte.
  for (int i = 0; i < 40; ++i) Push(1, 50'000);
  ASSERT_TRUE(Eventually([&] { return lane_->account().held.value() == 40; }));
  lane_->Drain(Now());
  // Longer than that: it is waited for while it moves.
  ASSERT_TRUE(lane_->Join(Now() + milliseconds(100)));
  EXPECT_EQ(spool_->lane("test")->account().held.value(), 40U);
  EXPECT_EQ(lane_->account().held.value(), 0U);
  EXPECT_GT(writes, 3);
  EXPECT_EQ(lane_->account().dropped_total(), 0U);

  lane_.reset();
  hang_at = writes + 2;
  Make([](const ExportCall&, ExportDone) {});
  for (int i = 0; i < 40; ++i) Push(1, 50'000);
  ASSERT_TRUE(Eventually([&] { return lane_->account().held.value() == 40; }));
  lane_->Drain(Now());
  EXPECT_FALSE(lane_->Join(Now() + milliseconds(100)));
  // Nothing was counted twice, and nothing is counted any more when the disk goes on.
  const uint64_t held = lane_->account().held.value();
  EXPECT_GT(held, 0U);
  hangs.set_value();
  ASSERT_TRUE(Eventually([&] { return lane_->finished(); }));
  EXPECT_EQ(lane_->account().held.value(), held);
  EXPECT_TRUE(lane_->Join(Now() + milliseconds(100)));
}

TEST_F(LaneTest, ALaneThatNeverRanGivesUpWhatItHolds) {
  OpenSpool();
  Make([](const ExportCall&, ExportDone) { FAIL() << "nothing is sent"; }, 4 << 20, /*run=*/false);
  Push(4);
  lane_->Drain(Now() + seconds(10));
  EXPECT_TRUE(lane_->finished());
  EXPECT_EQ(spool_->lane("test")->account().held.value(), 4U);
  EXPECT_EQ(lane_->account().dropped_total(), 0U);
  lane_->Run();
  EXPECT_TRUE(lane_->Join(Now() + milliseconds(100)));
}

TEST_F(LaneTest, AnswersThatCameBeforeTheDeadlineCount) {
  std::promise<void> let_go;
  std::atomic<int> calls{0};
  Make([&](const ExportCall&, ExportDone done) {
    if (++calls == 1) let_go.get_future().wait();
    done({});
  });
  for (int i = 0; i < 3; ++i) Push(2);
  ASSERT_TRUE(Eventually([&] { return calls == 1; }));
  // The lane stands in its first call until its time is over, then the answers come at once.
  lane_->Drain(Now() + milliseconds(10));
  std::this_thread::sleep_for(milliseconds(30));
  let_go.set_value();
  ASSERT_TRUE(lane_->Join(Now() + seconds(10)));
  EXPECT_EQ(lane_->account().delivered.value(), static_cast<uint64_t>(2 * calls));
  ExpectBalanced();
}

TEST_F(LaneTest, GivesUpAtTheDeadlineAndCounts) {
  std::vector<ExportDone> kept;
  Make([&](const ExportCall&, ExportDone done) { kept.push_back(std::move(done)); });
  Push(4);
  ASSERT_TRUE(Eventually([&] { return lane_->calls_in_flight() == 1; }));
  lane_->Drain(Now() + milliseconds(20));
  ASSERT_TRUE(lane_->Join(Now() + seconds(10)));
  EXPECT_EQ(lane_->account().dropped[static_cast<size_t>(DropReason::kShutdown)].value(), 4U);
  ExpectBalanced();
}

TEST_F(LaneTest, AHangingExporterIsLeftBehindAndItsDocumentsAreCounted) {
  std::mutex hang;
  hang.lock();
  Make([&](const ExportCall&, ExportDone done) {
    const std::lock_guard<std::mutex> lock(hang);
    done({});
  });
  Push(1);
  ASSERT_TRUE(Eventually([&] { return lane_->account().held.value() == 1; }));
  // Far more than the quota: the pushing thread makes room itself and is never blocked.
  for (int i = 0; i < 1500; ++i) Push(1);
  EXPECT_LE(lane_->account().held_bytes.value(), 4U << 20);
  EXPECT_GT(lane_->account().dropped[static_cast<size_t>(DropReason::kBufferFull)].value(), 0U);
  ExpectBalanced();
  hang.unlock();
  lane_->Drain(Now() + seconds(10));
  ASSERT_TRUE(lane_->Join(Now() + seconds(10)));
  ExpectBalanced();
}

TEST_F(LaneTest, ReopensOnItsOwnThread) {
  Make([](const ExportCall&, ExportDone done) { done({}); });
  lane_->Reopen();
  EXPECT_TRUE(Eventually([&] { return exporter_->reopened.load(); }));
}

TEST_F(LaneTest, TakesUpAnotherExporterWhileCallsOfTheFirstAreOut) {
  std::atomic<int> first_calls{0};
  std::atomic<int> second_calls{0};
  std::atomic<bool> first_ended{false};
  std::vector<ExportDone> out;
  Make([&](const ExportCall&, ExportDone done) {
    out.push_back(std::move(done));
    ++first_calls;
  });
  exporter_->on_shutdown_ = [&] { first_ended = true; };
  Push(3);
  Push(4);
  ASSERT_TRUE(Eventually([&] { return first_calls == 2; }));

  auto second = std::make_unique<ScriptedExporter>([&](const ExportCall&, ExportDone done) {
    ++second_calls;
    done({});
  });
  ASSERT_TRUE(lane_->Prepare(std::move(second), Now() + seconds(10)).ok());
  lane_->TakeUp();
  Push(5);
  ASSERT_TRUE(Eventually([&] { return lane_->account().delivered.value() == 5; }));
  EXPECT_EQ(first_calls, 2);
  EXPECT_FALSE(first_ended) << "its calls are not home yet";
  // On the lane's thread, as an exporter does.
  exporter_->loop_->Post([&] {
    for (const ExportDone& done : std::exchange(out, {})) done({});
  });
  ASSERT_TRUE(Eventually([&] { return first_ended.load(); }));
  EXPECT_EQ(lane_->account().delivered.value(), 12U);
  lane_->Drain(Now() + seconds(10));
  ASSERT_TRUE(lane_->Join(Now() + seconds(10)));
  EXPECT_EQ(second_calls, 1);
  EXPECT_EQ(pool_->bytes_used(), 0U);
  ExpectBalanced();
}

TEST_F(LaneTest, KeepsItsExporterWhenAnotherCannotStartOrIsDiscarded) {
  std::atomic<int> calls{0};
  Make([&](const ExportCall&, ExportDone done) {
    ++calls;
    done({});
  });
  const auto never = [](const ExportCall&, ExportDone) { FAIL() << "not in use"; };
  auto broken = std::make_unique<ScriptedExporter>(never);
  broken->start_ = absl::PermissionDeniedError("not you");
  EXPECT_EQ(lane_->Prepare(std::move(broken), Now() + seconds(10)),
            absl::PermissionDeniedError("not you"));
  lane_->TakeUp();
  std::atomic<bool> ended{false};
  auto unused = std::make_unique<ScriptedExporter>(never);
  unused->on_shutdown_ = [&] { ended = true; };
  ASSERT_TRUE(lane_->Prepare(std::move(unused), Now() + seconds(10)).ok());
  lane_->Discard();
  lane_->TakeUp();
  Push(1);
  ASSERT_TRUE(Eventually([&] { return calls == 1; }));
  EXPECT_TRUE(ended);
  lane_->Drain(Now() + seconds(10));
  ASSERT_TRUE(lane_->Join(Now() + seconds(10)));
}

TEST_F(LaneTest, ALaneThatHangsPreparesNothingAndNothingLater) {
  std::mutex hang;
  hang.lock();
  std::atomic<bool> hangs{false};
  Make([&](const ExportCall&, ExportDone done) {
    hangs = true;
    const std::lock_guard<std::mutex> lock(hang);
    done({});
  });
  Push(1);
  ASSERT_TRUE(Eventually([&] { return hangs.load(); }));
  std::atomic<bool> ended{false};
  auto late = std::make_unique<ScriptedExporter>(
      [](const ExportCall&, ExportDone) { FAIL() << "not in use"; });
  late->on_shutdown_ = [&] { ended = true; };
  EXPECT_EQ(lane_->Prepare(std::move(late), Now() + milliseconds(20)).code(),
            absl::StatusCode::kUnavailable);
  hang.unlock();
  EXPECT_TRUE(Eventually([&] { return ended.load(); }));
  Push(1);
  ASSERT_TRUE(Eventually([&] { return lane_->account().delivered.value() == 2; }));
  lane_->Drain(Now() + seconds(10));
  ASSERT_TRUE(lane_->Join(Now() + seconds(10)));
}

TEST_F(LaneTest, ReplacesAnExporterOfWhichThereCanBeOnlyOne) {
  std::vector<std::string> order;  // the lane's thread
  std::vector<ExportDone> out;
  Make([&](const ExportCall&, ExportDone done) {
    order.emplace_back("first sends");
    out.push_back(std::move(done));
  });
  exporter_->on_shutdown_ = [&] {
    order.emplace_back("first ends");
    ExportResult again;
    again.verdict = Verdict::kRetry;
    again.code = "shutdown";
    for (const ExportDone& done : std::exchange(out, {})) done(again);
  };
  Push(2);
  ASSERT_TRUE(Eventually([&] { return lane_->calls_in_flight() == 1; }));
  auto second = std::make_unique<ScriptedExporter>([&](const ExportCall&, ExportDone done) {
    order.emplace_back("second sends");
    done({});
  });
  second->start_ = absl::PermissionDeniedError("not yet");
  lane_->Replace(std::move(second));
  ASSERT_TRUE(Eventually([&] { return lane_->account().delivered.value() == 2; }));
  lane_->Drain(Now() + seconds(10));
  ASSERT_TRUE(lane_->Join(Now() + seconds(10)));
  EXPECT_EQ(order, (std::vector<std::string>{"first sends", "first ends", "second sends"}));
  EXPECT_NE(log_lines_.find("not yet"), std::string::npos);
  ExpectBalanced();
}

TEST_F(LaneTest, GoesOnByOtherLimits) {
  std::vector<ExportDone> out;  // the lane's thread
  Make([&](const ExportCall&, ExportDone done) { out.push_back(std::move(done)); });
  for (int i = 0; i < 20; ++i) Push(1);
  ASSERT_TRUE(Eventually([&] { return lane_->calls_in_flight() == 8; }));
  EXPECT_EQ(lane_->account().held.value(), 20U);
  // Less than is held: the oldest that wait go, those in flight stay.
  Delivery::Options less;
  less.quota = 10 * BlockPool::kPageBytes;
  less.concurrency = 3;
  lane_->SetLimits(less.quota, less);
  EXPECT_EQ(lane_->quota(), less.quota);
  ASSERT_TRUE(Eventually([&] { return lane_->account().held.value() == 10; }));
  EXPECT_EQ(lane_->account().dropped[static_cast<size_t>(DropReason::kBufferFull)].value(), 10U);
  EXPECT_EQ(lane_->window(), 3);
  Delivery::Options more;
  lane_->SetLimits(4 << 20, more);
  for (int i = 0; i < 20; ++i) Push(1);
  ASSERT_TRUE(Eventually([&] { return lane_->account().held.value() == 30; }));
  lane_->Drain(Now() + seconds(10));
  ASSERT_TRUE(Eventually([&] {
    exporter_->loop_->Post([&] {
      for (const ExportDone& done : std::exchange(out, {})) done({});
    });
    return lane_->finished();
  }));
  ASSERT_TRUE(lane_->Join(Now() + seconds(10)));
  EXPECT_EQ(lane_->account().delivered.value(), 30U);
  ExpectBalanced();
}

}  // namespace
}  // namespace mobula

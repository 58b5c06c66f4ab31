#include "engine/delivery/lane.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>

#include "engine/base/log.h"
#include "engine/batch/batch_builder.h"

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
    return absl::OkStatus();
  }
  void Export(const ExportCall& call, ExportDone done) override { script_(call, std::move(done)); }
  absl::Status Shutdown() override { return absl::OkStatus(); }
  void Reopen() override { reopened = true; }

  IoLoop* loop_ = nullptr;
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

  void Make(ScriptedExporter::Script script, size_t quota = 4 << 20) {
    Lane::Options options;
    options.name = "test";
    options.quota = quota;
    options.batches_max = 2048;
    options.delivery.quota = quota;
    options.delivery.backoff_min = milliseconds(1);
    options.log = log_.get();
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
  }
  void Push(size_t documents) {
    BatchBuilder builder(pool_.get(), {64, seconds(1)});
    for (size_t i = 0; i < documents; ++i) {
      ASSERT_TRUE(builder.Add("{\"i\":" + std::to_string(i) + "}", DocumentKind::kJson,
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

}  // namespace
}  // namespace mobula

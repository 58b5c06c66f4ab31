// Delivery with a real spool on a disk in memory: what goes there, what comes back, and that the books agree.
#include "engine/delivery/spool_keeper.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/base/log.h"
#include "tests/support/fake_spool_disk.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class SpoolKeeperTest : public ::testing::Test {
 protected:
  static constexpr Time kStart{seconds(1000)};
  static constexpr SystemTime kWallStart{seconds(1'800'000'000)};

  SpoolKeeperTest() {
    options_.spool = true;
    options_.quota = 1 << 20;
    Restart();
  }

  // The next process: what was in memory is gone.
  void Restart() {
    keeper_.reset();
    delivery_.reset();
    spool_.reset();
    disk_.Restart(FakeSpoolDisk::After::kKill);
    Spool::Options options;
    options.path = "/spool";
    options.seed = ++seed_;
    spool_ = *Spool::Open(options, {{"prod", "xray eu"}}, &disk_, log_.get(), Wall());
    account_ = std::make_unique<LaneAccount>();
    delivery_ = std::make_unique<Delivery>(options_, account_.get());
    keeper_ = std::make_unique<SpoolKeeper>(lane(), pool_.get());
  }

  SpoolLane* lane() { return spool_->lane("prod"); }
  [[nodiscard]] SystemTime Wall() const {
    return kWallStart + std::chrono::duration_cast<SystemTime::duration>(now_ - kStart);
  }

  void Arrive(size_t documents, size_t bytes = 100) {
    Enter(documents, bytes);
    Keep();
  }
  // Without what it leads to on disk.
  void Enter(size_t documents, size_t bytes) {
    BatchBuilder builder(pool_.get(), {64, seconds(1)});
    for (size_t i = 0; i < documents; ++i) {
      std::string text = std::to_string(++last_document_);
      text.resize(bytes, '.');
      ASSERT_TRUE(builder.Add(text, DocumentKind::kJson, RejectReason::kNone, now_));
    }
    BatchRef batch = builder.Close();
    ASSERT_TRUE(batch);
    account_->entered.Add(documents);
    account_->held.Add(documents);
    account_->held_bytes.Add(batch->cost());
    keeper_->Tell(delivery_.get());
    delivery_->OnBatch(std::move(batch), now_, &actions_);
  }
  void Answer(const DeliveryActions::Call& call, const ExportResult& result) {
    if (result.verdict == Verdict::kDelivered) {
      ForEach(call.documents,
              [&](size_t i) { seen_.insert(std::stoi(std::string(call.batch->document(i)))); });
    }
    keeper_->Tell(delivery_.get());
    delivery_->OnResult(call.id, result, now_, &actions_);
    Keep();
  }
  void Pass(Duration time) {
    now_ += time;
    keeper_->Tell(delivery_.get());
    delivery_->OnTimer(now_, &actions_);
    Keep();
  }
  void Keep() {
    keeper_->Execute(delivery_.get(), now_, Wall(), &actions_, [] { return true; });
  }
  std::vector<DeliveryActions::Call> TakeCalls() { return std::exchange(actions_.calls, {}); }

  // The far side fails until all there is lies on disk, but for what asks.
  void Fail(Duration how_long) {
    for (const Time end = now_ + how_long; now_ < end;) {
      for (const auto& call : TakeCalls()) Answer(call, Failure());
      Pass(milliseconds(100));
    }
  }
  // The far side takes everything, until nothing is left.
  void Deliver() {
    for (int i = 0; i < 1000 && !(delivery_->idle() && !lane()->waiting()); ++i) {
      for (const auto& call : TakeCalls()) Answer(call, {});
      Pass(milliseconds(100));
    }
    EXPECT_TRUE(delivery_->idle());
    EXPECT_EQ(lane()->account().held.value(), 0U);
  }
  static ExportResult Failure(Verdict verdict = Verdict::kRetry) {
    ExportResult result;
    result.verdict = verdict;
    result.code = "http_503";
    return result;
  }

  void ExpectBalanced() {
    const LaneAccount& a = *account_;
    const SpoolAccount& s = lane()->account();
    EXPECT_EQ(a.entered.value() + s.restored.value(), a.delivered.value() + a.dropped_total() +
                                                          s.dropped_total() + a.held.value() +
                                                          s.held.value());
    EXPECT_EQ(s.appended.value() + s.restored.value(),
              s.done.value() + s.dropped_total() + s.held.value());
    EXPECT_EQ(a.held.value(), delivery_->CountHeld());
  }
  [[nodiscard]] uint64_t Dropped(DropReason reason) const {
    return account_->dropped[static_cast<size_t>(reason)].value();
  }

  std::unique_ptr<BlockPool> pool_ = *BlockPool::Create(8 << 20);
  FakeSpoolDisk disk_;
  std::string lines_;
  std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
  Delivery::Options options_;
  Time now_ = kStart;
  std::unique_ptr<Spool> spool_;
  std::unique_ptr<LaneAccount> account_;
  std::unique_ptr<Delivery> delivery_;
  std::unique_ptr<SpoolKeeper> keeper_;
  DeliveryActions actions_;
  std::multiset<int> seen_;  // documents that the far side took
  uint64_t seed_ = 0;
  int last_document_ = 0;
};

TEST_F(SpoolKeeperTest, NothingIsSpilledWhileTheFarSideTakesCalls) {
  for (int i = 0; i < 20; ++i) {
    Arrive(50);
    for (const auto& call : TakeCalls()) Answer(call, {});
  }
  EXPECT_TRUE(delivery_->idle());
  EXPECT_EQ(lane()->account().appended.value(), 0U);
  EXPECT_EQ(seen_.size(), 1000U);
  ExpectBalanced();
}

TEST_F(SpoolKeeperTest, AShortFailureStaysInMemory) {
  Arrive(50);
  Deliver();
  for (int i = 0; i < 5; ++i) Arrive(50);
  Fail(milliseconds(900));
  EXPECT_EQ(lane()->account().appended.value(), 0U);
  Deliver();
  EXPECT_EQ(seen_.size(), 300U);
  ExpectBalanced();
}

TEST_F(SpoolKeeperTest, AFarSideThatNeverTookACallIsNotWaitedFor) {
  for (int i = 0; i < 5; ++i) Arrive(50);
  Fail(milliseconds(100));
  EXPECT_EQ(lane()->account().appended.value(), 200U);
  Deliver();
  EXPECT_EQ(seen_.size(), 250U);
  ExpectBalanced();
}

TEST_F(SpoolKeeperTest, AnOutageGoesToDiskAndComesBackOnce) {
  for (int i = 0; i < 40; ++i) {
    Arrive(50);
    Fail(milliseconds(100));
  }
  Fail(seconds(10));
  EXPECT_LE(account_->held.value(), 50U) << "one call's worth stays, to ask with";
  EXPECT_GE(lane()->account().held.value(), 1950U);
  ExpectBalanced();
  Deliver();
  ASSERT_EQ(seen_.size(), 2000U);
  EXPECT_EQ(std::set<int>(seen_.begin(), seen_.end()).size(), 2000U) << "nothing came twice";
  EXPECT_EQ(account_->delivered.value(), 2000U);
  EXPECT_EQ(account_->dropped_total(), 0U);
  EXPECT_EQ(pool_->bytes_used(), 0U);
  ExpectBalanced();
}

TEST_F(SpoolKeeperTest, WithNothingLiveAFrameAsksWhetherTheFarSideIsBack) {
  Arrive(50);
  Arrive(50);
  Fail(seconds(5));
  Restart();
  EXPECT_TRUE(lane()->waiting());
  Pass(milliseconds(1));
  for (int i = 0; i < 3; ++i) {
    const auto calls = TakeCalls();
    ASSERT_GE(calls.size(), 1U) << i;
    for (const auto& call : calls) Answer(call, Failure());
    Pass(seconds(5));
  }
  Deliver();
  EXPECT_GE(seen_.size(), 50U);
  ExpectBalanced();
}

TEST_F(SpoolKeeperTest, OverQuotaTheOldestGoToDiskNotAway) {
  // One call hangs in each place; the rest waits.
  for (int i = 0; i < 100; ++i) Arrive(50, 800);
  EXPECT_LE(account_->held_bytes.value(), options_.quota);
  EXPECT_GT(lane()->account().appended.value(), 0U);
  EXPECT_EQ(account_->dropped_total(), 0U);
  ExpectBalanced();
  Deliver();
  EXPECT_EQ(seen_.size(), 5000U);
  ExpectBalanced();
}

TEST_F(SpoolKeeperTest, AFullDiskMeansMemoryOnlyUntilItHasRoom) {
  disk_.capacity = 0;
  for (int i = 0; i < 100; ++i) {
    Arrive(50, 800);
    Fail(milliseconds(100));
  }
  EXPECT_GT(Dropped(DropReason::kBufferFull), 0U);
  EXPECT_EQ(lane()->account().held.value(), 0U);
  ExpectBalanced();
  const uint64_t dropped = account_->dropped_total();
  disk_.capacity = UINT64_MAX;
  for (int i = 0; i < 100; ++i) {
    if (i % 10 == 0) spool_->Housekeep(Wall());
    Arrive(50, 800);
    Fail(milliseconds(100));
  }
  EXPECT_GT(lane()->account().held.value(), 0U);
  EXPECT_LE(account_->dropped_total(), dropped + 20 * 50) << "recovers within two seconds";
  const uint64_t lost = account_->dropped_total();
  Deliver();
  EXPECT_EQ(seen_.size(), 10000 - lost);
  ExpectBalanced();
}

TEST_F(SpoolKeeperTest, TheEndSpillsWhatIsInFlightToo) {
  for (int i = 0; i < 12; ++i) Arrive(10);
  ASSERT_GT(TakeCalls().size(), 0U);
  delivery_->OnDrain(now_, &actions_);
  Keep();
  actions_.calls.clear();
  delivery_->Abandon(&actions_);
  Keep();
  EXPECT_EQ(account_->held.value(), 0U);
  EXPECT_EQ(lane()->account().held.value(), 120U);
  EXPECT_EQ(account_->dropped_total(), 0U);
  ExpectBalanced();
  Restart();
  Pass(milliseconds(1));
  Deliver();
  EXPECT_EQ(seen_.size(), 120U);
  ExpectBalanced();
}

TEST_F(SpoolKeeperTest, AtTheEndWithoutADiskWhatIsLeftIsCounted) {
  disk_.read_only = true;
  for (int i = 0; i < 12; ++i) Arrive(10);
  actions_.calls.clear();
  delivery_->Abandon(&actions_);
  Keep();
  EXPECT_EQ(Dropped(DropReason::kShutdown), 120U);
  ExpectBalanced();
}

TEST_F(SpoolKeeperTest, ADrainLendsNothingAndGivesBackWhatWasLent) {
  for (int i = 0; i < 60; ++i) Arrive(50);
  Fail(seconds(3));
  Pass(seconds(6));
  auto calls = TakeCalls();
  ASSERT_FALSE(calls.empty());
  for (const auto& call : calls) Answer(call, {});  // it is back: frames come
  delivery_->OnDrain(now_, &actions_);
  Keep();
  for (int i = 0; i < 20 && !delivery_->idle(); ++i) {
    for (const auto& call : TakeCalls()) Answer(call, {});
    Pass(milliseconds(100));
  }
  EXPECT_TRUE(delivery_->idle());
  EXPECT_GT(lane()->account().held.value(), 0U) << "a drain does not wait for the whole spool";
  ExpectBalanced();
  Restart();
  Pass(milliseconds(1));
  Deliver();
  EXPECT_EQ(std::set<int>(seen_.begin(), seen_.end()).size(), 3000U);
  EXPECT_EQ(seen_.size(), 3000U) << "nothing came twice";
  ExpectBalanced();
}

TEST_F(SpoolKeeperTest, ARestoredFrameIsSettledDocumentByDocument) {
  Arrive(4);
  Arrive(4);
  Fail(seconds(3));
  Restart();
  Pass(milliseconds(1));
  auto calls = TakeCalls();
  ASSERT_EQ(calls.size(), 1U);
  ASSERT_EQ(calls[0].documents, 0xFU);
  ExportResult mixed;
  mixed.documents = {{0, Verdict::kRefused, "InvalidSegment"},
                     {3, Verdict::kThrottled, "Throttled"}};
  keeper_->Tell(delivery_.get());
  delivery_->OnResult(calls[0].id, mixed, now_, &actions_);
  Keep();
  EXPECT_EQ(Dropped(DropReason::kRefused), 1U);
  EXPECT_EQ(account_->delivered.value(), 2U);
  EXPECT_EQ(lane()->account().done.value(), 3U);
  ASSERT_EQ(actions_.drops.size(), 1U);
  EXPECT_EQ(actions_.drops[0].code, "InvalidSegment");
  ExpectBalanced();
  // The throttled one waits; the end gives it back to the spool, and only it comes again.
  calls.clear();
  actions_.drops.clear();
  delivery_->OnDrain(now_, &actions_);
  Keep();
  actions_.calls.clear();
  delivery_->Abandon(&actions_);
  Keep();
  ExpectBalanced();
  Restart();
  Pass(milliseconds(1));
  Deliver();
  ASSERT_EQ(seen_.size(), 1U);
  EXPECT_EQ(*seen_.begin() % 4, 0) << "it is the fourth of its batch";
  ExpectBalanced();
}

TEST_F(SpoolKeeperTest, LiveWorkComesFirstAndTheSpoolIsNotForgotten) {
  for (int i = 0; i < 200; ++i) Arrive(50);
  Fail(seconds(3));
  const uint64_t spooled = lane()->account().held.value();
  ASSERT_GT(spooled, 5000U);
  Pass(seconds(6));
  for (const auto& call : TakeCalls()) Answer(call, {});
  // More live work than the window takes, always.
  uint64_t live_calls = 0;
  uint64_t restored_calls = 0;
  for (int i = 0; i < 40; ++i) {
    for (int j = 0; j < 20 && account_->held_bytes.value() < options_.quota / 2; ++j) Arrive(50);
    for (const auto& call : TakeCalls()) {
      const int id = std::stoi(std::string(call.batch->document(0)));
      ++(id <= 10000 ? restored_calls : live_calls);
      Answer(call, {});
    }
    Pass(milliseconds(10));
  }
  EXPECT_GT(restored_calls, 20U);
  EXPECT_GT(live_calls, restored_calls);
  ExpectBalanced();
  Deliver();
  ExpectBalanced();
}

// Found by simulation: the frame was fetched, put back for the quota and fetched again, for ever.
TEST_F(SpoolKeeperTest, AFrameThatDoesNotFitBesideWhatWaitsIsNotFetched) {
  options_.quota = 320 << 10;
  Restart();
  for (int i = 0; i < 3; ++i) Arrive(50, 5000);
  Fail(seconds(3));
  Restart();
  Arrive(40, 2000);
  auto calls = TakeCalls();
  ASSERT_EQ(calls.size(), 1U);
  ExportResult throttled;
  ForEach(calls[0].documents, [&](size_t i) {
    throttled.documents.push_back({static_cast<uint8_t>(i), Verdict::kThrottled, "Throttled"});
  });
  Answer(calls[0], throttled);
  calls.clear();
  EXPECT_TRUE(TakeCalls().empty());
  EXPECT_GT(delivery_->next_timer(), now_);
  seen_.clear();
  Deliver();
  EXPECT_GE(seen_.size(), 140U);
  ExpectBalanced();
}

// Found by simulation.
TEST_F(SpoolKeeperTest, WhatTheSpoolRefusesAtTheEndIsDroppedAlsoWhenItWasToBeKept) {
  for (int i = 0; i < 4; ++i) Arrive(50);
  Fail(seconds(3));
  disk_.read_only = true;
  Enter(10, 100);
  Enter(10, 100);
  ASSERT_FALSE(actions_.spills.empty());
  actions_.calls.clear();
  delivery_->Abandon(&actions_);
  Keep();
  EXPECT_TRUE(delivery_->idle());
  EXPECT_EQ(account_->held.value(), 0U);
  EXPECT_GE(Dropped(DropReason::kShutdown), 20U);
  ExpectBalanced();
}

TEST_F(SpoolKeeperTest, WithoutMemoryForAFrameItStaysOnDisk) {
  Arrive(50);
  Arrive(50);
  Fail(seconds(3));
  Restart();
  std::vector<Block> taken;
  for (const size_t bytes : {BlockPool::kBlockBytesMax, BlockPool::kPageBytes}) {
    while (const Block block = pool_->TryAcquire(bytes)) taken.push_back(block);
  }
  Pass(milliseconds(1));
  EXPECT_TRUE(TakeCalls().empty());
  EXPECT_GT(delivery_->next_timer(), now_) << "it does not ask in a circle";
  ExpectBalanced();
  for (const Block block : taken) pool_->Release(block);
  Pass(seconds(2));
  Deliver();
  EXPECT_GE(seen_.size(), 50U);
  ExpectBalanced();
}

}  // namespace
}  // namespace mobula

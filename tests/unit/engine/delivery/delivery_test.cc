#include "engine/delivery/delivery.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/batch/batch_builder.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class DeliveryTest : public ::testing::Test {
 protected:
  static constexpr Time kStart{seconds(1000)};

  std::unique_ptr<BlockPool> pool_ = *BlockPool::Create(8 << 20);
  LaneAccount account_;
  Delivery::Options options_;
  std::unique_ptr<Delivery> delivery_;
  DeliveryActions actions_;

  void SetUp() override { Make(); }
  void Make() { delivery_ = std::make_unique<Delivery>(options_, &account_); }

  BatchRef MakeBatch(size_t documents, const std::string& text = "doc") {
    BatchBuilder builder(pool_.get(), {64, seconds(1)});
    for (size_t i = 0; i < documents; ++i) {
      EXPECT_TRUE(builder.Add(text, DocumentKind::kJson, RejectReason::kNone, kStart));
    }
    return builder.Close();
  }
  // As the inbox does it.
  void Arrive(size_t documents, Time now = kStart, const std::string& text = "doc") {
    BatchRef batch = MakeBatch(documents, text);
    account_.entered.Add(documents);
    account_.held.Add(documents);
    account_.held_bytes.Add(batch->cost());
    delivery_->OnBatch(std::move(batch), now, &actions_);
  }
  std::vector<DeliveryActions::Call> TakeCalls() { return std::exchange(actions_.calls, {}); }
  std::vector<DeliveryActions::Drop> TakeDrops() { return std::exchange(actions_.drops, {}); }
  void Answer(CallId id, const ExportResult& result, Time now = kStart) {
    delivery_->OnResult(id, result, now, &actions_);
  }
  static ExportResult Result(Verdict verdict, std::string code = "") {
    ExportResult r;
    r.verdict = verdict;
    r.code = std::move(code);
    return r;
  }
  void ExpectBalanced() {
    EXPECT_EQ(account_.entered.value(),
              account_.delivered.value() + account_.dropped_total() + account_.held.value());
    EXPECT_EQ(account_.held.value(), delivery_->CountHeld());
  }
  [[nodiscard]] uint64_t Dropped(DropReason reason) const {
    return account_.dropped[static_cast<size_t>(reason)].value();
  }
};

TEST_F(DeliveryTest, SendsABatchAtOnceAndGivesItsMemoryBackWhenDelivered) {
  Arrive(3);
  auto calls = TakeCalls();
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].documents, 7U);
  EXPECT_EQ(calls[0].attempt, 1);
  EXPECT_EQ(calls[0].deadline, kStart + options_.timeout);
  ExpectBalanced();
  Answer(calls[0].id, {});
  calls.clear();
  EXPECT_EQ(account_.delivered.value(), 3U);
  EXPECT_TRUE(delivery_->idle());
  EXPECT_EQ(account_.held_bytes.value(), 0U);
  EXPECT_EQ(pool_->bytes_used(), 0U);
  ExpectBalanced();
}

TEST_F(DeliveryTest, RetriesAfterARestWithOneCallAtATime) {
  for (int i = 0; i < 4; ++i) Arrive(1);
  auto calls = TakeCalls();
  ASSERT_EQ(calls.size(), 4U);
  for (const auto& call : calls) Answer(call.id, Result(Verdict::kRetry, "http_503"));
  EXPECT_TRUE(TakeCalls().empty());
  EXPECT_TRUE(delivery_->failing());
  const Time next = delivery_->next_timer();
  EXPECT_GE(next, kStart + options_.backoff_min / 2);
  EXPECT_LE(next, kStart + options_.backoff_min);
  delivery_->OnTimer(next, &actions_);
  calls = TakeCalls();
  ASSERT_EQ(calls.size(), 1U) << "one call asks whether the far side is back";
  EXPECT_EQ(calls[0].attempt, 2);
  EXPECT_EQ(delivery_->next_timer(), kTimeNever);
  Answer(calls[0].id, {}, next);
  EXPECT_EQ(TakeCalls().size(), 3U);
  EXPECT_FALSE(delivery_->failing());
  ExpectBalanced();
}

// Found by simulation: the lane's thread went round until the older call was over.
TEST_F(DeliveryTest, WhatDoesNotFitBesideAnOlderCallWaitsForItsEndNotForATimer) {
  options_.in_flight_bytes = 11 << 10;
  options_.quota = 16 << 10;
  Make();
  Arrive(1);
  Arrive(1);
  auto calls = TakeCalls();
  ASSERT_EQ(calls.size(), 2U);
  Arrive(1, kStart, std::string(6000, 'x'));
  ASSERT_TRUE(TakeCalls().empty())
      << "two pages and two of the others are more than may be in flight";
  Answer(calls[0].id, Result(Verdict::kRetry, "http_503"));
  Arrive(1);  // pushes out the one that failed
  ASSERT_EQ(TakeDrops().size(), 1U);
  const Time rested = kStart + seconds(1);
  delivery_->OnTimer(rested, &actions_);
  EXPECT_TRUE(TakeCalls().empty());
  EXPECT_EQ(delivery_->next_timer(), kTimeNever);
  Answer(calls[1].id, Result(Verdict::kRetry, "http_503"), rested);
  EXPECT_FALSE(TakeCalls().empty());
  ExpectBalanced();
}

TEST_F(DeliveryTest, RestsLongerWithEveryFailureUpToTheCap) {
  Arrive(1);
  Time now = kStart;
  Duration last{};
  for (int i = 0; i < 12; ++i) {
    auto calls = TakeCalls();
    ASSERT_EQ(calls.size(), 1U);
    Answer(calls[0].id, Result(Verdict::kRetry), now);
    last = delivery_->next_timer() - now;
    EXPECT_LE(last, options_.backoff_max);
    now += last;
    delivery_->OnTimer(now, &actions_);
  }
  EXPECT_GE(last, options_.backoff_max / 2);
  EXPECT_EQ(account_.dropped_total(), 0U);
}

TEST_F(DeliveryTest, HonoursRetryAfter) {
  Arrive(1);
  ExportResult throttled = Result(Verdict::kThrottled, "ThrottledException");
  throttled.retry_after = seconds(30);
  Answer(TakeCalls()[0].id, throttled);
  EXPECT_GE(delivery_->next_timer(), kStart + seconds(30));
}

TEST_F(DeliveryTest, CallsThatFailTogetherAreOneFailure) {
  for (int i = 0; i < 8; ++i) Arrive(1);
  for (const auto& call : TakeCalls()) Answer(call.id, Result(Verdict::kThrottled));
  EXPECT_LE(delivery_->next_timer(), kStart + options_.backoff_min);
  EXPECT_EQ(delivery_->window(), 5) << "8 x 0.7, once";
}

TEST_F(DeliveryTest, WindowGrowsByOnePerCleanWindowThatWasFull) {
  for (int i = 0; i < 100; ++i) Arrive(1);
  std::vector<DeliveryActions::Call> open = TakeCalls();
  EXPECT_EQ(open.size(), 8U);
  for (int i = 0; i < 8; ++i) {
    Answer(open.back().id, {});
    open.pop_back();
    for (auto& call : TakeCalls()) open.push_back(std::move(call));
  }
  EXPECT_EQ(delivery_->window(), 9);
}

TEST_F(DeliveryTest, WindowStaysWhenNothingWaits) {
  for (int i = 0; i < 100; ++i) {
    Arrive(1);
    Answer(TakeCalls()[0].id, {});
  }
  EXPECT_EQ(delivery_->window(), 8);
}

// Calls of before a failure bring nothing new: their failures neither count nor make the lane spin, their
// successes neither end the rest nor the failing.
TEST_F(DeliveryTest, OlderCallsOnlyBringTheirDocumentsHome) {
  for (int i = 0; i < 3; ++i) Arrive(1);
  const auto calls = TakeCalls();
  ExportResult throttled = Result(Verdict::kThrottled, "ThrottledException");
  throttled.retry_after = seconds(30);
  Answer(calls[0].id, throttled);
  Answer(calls[1].id, {}, kStart + milliseconds(1));
  EXPECT_TRUE(TakeCalls().empty()) << "the far side asked for 30 s";
  EXPECT_GE(delivery_->next_timer(), kStart + seconds(30));
  EXPECT_TRUE(delivery_->failing());
  // The probe is out when the last of the old calls fails: nothing starts beside the probe.
  const Time probe_at = delivery_->next_timer();
  delivery_->OnTimer(probe_at, &actions_);
  const auto probe = TakeCalls();
  ASSERT_EQ(probe.size(), 1U);
  Answer(calls[2].id, Result(Verdict::kRetry), probe_at);
  EXPECT_TRUE(TakeCalls().empty());
  EXPECT_EQ(delivery_->next_timer(), kTimeNever);
  Answer(probe[0].id, Result(Verdict::kRetry), probe_at);
  EXPECT_TRUE(TakeCalls().empty());
  EXPECT_GT(delivery_->next_timer(), probe_at);
}

TEST_F(DeliveryTest, ARetryAfterOfAnyCallOfACohortCounts) {
  for (int i = 0; i < 2; ++i) Arrive(1);
  const auto calls = TakeCalls();
  Answer(calls[0].id, Result(Verdict::kRetry, "reset"));
  ExportResult throttled = Result(Verdict::kThrottled);
  throttled.retry_after = seconds(30);
  Answer(calls[1].id, throttled);
  EXPECT_GE(delivery_->next_timer(), kStart + seconds(30));
}

// Found by simulation.
TEST_F(DeliveryTest, ARetryAfterOfAnOlderCallOutlastsTheSuccessOfANewerOne) {
  for (int i = 0; i < 3; ++i) Arrive(1);
  const auto calls = TakeCalls();
  Answer(calls[0].id, Result(Verdict::kRetry, "reset"));
  const Time next = delivery_->next_timer();
  delivery_->OnTimer(next, &actions_);
  const auto probe = TakeCalls();
  ASSERT_EQ(probe.size(), 1U);
  ExportResult throttled = Result(Verdict::kThrottled);
  throttled.retry_after = seconds(30);
  Answer(calls[1].id, throttled, next);
  Answer(probe[0].id, {}, next);
  EXPECT_TRUE(TakeCalls().empty());
  EXPECT_EQ(delivery_->next_timer(), next + seconds(30));
  delivery_->OnTimer(next + seconds(30), &actions_);
  const auto again = TakeCalls();
  ASSERT_EQ(again.size(), 1U);
  Answer(again[0].id, {}, next + seconds(30));
  EXPECT_FALSE(delivery_->failing());
  // The same when nothing fails any more.
  Answer(calls[2].id, throttled, next + seconds(30));
  Arrive(1, next + seconds(31));
  EXPECT_TRUE(TakeCalls().empty());
  EXPECT_EQ(delivery_->next_timer(), next + seconds(60));
  ExpectBalanced();
}

TEST_F(DeliveryTest, ACallThatHangsDoesNotKeepTheOthersFromGoingOn) {
  Arrive(1);
  Arrive(1);
  const auto calls = TakeCalls();
  Answer(calls[0].id, Result(Verdict::kRetry, "reset"));  // calls[1] hangs
  const Time next = delivery_->next_timer();
  ASSERT_NE(next, kTimeNever);
  delivery_->OnTimer(next, &actions_);
  const auto probe = TakeCalls();
  ASSERT_EQ(probe.size(), 1U);
  Answer(probe[0].id, {}, next);
  for (int i = 0; i < 20; ++i) Arrive(1, next);
  EXPECT_GE(TakeCalls().size(), 5U);
  ExpectBalanced();
}

TEST_F(DeliveryTest, DocumentsSettledSinglyKeepTheirFateWhenTheCallFails) {
  Arrive(4);
  ExportResult part = Result(Verdict::kRetry, "timeout");
  part.documents = {{0, Verdict::kDelivered, ""}, {1, Verdict::kRefused, "InvalidId"}};
  Answer(TakeCalls()[0].id, part);
  EXPECT_EQ(account_.delivered.value(), 1U);
  EXPECT_EQ(Dropped(DropReason::kRefused), 1U);
  const Time next = delivery_->next_timer();
  delivery_->OnTimer(next, &actions_);
  const auto calls = TakeCalls();
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].documents, 12U);
  ExpectBalanced();
}

TEST_F(DeliveryTest, ALocalRefusalForSizeDoesNotEndARest) {
  Arrive(1);
  Arrive(1);
  const auto calls = TakeCalls();
  Answer(calls[0].id, Result(Verdict::kRetry));
  Answer(calls[1].id, Result(Verdict::kTooLarge));
  EXPECT_TRUE(delivery_->failing());
  EXPECT_TRUE(TakeCalls().empty());
}

TEST_F(DeliveryTest, NeverPassesTheConfiguredConcurrency) {
  options_.concurrency = 2;
  Make();
  for (int i = 0; i < 50; ++i) Arrive(1);
  std::vector<DeliveryActions::Call> open = TakeCalls();
  for (int i = 0; i < 48; ++i) {
    ASSERT_EQ(open.size(), 2U);
    Answer(open.front().id, {});
    open.erase(open.begin());
    for (auto& call : TakeCalls()) open.push_back(std::move(call));
  }
}

TEST_F(DeliveryTest, BoundsTheBytesInFlight) {
  options_.in_flight_bytes = 3 * 4096;
  Make();
  for (int i = 0; i < 6; ++i) Arrive(1);
  EXPECT_EQ(TakeCalls().size(), 3U);
  // A single batch over the bound still goes, alone.
  options_.in_flight_bytes = 1;
  Make();
  Arrive(1);
  Arrive(1);
  EXPECT_EQ(TakeCalls().size(), 1U);
}

TEST_F(DeliveryTest, RetriesThrottledDocumentsAloneAndDropsRefusedOnes) {
  Arrive(5);
  ExportResult result;
  result.documents = {{1, Verdict::kThrottled, "ThrottledException"},
                      {3, Verdict::kRefused, "InvalidId"}};
  Answer(TakeCalls()[0].id, result);
  EXPECT_EQ(account_.delivered.value(), 3U);
  EXPECT_EQ(Dropped(DropReason::kRefused), 1U);
  const auto drops = TakeDrops();
  ASSERT_EQ(drops.size(), 1U);
  EXPECT_EQ(drops[0].documents, 8U);
  EXPECT_EQ(drops[0].code, "InvalidId");
  EXPECT_TRUE(TakeCalls().empty());
  ExpectBalanced();
  // Other batches go on meanwhile.
  Arrive(1);
  EXPECT_EQ(TakeCalls().size(), 1U);
  const Time later = delivery_->next_timer();
  delivery_->OnTimer(later, &actions_);
  const auto calls = TakeCalls();
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].documents, 2U);
  EXPECT_EQ(calls[0].attempt, 2);
}

TEST_F(DeliveryTest, SplitsWhatIsTooLargeDownToTheOne) {
  Arrive(5);
  int sent = 0;
  for (auto calls = TakeCalls(); !calls.empty(); calls = TakeCalls()) {
    for (const auto& call : calls) {
      ++sent;
      const bool has_large = (call.documents & 4) != 0;
      Answer(call.id, has_large ? Result(Verdict::kTooLarge, "http_413") : ExportResult{});
    }
  }
  EXPECT_EQ(account_.delivered.value(), 4U);
  EXPECT_EQ(Dropped(DropReason::kTooLarge), 1U);
  EXPECT_EQ(TakeDrops().at(0).documents, 4U);
  EXPECT_LE(sent, 9);
  ExpectBalanced();
  EXPECT_TRUE(delivery_->idle());
}

TEST_F(DeliveryTest, SendsTheRestOfAPartlyTakenCallAtOnce) {
  Arrive(4);
  ExportResult part;
  part.taken = 3;
  Answer(TakeCalls()[0].id, part);
  EXPECT_EQ(account_.delivered.value(), 2U);
  const auto calls = TakeCalls();
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].documents, 12U);
  EXPECT_EQ(calls[0].attempt, 1);
  ExpectBalanced();
}

TEST_F(DeliveryTest, FinalRefusalDropsTheBatchAndGoesOn) {
  Arrive(3);
  Answer(TakeCalls()[0].id, Result(Verdict::kRefused, "InvalidRequestException"));
  EXPECT_EQ(Dropped(DropReason::kRefused), 3U);
  EXPECT_FALSE(delivery_->failing());
  Arrive(1);
  EXPECT_EQ(TakeCalls().size(), 1U);
}

TEST_F(DeliveryTest, HoldIsDegradedUntilACallPasses) {
  Arrive(1);
  Answer(TakeCalls()[0].id, Result(Verdict::kHold, "AccessDeniedException"));
  EXPECT_TRUE(delivery_->degraded());
  const Time next = delivery_->next_timer();
  delivery_->OnTimer(next, &actions_);
  Answer(TakeCalls()[0].id, {}, next);
  EXPECT_FALSE(delivery_->degraded());
}

TEST_F(DeliveryTest, OverQuotaDropsTheOldestWaitingNeverThoseInFlight) {
  options_.quota = 10 * 4096;
  options_.concurrency = 1;
  Make();
  for (int i = 0; i < 20; ++i) Arrive(1);
  EXPECT_EQ(Dropped(DropReason::kBufferFull), 10U);
  EXPECT_EQ(delivery_->CountHeld(), 10U);
  EXPECT_EQ(delivery_->calls_in_flight(), 1U);
  const auto calls = TakeCalls();
  Answer(calls[0].id, {});
  EXPECT_EQ(account_.delivered.value(), 1U) << "the first one, which was in flight";
  ExpectBalanced();
}

TEST_F(DeliveryTest, AbandonCountsEverythingAndIgnoresLateAnswers) {
  Arrive(2);
  const auto calls = TakeCalls();
  Answer(calls[0].id, Result(Verdict::kRetry));
  Arrive(3);
  delivery_->Abandon(&actions_);
  EXPECT_EQ(Dropped(DropReason::kShutdown), 5U);
  EXPECT_TRUE(delivery_->idle());
  Answer(calls[0].id, {});
  EXPECT_EQ(account_.delivered.value(), 0U);
  ExpectBalanced();
}

TEST_F(DeliveryTest, DrainingShortensARest) {
  options_.backoff_min = seconds(5);
  Make();
  Arrive(1);
  Answer(TakeCalls()[0].id, Result(Verdict::kRetry));
  EXPECT_GT(delivery_->next_timer(), kStart + seconds(2));
  delivery_->OnDrain(kStart, &actions_);
  EXPECT_LE(delivery_->next_timer(), kStart + seconds(1));
}

// A far side on a clock of its own: `judge` answers each call, while documents arrive.
class FarSideTest : public DeliveryTest {
 protected:
  Time now_ = kStart;
  Duration took_ = milliseconds(5);
  Duration every_ = milliseconds(50);
  bool arriving_ = true;
  int calls_made_ = 0;
  std::map<CallId, std::pair<DeliveryActions::Call, Time>> open_;
  std::vector<DeliveryActions::Drop> drops_;

  static ExportResult Status(int status) {
    ExportResult result =
        Result(status == 403 ? Verdict::kHold : Verdict::kRetry, "http_" + std::to_string(status));
    result.http_status = status;
    return result;
  }
  static bool Has(const DeliveryActions::Call& call, std::string_view text) {
    bool has = false;
    ForEach(call.documents, [&](size_t i) { has |= call.batch->document(i) == text; });
    return has;
  }
  void ArriveWith(const std::vector<std::string>& texts) {
    BatchBuilder builder(pool_.get(), {64, seconds(1)});
    for (const std::string& text : texts) {
      ASSERT_TRUE(builder.Add(text, DocumentKind::kJson, RejectReason::kNone, now_));
    }
    BatchRef batch = builder.Close();
    account_.entered.Add(texts.size());
    account_.held.Add(texts.size());
    account_.held_bytes.Add(batch->cost());
    delivery_->OnBatch(std::move(batch), now_, &actions_);
  }
  template <typename F>
  void Run(Duration time, F&& judge) {
    const Time end = now_ + time;
    for (Time next = now_; now_ < end; now_ += milliseconds(5)) {
      if (arriving_ && now_ >= next) {
        Arrive(1, now_);
        next = now_ + every_;
      }
      for (auto& call : TakeCalls()) {
        ++calls_made_;
        const CallId id = call.id;
        open_.emplace(id, std::pair(std::move(call), now_ + took_));
      }
      for (auto& drop : TakeDrops()) drops_.push_back(std::move(drop));
      for (auto it = open_.begin(); it != open_.end();) {
        if (it->second.second > now_) {
          ++it;
          continue;
        }
        const auto call = std::move(it->second.first);
        it = open_.erase(it);
        Answer(call.id, judge(call), now_);
      }
      delivery_->OnTimer(now_, &actions_);
    }
    ExpectBalanced();
  }
};

TEST_F(FarSideTest, OneBadDocumentIsFoundAndGivenUpAndTheOthersGoOn) {
  for (const int status : {500, 503, 403}) {
    SCOPED_TRACE(status);
    account_.~LaneAccount();
    new (&account_) LaneAccount();
    Make();
    drops_.clear();
    // The first thing this lane ever sends, as at a start.
    std::vector<std::string> texts(40, "good");
    texts[17] = "bad";
    ArriveWith(texts);
    const auto judge = [&](const DeliveryActions::Call& call) {
      return Has(call, "bad") ? Status(status) : ExportResult{};
    };
    arriving_ = true;
    Run(seconds(10), judge);
    EXPECT_GE(account_.delivered.value(), 190U) << "200 came";
    const int before = calls_made_;
    Run(seconds(110), judge);
    ASSERT_EQ(drops_.size(), 1U);
    EXPECT_EQ(drops_[0].documents, DocumentSet{1} << 17);
    EXPECT_EQ(drops_[0].reason, DropReason::kRefused);
    EXPECT_EQ(drops_[0].code, "http_" + std::to_string(status));
    EXPECT_EQ(account_.dropped_total(), 1U);
    EXPECT_LE(calls_made_ - before, 2200 + 40) << "one for each arrival, and a few";
    EXPECT_FALSE(delivery_->failing());
    arriving_ = false;
    Run(seconds(1), judge);
    EXPECT_TRUE(delivery_->idle());
    drops_.clear();
  }
}

TEST_F(FarSideTest, ManyBadDocumentsAreFoundToo) {
  for (int i = 0; i < 10; ++i) ArriveWith({"good", "bad", "good"});
  Run(seconds(200), [&](const DeliveryActions::Call& call) {
    return Has(call, "bad") ? Status(500) : ExportResult{};
  });
  EXPECT_EQ(Dropped(DropReason::kRefused), 10U);
  EXPECT_EQ(account_.dropped_total(), 10U);
  EXPECT_LE(account_.held.value(), 1U);
}

TEST_F(FarSideTest, ABadDocumentThatGetsNoAnswerWaitsAndIsKept) {
  ArriveWith({"bad"});
  Run(seconds(200), [&](const DeliveryActions::Call& call) {
    return Has(call, "bad") ? Result(Verdict::kRetry, "reset") : ExportResult{};
  });
  EXPECT_EQ(account_.dropped_total(), 0U);
  EXPECT_GE(account_.delivered.value(), 3990U);
  EXPECT_LE(calls_made_, 4000 + 80) << "it is tried every few seconds";
  Run(seconds(10), [](const auto&) { return ExportResult{}; });
  EXPECT_LE(account_.held.value(), 1U);
}

TEST_F(FarSideTest, AnOutageSplitsAndDropsNothingAndIsAskedByOneCallATime) {
  Run(seconds(10), [](const auto&) { return ExportResult{}; });
  for (const int status : {500, 403}) {
    const int before = calls_made_;
    ArriveWith({"a", "b", "c", "d"});
    size_t most = 0;
    std::set<CallId> parts;
    const auto away = [&](const DeliveryActions::Call& call) {
      most = std::max(most, open_.size());
      if (call.batch->size() == 4 && Count(call.documents) != 4) parts.insert(call.id);
      return Status(status);
    };
    arriving_ = true;
    Run(seconds(20), away);
    arriving_ = false;
    Run(seconds(580), away);
    EXPECT_LE(calls_made_ - before, 600 / 2.5 + 30);
    EXPECT_LE(most, 8U);
    EXPECT_TRUE(parts.empty());
    EXPECT_EQ(account_.dropped_total(), 0U);
    Run(seconds(20), [](const auto&) { return ExportResult{}; });
    EXPECT_LE(account_.held.value(), 2U);
  }
}

TEST_F(FarSideTest, AFarSideThatFailsByChanceLosesNothing) {
  every_ = milliseconds(700);
  for (const double rate : {0.1, 0.5, 0.8}) {
    SCOPED_TRACE(rate);
    std::mt19937 random(7);
    std::uniform_real_distribution<double> dice(0, 1);
    Run(seconds(1000),
        [&](const auto&) { return dice(random) < rate ? Status(503) : ExportResult{}; });
    EXPECT_EQ(account_.dropped_total(), 0U);
    Run(seconds(60), [](const auto&) { return ExportResult{}; });
    EXPECT_LE(account_.held.value(), 2U);
  }
}

TEST_F(FarSideTest, ADocumentThatTheServiceFailsOnForEverIsGivenUpWhileOthersPass) {
  ArriveWith({"good", "bad", "good"});
  const auto judge = [&](const DeliveryActions::Call& call) {
    ExportResult result;
    ForEach(call.documents, [&](size_t i) {
      if (call.batch->document(i) != "bad") return;
      result.documents.push_back({static_cast<uint8_t>(i), Verdict::kRetry, "InternalFailure"});
    });
    return result;
  };
  arriving_ = false;
  Run(seconds(200), judge);
  EXPECT_EQ(account_.dropped_total(), 0U) << "nobody knows whether it takes others";
  arriving_ = true;
  Run(seconds(120), judge);
  ASSERT_EQ(drops_.size(), 1U);
  EXPECT_EQ(drops_[0].code, "InternalFailure");
  EXPECT_EQ(account_.dropped_total(), 1U);
}

// With nothing live, what waits on disk must not stay behind a frame that the far side cannot bear.
TEST_F(DeliveryTest, WhileFailingItAsksWithAnotherFrame) {
  options_.spool = true;
  Make();
  delivery_->set_spool_waiting(true);
  delivery_->OnTimer(kStart, &actions_);
  ASSERT_GT(std::exchange(actions_.frames, 0), 0U);
  delivery_->OnRestored(MakeBatch(1, "bad"), 1, 1, kStart, &actions_);
  actions_.frames = 0;
  auto calls = TakeCalls();
  ASSERT_EQ(calls.size(), 1U);
  Answer(calls[0].id, Result(Verdict::kRetry, "http_500"));
  EXPECT_EQ(std::exchange(actions_.frames, 0), 1U);
  delivery_->OnRestored(MakeBatch(1, "good"), 2, 1, kStart, &actions_);
  EXPECT_EQ(actions_.frames, 0U);
  EXPECT_TRUE(TakeCalls().empty()) << "it rests";
  const Time next = delivery_->next_timer();
  EXPECT_GT(next, kStart);
  delivery_->OnTimer(next, &actions_);
  calls = TakeCalls();
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].batch->document(0), "good");
  Answer(calls[0].id, {}, next);
  EXPECT_FALSE(delivery_->failing());
}

TEST_F(DeliveryTest, WaitsLongerAfterATimeOutSoThatASlowFarSideGetsNoMoreCopies) {
  Arrive(1);
  Time now = kStart;
  for (const int factor : {1, 2, 4, 4}) {
    auto calls = TakeCalls();
    ASSERT_EQ(calls.size(), 1U);
    EXPECT_EQ(calls[0].deadline, now + factor * options_.timeout);
    now = calls[0].deadline;
    Answer(calls[0].id, Result(Verdict::kThrottled, "timeout"), now);
    now = delivery_->next_timer();
    delivery_->OnTimer(now, &actions_);
  }
  Answer(TakeCalls()[0].id, {}, now);
  Arrive(1, now);
  EXPECT_EQ(TakeCalls()[0].deadline, now + options_.timeout) << "others have waited for nobody";
}

TEST_F(DeliveryTest, WaitsAMinuteAtMostUnlessToldOtherwise) {
  for (const seconds timeout : {seconds(25), seconds(600)}) {
    options_.timeout = timeout;
    Make();
    Arrive(1);
    Answer(TakeCalls()[0].id, Result(Verdict::kThrottled, "timeout"));
    Time now = delivery_->next_timer();
    delivery_->OnTimer(now, &actions_);
    Answer(TakeCalls()[0].id, Result(Verdict::kThrottled, "timeout"), now);
    now = delivery_->next_timer();
    delivery_->OnTimer(now, &actions_);
    EXPECT_EQ(TakeCalls()[0].deadline, now + std::max(timeout, seconds(60)));
  }
}

// Random answers, on a clock of its own: whatever happens, the ledger balances after every step, every
// document ends delivered or dropped, and nothing is delivered twice without a failed call before it.
TEST_F(DeliveryTest, BalancesUnderRandomAnswers) {
  for (unsigned seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    account_.~LaneAccount();
    new (&account_) LaneAccount();
    options_.seed = seed;
    options_.quota = (2 + random() % 60) * 4096;
    options_.in_flight_bytes = (1 + random() % 20) * 4096;
    options_.concurrency = static_cast<int>(random() % 5);
    Make();
    Time now = kStart;
    std::map<CallId, DocumentSet> open;
    const auto collect = [&] {
      for (const auto& call : TakeCalls()) {
        ASSERT_NE(call.documents, 0U);
        open[call.id] = call.documents;
      }
      TakeDrops();
    };
    for (int step = 0; step < 400 || !delivery_->idle(); ++step) {
      ASSERT_LT(step, 20000) << "the lane never became idle";
      const bool calm = step >= 400;
      if (!calm && random() % 2 == 0) Arrive(1 + random() % 64, now);
      collect();
      if (!open.empty() && (calm || random() % 2 == 0)) {
        auto it = std::next(open.begin(), static_cast<long>(random() % open.size()));
        const CallId id = it->first;
        const DocumentSet documents = it->second;
        open.erase(it);
        ExportResult result = Result(static_cast<Verdict>(calm ? 0 : random() % 6));
        if (!calm && random() % 4 == 0)
          result.taken = documents & (uint64_t{random()} << 32 | random());
        if (result.verdict == Verdict::kDelivered && !calm) {
          ForEach(documents, [&](size_t i) {
            if (random() % 8 != 0) return;
            result.documents.push_back(
                {static_cast<uint8_t>(i), static_cast<Verdict>(random() % 6), "x"});
          });
        }
        Answer(id, result, now);
      } else {
        const Time timer = delivery_->next_timer();
        now = timer != kTimeNever && timer > now ? timer : now + milliseconds(5);
        delivery_->OnTimer(now, &actions_);
      }
      collect();
      ExpectBalanced();
      ASSERT_FALSE(HasFailure());
    }
    EXPECT_EQ(account_.held_bytes.value(), 0U);
    EXPECT_EQ(pool_->bytes_used(), 0U);
  }
}

}  // namespace
}  // namespace mobula

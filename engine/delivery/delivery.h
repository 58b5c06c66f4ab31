// Decides what a lane does: which documents go out in which call, when to try again, what goes to disk and comes
// back from there, when to give up.
// A state machine: events in, actions out. Clock, threads, sockets and files stand outside it, so that
// simulation drives the same code.
//
// Room:      warm.
// Threads:   the lane's.
// Ownership: holds batch references until every document of theirs in this lane is delivered or dropped.
// Errors:    none of its own. A document is delivered at least once or dropped with a reason; a call that
//            timed out may have arrived, so its documents may arrive twice.
// Limits:    `quota` bytes of batches (beyond it the oldest waiting ones are spilled or dropped, never those in
//            flight), `in_flight_bytes` of batches in calls, `concurrency` calls.
//
// One bad document must not stand in the way of the others, and an outage must cost none. So a batch is judged
// only by the side of others: a strike is a failure of its call while the circuit is closed and other documents
// were delivered since it failed last; a failure after nothing passed takes one back. A batch with strikes waits
// alone, goes behind the others and no longer opens the circuit; from the third on each halves it, and a single
// document that the far side answered so sixteen times is dropped as refused. What goes to disk is judged anew.
// While the circuit is not closed, the batch tried least often asks; with a spool, a frame that was not tried,
// of up to eight at hand.
//
// A call after a time-out waits twice as long as the one before, up to four times `timeout` or a minute.
//
// With a spool, waiting batches are spilled when the quota is passed, when the far side has failed for `spill_after`
// or has never taken a call (one stays, to ask with), and at the end. Frames come back while the far side takes calls: with live work waiting
// one call at a time, else in up to half of the calls allowed. They are the spool's until every document of
// theirs is settled, and count as held there, not here.
//
// How fast: the number of calls in flight adapts. It starts at 8, grows by one per full window of clean
// calls and shrinks by 0.7 on throttling or a time-out, between 1 and the cap. After a call failed as
// a whole the lane rests (jittered exponential backoff, at least the far side's Retry-After) and then
// goes on with one call at a time until one succeeds.
//
// Epochs: calls in flight together fail together, and that is one failure. Each counted failure begins
// an epoch; only what was started in the present epoch says anything new: its failure counts, its
// success ends the failing. Older calls only bring their documents home, unless they bring a Retry-After, which is
// news from whomever it comes, and begins an epoch too. In the terms of a circuit breaker: the
// first failure opens it, the call after each rest is the half-open probe, its success closes it.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "engine/delivery/exporter.h"
#include "engine/queue/lane_account.h"

namespace mobula {

using CallId = uint64_t;

// Whether calls are let through: all, none for now, or one that asks.
enum class Circuit : uint8_t { kClosed, kOpen, kHalfOpen };

// "closed", "open", "half_open".
std::string_view CircuitName(Circuit circuit) noexcept;

// What the lane has to do now, in this order. The first four are SpoolKeeper's.
struct DeliveryActions {
  // To be put on disk; Delivery keeps the documents until OnSpilled.
  struct Spill {
    uint64_t id;
    BatchRef batch;
    DocumentSet documents;
  };
  // Documents of a lent frame that are delivered or dropped.
  struct Settle {
    uint64_t token;
    DocumentSet documents;
  };
  struct Drop {
    BatchRef batch;
    DocumentSet documents;
    DropReason reason;
    std::string code;  // the far side's word, for refusals
  };
  struct Call {
    CallId id;
    BatchRef batch;
    DocumentSet documents;
    Time deadline;
    int attempt;
  };
  std::vector<Spill> spills;
  std::vector<Settle> settles;
  std::vector<uint64_t> returns;  // lent frames, to be lent again later
  size_t frames = 0;  // to be lent now: OnRestored for each, OnNothingRestored when there is none
  std::vector<Drop> drops;
  std::vector<Call> calls;

  [[nodiscard]] bool spool_empty() const {
    return spills.empty() && settles.empty() && returns.empty() && frames == 0;
  }
  [[nodiscard]] bool empty() const { return spool_empty() && drops.empty() && calls.empty(); }
};

class Delivery {
 public:
  struct Options {
    size_t quota = 16U << 20;
    size_t in_flight_bytes = 4U << 20;
    int concurrency = 0;  // the cap; 0 = adaptive up to 64
    Duration timeout = std::chrono::seconds(10);
    Duration backoff_min = std::chrono::milliseconds(100);
    Duration backoff_max = std::chrono::seconds(5);
    uint64_t seed = 1;
    bool spool = false;  // spills and frames are asked for
    Duration spill_after = std::chrono::seconds(1);
  };
  static constexpr int kConcurrencyMax = 64;

  Delivery(const Options& options, LaneAccount* account);
  ~Delivery();

  // A batch arrived that the inbox has already entered into the account.
  void OnBatch(BatchRef batch, Time now, DeliveryActions* actions);
  // The call `id` ended. Unknown ids, as after Abandon, are ignored.
  void OnResult(CallId id, const ExportResult& result, Time now, DeliveryActions* actions);
  // The time of next_timer() has come. Harmless at any other time.
  void OnTimer(Time now, DeliveryActions* actions);

  // Goes on by other limits. REQUIRES: `spool` is as before.
  void OnOptions(const Options& options, Time now, DeliveryActions* actions);

  // What became of a spill. What is not on disk is kept in memory, or dropped where it cannot be.
  void OnSpilled(uint64_t id, bool on_disk, Time now, DeliveryActions* actions);
  // A frame that was asked for, as a batch: `documents` of it are to be delivered. REQUIRES: token != 0.
  void OnRestored(BatchRef batch, uint64_t token, DocumentSet documents, Time now,
                  DeliveryActions* actions);
  // There was no frame, or no memory for one: asks again after a while.
  void OnNothingRestored(Time now);
  // Whether the spool has frames to lend. To be told before the other events.
  void set_spool_waiting(bool waiting) { spool_waiting_ = waiting; }

  // Short rests from now on: the process wants to end. Frames go back to the spool.
  void OnDrain(Time now, DeliveryActions* actions);
  // Gives up everything, also what is in flight: to the spool where there is one, else, and where it takes
  // nothing, as DropReason::kShutdown.
  void Abandon(DeliveryActions* actions);

  // When OnTimer has something to do; kTimeNever: only after another event.
  [[nodiscard]] Time next_timer() const;
  [[nodiscard]] bool idle() const {
    return ready_.empty() && restored_.empty() && waiting_.empty() && in_flight_.empty() &&
           spilling_.empty();
  }
  [[nodiscard]] size_t calls_in_flight() const { return in_flight_.size(); }
  [[nodiscard]] int window() const { return static_cast<int>(window_); }
  // True while the last call failed in a way that only somebody's help mends (Verdict::kHold).
  [[nodiscard]] bool degraded() const { return degraded_; }
  // True while calls fail.
  [[nodiscard]] bool failing() const { return failures_ > 0; }
  [[nodiscard]] Circuit circuit() const {
    if (failures_ == 0) return Circuit::kClosed;
    return in_epoch_ > 0 ? Circuit::kHalfOpen : Circuit::kOpen;
  }
  // Documents held, counted anew, without those the spool holds: for tests of the ledger.
  [[nodiscard]] uint64_t CountHeld() const;

 private:
  // One batch of this lane; its cost is given back when its last item is gone.
  struct Held {
    BatchRef batch;
    LaneAccount* account;
    uint64_t token = 0;    // of the frame it came from; 0: it is live
    DocumentSet open = 0;  // of the frame, those in our hands
    bool left = false;     // some went back
    Held(BatchRef b, LaneAccount* a) : batch(std::move(b)), account(a) {}
    ~Held() { account->held_bytes.Sub(batch->cost()); }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
  };
  struct Item {
    std::shared_ptr<Held> held;
    DocumentSet documents = 0;
    int attempts = 0;               // calls made so far
    int timeouts = 0;               // of these
    int strikes = 0;                // failures of its own, while others passed
    uint64_t delivered_before = 0;  // by the lane, when it failed last
    Time not_before{};              // only while in waiting_

    [[nodiscard]] Item With(DocumentSet those) const {
      Item item = *this;
      item.documents = those;
      return item;
    }
    [[nodiscard]] bool restored() const { return held->token != 0; }
  };
  enum class Source : uint8_t { kNone, kLive, kSpool };
  struct Spilling {
    uint64_t id;
    Item item;
    std::optional<DropReason> otherwise;  // nothing: it may stay in memory
  };
  struct InFlight {
    Item item;
    uint64_t epoch = 0;         // of failures, when it started
    uint64_t shrink_epoch = 0;  // of window decreases
  };

  // Ends every event: spills, starts calls and asks for frames as far as the state allows.
  void Proceed(Time now, DeliveryActions* actions);
  void StartCalls(Time now, DeliveryActions* actions);
  // Where the next call comes from, but for the rest that may still last.
  [[nodiscard]] Source NextSource() const;
  [[nodiscard]] size_t Next(const std::deque<Item>& queue) const;
  [[nodiscard]] Duration TimeoutOf(const Item& item) const;
  void PutBack(Item item, DeliveryActions* actions);
  // The documents leave our hands: settled, or (`left`) back to the spool. No-op for live ones.
  void LetGo(const Item& item, DocumentSet documents, bool left, DeliveryActions* actions);
  void Return(const Item& item, DeliveryActions* actions) {
    LetGo(item, item.documents, true, actions);
  }
  void Spill(Item item, std::optional<DropReason> otherwise, DeliveryActions* actions);
  void SpillWhileFailing(Time now, DeliveryActions* actions);
  [[nodiscard]] Time SpillTime() const;
  // Live items that stay in memory while the far side fails, to ask it with.
  [[nodiscard]] size_t KeptToAsk() const { return in_epoch_ > 0 ? 0 : 1; }
  // Frames to ask for now, but for a pause of the spool.
  [[nodiscard]] size_t FramesWanted() const;
  [[nodiscard]] size_t RestoredMax() const {
    return std::max<size_t>(1, static_cast<size_t>(window_) / 2);
  }
  void Deliver(const Item& item, DocumentSet documents, DeliveryActions* actions);
  void DropDocuments(const Item& item, DocumentSet documents, DropReason reason, std::string code,
                     DeliveryActions* actions);
  void Split(const Item& item, Time now, DeliveryActions* actions);
  void WaitAlone(Item item, Time now, Duration at_least);
  // Settles the documents that fared differently; answers those of `taken` that share the call's verdict.
  DocumentSet SettleSingly(const Item& item, const ExportResult& result, DocumentSet taken,
                           Time now, DeliveryActions* actions);
  void OnFailedCall(const InFlight& call, DocumentSet documents, const ExportResult& result,
                    Time now, DeliveryActions* actions);
  bool Strike(Item* item, bool well);
  void OnSuccess(const InFlight& call);
  void OnFailure(Verdict verdict, const InFlight& call, Duration retry_after, Time now);
  void Shrink(const InFlight& call);
  // There is room for another call.
  [[nodiscard]] bool MayStart() const;
  void KeepQuota(Time now, DeliveryActions* actions);
  [[nodiscard]] Duration Backoff(int failures);

  Options options_;
  double window_max_;
  LaneAccount* const account_;
  std::mt19937_64 random_;

  std::deque<Item> ready_;     // live, oldest first
  std::deque<Item> restored_;  // from the spool
  std::vector<Item> waiting_;  // a heap by not_before: documents refused one by one for now
  std::deque<Spilling> spilling_;
  std::map<CallId, InFlight> in_flight_;  // ordered: one seed, one run
  size_t in_flight_bytes_ = 0;
  size_t restored_in_flight_ = 0;  // calls
  bool restored_last_ = false;     // the call started last was one
  bool spool_waiting_ = false;
  Time fetch_after_{};
  Time spill_not_before_{};  // the spool refused
  uint64_t last_spill_ = 0;
  CallId last_id_ = 0;

  double window_;
  int clean_ = 0;             // successes since the window last changed
  bool window_used_ = false;  // work waited for it since then
  uint64_t shrink_epoch_ = 0;
  int failures_ = 0;         // in a row, of whole calls
  Time failing_since_{};     // while failures_ > 0
  bool known_good_ = false;  // the far side has taken a call; until then a failure is no blip
  uint64_t epoch_ = 0;       // counts failures for ever
  size_t in_epoch_ = 0;      // calls in flight that were started in it
  Time rest_until_{};
  bool degraded_ = false;
  bool draining_ = false;
};

}  // namespace mobula

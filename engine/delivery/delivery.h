// Decides what a lane does: which documents go out in which call, when to try again, when to give up.
// A state machine: events in, actions out. Clock, threads, sockets and files stand outside it, so that
// simulation drives the same code.
//
// Room:      warm.
// Threads:   the lane's.
// Ownership: holds batch references until every document of theirs in this lane is delivered or dropped.
// Errors:    none of its own. A document is delivered at least once or dropped with a reason; a call that
//            timed out may have arrived, so its documents may arrive twice.
// Limits:    `quota` bytes of batches (beyond it the oldest waiting ones are dropped, never those in
//            flight), `in_flight_bytes` of batches in calls, `concurrency` calls.
//
// How fast: the number of calls in flight adapts. It starts at 8, grows by one per full window of clean
// calls and shrinks by 0.7 on throttling or a time-out, between 1 and the cap. After a call failed as
// a whole the lane rests (jittered exponential backoff, at least the far side's Retry-After) and then
// goes on with one call at a time until one succeeds.
//
// Epochs: calls in flight together fail together, and that is one failure. Each counted failure begins
// an epoch; only what was started in the present epoch says anything new: its failure counts, its
// success ends the failing. Older calls only bring their documents home.
#pragma once

#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/delivery/exporter.h"
#include "engine/queue/lane_account.h"

namespace mobula {

using CallId = uint64_t;

// What the lane has to do now, in this order.
struct DeliveryActions {
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
  std::vector<Drop> drops;
  std::vector<Call> calls;

  [[nodiscard]] bool empty() const { return drops.empty() && calls.empty(); }
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

  // Short rests from now on: the process wants to end.
  void OnDrain(Time now, DeliveryActions* actions);
  // Gives up everything, also what is in flight, as DropReason::kShutdown.
  void Abandon(DeliveryActions* actions);

  // When OnTimer has something to do; kTimeNever: only after another event.
  [[nodiscard]] Time next_timer() const;
  [[nodiscard]] bool idle() const {
    return ready_.empty() && waiting_.empty() && in_flight_.empty();
  }
  [[nodiscard]] size_t calls_in_flight() const { return in_flight_.size(); }
  [[nodiscard]] int window() const { return static_cast<int>(window_); }
  // True while the last call failed in a way that only somebody's help mends (Verdict::kHold).
  [[nodiscard]] bool degraded() const { return degraded_; }
  // True while calls fail.
  [[nodiscard]] bool failing() const { return failures_ > 0; }
  // Documents held, counted anew: for tests of the ledger.
  [[nodiscard]] uint64_t CountHeld() const;

 private:
  // One batch of this lane; its cost is given back when its last item is gone.
  struct Held {
    BatchRef batch;
    LaneAccount* account;
    Held(BatchRef b, LaneAccount* a) : batch(std::move(b)), account(a) {}
    ~Held() { account->held_bytes.Sub(batch->cost()); }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
  };
  struct Item {
    std::shared_ptr<Held> held;
    DocumentSet documents = 0;
    int attempts = 0;   // calls made so far
    Time not_before{};  // only while in waiting_
  };
  struct InFlight {
    Item item;
    uint64_t epoch = 0;         // of failures, when it started
    uint64_t shrink_epoch = 0;  // of window decreases
  };

  void StartCalls(Time now, DeliveryActions* actions);
  void Deliver(DocumentSet documents);
  void DropDocuments(const Item& item, DocumentSet documents, DropReason reason, std::string code,
                     DeliveryActions* actions);
  void SplitOrDrop(Item item, const std::string& code, DeliveryActions* actions);
  void WaitAlone(Item item, Time now, Duration at_least);
  // Settles the documents that fared differently; answers those of `taken` that share the call's verdict.
  DocumentSet SettleSingly(const Item& item, const ExportResult& result, DocumentSet taken,
                           Time now, DeliveryActions* actions);
  void OnSuccess(const InFlight& call);
  void OnFailure(Verdict verdict, const InFlight& call, Duration retry_after, Time now);
  void Shrink(const InFlight& call);
  // Another call may start, but for the rest that may still last.
  [[nodiscard]] bool MayStart() const;
  void KeepQuota(DeliveryActions* actions);
  [[nodiscard]] Duration Backoff(int failures);

  const Options options_;
  const double window_max_;
  LaneAccount* const account_;
  std::mt19937_64 random_;

  std::deque<Item> ready_;     // oldest first
  std::vector<Item> waiting_;  // a heap by not_before: documents refused one by one for now
  absl::flat_hash_map<CallId, InFlight> in_flight_;
  size_t in_flight_bytes_ = 0;
  CallId last_id_ = 0;

  double window_;
  int clean_ = 0;             // successes since the window last changed
  bool window_used_ = false;  // work waited for it since then
  uint64_t shrink_epoch_ = 0;
  int failures_ = 0;     // in a row, of whole calls
  uint64_t epoch_ = 0;   // counts failures for ever
  size_t in_epoch_ = 0;  // calls in flight that were started in it
  Time rest_until_{};
  bool degraded_ = false;
  bool draining_ = false;
};

}  // namespace mobula

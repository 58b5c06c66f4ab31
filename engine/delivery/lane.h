// One backend at work: its thread, its inbox, its Delivery and its exporter. Lanes know nothing of each
// other: one that hangs, hangs alone.
//
// Room:      warm.
// Lifecycle: made, Start (its exporter), Run (its thread), Drain, Join, destroyed. The app makes and ends lanes;
//            workers only see the inbox.
// Threads:   the lane's own thread runs everything but the methods below, which any thread may call.
// Errors:    Start fails with what the exporter says; afterwards failures are counted, logged and retried.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "engine/base/mutex.h"
#include "engine/delivery/delivery.h"
#include "engine/delivery/spool_keeper.h"
#include "engine/http/io_loop.h"
#include "engine/queue/lane_inbox.h"

namespace mobula {

class Log;

class Lane {
 public:
  struct Options {
    std::string name;
    Delivery::Options delivery;
    size_t quota = 0;        // bytes of batches, queued and held
    size_t batches_max = 0;  // that the pool can issue
    size_t producers = 1;
    Log* log = nullptr;
    // Its part of the spool, and where frames from there find room; null: documents wait in memory only.
    SpoolLane* spool = nullptr;
    BlockPool* pool = nullptr;
    // Told of every document the far side refused for good. Called on the lane's thread.
    std::function<void(std::string_view lane, std::string_view reason, std::string_view code,
                       std::string_view document)>
        dead_letter;
  };

  // What the health page and the status line say of a lane.
  struct Health {
    bool failing = false;   // the last call failed
    bool degraded = false;  // and only somebody's help mends it
    std::string code;       // of the last failure
    std::string message;
  };

  struct CallCounters {
    SharedCounter delivered;     // calls that the far side took
    SharedCounter failed;        // to be sent again
    SharedCounter refused;       // final
    SharedCounter microseconds;  // that the delivered ones took
  };
  // Calls without success by what went wrong, in the X-Ray daemon's kinds.
  struct FaultCounters {
    SharedCounter timeout;
    SharedCounter refused;
    SharedCounter http_4xx;
    SharedCounter http_5xx;
    SharedCounter unknown_host;
    SharedCounter other;
  };

  Lane(Options options, std::unique_ptr<Exporter> exporter);
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  absl::Status Start();
  // Documents are sent from now on. Nothing happens after a Drain.
  void Run();

  [[nodiscard]] const std::string& name() const { return options_.name; }
  [[nodiscard]] LaneInbox& inbox() { return inbox_; }
  [[nodiscard]] size_t quota() const { return inbox_.quota(); }
  [[nodiscard]] const LaneAccount& account() const { return account_; }
  [[nodiscard]] const CallCounters& calls() const { return calls_; }
  [[nodiscard]] const FaultCounters& faults() const { return faults_; }
  [[nodiscard]] size_t calls_in_flight() const {
    return in_flight_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] int window() const { return window_.load(std::memory_order_relaxed); }
  [[nodiscard]] Circuit circuit() const { return circuit_.load(std::memory_order_relaxed); }
  // Null without a spool.
  [[nodiscard]] const SpoolAccount* spool_account() const {
    return options_.spool == nullptr ? nullptr : &options_.spool->account();
  }
  [[nodiscard]] Health health() const;
  // Failed calls by code, at most 32 codes; what is more is "other".
  [[nodiscard]] std::vector<std::pair<std::string, uint64_t>> errors() const;
  // Grows while the lane's loop turns; a loop that hangs inside an exporter stands still.
  [[nodiscard]] uint64_t turns() const { return turns_.load(std::memory_order_relaxed); }

  // SIGHUP.
  void Reopen();

  // Other limits from now on.
  void SetLimits(size_t quota, const Delivery::Options& delivery);
  // Another exporter for the same far side, in two steps. Prepare starts it beside the present one; Unavailable when
  // the lane's thread has not come to that by `deadline`. Then either TakeUp: new calls go to it, and the
  // present one ends when its calls are home; or Discard. REQUIRES: Start; not draining.
  absl::Status Prepare(std::unique_ptr<Exporter> exporter, Time deadline);
  void TakeUp();
  void Discard();
  // In one step, where there can be only one at a time: the present one ends, then `exporter` starts. When it
  // cannot, that is told, and its calls fail until it can.
  void Replace(std::unique_ptr<Exporter> exporter);

  // No more batches will come: ends the thread when all is delivered, or gives up at `deadline`: what is left goes
  // to the spool, or is counted as shutdown. A lane that does not run gives up here and now, also while another thread
  // is in its Start. REQUIRES: the workers have ended.
  void Drain(Time deadline);
  // The drain is over.
  [[nodiscard]] bool finished() const { return finished_.load(std::memory_order_acquire); }
  // It is not finished, and must be waited for: it is not yet `deadline`, or what is left is on its way to the spool, and
  // no write hangs.
  [[nodiscard]] bool Ends(Time deadline) const;
  // Waits for the thread while Ends(deadline). False when the exporter or the disk hangs: the thread still runs, the
  // lane must not be destroyed, and from here its books do not matter any more; what it holds is lost.
  [[nodiscard]] bool Join(Time deadline);

 private:
  void Loop();
  void Pump();
  void KeepSpool(Time now, DeliveryActions* actions);
  void Execute(const DeliveryActions& actions);
  void Note(const ExportResult& result, Duration took);
  void CountFault(const ExportResult& result);
  void Act(const std::function<void(Time now, DeliveryActions*)>& event);
  void EndWays();
  void End(Exporter* exporter);
  void GiveUp();
  void Finish();
  void Beat();

  const Options options_;
  LaneAccount account_;
  LaneInbox inbox_;
  CallCounters calls_;
  FaultCounters faults_;
  std::atomic<size_t> in_flight_{0};
  std::atomic<int> window_{0};
  std::atomic<Circuit> circuit_{Circuit::kClosed};
  std::atomic<uint64_t> turns_{0};
  enum class Stage : uint8_t { kNew, kRunning, kOver };
  std::atomic<Stage> stage_{Stage::kNew};
  std::atomic<Time> gave_up_{Time{}};  // then, or at the last write to the spool since then
  std::atomic<bool> finished_{false};
  std::atomic<bool> abandoned_{false};

  // The lane's thread only.
  IoLoop loop_;
  Delivery delivery_;
  std::optional<SpoolKeeper> spool_;
  // An exporter and how many calls it has not answered.
  struct Way {
    std::unique_ptr<Exporter> exporter;
    size_t calls = 0;
  };
  std::vector<std::unique_ptr<Way>> ways_;  // the last is in use, the others wait for their calls
  std::unique_ptr<Exporter> prepared_;
  struct Answer {
    CallId id;
    ExportResult result;
    Duration took;
  };
  std::vector<Answer> results_;
  bool pumping_ = false;
  Time drain_deadline_ = kTimeNever;
  std::unique_ptr<IoLoop::Waker> waker_;
  std::unique_ptr<IoLoop::Timer> timer_;
  std::unique_ptr<IoLoop::Timer> beat_;

  mutable Mutex mutex_;
  Health health_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::pair<std::string, uint64_t>> errors_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace mobula

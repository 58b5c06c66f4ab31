// The backends' lanes: those that documents are routed to, and those that a reload took out of the routes and that
// still deliver what they were given. What was accepted for one far side goes to no other: a lane goes on under another
// configuration of its backend only while SpoolIdentityText stays the same.
//
// Room:      cold; makes and ends the lanes' threads.
// Lifecycle: Make and Commit, Start; for a reload Make, Start(change), Commit, Left; Drain, Join, destroyed.
// Threads:   the control thread. Make and Start(change) may run on another one, one change at a time; Reports and
//            Complaints may be called by any.
// Ownership: what the options point to outlives it.
// Errors:    a change that cannot be made or started leaves everything as it was. A lane that leaves and hangs is
//            written off at the end of its time, and let go of when it turns again.
// Limits:    the quotas of all lanes, and what those that leave hold, fit `room`; 64 former backends are told of by name.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/app/lane_report.h"
#include "engine/app/spool_room.h"
#include "engine/base/mutex.h"
#include "engine/base/time.h"
#include "engine/config/config.h"
#include "engine/delivery/lane.h"

namespace mobula {

class AwsContext;
class Log;

// How a backend's lane uses its share of the buffer.
Delivery::Options DeliveryOptions(const BackendConfig& backend, uint64_t share, uint64_t seed);

// Tells the log what a lane gave up, and what it delivered.
class LaneTeller {
 public:
  void TellDrops(const LaneReport& lane, Time now, Log* log);
  // In a line: at once after a pause, then summed up.
  void TellDeliveries(const Lane& lane, Time now, Log* log);
  // When documents were given up last; Time{}: never.
  [[nodiscard]] Time last_drop() const { return last_drop_; }

 private:
  struct Told {
    uint64_t delivered = 0;
    uint64_t refused = 0;
    uint64_t calls = 0;
    uint64_t microseconds = 0;
    Time at{};
  };
  std::array<uint64_t, kDropReasonCount> drops_{};
  Told told_;
  Time last_drop_{};
};

class LaneSet {
 public:
  struct Options {
    BlockPool* pool = nullptr;
    Log* log = nullptr;
    AwsContext* aws = nullptr;
    SpoolRoom* spool = nullptr;  // null: none
    size_t producers = 1;        // that push into a lane
    uint64_t room = 0;           // of the buffer, for all lanes together
    decltype(Lane::Options::dead_letter) dead_letter;
  };
  // Another set of lanes; destroyed without Commit it never was.
  class Change {
   public:
    explicit Change(LaneSet* set);
    ~Change();
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;

   private:
    friend class LaneSet;
    struct Slot;

    LaneSet* const set_;
    std::vector<Slot> slots_;
  };

  explicit LaneSet(Options options);
  ~LaneSet();
  LaneSet(const LaneSet&) = delete;
  LaneSet& operator=(const LaneSet&) = delete;

  // Lanes for `backends`, each with its share of the buffer. Those of now go on in it where name and far side are the
  // same. Waits a little for a lane that is wanted again and just about to end.
  absl::StatusOr<std::unique_ptr<Change>> Make(const std::vector<BackendConfig>& backends,
                                               const std::vector<uint64_t>& shares,
                                               OtherWriter other_writer = OtherWriter::kMistake);
  // Starts what is new in it, but for the sending.
  absl::Status Start(Change* change);
  // From now on the lanes are those of `change`. The others leave: they deliver until `leave_by`, then what is left
  // goes to the spool, or is counted as shutdown.
  void Commit(std::unique_ptr<Change> change, Time leave_by);
  // Where documents go, by the number of the backend.
  [[nodiscard]] std::vector<LaneInbox*> Inboxes();
  // No worker knows the lanes any more that were not committed last.
  void Left();

  // Starts the lanes of the first Commit.
  absl::Status Start();
  void Reopen();
  // About once a second, and often while busy(): tells the log, sees lanes off.
  void Step(Time now);
  // A lane is leaving.
  [[nodiscard]] bool busy() const;

  void Drain(Time deadline);
  [[nodiscard]] bool Drained() const;
  // False when one hangs.
  [[nodiscard]] bool Join(Time deadline);

  // One for each backend, in the order of the configuration; behind them former ones.
  [[nodiscard]] std::vector<LaneReport> Reports() const;
  // "degraded: backend x: ...", "retrying: ...", a line each.
  [[nodiscard]] std::string Complaints(Time now) const;

 private:
  struct Entry;
  using Entries = std::vector<std::unique_ptr<Entry>>;

  absl::StatusOr<std::unique_ptr<Entry>> MakeEntry(const BackendConfig& backend, uint64_t share,
                                                   OtherWriter other_writer);
  absl::StatusOr<std::unique_ptr<Exporter>> MakeExporterOf(const BackendConfig& backend,
                                                           OtherWriter other_writer) const;
  // The lane that can go on as `backend`, kept from leaving; null: there is none.
  absl::StatusOr<Entry*> Claim(const BackendConfig& backend);
  [[nodiscard]] Entry* Find(const std::string& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::unique_ptr<Entry> Remove(Entry* entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Gives every lane its share, or less as long as others that leave hold something.
  void Grant() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] Delivery::Options LimitsOf(const Entry& entry, uint64_t share) const;
  // Brings one that leaves a step further; true when it is gone.
  bool SeeOff(Entry* entry, Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // From now on its counts, `report`, are history.
  void WriteOff(Entry* entry, LaneReport report) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  uint64_t seeds_ = 0;
  bool draining_ = false;  // the control thread's

  mutable Mutex mutex_;
  Entries current_ ABSL_GUARDED_BY(mutex_);  // by the number of the backend
  Entries leaving_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, LaneReport> former_ ABSL_GUARDED_BY(mutex_);  // of lanes that are gone
};

}  // namespace mobula

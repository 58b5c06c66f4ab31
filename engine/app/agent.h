// The agent: builds workers and lanes from a configuration, connects them, starts and ends them. Makes every
// thread of the data path.
//
// Room:      cold.
// Lifecycle: Create (binds the sockets first of all; no thread), Receive, Start, for a reload Prepare and Commit,
//            BeginDrain, Drained, Finish. The end may come without Start, or while another thread is in it.
// Threads:   one control thread calls the lifecycle; the reading methods may be called by any.
// Errors:    Create and Start fail with what a user must change; afterwards nothing ends the process.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "backends/file/dead_letter_file.h"
#include "engine/app/cold_room.h"
#include "engine/app/handover.h"
#include "engine/app/hardening.h"
#include "engine/app/lane_set.h"
#include "engine/app/ledger.h"
#include "engine/app/memory_plan.h"
#include "engine/app/spool_room.h"
#include "engine/base/mutex.h"
#include "engine/config/config.h"
#include "engine/delivery/lane.h"
#include "engine/receive/udp_sockets.h"
#include "engine/receive/unix_socket.h"
#include "engine/receive/worker.h"
#include "engine/route/router.h"

namespace mobula {

// Cores this process may run on.
int AllowedCores();

class Agent {
 public:
  // `hardening`, if there is one, outlives it: told when the sockets are bound, and in each thread what that is for.
  static absl::StatusOr<std::unique_ptr<Agent>> Create(const Config& config, Log* log,
                                                       Hardening* hardening = nullptr);
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Receiving begins: what comes is held until the lanes deliver.
  void Receive();
  // May take some seconds to learn the region. Afterwards lanes deliver, and the sampling port listens.
  absl::Status Start();

  // What a changed configuration needs, made and started beside what runs.
  struct Change {
    Config config;
    MemoryPlan plan;
    std::unique_ptr<const Router> router;
    std::unique_ptr<LaneSet::Change> lanes;
    ColdRoom::Change cold;
  };
  // Backends and routes of `next`; the rest must be as it was. Called on a thread of its own, which keeps to a lane's
  // system calls from then on; may take as long as finding a region does. On an error nothing has changed. One at a
  // time. REQUIRES: Start.
  absl::StatusOr<std::unique_ptr<Change>> Prepare(const Config& next);
  // From now on documents go where `change` says. What was accepted before goes where it was to go: lanes that are
  // left have the grace of shutdown for that. REQUIRES: settled(), not draining.
  void Commit(std::unique_ptr<Change> change);
  // Often until settled() and no longer changing().
  void Settle(Time now);
  // The receivers have taken up what was committed.
  [[nodiscard]] bool settled() const { return settled_; }
  // A backend that was taken out still delivers.
  [[nodiscard]] bool changing() const { return !settled_ || lanes_->busy(); }
  // How reloads ended, for metrics and health. `failed` says why, OK that it worked.
  void NoteReload(const absl::Status& status);
  struct Reloads {
    uint64_t ok = 0;
    uint64_t failed = 0;
    std::string fault;  // of the last one; empty: it worked, or there was none
  };
  [[nodiscard]] Reloads reloads() const;

  // After Start: others find this agent now. With one whose port this one takes over: has it end. Until then that one
  // receives.
  void BeginService(Time now);
  // To be stepped.
  [[nodiscard]] Handover& handover() { return handover_; }
  // How its other ports are to be bound.
  [[nodiscard]] PortUse port_use() const {
    return handover_.taking_over() ? PortUse::kShared : PortUse::kAlone;
  }

  // Stops receiving and lets the lanes deliver what is held until `deadline`. A second call moves the
  // deadline: to now cuts short.
  void BeginDrain(Time deadline);
  // True when every lane has ended, and no request waits on the sampling port.
  [[nodiscard]] bool Drained();
  // After the drain or its deadline: waits for what is on its way to the spool, closes that; what is left is counted as
  // lost, the last telemetry goes out. The ledger is final. False when a backend or the disk hangs: that thread cannot
  // be joined, the process must end by _exit.
  [[nodiscard]] bool Finish();

  // SIGHUP: files are opened again under their names.
  void Reopen();
  // Call about once a second: tells the log what the hot side counted, watches that the loops turn.
  void Housekeep(Time now);

  [[nodiscard]] const std::string& address() const { return sockets_.address; }
  [[nodiscard]] const MemoryPlan& plan() const { return plan_; }
  [[nodiscard]] Ledger ledger() const;
  // Times that the books did not balance at rest: bugs of ours.
  [[nodiscard]] uint64_t ledger_bugs() const { return audit_.bugs(); }
  // Nothing without a spool.
  [[nodiscard]] std::optional<Spool::State> spool() const;
  // One for each backend, and behind them those that a reload took out.
  [[nodiscard]] std::vector<LaneReport> backends() const { return lanes_->Reports(); }
  // Lines the dead-letter file could not take.
  [[nodiscard]] uint64_t dead_letters_failed() const;
  [[nodiscard]] const std::vector<std::unique_ptr<Worker>>& workers() const { return workers_; }
  [[nodiscard]] const ColdRoom& cold_room() const { return *cold_room_; }
  [[nodiscard]] const BlockPool& pool() const { return *pool_; }
  [[nodiscard]] ReceiveEngine engine() const;

  // The loops of the receivers turn. `why` says which does not.
  [[nodiscard]] bool Healthy(std::string* why) const;
  // Sockets are bound and something can be held; `text` says "ready", or what is not as it should be: a
  // backend that needs somebody's help is degraded, one that fails otherwise is retrying.
  [[nodiscard]] bool Ready(std::string* text) const;

 private:
  Agent(Log* log, Hardening* hardening);
  void EnterRole(ThreadRole role) const;
  absl::Status Build(Config config);
  void BuildWorkers(const Config& config, std::unique_ptr<const Router> router);
  [[nodiscard]] std::shared_ptr<const RouteTable> MakeTable(std::unique_ptr<const Router> router);
  [[nodiscard]] TelemetryCounts CountsOf(std::string_view backend) const;
  void Audit(bool last);

  // When each loop was last seen turning.
  struct Watch {
    uint64_t turns = 0;
    Time at{};
  };

  Log* const log_;
  Hardening* const hardening_;
  UdpSockets sockets_;
  Handover handover_;
  std::unique_ptr<UnixSocket> unix_socket_;
  MemoryPlan plan_;
  ReceiveEngine chosen_engine_ = ReceiveEngine::kRecvmmsg;
  std::unique_ptr<BlockPool> pool_;
  std::unique_ptr<DeadLetterFile> dead_letter_file_;
  std::unique_ptr<ColdRoom> cold_room_;  // outlives the lanes, whose exporters use it
  std::unique_ptr<SpoolRoom> spool_;     // null: none; outlives the lanes too
  std::unique_ptr<LaneSet> lanes_;
  std::unique_ptr<Lane> dead_letter_lane_;
  LaneTeller dead_letter_teller_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::thread> worker_threads_;
  std::atomic<bool> draining_{false};
  bool settled_ = true;
  bool lanes_started_ = false;
  Time sampling_until_{};  // while draining
  std::atomic<bool> started_{false};
  LedgerAudit audit_;
  std::vector<uint64_t> kernel_drops_told_;

  mutable Mutex mutex_;
  std::vector<Watch> worker_watch_ ABSL_GUARDED_BY(mutex_);
  Reloads reloads_ ABSL_GUARDED_BY(mutex_);
  // When its lane hung at the end.
  std::optional<LaneReport> dead_letters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mobula

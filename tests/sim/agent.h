// One agent process of the simulation: the real batches, inboxes, Delivery, SpoolKeeper and Spool, with virtual
// threads around them. What the program does between these (worker.cc, lane.cc, xray_exporter.cc) is done here in the
// same order, without waiting.
//
// Room:      test.
// Lifecycle: made, Receive..., then Stop until finished(), or Die; destroyed by the world.
// Errors:    invariants of a lane at rest are checked after each of its events, and told to the Story.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/app/ledger.h"
#include "engine/base/log.h"
#include "engine/batch/batch_builder.h"
#include "engine/config/config.h"
#include "engine/delivery/delivery.h"
#include "engine/delivery/spool_keeper.h"
#include "engine/queue/lane_inbox.h"
#include "engine/route/router.h"
#include "engine/segment/segment_scanner.h"
#include "engine/spool/spool.h"
#include "tests/sim/far_side.h"
#include "tests/support/fake_spool_disk.h"

namespace mobula::sim {

class Agent;

// What all agents of a world share.
struct Surroundings {
  EventLoop* loop = nullptr;
  Books* books = nullptr;
  Story* story = nullptr;
  FakeSpoolDisk* disk = nullptr;
  SegmentScanner* scanner = nullptr;
  Log* log = nullptr;
  Duration disk_delay{};          // of the calls since somebody looked: a slow disk
  Time disk_busy_until{};         // one lock guards the spool's books
  uint64_t disk_faults = 0;       // given to anybody so far
  std::function<void()> crashed;  // a process died at a change of the disk
};

struct Backend {
  std::string name;
  std::string identity;
  FarSide* far_side = nullptr;
  size_t share = 1U << 20;  // of the buffer
  Delivery::Options delivery;
};

// The thread of one backend.
class VirtualLane : public std::enable_shared_from_this<VirtualLane> {
 public:
  VirtualLane(Agent* agent, Backend backend, SpoolLane* spool);

  void Begin();
  [[nodiscard]] const Backend& backend() const { return backend_; }
  [[nodiscard]] LaneInbox& inbox() { return inbox_; }
  [[nodiscard]] SpoolLane* spool() { return spool_; }
  [[nodiscard]] const LaneAccount& account() const { return account_; }
  [[nodiscard]] bool finished() const { return finished_; }
  [[nodiscard]] bool draining() const { return drain_deadline_ != kTimeNever; }
  // Nothing is held, and nothing waits on disk.
  [[nodiscard]] bool empty() const;
  [[nodiscard]] std::string text() const;

  void Push(size_t worker, BatchRef batch, const std::vector<uint64_t>& documents);
  void Lose(const std::vector<uint64_t>& documents);
  // Gets up now, or when the disk is done.
  void Wake(Duration after);
  void Drain(Time deadline);
  // What was in memory is gone.
  void Die();
  void CheckAtRest();
  // At most so many documents of the spool were in memory: those of files it had given up are lost.
  [[nodiscard]] uint64_t lent_at_death() const { return lent_at_death_; }

 private:
  struct OpenCall {
    const Batch* batch;
    DocumentSet taken;
    std::vector<uint64_t> documents;
    Block body;
    SystemTime signed_at;
    bool answered = false;  // the answer waits for the lane's thread
  };
  struct Answer {
    CallId id;
    ExportResult result;
    std::optional<Reply> reply;
  };
  struct Pushed {
    uint64_t serial;
    std::vector<uint64_t> documents;
  };

  void Beat();
  void Pump();
  // False: the process died.
  bool Keep(DeliveryActions* actions);
  void Execute(DeliveryActions actions);
  void Export(const DeliveryActions::Call& call);
  void OnReply(CallId id, const Reply& reply);
  void OnDeadline(CallId id);
  void Process(const Answer& answer);
  void NoteDrop(const DeliveryActions::Drop& drop);
  void Finish();
  BatchRef Pop();
  // What was pushed and not popped is known to be dropped when the inbox is empty.
  void NoteLostInInbox(size_t worker, uint64_t before_serial);
  void Explain(const std::vector<uint64_t>& documents, Why why);
  void Excuse(const OpenCall& call);
  void ReleaseBody(OpenCall* call);
  [[nodiscard]] std::vector<uint64_t> Numbers(const Batch& batch, DocumentSet documents) const;

  Agent* const agent_;
  Surroundings* const world_;
  const Backend backend_;
  const std::string name_;
  SpoolLane* const spool_;
  LaneAccount account_;
  LaneInbox inbox_;
  std::vector<LaneInbox::Producer> producers_;
  Delivery delivery_;
  std::optional<SpoolKeeper> keeper_;

  std::vector<std::deque<Pushed>> pushed_;  // by worker, not popped yet
  std::map<uint64_t, size_t> pushed_by_;    // the first document of a batch: its worker
  std::map<CallId, OpenCall> calls_;
  std::vector<Answer> answers_;
  uint64_t serial_ = 0;
  uint64_t dropped_ = 0;    // seen from outside
  uint64_t delivered_ = 0;  // that the far side surely took and said so

  Time wake_at_ = kTimeNever;
  uint64_t wake_number_ = 0;
  Time busy_until_{};
  Time quiet_until_{};  // as the far side asked
  Time quiet_next_{};
  Time drain_deadline_ = kTimeNever;
  Time turns_since_{};
  uint64_t turns_ = 0;  // without news, since then
  bool finished_ = false;
  uint64_t lent_at_death_ = 0;
};

class Agent {
 public:
  struct Options {
    int number = 0;
    std::vector<Backend> backends;
    std::vector<RouteConfig> routes;
    BatchBuilder::Limits batch;
    size_t workers = 1;
    bool with_spool = true;
    Spool::Options spool;
    Duration wake_max = std::chrono::milliseconds(1);
    uint64_t seed = 1;
  };

  Agent(Options options, Surroundings* world);
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Takes document `number`, as a worker would.
  void Receive(size_t worker, uint64_t number, const std::string& document);

  // SIGTERM.
  void Stop(Duration grace);
  // SIGKILL, or the machine's end.
  void Die();
  void DieAtChange(uint64_t change) { process_.KillAt(change); }
  // SIGHUP: a backend goes, another comes. REQUIRES: no reload is under way.
  void Remove(const std::string& backend, Duration grace);
  void Add(const Backend& backend);
  // As once a second.
  void Housekeep();

  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] bool dead() const { return dead_; }
  [[nodiscard]] bool stopping() const { return stopping_; }
  [[nodiscard]] bool finished() const { return finished_; }
  [[nodiscard]] bool reloading() const { return !leaving_.empty(); }
  // All is delivered.
  [[nodiscard]] bool empty() const;
  // In the middle of a change of the disk.
  [[nodiscard]] bool died_at_change() const { return died_at_change_; }
  // A disk error happened in its life.
  [[nodiscard]] bool saw_faults() const { return world_->disk_faults > faults_before_; }
  [[nodiscard]] const std::vector<std::shared_ptr<VirtualLane>>& lanes() const { return lanes_; }
  [[nodiscard]] BlockPool* pool() { return pool_.get(); }
  [[nodiscard]] Spool* spool() { return spool_.get(); }
  [[nodiscard]] Random& random() { return random_; }
  [[nodiscard]] Surroundings* world() { return world_; }
  // After each event that may have used the disk.
  bool DiedAtDisk();
  void NoteFinished();
  // Documents the spool gave up, over its whole life, and some more if it was killed.
  [[nodiscard]] uint64_t spool_dropped() const;
  [[nodiscard]] std::string text() const;

 private:
  struct OpenRoute {
    OpenRoute(BlockPool* pool, BatchBuilder::Limits limits) : builder(pool, limits) {}
    BatchBuilder builder;
    std::vector<uint64_t> documents;
    uint64_t opened = 0;  // batches so far
  };
  struct Worker {
    std::vector<std::unique_ptr<OpenRoute>> routes;
  };

  void BuildRoutes();
  void Close(size_t worker, size_t route);
  void CloseAll();
  void Beat();
  void Audit(bool last);
  void CheckDisk();
  void AddLane(const Backend& backend, SpoolLane* spool);

  Options options_;
  Surroundings* const world_;
  Random random_;
  FakeSpoolDisk::Process process_;
  uint64_t faults_before_;
  std::unique_ptr<BlockPool> pool_;
  std::unique_ptr<Spool> spool_;
  std::unique_ptr<Router> router_;
  std::vector<uint32_t> route_keys_;
  std::vector<Worker> workers_;
  std::vector<std::shared_ptr<VirtualLane>> lanes_;
  std::vector<std::shared_ptr<VirtualLane>> leaving_;
  std::vector<std::shared_ptr<VirtualLane>> left_;
  // Ledger of what was received.
  uint64_t accepted_ = 0;
  uint64_t routed_ = 0;
  uint64_t filtered_ = 0;
  LedgerAudit audit_;
  bool stopping_ = false;
  bool finished_ = false;
  bool dead_ = false;
  bool died_at_change_ = false;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>();  // while this object lives
};

}  // namespace mobula::sim

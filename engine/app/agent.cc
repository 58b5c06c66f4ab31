// Tested by tests/unit/engine/app/agent_test.cc and the e2e suite.
#include "engine/app/agent.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>

#include "backends/registry.h"
#include "engine/app/dead_letter_exporter.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/receive/inherited_sockets.h"

namespace mobula {
namespace {

constexpr Duration kStuckAfter = std::chrono::seconds(5);
// For the sampling calls under way: SDKs wait as long, and ask again or go on by their own rules.
constexpr Duration kLastSampling = std::chrono::seconds(2);
constexpr Duration kLastTelemetry = std::chrono::seconds(2);
// A disk that needs longer has what it was given from the kernel later, or hangs.
constexpr Duration kSpoolClosing = std::chrono::seconds(2);

Time Now() { return std::chrono::steady_clock::now(); }

// Containers often start with a soft limit of 1,024; connections and files of many backends may need more.
void RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 65536);
  (void)setrlimit(RLIMIT_NOFILE, &limit);
}

std::string_view RejectText(RejectReason reason) {
  switch (reason) {
    case RejectReason::kMissingHeader:
      return "Missing header";
    case RejectReason::kMissingSegment:
      return "Missing header or segment";
    case RejectReason::kInvalidHeader:
      return "Invalid header";
    case RejectReason::kNotAllowed:
      return "Sender is not in receivers.udp.allow";
    case RejectReason::kRateLimited:
      return "Sender is over receivers.udp.source_rate";
    default:
      return "Invalid segment document";
  }
}

}  // namespace

int AllowedCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

Agent::Agent(Log* log, Hardening* hardening)
    : log_(log), hardening_(hardening), handover_(&sockets_, log) {}

void Agent::EnterRole(ThreadRole role) const {
  if (hardening_ != nullptr) hardening_->Enter(role);
}

absl::StatusOr<std::unique_ptr<Agent>> Agent::Create(const Config& config, Log* log,
                                                     Hardening* hardening) {
  std::unique_ptr<Agent> agent(new Agent(log, hardening));
  RETURN_IF_ERROR(agent->Build(config));
  return agent;
}

absl::Status Agent::Build(Config config) {
  RaiseFileLimit();
  ASSIGN_OR_RETURN(InheritedSockets inherited, TakeInheritedSockets());
  if (inherited.unix_socket.valid()) {
    unix_socket_ = std::make_unique<UnixSocket>(AdoptUnixSocket(std::move(inherited.unix_socket)));
    config.unix_socket.path = unix_socket_->path();
  }
  int workers = WorkerCount(config.udp.workers, AllowedCores());
  const std::optional<uint64_t> limit = CgroupMemoryLimit();
  if (const std::string shrunk = ShrinkToFit(&config, workers, limit); !shrunk.empty()) {
    log_->Warn("memory_shrunk", shrunk);
  }
  // Sockets first: from here on the kernel holds what arrives, everything slow comes later.
  if (inherited.udp.empty()) {
    const PortUse use = config.takeover ? PortUse::kShared : PortUse::kAlone;
    ASSIGN_OR_RETURN(sockets_, OpenUdpSockets(config.udp, workers, use));
  } else {
    ASSIGN_OR_RETURN(sockets_, AdoptUdpSockets(config.udp, workers, std::move(inherited.udp)));
  }
  for (const std::string& warning : sockets_.warnings) log_->Warn("udp_sockets", warning);
  workers = static_cast<int>(sockets_.by_worker.size());
  const uint64_t queue =
      sockets_.receive_buffer * static_cast<uint64_t>(sockets_.by_worker.front().size());
  if (unix_socket_ == nullptr && !config.unix_socket.path.empty()) {
    ASSIGN_OR_RETURN(UnixSocket opened, OpenUnixSocket(config.unix_socket, port_use()));
    unix_socket_ = std::make_unique<UnixSocket>(std::move(opened));
  }
  if (unix_socket_ != nullptr) {
    for (const std::string& warning : unix_socket_->warnings()) log_->Warn("unix_socket", warning);
  }
  if (hardening_ != nullptr) hardening_->SocketsBound();
  const int receivers = workers + (unix_socket_ != nullptr ? 1 : 0);

  std::string why;
  ASSIGN_OR_RETURN(chosen_engine_, ChooseEngine(config.udp.engine, &why));
  log_->Info("receive_engine", fmt::format("Receiving with {}", ReceiveEngineName(chosen_engine_)),
             {{"why", why}, {"workers", workers}, {"queue_bytes", queue}});

  ASSIGN_OR_RETURN(std::unique_ptr<Router> router, Router::Create(config.routes, config.backends));
  ASSIGN_OR_RETURN(plan_,
                   PlanMemory(config, workers, queue * static_cast<uint64_t>(workers), limit));
  ASSIGN_OR_RETURN(const BufferShares shares,
                   DivideBuffer(config, plan_.buffer, receivers, router->size()));
  ASSIGN_OR_RETURN(pool_, BlockPool::Create(shares.pool));
  log_->Info("memory_plan", "Memory plan: " + plan_.text());

  const OtherWriter other_writer =
      handover_.taking_over() ? OtherWriter::kPredecessor : OtherWriter::kMistake;
  if (!config.dead_letter.path.empty()) {
    ASSIGN_OR_RETURN(dead_letter_file_,
                     DeadLetterFile::Open(config.dead_letter, log_, other_writer));
  }
  const auto dead_letter = [file = dead_letter_file_.get()](
                               std::string_view lane, std::string_view reason,
                               std::string_view code, std::string_view document) {
    if (file != nullptr) file->Write(reason, lane, code, document);
  };
  if (!config.buffer.spool.path.empty()) {
    ASSIGN_OR_RETURN(spool_, SpoolRoom::Open(config, log_));
  }
  cold_room_ = std::make_unique<ColdRoom>(config, log_);
  LaneSet::Options lanes;
  lanes.pool = pool_.get();
  lanes.log = log_;
  lanes.aws = cold_room_->aws();
  lanes.spool = spool_.get();
  lanes.producers = static_cast<size_t>(receivers);
  lanes.room = shares.room;
  lanes.dead_letter = dead_letter;
  lanes_ = std::make_unique<LaneSet>(std::move(lanes));
  ASSIGN_OR_RETURN(std::unique_ptr<LaneSet::Change> made,
                   lanes_->Make(config.backends, shares.lanes, other_writer));
  lanes_->Commit(std::move(made), Now());
  if (dead_letter_file_ != nullptr) {
    Lane::Options options;
    options.name = "dead_letter";
    options.quota = shares.dead_letter;
    options.batches_max = shares.dead_letter / BlockPool::kPageBytes;
    options.producers = static_cast<size_t>(receivers);
    options.log = log_;
    options.dead_letter = dead_letter;
    options.delivery.quota = shares.dead_letter;
    options.delivery.in_flight_bytes = shares.dead_letter;
    dead_letter_lane_ = std::make_unique<Lane>(
        std::move(options), std::make_unique<DeadLetterExporter>(dead_letter_file_.get()));
  }

  BuildWorkers(config, std::move(router));
  kernel_drops_told_.assign(workers_.size(), 0);
  return absl::OkStatus();
}

std::shared_ptr<const RouteTable> Agent::MakeTable(std::unique_ptr<const Router> router) {
  auto routes = std::make_shared<RouteTable>();
  routes->router = std::move(router);
  routes->lanes = lanes_->Inboxes();
  if (dead_letter_lane_ != nullptr) routes->dead_letter = &dead_letter_lane_->inbox();
  return routes;
}

void Agent::BuildWorkers(const Config& config, std::unique_ptr<const Router> router) {
  Worker::Options options;
  options.validate = config.udp.validate;
  options.batch = {static_cast<size_t>(config.batch.documents), config.batch.age};
  options.pool = pool_.get();
  options.routes = MakeTable(std::move(router));
  options.engine = chosen_engine_;
  options.senders = {config.udp.allow, static_cast<uint64_t>(config.udp.source_rate),
                     static_cast<uint64_t>(config.udp.source_burst), sockets_.by_worker.size()};
  options.inherited = sockets_.inherited;
  for (const std::vector<UniqueFd>& sockets : sockets_.by_worker) {
    options.sockets.clear();
    for (const UniqueFd& fd : sockets) options.sockets.push_back(fd.get());
    options.queue_bytes = sockets_.receive_buffer * static_cast<uint64_t>(sockets.size());
    workers_.push_back(std::make_unique<Worker>(options));
  }
  if (unix_socket_ == nullptr) return;
  options.engine = ReceiveEngine::kRecvmmsg;
  // Nobody there has an address; the mode of the socket's file says who may send.
  options.senders = {};
  options.sockets = {unix_socket_->fd()};
  options.inherited = unix_socket_->inherited();
  options.queue_bytes = unix_socket_->queue_bytes();
  options.slots = kUnixSlots;
  workers_.push_back(std::make_unique<Worker>(std::move(options)));
}

Agent::~Agent() {
  if (!worker_threads_.empty() && !draining_) BeginDrain(Now());
  if (lanes_started_) (void)lanes_->Join(Now() + std::chrono::seconds(1));
  // Its telemetry looks at the lanes.
  if (cold_room_ != nullptr && !cold_room_->Stop(Now() + std::chrono::seconds(1))) {
    log_->Error("cold_room_hangs", "the thread that fetches credentials hangs and is left behind");
    (void)cold_room_.release();
  }
  if (spool_ != nullptr && !spool_->Stop(Now() + std::chrono::seconds(1))) {
    log_->Error("spool_hangs", "the disk of the spool hangs and is left behind");
    (void)spool_.release();
  }
}

void Agent::Receive() {
  for (size_t w = 0; w < workers_.size(); ++w) {
    worker_threads_.emplace_back([this, w] {
      pthread_setname_np(pthread_self(), fmt::format("worker-{}", w).c_str());
      EnterRole(ThreadRole::kReceiver);
      if (const absl::Status status = workers_[w]->Run(); !status.ok()) {
        log_->Error("receiver_failed", std::string(status.message()),
                    {{"worker", static_cast<int>(w)}});
      }
    });
  }
}

absl::Status Agent::Start() {
  EnterRole(ThreadRole::kControl);
  cold_room_->Run();
  EnterRole(ThreadRole::kLane);
  if (spool_ != nullptr) spool_->Run();
  RETURN_IF_ERROR(lanes_->Start());
  if (dead_letter_lane_ != nullptr) {
    RETURN_IF_ERROR(dead_letter_lane_->Start());
    dead_letter_lane_->Run();
  }
  lanes_started_ = true;
  RETURN_IF_ERROR(cold_room_->OpenSamplingPort(sockets_.address, port_use()));
  RETURN_IF_ERROR(
      cold_room_->StartTelemetry([this](std::string_view backend) { return CountsOf(backend); }));
  MutexLock lock(&mutex_);
  worker_watch_.assign(workers_.size(), {0, Now()});
  started_ = true;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Agent::Change>> Agent::Prepare(const Config& next) {
  EnterRole(ThreadRole::kLane);
  auto change = std::make_unique<Change>();
  change->config = next;
  // The buffer and the sockets stay as they are.
  Config planned = next;
  planned.buffer.memory = plan_.buffer;
  const int receivers = static_cast<int>(workers_.size());
  ASSIGN_OR_RETURN(change->plan, PlanMemory(planned, static_cast<int>(sockets_.by_worker.size()),
                                            plan_.kernel_queue, plan_.limit));
  ASSIGN_OR_RETURN(change->router, Router::Create(next.routes, next.backends));
  const uint64_t open = OpenBytes(planned, receivers, change->router->size());
  ASSIGN_OR_RETURN(
      const BufferShares shares,
      DivideBuffer(planned, std::min<uint64_t>(plan_.buffer, pool_->bytes_total() + open),
                   receivers, change->router->size()));
  ASSIGN_OR_RETURN(change->lanes, lanes_->Make(next.backends, shares.lanes));
  RETURN_IF_ERROR(lanes_->Start(change->lanes.get()));
  ASSIGN_OR_RETURN(change->cold, cold_room_->Prepare(next));
  return change;
}

void Agent::Commit(std::unique_ptr<Change> change) {
  CHECK(settled_ && !draining_);
  plan_ = change->plan;
  lanes_->Commit(std::move(change->lanes), Now() + change->config.shutdown.grace);
  cold_room_->Commit(std::move(change->cold));
  const std::shared_ptr<const RouteTable> routes = MakeTable(std::move(change->router));
  for (const auto& worker : workers_) worker->Switch(routes);
  settled_ = false;
}

void Agent::Settle(Time now) {
  if (draining_) return;
  if (!settled_) {
    bool switched = true;
    for (const auto& worker : workers_) switched &= worker->Switched();
    if (switched) lanes_->Left();
    settled_ = switched;
  }
  lanes_->Step(now);
}

void Agent::NoteReload(const absl::Status& status) {
  MutexLock lock(&mutex_);
  ++(status.ok() ? reloads_.ok : reloads_.failed);
  reloads_.fault = std::string(status.message());
  std::replace(reloads_.fault.begin(), reloads_.fault.end(), '\n', ';');
}

Agent::Reloads Agent::reloads() const {
  MutexLock lock(&mutex_);
  return reloads_;
}

void Agent::BeginService(Time now) {
  if (unix_socket_ != nullptr) {
    if (const absl::Status taken = unix_socket_->TakePath(); !taken.ok()) {
      log_->Error("unix_socket", std::string(taken.message()));
    }
  }
  handover_.Begin(now);
}

void Agent::BeginDrain(Time deadline) {
  const bool first = !draining_.exchange(true);
  if (first) {
    for (const auto& worker : workers_) worker->Stop();
    for (std::thread& thread : worker_threads_) thread.join();
    // So that a successor can have port and path while the lanes still deliver.
    sockets_.by_worker.clear();
    unix_socket_.reset();
    handover_.LetGo();
  }
  lanes_->Drain(deadline);
  if (dead_letter_lane_ != nullptr) dead_letter_lane_->Drain(deadline);
  if (first) {
    cold_room_->CloseSamplingPort();
    sampling_until_ = Now() + kLastSampling;
  }
}

bool Agent::Drained() {
  return (cold_room_->idle() || Now() >= sampling_until_) && lanes_->Drained() &&
         (dead_letter_lane_ == nullptr || dead_letter_lane_->finished());
}

bool Agent::Finish() {
  // A lane that hangs inside its exporter gets a moment more, once for all of them.
  const Time deadline = Now() + std::chrono::milliseconds(200);
  bool joined = lanes_->Join(deadline);
  if (dead_letter_lane_ != nullptr && !dead_letter_lane_->Join(deadline)) {
    joined = false;
    MutexLock lock(&mutex_);
    dead_letters_ = FinalReportOf(*dead_letter_lane_);
  }
  if (spool_ != nullptr) joined &= spool_->Stop(Now() + kSpoolClosing);
  cold_room_->FlushTelemetry(Now() + kLastTelemetry);
  Audit(/*last=*/true);
  return joined;
}

void Agent::Reopen() {
  lanes_->Reopen();
  if (dead_letter_file_ != nullptr) dead_letter_file_->Reopen();
}

std::optional<Spool::State> Agent::spool() const {
  if (spool_ == nullptr) return std::nullopt;
  return spool_->state();
}

void Agent::Audit(bool last) {
  const Ledger ledger = this->ledger();
  if (!audit_.Look(ledger, last)) return;
  log_->Error("ledger_bug",
              "BUG: the ledger does not balance although nothing moves; please report this line",
              {LogField::Json("ledger", ledger.json())});
}

void Agent::Housekeep(Time now) {
  cold_room_->Housekeep(now);
  if (!draining_) Audit(/*last=*/false);
  for (size_t w = 0; w < workers_.size(); ++w) {
    RejectSample sample;
    while (workers_[w]->TakeSample(&sample)) {
      log_->Warn("datagram_rejected",
                 fmt::format("{}{}{}", RejectText(sample.reason), sample.length > 0 ? ": " : "",
                             sample.text()),
                 {{"key", RejectReasonName(sample.reason)},
                  {"source", sample.source.data()},
                  {"bytes", static_cast<uint64_t>(sample.size)}});
    }
    const uint64_t drops = workers_[w]->stats().kernel_drops.value();
    if (drops > kernel_drops_told_[w]) {
      log_->Warn(
          "kernel_drops",
          "the kernel's UDP queue was full and datagrams were lost before we could read them; "
          "raise receivers.udp.receive_buffer and net.core.rmem_max",
          {{"datagrams", drops - kernel_drops_told_[w]}, {"total", drops}});
      kernel_drops_told_[w] = drops;
    }
  }
  lanes_->Step(now);
  if (dead_letter_lane_ != nullptr)
    dead_letter_teller_.TellDrops(ReportOf(*dead_letter_lane_), now, log_);
  MutexLock lock(&mutex_);
  for (size_t w = 0; w < worker_watch_.size(); ++w) {
    const uint64_t turns = workers_[w]->stats().turns.value();
    if (turns != worker_watch_[w].turns) worker_watch_[w] = {turns, now};
  }
}

TelemetryCounts Agent::CountsOf(std::string_view backend) const {
  LaneReport report;
  for (LaneReport& r : backends()) {
    if (r.name == backend) report = std::move(r);
  }
  TelemetryCounts counts;
  for (const auto& worker : workers_) {
    const WorkerStats& stats = worker->stats();
    // As the X-Ray daemon counts: an empty datagram is nothing.
    counts.rejected +=
        stats.rejected_total() - stats.rejected[static_cast<size_t>(RejectReason::kEmpty)].value();
  }
  counts.received = report.entered + counts.rejected;
  counts.sent = report.delivered;
  counts.rejected +=
      report.dropped_for(DropReason::kRefused) + report.dropped_for(DropReason::kTooLarge);
  counts.spillover = report.dropped_for(DropReason::kBufferFull) +
                     report.dropped_for(DropReason::kNoMemory) +
                     report.dropped_for(DropReason::kShutdown);
  counts.timeouts = report.timeouts;
  counts.connections_refused = report.connections_refused;
  counts.http_4xx = report.http_4xx;
  counts.http_5xx = report.http_5xx;
  counts.unknown_host = report.unknown_host;
  counts.other = report.other_faults;
  return counts;
}

uint64_t Agent::dead_letters_failed() const {
  return dead_letter_file_ == nullptr ? 0 : dead_letter_file_->lost();
}

Ledger Agent::ledger() const {
  Ledger ledger;
  for (const auto& worker : workers_) {
    const WorkerStats& s = worker->stats();
    ledger.datagrams += s.datagrams.value();
    ledger.bytes += s.bytes.value();
    ledger.accepted += s.accepted.value();
    for (int r = 0; r < kRejectReasonCount; ++r) {
      if (const uint64_t n = s.rejected[static_cast<size_t>(r)].value()) {
        ledger.rejected[std::string(RejectReasonName(static_cast<RejectReason>(r)))] += n;
      }
    }
    ledger.routed += s.routed.value();
    ledger.filtered += s.filtered.value();
    ledger.open += s.open.value();
    ledger.kernel_drops += s.kernel_drops.value();
  }
  for (const LaneReport& report : backends()) ledger.lanes.push_back(LedgerOf(report));
  if (dead_letter_lane_ != nullptr) {
    MutexLock lock(&mutex_);
    ledger.dead_letters = LedgerOf(dead_letters_.value_or(ReportOf(*dead_letter_lane_)));
  }
  return ledger;
}

ReceiveEngine Agent::engine() const {
  const ReceiveEngine running = workers_.front()->engine();
  return running == ReceiveEngine::kAuto ? chosen_engine_ : running;
}

bool Agent::Healthy(std::string* why) const {
  if (draining_) {
    *why = "draining";
    return true;
  }
  const Time now = Now();
  MutexLock lock(&mutex_);
  for (size_t w = 0; w < worker_watch_.size(); ++w) {
    if (now - worker_watch_[w].at <= kStuckAfter) continue;
    *why =
        fmt::format("worker {} has not turned for {:.0f} s", w, Seconds(now - worker_watch_[w].at));
    return false;
  }
  *why = "ok";
  return true;
}

bool Agent::Ready(std::string* text) const {
  *text = lanes_->Complaints(Now());
  if (draining_ || !started_) {
    *text += draining_ ? "not ready: draining\n" : "not ready: starting\n";
    return false;
  }
  if (const std::string fault = reloads().fault; !fault.empty()) {
    *text += fmt::format("degraded: the configuration on disk is not in use: {}\n", fault);
  }
  if (const std::string fault = cold_room_->sampling_fault(); !fault.empty()) {
    *text += fmt::format("degraded: sampling port: {}\n", fault);
  }
  for (const AwsIdentityState& identity : cold_room().aws().identities()) {
    if (identity.error.ok()) continue;
    *text += fmt::format("degraded: credentials of {}: {}\n", identity.name,
                         std::string(identity.error.message()));
  }
  if (const std::optional<Spool::State> state = spool(); state.has_value() && !state->on) {
    *text += fmt::format("degraded: spool: {}\n", state->text);
  }
  if (pool_->bytes_used() + BlockPool::kBlockBytesMax > pool_->bytes_total()) {
    *text += "not ready: the buffer is full\n";
    return false;
  }
  if (text->empty()) *text = "ready\n";
  return true;
}

}  // namespace mobula

// Tested by tests/unit/engine/app/lane_set_test.cc and tests/e2e/reload_test.py.
#include "engine/app/lane_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "backends/registry.h"
#include "engine/app/memory_plan.h"
#include "engine/aws/aws_context.h"
#include "engine/aws/xray_service.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

// A line per batch would be the costliest thing at high rates; people look for it within some seconds.
constexpr Duration kDeliveriesTold = std::chrono::seconds(10);
constexpr Duration kStuckAfter = std::chrono::seconds(5);
constexpr Duration kDropsRemembered = std::chrono::minutes(1);
// For a lane's last call to end after its time is over.
constexpr Duration kEndMargin = std::chrono::milliseconds(500);
// For a lane that is wanted again while it ends, and for one that is to take another exporter.
constexpr Duration kPatience = std::chrono::seconds(5);
constexpr size_t kFormerMax = 64;
constexpr char kFormerName[] = "(former)";

Time Now() { return std::chrono::steady_clock::now(); }

absl::Status Of(const BackendConfig& backend, const absl::Status& status) {
  return absl::Status(status.code(),
                      fmt::format("backends.{}: {}", backend.name, std::string(status.message())));
}

std::string KeyOf(const BackendConfig& backend) {
  return fmt::format("{}|{}", backend.name, SpoolIdentityText(backend));
}

// Of a backend that was taken out: the spool is about to set aside what it holds for it.
LaneReport LeftBehind(LaneReport report) {
  if (!report.on_disk.has_value()) return report;
  LaneReport::OnDisk& disk = *report.on_disk;
  disk.dropped[static_cast<size_t>(SpoolDropReason::kForeign)] += std::exchange(disk.held, 0);
  disk.bytes = 0;
  return report;
}

// What the inbox enforces against a lane that hangs.
uint64_t QuotaOf(const BackendConfig& backend, uint64_t share) {
  // The request bodies must keep their room too.
  return std::holds_alternative<XrayBackendConfig>(backend.settings) ? share * 3 / 4 : share;
}

}  // namespace

Delivery::Options DeliveryOptions(const BackendConfig& backend, uint64_t share, uint64_t seed) {
  Delivery::Options options;
  options.seed = seed;
  // What the inbox enforces against a hanging lane is the whole quota; Delivery itself stays under it, so
  // that in ordinary overload the oldest documents go and not the newest.
  options.quota = share * 3 / 4;
  options.in_flight_bytes = share;
  if (const auto* xray = std::get_if<XrayBackendConfig>(&backend.settings)) {
    // A call's body is about as large as its batch: a quarter of the share is kept for bodies.
    options.quota = share * 5 / 8;
    options.in_flight_bytes = share / 5;
    options.concurrency = xray->concurrency;
    options.timeout = xray->timeout;
  }
  return options;
}

// --- telling -------------------------------------------------------------------------------------------

void LaneTeller::TellDrops(const LaneReport& lane, Time now, Log* log) {
  for (size_t r = 0; r < drops_.size(); ++r) {
    const uint64_t total = lane.dropped[r];
    if (total == drops_[r]) continue;
    const auto reason = static_cast<DropReason>(r);
    // Refusals are the far side's word on a document, and told with it.
    if (reason != DropReason::kRefused && reason != DropReason::kTooLarge) {
      // The X-Ray daemon's words, which people alert on.
      const std::string text =
          reason == DropReason::kNoMemory
              ? fmt::format("Segment dropped. Consider increasing memory limit ({} segments)",
                            total - drops_[r])
              : fmt::format("Spilling over {} segments ({})", total - drops_[r],
                            std::string(DropReasonName(reason)));
      log->Warn(
          "documents_dropped", text,
          {{"key", fmt::format("{}/{}", lane.name, DropReasonName(reason))}, {"total", total}});
      last_drop_ = now;
    }
    drops_[r] = total;
  }
}

void LaneTeller::TellDeliveries(const Lane& lane, Time now, Log* log) {
  const LaneAccount& account = lane.account();
  Told seen{account.delivered.value(), 0, lane.calls().delivered.value(),
            lane.calls().microseconds.value(), now};
  for (const DropReason reason : {DropReason::kRefused, DropReason::kTooLarge}) {
    seen.refused += account.dropped[static_cast<size_t>(reason)].value();
  }
  const uint64_t delivered = seen.delivered - told_.delivered;
  const uint64_t refused = seen.refused - told_.refused;
  const uint64_t calls = seen.calls - told_.calls;
  if (calls == 0 || (now - told_.at < kDeliveriesTold && !lane.finished())) return;
  const double seconds = static_cast<double>(seen.microseconds - told_.microseconds) /
                         static_cast<double>(calls) / 1e6;
  log->Info("batches_sent",
            refused == 0
                ? fmt::format("Successfully sent batch of {} segments ({:.3f} seconds)", delivered,
                              seconds)
                : fmt::format("Sent batch of {} segments but had {} Unprocessed segments ({:.3f} "
                              "seconds)",
                              delivered + refused, refused, seconds),
            {{"backend", lane.name()}, {"calls", calls}});
  told_ = seen;
}

// --- making --------------------------------------------------------------------------------------------

struct LaneSet::Entry {
  // What becomes of one that leaves, in order.
  enum class Phase : uint8_t {
    kServing,
    kLeft,        // out of the routes; workers may still push
    kDelivering,  // nothing comes any more
    kEnding,      // Drain was called
    kHanging,     // written off, and its thread still runs
  };

  BackendConfig backend;
  std::string key;  // name and far side
  std::unique_ptr<Lane> lane;
  SpoolLane* spool = nullptr;
  uint64_t seed = 0;
  uint64_t share = 0;    // that it is to have
  uint64_t granted = 0;  // that it has
  Phase phase = Phase::kServing;
  bool claimed = false;  // a change wants it back
  Time leave_by{};

  LaneTeller teller;
  uint64_t turns = 0;  // last seen
  Time turned{};       // when they were others; Time{}: not watched yet

  [[nodiscard]] bool written_off() const { return phase == Phase::kHanging; }
};

struct LaneSet::Change::Slot {
  BackendConfig backend;
  uint64_t share = 0;
  Entry* kept = nullptr;
  std::unique_ptr<Entry> fresh;
  bool started = false;                // fresh's exporter
  std::unique_ptr<Exporter> exporter;  // another one, for a lane that is kept
  bool prepared = false;               // that one was started
};

LaneSet::Change::Change(LaneSet* set) : set_(set) {}

LaneSet::Change::~Change() {
  for (Slot& slot : slots_) {
    if (slot.kept != nullptr) {
      if (slot.prepared) slot.kept->lane->Discard();
      const MutexLock lock(&set_->mutex_);
      slot.kept->claimed = false;
    }
    if (slot.fresh == nullptr) continue;
    SpoolLane* const spool = slot.fresh->spool;
    slot.fresh.reset();
    if (spool != nullptr) set_->options_.spool->Detach(spool);
  }
}

LaneSet::LaneSet(Options options) : options_(std::move(options)) {}
LaneSet::~LaneSet() = default;

absl::StatusOr<std::unique_ptr<Exporter>> LaneSet::MakeExporterOf(const BackendConfig& backend,
                                                                  OtherWriter other_writer) const {
  absl::StatusOr<std::unique_ptr<Exporter>> made =
      MakeExporter(backend, {options_.pool, options_.log, options_.aws, other_writer});
  if (!made.ok()) return Of(backend, made.status());
  return made;
}

absl::StatusOr<std::unique_ptr<LaneSet::Entry>> LaneSet::MakeEntry(const BackendConfig& backend,
                                                                   uint64_t share,
                                                                   OtherWriter other_writer) {
  ASSIGN_OR_RETURN(std::unique_ptr<Exporter> exporter, MakeExporterOf(backend, other_writer));
  auto entry = std::make_unique<Entry>();
  entry->backend = backend;
  entry->key = KeyOf(backend);
  entry->seed = ++seeds_;
  entry->share = entry->granted = share;
  if (options_.spool != nullptr) {
    absl::StatusOr<SpoolLane*> spool = options_.spool->Attach(backend, Now() + kPatience);
    if (!spool.ok()) return Of(backend, spool.status());
    entry->spool = *spool;
  }
  Lane::Options lane;
  lane.name = backend.name;
  lane.quota = QuotaOf(backend, share);
  lane.batches_max = share / BlockPool::kPageBytes;
  lane.producers = options_.producers;
  lane.log = options_.log;
  lane.dead_letter = options_.dead_letter;
  lane.spool = entry->spool;
  lane.pool = options_.pool;
  lane.delivery = LimitsOf(*entry, share);
  entry->lane = std::make_unique<Lane>(std::move(lane), std::move(exporter));
  return entry;
}

Delivery::Options LaneSet::LimitsOf(const Entry& entry, uint64_t share) const {
  Delivery::Options limits = DeliveryOptions(entry.backend, share, entry.seed);
  limits.spool = entry.spool != nullptr;
  return limits;
}

LaneSet::Entry* LaneSet::Find(const std::string& key) {
  for (const Entries* entries : {&current_, &leaving_}) {
    for (const auto& entry : *entries) {
      if (entry->key == key) return entry.get();
    }
  }
  return nullptr;
}

absl::StatusOr<LaneSet::Entry*> LaneSet::Claim(const BackendConfig& backend) {
  const std::string key = KeyOf(backend);
  for (const Time end = Now() + kPatience; Now() < end;) {
    {
      const MutexLock lock(&mutex_);
      Entry* const found = Find(key);
      if (found == nullptr) return nullptr;
      if (found->phase < Entry::Phase::kEnding) {
        found->claimed = true;
        return found;
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return Of(backend,
            absl::UnavailableError("it was taken out and hangs; try again when it does not"));
}

absl::StatusOr<std::unique_ptr<LaneSet::Change>> LaneSet::Make(
    const std::vector<BackendConfig>& backends, const std::vector<uint64_t>& shares,
    OtherWriter other_writer) {
  auto change = std::make_unique<Change>(this);
  for (size_t i = 0; i < backends.size(); ++i) {
    Change::Slot& slot = change->slots_.emplace_back();
    slot.backend = backends[i];
    slot.share = shares[i];
    ASSIGN_OR_RETURN(slot.kept, Claim(backends[i]));
    if (slot.kept == nullptr) {
      ASSIGN_OR_RETURN(slot.fresh, MakeEntry(backends[i], shares[i], other_writer));
    } else if (!(slot.kept->backend.settings == backends[i].settings)) {
      ASSIGN_OR_RETURN(slot.exporter, MakeExporterOf(backends[i], other_writer));
    }
  }
  return change;
}

absl::Status LaneSet::Start(Change* change) {
  for (Change::Slot& slot : change->slots_) {
    if (slot.fresh != nullptr) {
      RETURN_IF_ERROR(slot.fresh->lane->Start());
      slot.started = true;
    }
    if (slot.exporter == nullptr || ExcludeEachOther(slot.kept->backend, slot.backend)) continue;
    // So that the lane need not wait for the region.
    if (const auto* xray = std::get_if<XrayBackendConfig>(&slot.backend.settings)) {
      const auto service = FindXrayService(*xray, options_.aws, Now() + kFindRegionMax);
      if (!service.ok()) return Of(slot.backend, service.status());
    }
    const absl::Status prepared =
        slot.kept->lane->Prepare(std::move(slot.exporter), Now() + kPatience);
    if (!prepared.ok()) return Of(slot.backend, prepared);
    slot.prepared = true;
  }
  return absl::OkStatus();
}

absl::Status LaneSet::Start() {
  std::vector<Lane*> lanes;
  {
    const MutexLock lock(&mutex_);
    for (const auto& entry : current_) lanes.push_back(entry->lane.get());
  }
  for (Lane* const lane : lanes) {
    RETURN_IF_ERROR(lane->Start());
    lane->Run();
  }
  const MutexLock lock(&mutex_);
  for (const auto& entry : current_) entry->turned = Now();
  return absl::OkStatus();
}

// --- changing ------------------------------------------------------------------------------------------

std::unique_ptr<LaneSet::Entry> LaneSet::Remove(Entry* entry) {
  for (Entries* entries : {&current_, &leaving_}) {
    const auto found = std::find_if(entries->begin(), entries->end(),
                                    [&](const auto& e) { return e.get() == entry; });
    if (found == entries->end()) continue;
    std::unique_ptr<Entry> removed = std::move(*found);
    entries->erase(found);
    return removed;
  }
  return nullptr;
}

void LaneSet::Commit(std::unique_ptr<Change> change, Time leave_by) {
  const MutexLock lock(&mutex_);
  Entries next;
  for (Change::Slot& slot : change->slots_) {
    std::unique_ptr<Entry> entry = slot.kept != nullptr ? Remove(slot.kept) : std::move(slot.fresh);
    if (slot.started) {
      entry->lane->Run();
    } else if (slot.prepared) {
      entry->lane->TakeUp();
    } else if (slot.exporter != nullptr) {
      entry->lane->Replace(std::move(slot.exporter));
    }
    // The limits come of the settings too.
    if (!(entry->backend.settings == slot.backend.settings)) entry->granted = 0;
    entry->backend = slot.backend;
    entry->share = slot.share;
    entry->phase = Entry::Phase::kServing;
    entry->claimed = false;
    next.push_back(std::move(entry));
  }
  change->slots_.clear();
  for (auto& entry : current_) {
    entry->phase = Entry::Phase::kLeft;
    entry->leave_by = leave_by;
    leaving_.push_back(std::move(entry));
  }
  current_ = std::move(next);
  Grant();
}

std::vector<LaneInbox*> LaneSet::Inboxes() {
  const MutexLock lock(&mutex_);
  std::vector<LaneInbox*> inboxes;
  for (const auto& entry : current_) inboxes.push_back(&entry->lane->inbox());
  return inboxes;
}

void LaneSet::Grant() {
  uint64_t wanted = 0;
  uint64_t held = 0;
  for (const auto& entry : current_) wanted += entry->share;
  for (const auto& entry : leaving_) held += entry->lane->account().held_bytes.value();
  const uint64_t free = options_.room - std::min(options_.room, held);
  for (const auto& entry : current_) {
    uint64_t share = entry->share;
    if (wanted > free) {
      const double part = static_cast<double>(free) / static_cast<double>(wanted);
      share = std::max(kLaneShareMin, static_cast<uint64_t>(static_cast<double>(share) * part));
      share = std::min(share, entry->share);
    }
    if (share == entry->granted) continue;
    entry->granted = share;
    entry->lane->SetLimits(QuotaOf(entry->backend, share), LimitsOf(*entry, share));
  }
}

void LaneSet::Left() {
  const MutexLock lock(&mutex_);
  for (const auto& entry : leaving_) {
    if (entry->phase == Entry::Phase::kLeft) entry->phase = Entry::Phase::kDelivering;
  }
}

bool LaneSet::busy() const {
  const MutexLock lock(&mutex_);
  return !leaving_.empty();
}

void LaneSet::Step(Time now) {
  const MutexLock lock(&mutex_);
  for (const auto& entry : current_) {
    const uint64_t turns = entry->lane->turns();
    if (turns != entry->turns || entry->turned == Time{}) {
      entry->turns = turns;
      entry->turned = now;
    }
  }
  for (const Entries* entries : {&current_, &leaving_}) {
    for (const auto& entry : *entries) {
      if (entry->written_off()) continue;
      entry->teller.TellDrops(ReportOf(*entry->lane), now, options_.log);
      entry->teller.TellDeliveries(*entry->lane, now, options_.log);
    }
  }
  if (draining_) return;
  const size_t gone = std::erase_if(
      leaving_,
      [&](const auto& entry) ABSL_NO_THREAD_SAFETY_ANALYSIS { return SeeOff(entry.get(), now); });
  if (gone == 0) return;
  Grant();
  options_.aws->Tidy();
}

bool LaneSet::SeeOff(Entry* entry, Time now) {
  Lane* const lane = entry->lane.get();
  switch (entry->phase) {
    case Entry::Phase::kServing:
    case Entry::Phase::kLeft:
      return false;
    case Entry::Phase::kDelivering:
      if (entry->claimed || (lane->account().held.value() > 0 && now < entry->leave_by))
        return false;
      entry->leave_by = std::max(entry->leave_by, now);
      lane->Drain(entry->leave_by);
      entry->phase = Entry::Phase::kEnding;
      return false;
    case Entry::Phase::kEnding:
      if (lane->Ends(entry->leave_by + kEndMargin)) return false;
      if (!lane->Join(now)) {
        options_.log->Error("backend_hangs",
                            "a backend that was taken out hangs: what it holds is given up",
                            {{"key", lane->name()}});
        entry->phase = Entry::Phase::kHanging;
      }
      WriteOff(entry, LeftBehind(FinalReportOf(*lane)));
      if (entry->written_off()) return false;
      break;
    case Entry::Phase::kHanging:
      if (!lane->finished()) return false;
      (void)lane->Join(now);
      break;
  }
  options_.log->Info("backend_left", "The backend that was taken out has ended",
                     {{"key", lane->name()}});
  if (entry->spool != nullptr) options_.spool->Detach(entry->spool);
  return true;
}

void LaneSet::WriteOff(Entry* entry, LaneReport report) {
  entry->teller.TellDrops(report, Now(), options_.log);
  if (former_.size() >= kFormerMax && former_.find(report.name) == former_.end()) {
    report.name = kFormerName;
  }
  LaneReport& sum = former_[report.name];
  sum.name = report.name;
  sum.Add(report);
}

// --- the rest ------------------------------------------------------------------------------------------

void LaneSet::Reopen() {
  const MutexLock lock(&mutex_);
  for (const Entries* entries : {&current_, &leaving_}) {
    for (const auto& entry : *entries) entry->lane->Reopen();
  }
}

void LaneSet::Drain(Time deadline) {
  draining_ = true;
  const MutexLock lock(&mutex_);
  for (const Entries* entries : {&current_, &leaving_}) {
    for (const auto& entry : *entries) {
      if (!entry->written_off()) entry->lane->Drain(deadline);
    }
  }
}

bool LaneSet::Drained() const {
  const MutexLock lock(&mutex_);
  const auto finished = [](const auto& e) { return e->written_off() || e->lane->finished(); };
  return std::all_of(current_.begin(), current_.end(), finished) &&
         std::all_of(leaving_.begin(), leaving_.end(), finished);
}

bool LaneSet::Join(Time deadline) {
  size_t hanging = 0;
  std::vector<Entry*> entries;
  {
    const MutexLock lock(&mutex_);
    for (const Entries* some : {&current_, &leaving_}) {
      for (const auto& entry : *some) {
        if (!entry->written_off()) entries.push_back(entry.get());
        hanging += entry->written_off() ? 1 : 0;
      }
    }
  }
  for (Entry* const entry : entries) {
    if (entry->lane->Join(deadline)) continue;
    ++hanging;
    const MutexLock lock(&mutex_);
    WriteOff(entry, FinalReportOf(*entry->lane));
    entry->phase = Entry::Phase::kHanging;
  }
  return hanging == 0;
}

std::vector<LaneReport> LaneSet::Reports() const {
  std::vector<LaneReport> reports;
  const auto add = [&reports](const LaneReport& report) {
    const auto found = std::find_if(reports.begin(), reports.end(),
                                    [&](const LaneReport& r) { return r.name == report.name; });
    if (found != reports.end()) {
      found->Add(report);
    } else {
      reports.push_back(report);
    }
  };
  const MutexLock lock(&mutex_);
  for (const auto& entry : current_) {
    if (!entry->written_off()) reports.push_back(ReportOf(*entry->lane));
  }
  for (const auto& entry : leaving_) {
    if (!entry->written_off()) add(ReportOf(*entry->lane));
  }
  for (const auto& [name, report] : former_) add(report);
  return reports;
}

std::string LaneSet::Complaints(Time now) const {
  std::string text;
  const MutexLock lock(&mutex_);
  for (const auto& entry : current_) {
    const std::string& name = entry->lane->name();
    if (entry->turned != Time{} && now - entry->turned > kStuckAfter) {
      text += fmt::format("degraded: backend {}: hangs for {:.0f} s\n", name,
                          Seconds(now - entry->turned));
    }
    const Time dropped = entry->teller.last_drop();
    if (dropped != Time{} && now - dropped <= kDropsRemembered) {
      text += fmt::format("degraded: backend {}: gave up documents within the last minute\n", name);
    }
    const Lane::Health health = entry->lane->health();
    if (!health.failing) continue;
    text += fmt::format("{}: backend {}: {}{}{}\n", health.degraded ? "degraded" : "retrying", name,
                        health.code, health.message.empty() ? "" : ": ", health.message);
  }
  return text;
}

}  // namespace mobula

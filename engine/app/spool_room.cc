// Tested by tests/unit/engine/app/agent_test.cc and tests/e2e/spool_test.py.
#include "engine/app/spool_room.h"

#include <fmt/format.h>
#include <pthread.h>

#include <vector>

#include "engine/aws/xray_service.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

constexpr Duration kEvery = std::chrono::seconds(1);

Time Now() { return std::chrono::steady_clock::now(); }
SystemTime Wall() { return std::chrono::system_clock::now(); }

SpoolTarget TargetOf(const BackendConfig& backend) {
  return {backend.name, SpoolIdentityText(backend)};
}

Spool::Fsync FsyncOf(FsyncPolicy policy) {
  switch (policy) {
    case FsyncPolicy::kNever:
      return Spool::Fsync::kNever;
    case FsyncPolicy::kInterval:
      return Spool::Fsync::kInterval;
    case FsyncPolicy::kBatch:
      return Spool::Fsync::kBatch;
  }
  return Spool::Fsync::kInterval;
}

}  // namespace

// Never change what is written here for a backend of today: what lies on disks would be set aside.
std::string SpoolIdentityText(const BackendConfig& backend) {
  if (const auto* xray = std::get_if<XrayBackendConfig>(&backend.settings)) {
    const XrayPlace place = PlaceOf(*xray, ProcessEnvironment());
    return fmt::format("xray|{}|{}|{}|{}", place.endpoint, place.region, place.profile,
                       xray->role.role_arn);
  }
  if (const auto* file = std::get_if<FileBackendConfig>(&backend.settings)) {
    return fmt::format("file|{}", file->path);
  }
  return std::string(backend.type());
}

absl::StatusOr<std::unique_ptr<SpoolRoom>> SpoolRoom::Open(const Config& config, Log* log) {
  const SpoolConfig& given = config.buffer.spool;
  Spool::Options options;
  options.path = given.path;
  options.bytes_max = given.size;
  options.file_bytes_max = given.file_size;
  options.age_max = given.age;
  options.fsync = FsyncOf(given.fsync);
  options.fsync_interval = given.fsync_interval;
  std::vector<SpoolTarget> targets;
  for (const BackendConfig& backend : config.backends) targets.push_back(TargetOf(backend));
  ASSIGN_OR_RETURN(std::unique_ptr<Spool> spool,
                   Spool::Open(options, targets, PosixSpoolDisk(), log, Wall()));
  return std::unique_ptr<SpoolRoom>(new SpoolRoom(std::move(spool)));
}

SpoolRoom::SpoolRoom(std::unique_ptr<Spool> spool)
    : spool_(std::move(spool)), state_(spool_->state()) {}

SpoolRoom::~SpoolRoom() { (void)Stop(kTimeNever); }

absl::StatusOr<SpoolLane*> SpoolRoom::Attach(const BackendConfig& backend, Time deadline) {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (!changed_.wait_until(lock, deadline, [this] { return detached_.empty(); })) {
      return absl::UnavailableError("the disk of the spool hangs");
    }
  }
  const SpoolTarget target = TargetOf(backend);
  if (SpoolLane* const lane = spool_->lane(target)) return lane;
  return spool_->Attach(target);
}

void SpoolRoom::Detach(SpoolLane* lane) {
  const std::lock_guard<std::mutex> lock(mutex_);
  detached_.push_back(lane);
  changed_.notify_all();
}

void SpoolRoom::Run() {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "spool");
    Housekeep();
    ended_.set_value();
  });
}

void SpoolRoom::Housekeep() {
  std::unique_lock<std::mutex> lock(mutex_);
  Time next = Now() + kEvery;
  while (!stop_) {
    changed_.wait_until(lock, next, [this] { return stop_ || !detached_.empty(); });
    if (stop_) break;
    const std::vector<SpoolLane*> detached = detached_;
    lock.unlock();
    for (SpoolLane* const lane : detached) {
      spool_->Detach(lane);
      spool_->Remove(lane);
    }
    if (Now() >= next) {
      spool_->Housekeep(Wall());
      next = Now() + kEvery;
    }
    Spool::State seen = spool_->state();
    lock.lock();
    state_ = std::move(seen);
    detached_.erase(detached_.begin(),
                    detached_.begin() + static_cast<std::ptrdiff_t>(detached.size()));
    changed_.notify_all();
  }
  lock.unlock();
  spool_->Close();
}

bool SpoolRoom::Stop(Time deadline) {
  if (!thread_.joinable()) return true;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (deadline != kTimeNever && has_ended_.wait_until(deadline) != std::future_status::ready) {
    return false;
  }
  thread_.join();
  return true;
}

Spool::State SpoolRoom::state() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return state_;
}

}  // namespace mobula

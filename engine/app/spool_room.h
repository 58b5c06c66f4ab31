// The agent's spool: opened from the configuration, looked after by a thread of its own, since a disk may hang.
//
// Room:      cold.
// Lifecycle: Open, Run, Stop after the lanes' threads have ended, destroyed.
// Threads:   the app's control thread; Attach, Detach and state() by any.
// Errors:    Open fails on settings only. A disk that fails is the spool's state, told in the log.
#pragma once

#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/time.h"
#include "engine/config/config.h"
#include "engine/spool/spool.h"

namespace mobula {

// What makes a backend the same far side as before: documents accepted for it go nowhere else.
std::string SpoolIdentityText(const BackendConfig& backend);

class SpoolRoom {
 public:
  // REQUIRES: config.buffer.spool.path is set.
  static absl::StatusOr<std::unique_ptr<SpoolRoom>> Open(const Config& config, Log* log);
  ~SpoolRoom();
  SpoolRoom(const SpoolRoom&) = delete;
  SpoolRoom& operator=(const SpoolRoom&) = delete;

  // The lane of a backend. Unavailable when what was detached before has not gone by `deadline`, as when the disk
  // hangs, for which this may wait longer.
  absl::StatusOr<SpoolLane*> Attach(const BackendConfig& backend, Time deadline);
  // The backend is no longer configured: soon, and without waiting for the disk, its files are set aside and `lane` is
  // gone. REQUIRES: nobody uses it any more.
  void Detach(SpoolLane* lane);

  void Run();
  // Closes the spool and ends the thread. False when the disk holds it beyond `deadline`: this object must be left
  // behind then.
  bool Stop(Time deadline);

  // As of the last second: never waits for the disk.
  [[nodiscard]] Spool::State state() const;

 private:
  explicit SpoolRoom(std::unique_ptr<Spool> spool);
  void Housekeep();

  const std::unique_ptr<Spool> spool_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;                 // these under the mutex
  std::vector<SpoolLane*> detached_;  // what Detach was called for
  Spool::State state_;
  std::promise<void> ended_;
  const std::future<void> has_ended_ = ended_.get_future();
  std::thread thread_;
};

}  // namespace mobula

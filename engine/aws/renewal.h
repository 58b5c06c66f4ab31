// Decides when credentials are fetched again and which may be handed out: a state machine without clock, thread or
// loop. Private to this folder.
//
// Those that expire are renewed 15 minutes before, or at half of the life they came with when that is shorter; a
// failed fetch is repeated after a pause that doubles from 1 s to 60 s, to 30 s where nothing is configured, and is
// never so long that no try is left before the expiry. All pauses are jittered.
//
// Room:    cold; Get is warm.
// Threads: none of its own; the owner locks.
// Limits:  fetches asked for by OnRefused begin at least 5 s apart. Credentials that came with an expiry in the
//          past, as EC2 hands them out while it cannot renew them, are used for 10 minutes and asked for again
//          at half of that.
#pragma once

#include <chrono>
#include <cstdint>
#include <random>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/aws/credentials.h"
#include "engine/base/time.h"

namespace mobula {

class Renewal {
 public:
  using WallTime = std::chrono::system_clock::time_point;
  struct Now {
    Time time;
    WallTime wall;
  };

  explicit Renewal(uint32_t seed) : random_(seed) {}

  // What may be used now. Unavailable: a fetch that may change that is due or under way. The clock may have been
  // set or the machine have slept, so this can move due() to now.
  absl::StatusOr<CredentialsPtr> Get(const Now& now);

  // The far side refused `refused`: a fetch is due soon if they are the ones that Get hands out.
  void OnRefused(const Credentials& refused, const Now& now);
  // The source would answer something else now.
  void OnSourceChanged(const Now& now);

  // When the next fetch is to begin; kTimeNever while one is under way or none is needed.
  [[nodiscard]] Time due() const noexcept { return fetching_ ? kTimeNever : due_; }
  void OnFetchBegun() noexcept { fetching_ = true; }
  void OnFetched(absl::StatusOr<Credentials> result, const Now& now);

  [[nodiscard]] bool fetching() const noexcept { return fetching_; }
  // The last that were fetched; null: none yet. They need not be usable.
  [[nodiscard]] const CredentialsPtr& present() const noexcept { return present_; }
  [[nodiscard]] bool Usable(WallTime wall) const noexcept;
  [[nodiscard]] uint64_t renewals() const noexcept { return renewals_; }
  [[nodiscard]] uint64_t failures() const noexcept { return failures_; }
  // Of the last fetch; OK when it worked.
  [[nodiscard]] const absl::Status& error() const noexcept { return error_; }

 private:
  Duration Jitter(Duration pause, double least);

  std::minstd_rand random_;
  CredentialsPtr present_;
  WallTime usable_until_ = WallTime::min();
  bool refused_ = false;   // present_ by the far side
  bool awaiting_ = false;  // no fetch has ended since they were refused
  bool fetching_ = false;
  Time due_ = Time::min();
  Time forced_ = Time::min();  // the last fetch that OnRefused asked for
  absl::Status error_;
  uint64_t renewals_ = 0;
  uint64_t failures_ = 0;
  int failures_in_row_ = 0;
};

}  // namespace mobula

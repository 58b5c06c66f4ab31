// Says how long a worker may sleep before it empties its sockets again. Wake-ups are the whole cost of a
// quiet agent: at 1,000 datagrams/s each one costs 20 us when it wakes somebody and 0.5 us when it waits for
// the next drain (reference: receive-limits, section 1.2).
//
// Room:    hot; arithmetic only.
// Threads: one worker.
#pragma once

#include <cstdint>

#include "engine/base/time.h"

namespace mobula {

class Pacer {
 public:
  static constexpr Duration kSleepMax = std::chrono::milliseconds(25);
  // Below this rate every datagram is taken at once.
  static constexpr double kRateMin = 500;

  // `queue_bytes` is what the worker's sockets hold together, as the kernel counts (TrueSize).
  explicit Pacer(uint64_t queue_bytes) : queue_bytes_(queue_bytes) {}

  // After a drain at `now` that took `datagrams` of `bytes` together: how long to sleep before the next.
  // Zero: wait for the next datagram instead. At most kSleepMax and a quarter of the time in which the
  // queue would fill at the present rate.
  Duration Next(Time now, uint64_t datagrams, uint64_t bytes) noexcept;

  // Datagrams per second, smoothed over about 100 ms.
  [[nodiscard]] double rate() const noexcept { return rate_; }

 private:
  const uint64_t queue_bytes_;
  Time last_{};
  double rate_ = 0;
  double cost_ = 2304;  // truesize of the present traffic's average datagram
};

}  // namespace mobula

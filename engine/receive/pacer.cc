// Tested by tests/unit/engine/receive/pacer_test.cc.
#include "engine/receive/pacer.h"

#include <algorithm>
#include <cmath>

#include "engine/receive/udp_sockets.h"

namespace mobula {

Duration Pacer::Next(Time now, uint64_t datagrams, uint64_t bytes) noexcept {
  constexpr double kMemorySeconds = 0.1;
  const double elapsed = last_ == Time{} ? 1.0 : std::max(1e-6, Seconds(now - last_));
  last_ = now;
  const double weight = 1 - std::exp(-elapsed / kMemorySeconds);
  const double present = static_cast<double>(datagrams) / elapsed;
  rate_ += weight * (present - rate_);
  if (datagrams == 0) return Duration::zero();
  cost_ += weight * (static_cast<double>(TrueSize(bytes / datagrams)) - cost_);
  if (rate_ < kRateMin) return Duration::zero();
  // A rate that rises is believed at once: a small queue would be full before the average knows.
  const double quarter =
      0.25 * static_cast<double>(queue_bytes_) / (cost_ * std::max(rate_, present));
  return std::min(kSleepMax, Duration(static_cast<int64_t>(quarter * 1e9)));
}

}  // namespace mobula

// Time as the engine counts it: monotonic points and nanosecond spans, handed in by the caller so that
// tests and simulation own the clock. Wall-clock time is only for signatures and log lines.
#pragma once

#include <chrono>

namespace mobula {

using Time = std::chrono::steady_clock::time_point;
using Duration = std::chrono::nanoseconds;

// A point no clock reaches: "no deadline", "no timer".
inline constexpr Time kTimeNever = Time::max();

inline double Seconds(Duration d) noexcept { return std::chrono::duration<double>(d).count(); }

}  // namespace mobula

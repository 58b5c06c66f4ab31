// What a command that takes a while shows on a terminal: one line, redrawn in place. On anything but a terminal
// nothing is drawn.
//
// Room:    cold.
// Threads: one.
// Limits:  ten redraws a second.
#pragma once

#include <cstdint>
#include <string>

#include "engine/base/time.h"

namespace mobula {

// 1234567 as "1,234,567".
std::string Grouped(uint64_t n);
// "6 s", "2 min 5 s", "1 h 10 min"; rounded up.
std::string SpanText(double seconds);
// "123 B", "1.5 KiB", "2.0 GiB".
std::string BytesText(uint64_t bytes);

class ProgressBar {
 public:
  struct Values {
    uint64_t done = 0;
    uint64_t total = 0;  // 0: unknown
    Duration elapsed{};
    bool steps = false;  // few and unlike each other: no rate, and no guess at the time left
  };

  // Draws on `fd` (stderr) when that is a terminal.
  explicit ProgressBar(int fd, bool steps = false);
  // Erases the line.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // Says how far the work is; draws at most every 100 ms.
  void Update(uint64_t done, uint64_t total, Time now);

  // The line of at most `width` columns:
  //   "[#########           ]  45%  4,500 of 10,000  1,000/s  6 s left" or "4,500  1,000/s";
  // "[###############     ]  75%  3 of 4" of steps.
  static std::string Text(const Values& values, size_t width);

 private:
  const int fd_;
  const bool steps_;
  const bool enabled_;
  bool drawn_ = false;
  Time begun_{};  // of the first Update
  Time next_{};   // when to draw again
};

}  // namespace mobula

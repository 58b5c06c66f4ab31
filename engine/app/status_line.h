// One line at the bottom of a terminal that shows what the agent does.
//
// Room:    cold.
// Threads: one.
#pragma once

#include <string>

#include "engine/app/agent.h"

namespace mobula {

class StatusLine {
 public:
  // Draws on stderr, and only when that is a terminal.
  StatusLine();

  [[nodiscard]] bool enabled() const { return enabled_; }
  void Draw(const Agent& agent, Time now);
  void Erase();

  // The line itself: "received 1,234/s (12,395 in all)  delivered 12,345  held 50  memory 14 MiB  dropped 0".
  static std::string Text(const Ledger& ledger, double rate, uint64_t resident_bytes);

 private:
  const bool enabled_;
  uint64_t last_datagrams_ = 0;
  Time last_{};
  double rate_ = 0;
};

}  // namespace mobula

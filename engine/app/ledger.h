// Where every document went, added up over workers and lanes.
//
//   datagrams = accepted + rejected{reason}        accepted = routed + filtered + open
//   per lane: entered = delivered + dropped{reason} + held
//
// Room:    cold.
// Threads: made by one thread from counters that others move: exact when nothing moves, and after the end.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace mobula {

struct Ledger {
  struct Lane {
    std::string name;
    uint64_t entered = 0;
    uint64_t delivered = 0;
    std::map<std::string, uint64_t> dropped;  // by reason, without zeros
    uint64_t held = 0;

    [[nodiscard]] uint64_t dropped_total() const;
    [[nodiscard]] bool balanced() const { return entered == delivered + dropped_total() + held; }
    [[nodiscard]] std::string json() const;
    [[nodiscard]] std::string text() const;
  };

  uint64_t datagrams = 0;
  uint64_t bytes = 0;
  uint64_t accepted = 0;
  std::map<std::string, uint64_t> rejected;  // by reason, without zeros
  uint64_t routed = 0;
  uint64_t filtered = 0;
  uint64_t open = 0;          // in batches that are still open
  uint64_t kernel_drops = 0;  // datagrams the kernel's queue had no room for: never received
  std::vector<Lane> lanes;
  // Rejected documents on their way to the dead-letter file, if there is one.
  std::optional<Lane> dead_letters;

  [[nodiscard]] uint64_t rejected_total() const;
  // Everything that was received or sent to us and is lost: refused, dropped, or never read.
  [[nodiscard]] uint64_t lost_total() const;
  [[nodiscard]] bool balanced() const;
  [[nodiscard]] std::string json() const;
  // A table for people.
  [[nodiscard]] std::string text() const;
};

}  // namespace mobula

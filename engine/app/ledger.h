// Where every document went, added up over workers and lanes.
//
//   datagrams = accepted + rejected{reason}        accepted = routed + filtered + open
//   per lane: entered + restored = delivered + dropped{reason} + held + spooled
//
// `restored` are documents that the spool found at the start or took over from another instance, `spooled` those it
// holds now. A document that waits on disk and is being sent counts as spooled until it is delivered.
//
// Room:    cold.
// Threads: made by one thread from counters that others move: exact when nothing moves, and after the end.
#pragma once

#include <atomic>
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
    uint64_t restored = 0;
    uint64_t spooled = 0;

    friend bool operator==(const Lane&, const Lane&) = default;
    [[nodiscard]] uint64_t dropped_total() const;
    [[nodiscard]] bool balanced() const;
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
  friend bool operator==(const Ledger&, const Ledger&) = default;
  [[nodiscard]] bool balanced() const;
  [[nodiscard]] std::string json() const;
  // A table for people.
  [[nodiscard]] std::string text() const;
  // "delivered 12, spooled 3, lost 2 (kernel 1, refused 1)"
  [[nodiscard]] std::string summary() const;
};

// Looks for bugs of ours in successive ledgers: books that do not balance although nothing moves.
class LedgerAudit {
 public:
  // `last`: nothing will move any more. True when a bug was found that was not seen before.
  bool Look(const Ledger& ledger, bool last = false);
  // Threads: any.
  [[nodiscard]] uint64_t bugs() const { return bugs_.load(std::memory_order_relaxed); }

 private:
  std::optional<Ledger> suspect_;  // the last ledger, when it did not balance
  bool told_ = false;              // of it
  std::atomic<uint64_t> bugs_{0};
};

}  // namespace mobula

// What is told of a backend, as plain numbers: those of its lane, and of the lanes it had before a reload.
//
// Room:    cold.
// Threads: made by one thread from counters that others move.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "engine/app/ledger.h"
#include "engine/delivery/lane.h"

namespace mobula {

struct LaneReport {
  struct OnDisk {
    uint64_t appended = 0;
    uint64_t restored = 0;
    uint64_t done = 0;
    std::array<uint64_t, kSpoolDropReasonCount> dropped{};
    uint64_t held = 0;
    uint64_t bytes = 0;
    uint64_t torn = 0;
    uint64_t damaged = 0;
  };

  std::string name;

  // Counts of all its lanes.
  uint64_t entered = 0;
  uint64_t delivered = 0;
  std::array<uint64_t, kDropReasonCount> dropped{};
  uint64_t held = 0;
  uint64_t held_bytes = 0;
  uint64_t calls_delivered = 0;
  uint64_t calls_failed = 0;
  uint64_t calls_refused = 0;
  uint64_t call_microseconds = 0;
  uint64_t calls_in_flight = 0;
  uint64_t timeouts = 0;
  uint64_t connections_refused = 0;
  uint64_t http_4xx = 0;
  uint64_t http_5xx = 0;
  uint64_t unknown_host = 0;
  uint64_t other_faults = 0;
  std::map<std::string, uint64_t> errors;  // by code
  std::optional<OnDisk> on_disk;           // absent without a spool

  // Of the lane that documents are routed to now.
  uint64_t quota = 0;
  int window = 0;
  Circuit circuit = Circuit::kClosed;
  Lane::Health health;

  [[nodiscard]] uint64_t dropped_for(DropReason reason) const {
    return dropped[static_cast<size_t>(reason)];
  }
  // The counts of `other` too.
  void Add(const LaneReport& other);
};

LaneReport ReportOf(const Lane& lane);
// Of one that has ended, or hangs and is given up: what it holds then is lost.
LaneReport FinalReportOf(const Lane& lane);
// Only what the accounts of a lane, and of its part of the spool, say. `spool` may be null.
LaneReport ReportOf(std::string_view name, const LaneAccount& account, const SpoolAccount* spool);
LaneReport::OnDisk ReportOf(const SpoolAccount& account);
Ledger::Lane LedgerOf(const LaneReport& report);

}  // namespace mobula

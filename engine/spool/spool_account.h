// The ledger of one lane's spool, in documents.
//
//   appended + restored = done + dropped{reason} + held        (at any moment nothing moves)
//
// Room:    warm.
// Threads: written by the spool; read by any.
#pragma once

#include <array>
#include <string_view>

#include "engine/metrics/counter.h"

namespace mobula {

// Why the spool let go of a document that nobody delivered.
enum class SpoolDropReason : uint8_t {
  kFull,     // the disk's budget was used up: the oldest file went
  kExpired,  // older than the age allowed
  kDamaged,  // what is on disk cannot be read
  kForeign,  // its backend is no longer configured: set aside
};
inline constexpr int kSpoolDropReasonCount = static_cast<int>(SpoolDropReason::kForeign) + 1;

// "spool_full", "spool_expired", "spool_damaged", "spool_foreign": metrics, logs and docs share it.
std::string_view SpoolDropReasonName(SpoolDropReason reason) noexcept;

struct SpoolAccount {
  SharedCounter appended;
  SharedCounter restored;  // found on disk: at start, or left by another instance
  SharedCounter done;      // delivered, or finally dropped by the lane
  std::array<SharedCounter, kSpoolDropReasonCount> dropped;
  SharedCounter held;
  SharedCounter bytes;    // of the lane's files
  SharedCounter torn;     // half-written ends of files that were cut off
  SharedCounter damaged;  // frames and stretches of files that could not be read

  void Drop(SpoolDropReason reason, uint64_t documents) noexcept {
    dropped[static_cast<size_t>(reason)].Add(documents);
    held.Sub(documents);
  }
  [[nodiscard]] uint64_t dropped_total() const noexcept {
    uint64_t sum = 0;
    for (const SharedCounter& c : dropped) sum += c.value();
    return sum;
  }
};

}  // namespace mobula

// The ledger of one lane: what entered, what became of it, and what it costs meanwhile.
//
//   entered = delivered + dropped{reason} + held        (documents, at any moment nothing moves)
//
// Room:    hot (workers add once per batch) and warm.
// Threads: any; every counter synchronises itself.
#pragma once

#include <array>
#include <string_view>

#include "engine/metrics/counter.h"

namespace mobula {

// Why a lane let go of a document without delivering it.
enum class DropReason : uint8_t {
  kBufferFull,  // the lane was over its quota: the oldest went
  kNoMemory,    // no block in the pool when the batch closed
  kRefused,     // the far side's final answer
  kTooLarge,    // refused for its size, alone
  kShutdown,    // still undelivered when the drain's time was over
};
inline constexpr int kDropReasonCount = static_cast<int>(DropReason::kShutdown) + 1;

// "buffer_full", "no_memory", "refused", "too_large", "shutdown": metrics, logs and docs share it.
std::string_view DropReasonName(DropReason reason) noexcept;

struct LaneAccount {
  SharedCounter entered;
  SharedCounter delivered;
  std::array<SharedCounter, kDropReasonCount> dropped;
  SharedCounter held;        // documents in the queue, waiting or in flight
  SharedCounter held_bytes;  // what their batches take from the pool

  void Drop(DropReason reason, uint64_t documents) noexcept {
    dropped[static_cast<size_t>(reason)].Add(documents);
  }
  [[nodiscard]] uint64_t dropped_total() const noexcept {
    uint64_t sum = 0;
    for (const SharedCounter& c : dropped) sum += c.value();
    return sum;
  }
};

}  // namespace mobula

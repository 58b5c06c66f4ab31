// One mapping, handed out in blocks of whole pages: the buffer of design.md section 2.3, bounded by
// construction because there is nothing else to take from.
//
// Room:      hot (TryAcquire once per batch, never per datagram).
// Threads:   any; lock-free. A block may be released by another thread than the one that took it.
// Ownership: Block is a plain handle; whoever holds it gives it back exactly once.
// Errors:    TryAcquire answers an empty block when no run of free pages is long enough; the caller counts.
// Limits:    blocks of 1 to 64 pages of 4 KiB. Memory is reserved at Create and becomes resident when first
//            written, so an idle agent stays small. Pages are handed out lowest address first, which keeps
//            the touched part small too.
//
// Invariants: `used_[i]` holds one bit per page of the i-th 256 KiB region. A bit changes 0 -> 1 only by the
// compare-and-swap in TryAcquire (acquire) and 1 -> 0 only by Release (release), so what a releasing thread
// wrote to a block happens before the next owner reads it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

namespace mobula {

struct Block {
  char* data = nullptr;
  uint32_t bytes = 0;  // what it costs: whole pages

  explicit operator bool() const noexcept { return data != nullptr; }
};

class BlockPool {
 public:
  static constexpr size_t kPageBytes = 4096;
  static constexpr size_t kPagesPerRegion = 64;
  static constexpr size_t kBlockBytesMax = kPageBytes * kPagesPerRegion;  // 256 KiB

  // `bytes` is rounded down to whole regions of 256 KiB. REQUIRES: at least one region.
  static absl::StatusOr<std::unique_ptr<BlockPool>> Create(size_t bytes);
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // What a block of `bytes` costs.
  static constexpr size_t Cost(size_t bytes) noexcept {
    return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  }

  // REQUIRES: 0 < bytes <= kBlockBytesMax.
  [[nodiscard]] Block TryAcquire(size_t bytes) noexcept;
  // REQUIRES: `block` came from this pool and was not released before.
  void Release(Block block) noexcept;

  [[nodiscard]] size_t bytes_total() const noexcept { return regions_ * kBlockBytesMax; }
  [[nodiscard]] size_t bytes_used() const noexcept {
    return pages_used_.load(std::memory_order_relaxed) * kPageBytes;
  }

 private:
  BlockPool(char* base, size_t regions);

  char* const base_;
  const size_t regions_;
  const std::unique_ptr<std::atomic<uint64_t>[]> used_;
  std::atomic<size_t> pages_used_{0};
  std::atomic<size_t> first_open_{0};  // a hint: regions below it were full when last seen
};

}  // namespace mobula

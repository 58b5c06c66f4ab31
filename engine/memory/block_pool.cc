// Page runs in 64-bit maps. Tested by tests/unit/engine/memory/block_pool_test.cc.
#include "engine/memory/block_pool.h"

#include <sys/mman.h>

#include <bit>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace mobula {
namespace {

// The bits i for which `pages` free pages start at i. Each step doubles the run that is known to be free.
uint64_t RunStarts(uint64_t free, size_t pages) noexcept {
  size_t known = 1;
  while (known < pages && free != 0) {
    const size_t step = std::min(known, pages - known);
    free &= free >> step;
    known += step;
  }
  return free;
}

uint64_t Mask(size_t pages) noexcept { return pages == 64 ? ~0ULL : (1ULL << pages) - 1; }

}  // namespace

absl::StatusOr<std::unique_ptr<BlockPool>> BlockPool::Create(size_t bytes) {
  const size_t regions = bytes / kBlockBytesMax;
  if (regions == 0) return absl::InvalidArgumentError("a buffer needs at least 256 KiB");
  void* base = mmap(nullptr, regions * kBlockBytesMax, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "cannot map ", regions * kBlockBytesMax, " bytes for the buffer: ", std::strerror(errno)));
  }
  return std::unique_ptr<BlockPool>(new BlockPool(static_cast<char*>(base), regions));
}

BlockPool::BlockPool(char* base, size_t regions)
    : base_(base), regions_(regions), used_(new std::atomic<uint64_t>[regions]) {
  for (size_t i = 0; i < regions; ++i) used_[i].store(0, std::memory_order_relaxed);
}

BlockPool::~BlockPool() { munmap(base_, regions_ * kBlockBytesMax); }

Block BlockPool::TryAcquire(size_t bytes) noexcept {
  DCHECK(bytes > 0 && bytes <= kBlockBytesMax);
  const size_t pages = Cost(bytes) / kPageBytes;
  const size_t start = first_open_.load(std::memory_order_relaxed);
  bool only_full_before = true;
  for (size_t i = start; i < regions_; ++i) {
    uint64_t used = used_[i].load(std::memory_order_relaxed);
    if (only_full_before && used == ~0ULL && i + 1 < regions_) {
      first_open_.store(i + 1, std::memory_order_relaxed);
    } else {
      only_full_before = false;
    }
    while (const uint64_t starts = RunStarts(~used, pages)) {
      const int at = std::countr_zero(starts);
      const uint64_t run = Mask(pages) << at;
      if (used_[i].compare_exchange_weak(used, used | run, std::memory_order_acquire,
                                         std::memory_order_relaxed)) {
        pages_used_.fetch_add(pages, std::memory_order_relaxed);
        return {base_ + i * kBlockBytesMax + static_cast<size_t>(at) * kPageBytes,
                static_cast<uint32_t>(pages * kPageBytes)};
      }
    }
  }
  // The hint may be stale (a lower region was released meanwhile): look once from the beginning.
  if (start != 0) {
    first_open_.store(0, std::memory_order_relaxed);
    return TryAcquire(bytes);
  }
  return {};
}

void BlockPool::Release(Block block) noexcept {
  const size_t offset = static_cast<size_t>(block.data - base_);
  const size_t pages = block.bytes / kPageBytes;
  const size_t region = offset / kBlockBytesMax;
  DCHECK(region < regions_ && offset % kPageBytes == 0);
  const uint64_t run = Mask(pages) << (offset % kBlockBytesMax / kPageBytes);
  const uint64_t before = used_[region].fetch_and(~run, std::memory_order_release);
  CHECK((before & run) == run);  // released twice: somebody else's data would be overwritten next
  pages_used_.fetch_sub(pages, std::memory_order_relaxed);
  size_t hint = first_open_.load(std::memory_order_relaxed);
  while (region < hint &&
         !first_open_.compare_exchange_weak(hint, region, std::memory_order_relaxed)) {
  }
}

}  // namespace mobula

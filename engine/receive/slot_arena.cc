// Tested through tests/unit/engine/receive/datagram_source_test.cc.
#include "engine/receive/slot_arena.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "engine/segment/segment_scanner.h"

namespace mobula {

absl::StatusOr<SlotArena> SlotArena::Create(size_t slots, size_t bytes) {
  const size_t stride = (bytes + kScanPadding + 63) / 64 * 64;
  void* base = mmap(nullptr, slots * stride, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    return absl::ResourceExhaustedError("cannot map " + std::to_string(slots * stride) +
                                        " bytes for receive slots: " + std::strerror(errno));
  }
  return SlotArena(static_cast<char*>(base), slots, bytes, stride);
}

SlotArena::SlotArena(SlotArena&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)),
      slots_(other.slots_),
      bytes_(other.bytes_),
      stride_(other.stride_) {}

SlotArena::~SlotArena() {
  if (base_ != nullptr) munmap(base_, slots_ * stride_);
}

}  // namespace mobula

// The slots datagrams are received into: one mapping, resident only where touched.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"

namespace mobula {

class SlotArena {
 public:
  // Each slot holds `bytes` and is followed by padding that the parser may read.
  static absl::StatusOr<SlotArena> Create(size_t slots, size_t bytes);
  SlotArena(SlotArena&& other) noexcept;
  SlotArena& operator=(SlotArena&&) = delete;
  SlotArena(const SlotArena&) = delete;
  ~SlotArena();

  [[nodiscard]] char* slot(size_t i) const noexcept { return base_ + i * stride_; }
  [[nodiscard]] size_t slot_bytes() const noexcept { return bytes_; }

 private:
  SlotArena(char* base, size_t slots, size_t bytes, size_t stride)
      : base_(base), slots_(slots), bytes_(bytes), stride_(stride) {}

  char* base_;
  size_t slots_;
  size_t bytes_;
  size_t stride_;
};

}  // namespace mobula

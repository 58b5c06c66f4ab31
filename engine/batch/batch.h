// A batch: up to 64 documents in one block, the unit of hand-over between workers and lanes.
//
// Room:      warm (made in hot code by BatchBuilder, one per ~50 datagrams).
// Threads:   immutable once built; shared by reference count, so that several lanes hold the same bytes.
// Ownership: BatchRef is one reference; the last one gives the block back to its pool.
// Limits:    64 documents (so that a set of them is one uint64_t), 256 KiB with index and header.
//
// Layout of the block: Batch, then DocumentEntry[size], then the documents' bytes, back to back.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <string_view>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/time.h"
#include "engine/memory/block_pool.h"
#include "engine/segment/document_kind.h"
#include "engine/segment/reject_reason.h"

namespace mobula {

// A set of documents of one batch: bit i is document i.
using DocumentSet = uint64_t;
inline int Count(DocumentSet set) noexcept { return std::popcount(set); }

// Calls f(index) for every document of the set, in order.
template <typename F>
void ForEach(DocumentSet set, F&& f) {
  for (; set != 0; set &= set - 1) f(static_cast<size_t>(std::countr_zero(set)));
}

struct DocumentEntry {
  uint32_t offset;  // from the first document's first byte
  uint32_t size;
  DocumentKind kind;
  RejectReason reason;  // only for DocumentKind::kRejected
};

class Batch {
 public:
  static constexpr size_t kDocumentsMax = 64;

  [[nodiscard]] size_t size() const noexcept { return size_; }
  [[nodiscard]] DocumentSet all() const noexcept {
    return size_ == 64 ? ~DocumentSet{0} : (DocumentSet{1} << size_) - 1;
  }
  [[nodiscard]] const DocumentEntry& entry(size_t i) const noexcept {
    DCHECK(i < size_);
    return reinterpret_cast<const DocumentEntry*>(this + 1)[i];
  }
  // The bytes as received. The view lives as long as a reference to the batch.
  [[nodiscard]] std::string_view document(size_t i) const noexcept {
    const DocumentEntry& e = entry(i);
    return {documents() + e.offset, e.size};
  }
  // Sum of the documents' sizes.
  [[nodiscard]] size_t document_bytes() const noexcept { return document_bytes_; }
  // What the batch takes from the pool.
  [[nodiscard]] size_t cost() const noexcept { return block_bytes_; }
  // When its first document was received.
  [[nodiscard]] Time received() const noexcept { return received_; }

 private:
  friend class BatchRef;
  friend class BatchBuilder;

  Batch() = default;
  [[nodiscard]] const char* documents() const noexcept {
    return reinterpret_cast<const char*>(this + 1) + size_ * sizeof(DocumentEntry);
  }

  std::atomic<uint32_t> references_{1};
  uint32_t block_bytes_ = 0;
  uint32_t document_bytes_ = 0;
  uint32_t size_ = 0;
  BlockPool* pool_ = nullptr;
  Time received_{};
};

// One counted reference to a batch; null when default-made or moved from.
class BatchRef {
 public:
  BatchRef() = default;
  BatchRef(BatchRef&& other) noexcept : batch_(std::exchange(other.batch_, nullptr)) {}
  BatchRef& operator=(BatchRef&& other) noexcept {
    if (this != &other) {
      Reset();
      batch_ = std::exchange(other.batch_, nullptr);
    }
    return *this;
  }
  BatchRef(const BatchRef&) = delete;
  BatchRef& operator=(const BatchRef&) = delete;
  ~BatchRef() { Reset(); }

  // A second reference to the same batch.
  [[nodiscard]] BatchRef Share() const noexcept {
    batch_->references_.fetch_add(1, std::memory_order_relaxed);
    return BatchRef(batch_);
  }

  const Batch& operator*() const noexcept { return *batch_; }
  const Batch* operator->() const noexcept { return batch_; }
  [[nodiscard]] const Batch* get() const noexcept { return batch_; }
  explicit operator bool() const noexcept { return batch_ != nullptr; }

  void Reset() noexcept {
    if (batch_ == nullptr) return;
    Batch* const batch = std::exchange(batch_, nullptr);
    if (batch->references_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    batch->pool_->Release({reinterpret_cast<char*>(batch), batch->block_bytes_});
  }

  // For the queue, which carries plain pointers: gives up, or takes over, one reference.
  [[nodiscard]] Batch* Release() noexcept { return std::exchange(batch_, nullptr); }
  static BatchRef Adopt(Batch* batch) noexcept { return BatchRef(batch); }

 private:
  explicit BatchRef(Batch* batch) noexcept : batch_(batch) {}
  Batch* batch_ = nullptr;
};

}  // namespace mobula

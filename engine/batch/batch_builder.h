// The open batch of one route of one worker: documents are copied here once, the batch leaves as one block.
//
// Room:      hot. Nothing allocates after construction but the pool's TryAcquire in Close.
// Threads:   one worker.
// Errors:    Add says no when the batch must be closed first; Close answers null when the pool has no room,
//            and the documents are gone: the worker counts them.
// Limits:    document count, bytes (256 KiB with the index) and age, as the options say.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

#include "engine/batch/batch.h"

namespace mobula {

class BatchBuilder {
 public:
  struct Limits {
    size_t documents = 50;  // what every known sender puts into one PutTraceSegments call
    Duration age = std::chrono::seconds(1);
  };
  static constexpr size_t kDocumentBytesMax =
      BlockPool::kBlockBytesMax - sizeof(Batch) - Batch::kDocumentsMax * sizeof(DocumentEntry);

  // REQUIRES: 0 < limits.documents <= Batch::kDocumentsMax.
  BatchBuilder(BlockPool* pool, Limits limits);

  // Copies `document` in. False when there is no room: Close and Add again, which then succeeds.
  // REQUIRES: 0 < document.size() <= kDocumentBytesMax.
  [[nodiscard]] bool Add(std::string_view document, DocumentKind kind, RejectReason reason,
                         Time now) noexcept;

  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] size_t size() const noexcept { return size_; }
  [[nodiscard]] bool full() const noexcept { return size_ >= limits_.documents; }
  // When the batch is due although not full; kTimeNever while empty.
  [[nodiscard]] Time due() const noexcept { return empty() ? kTimeNever : opened_ + limits_.age; }

  // Moves the documents into the smallest block that holds them and empties the builder either way.
  // REQUIRES: !empty().
  [[nodiscard]] BatchRef Close() noexcept;

 private:
  BlockPool* const pool_;
  const Limits limits_;
  const std::unique_ptr<char[]> arena_;
  std::array<DocumentEntry, Batch::kDocumentsMax> entries_;
  uint32_t size_ = 0;
  uint32_t bytes_ = 0;
  Time opened_{};
};

}  // namespace mobula

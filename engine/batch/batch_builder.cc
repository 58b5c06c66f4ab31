// Tested by tests/unit/engine/batch/batch_test.cc.
#include "engine/batch/batch_builder.h"

#include <cstring>
#include <new>

namespace mobula {

BatchBuilder::BatchBuilder(BlockPool* pool, Limits limits)
    : pool_(pool), limits_(limits), arena_(new char[kDocumentBytesMax]) {
  CHECK(limits.documents > 0 && limits.documents <= Batch::kDocumentsMax);
}

bool BatchBuilder::Add(std::string_view document, DocumentKind kind, RejectReason reason,
                       Time now) noexcept {
  DCHECK(!document.empty() && document.size() <= kDocumentBytesMax);
  if (full() || document.size() > kDocumentBytesMax - bytes_) return false;
  if (size_ == 0) opened_ = now;
  entries_[size_++] = {bytes_, static_cast<uint32_t>(document.size()), kind, reason};
  std::memcpy(arena_.get() + bytes_, document.data(), document.size());
  bytes_ += static_cast<uint32_t>(document.size());
  return true;
}

BatchRef BatchBuilder::Close() noexcept {
  DCHECK(!empty());
  const size_t index_bytes = size_ * sizeof(DocumentEntry);
  const Block block = pool_->TryAcquire(sizeof(Batch) + index_bytes + bytes_);
  BatchRef ref;
  if (block) {
    Batch* const batch = new (block.data) Batch();
    batch->block_bytes_ = block.bytes;
    batch->document_bytes_ = bytes_;
    batch->size_ = size_;
    batch->pool_ = pool_;
    batch->received_ = opened_;
    std::memcpy(block.data + sizeof(Batch), entries_.data(), index_bytes);
    std::memcpy(block.data + sizeof(Batch) + index_bytes, arena_.get(), bytes_);
    ref = BatchRef::Adopt(batch);
  }
  size_ = 0;
  bytes_ = 0;
  return ref;
}

}  // namespace mobula
